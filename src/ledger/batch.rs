//! Applies one batch of events to the loaded state of a tenant: positions, entries and new states, all in memory.
//! [`super::load`] runs before and [`super::save`] after, in the same transaction.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::changes::{Changes, DealState, DimensionKind, Holder, Loaded, Recorded};
use super::entry::{Entry, EntryKind, EntryLine, Segment, difference};
use super::event::{
    ActivityLogged, DealClosed, Event, Fact, Line, OrderCancelled, OrderPlaced, Outcome, ProductViewed, RefundIssued,
    Refusal, RefusalCode, VisitsCounted,
};
use super::item::Item;
use super::organization::{Organization, find_organization};
use super::state::{CustomerState, OrderState, RATE_DECIMALS, RATE_ONE, RefundState, entries_of};
use crate::clock::{DAY, Timestamp};
use crate::money::Money;

/// Applies events in order.
pub struct BatchApplier {
    pub loaded: Loaded,
    pub changes: Changes,
}

type Applied = Result<bool, Refusal>;

fn refusal(code: RefusalCode, reason: impl Into<String>) -> Refusal {
    Refusal { code, reason: reason.into() }
}

fn too_large() -> Refusal {
    refusal(RefusalCode::AmountOutOfRange, "the amounts do not fit")
}

impl BatchApplier {
    pub fn new(loaded: Loaded) -> Self {
        BatchApplier { loaded, changes: Changes::default() }
    }

    /// Assigns the event a position and applies it, or refuses it. A refused event leaves no trace.
    pub(super) fn apply(&mut self, item: &Item) -> Outcome {
        let Item { event, hash, by, .. } = item;
        if let Some((position, recorded)) = self.loaded.recorded.get(&event.event_id) {
            if hash.is_of(recorded) {
                return Outcome::Repeated { position: *position };
            }
            return Outcome::Refused(refusal(
                RefusalCode::IdempotencyConflict,
                "the event id was already used with other content",
            ));
        }
        let before = self.loaded.head.clone();
        match self.apply_fact(event) {
            Err(refused) => {
                debug_assert_eq!(before, self.loaded.head, "a refused event was given numbers");
                Outcome::Refused(refused)
            }
            Ok(counts) => {
                self.loaded.head.position += 1;
                let position = self.loaded.head.position;
                if counts {
                    self.loaded.head.watermark = self.loaded.head.watermark.max(Some(event.occurred_at.0));
                }
                self.loaded.recorded.insert(event.event_id.clone(), (position, hash.stored.clone()));
                self.changes.recorded.push(Recorded {
                    by: *by,
                    event_id: event.event_id.clone(),
                    payload_hash: hash.stored.clone(),
                    position,
                    kind: kind_no(&event.fact),
                    is_superseded: !counts,
                    occurred_at: event.occurred_at,
                });
                if counts { Outcome::Applied { position } } else { Outcome::Superseded { position } }
            }
        }
    }

    /// `false` when a newer version was already stored.
    fn apply_fact(&mut self, event: &Event) -> Applied {
        let organization = find_organization(&self.loaded.organizations, event.organization.as_deref())
            .cloned()
            .ok_or_else(|| refusal(RefusalCode::NotFound, "no such organization"))?;
        if self.loaded.head.retained_from.is_some_and(|from| event.occurred_at.0 < from) {
            return Err(refusal(RefusalCode::TimeOutOfRange, "occurredAt is before the retained months"));
        }
        let at = event.occurred_at;
        match &event.fact {
            Fact::OrderPlaced(order) => self.order_placed(order, at, &organization),
            Fact::OrderCancelled(cancelled) => self.order_cancelled(cancelled, at, &organization),
            Fact::RefundIssued(refund) => self.refund_issued(refund, &event.event_id, at, &organization),
            Fact::VisitsCounted(visits) => self.visits_counted(visits, at, &organization),
            Fact::ProductViewed(viewed) => self.product_viewed(viewed),
            Fact::DealClosed(deal) => self.deal_closed(deal, at, &organization),
            Fact::ActivityLogged(activity) => self.activity_logged(activity, at, &organization),
        }
    }

    /// The position the event being applied will get.
    fn next_position(&self) -> i64 {
        self.loaded.head.position + 1
    }

    fn order_placed(&mut self, order: &OrderPlaced, at: Timestamp, organization: &Organization) -> Applied {
        let old = self.loaded.orders.get(&order.order_id).cloned();
        if old.as_ref().is_some_and(|old| old.version >= order.version) {
            return Ok(false);
        }
        let currency = order.currency.clone().unwrap_or_else(|| organization.currency.clone());
        let rate = self.rate(&currency, &organization.currency, at)?;
        let sums = LineSums::of(&order.lines);
        let state = OrderState {
            order_no: old.as_ref().map_or(self.loaded.head.last_order_no + 1, |old| old.order_no),
            external_id: order.order_id.clone(),
            version: order.version,
            cancelled_at: None,
            org_no: organization.org_no,
            placed_at: at,
            customer_no: 0,
            channel_no: 0,
            region_no: 0,
            segment: Segment::None,
            currency,
            rate,
            amount_paid: order.amount.or(sums.amount).ok_or_else(too_large)?,
            discount_paid: order.discount.or(sums.discount).ok_or_else(too_large)?,
            units: sums.units,
            position: None,
            lines: Vec::new(),
        };
        check_convertible(rate, &[state.amount_paid, state.discount_paid], &order.lines)?;
        // Infallible from here on.
        let lines = self.entry_lines(&order.lines);
        let state = OrderState {
            customer_no: order.customer.as_ref().map_or(0, |customer| self.customer_no(customer)),
            channel_no: self.dimension_no(DimensionKind::Channel, order.channel.as_deref()),
            region_no: self.dimension_no(DimensionKind::Region, order.region.as_deref()),
            lines,
            ..state
        };
        self.loaded.head.last_order_no = self.loaded.head.last_order_no.max(state.order_no);
        self.replace_order(old, state)?;
        Ok(true)
    }

    fn order_cancelled(&mut self, cancelled: &OrderCancelled, at: Timestamp, organization: &Organization) -> Applied {
        let old = self.loaded.orders.get(&cancelled.order_id).cloned();
        if old.as_ref().is_some_and(|old| old.version >= cancelled.version) {
            return Ok(false);
        }
        let state = match &old {
            Some(old) => {
                OrderState { version: cancelled.version, cancelled_at: old.cancelled_at.or(Some(at)), ..old.clone() }
            }
            // Cancelled before it was placed: kept so that the late order changes nothing.
            None => OrderState {
                order_no: self.loaded.head.last_order_no + 1,
                external_id: cancelled.order_id.clone(),
                version: cancelled.version,
                cancelled_at: Some(at),
                org_no: organization.org_no,
                placed_at: at,
                customer_no: 0,
                channel_no: 0,
                region_no: 0,
                segment: Segment::None,
                currency: organization.currency.clone(),
                rate: RATE_ONE,
                amount_paid: Money::ZERO,
                discount_paid: Money::ZERO,
                units: 0,
                position: None,
                lines: Vec::new(),
            },
        };
        self.loaded.head.last_order_no = self.loaded.head.last_order_no.max(state.order_no);
        self.replace_order(old, state)?;
        Ok(true)
    }

    /// Replaces `old` with `new` and redetermines which of the customers' orders is the first.
    fn replace_order(&mut self, old: Option<OrderState>, new: OrderState) -> Result<(), Refusal> {
        let new = OrderState { position: Some(self.next_position()), ..new };
        let id = new.external_id.clone();
        let mut affected = BTreeSet::from([id.clone()]);
        let counting =
            |order: &OrderState| (!order.is_cancelled() && order.customer_no != 0).then_some(order.customer_no);
        let customers: BTreeSet<i64> = old.iter().chain([&new]).filter_map(counting).collect();
        let firsts = |batch: &BatchApplier| -> Vec<String> {
            let states = customers.iter().filter_map(|no| batch.customer(*no));
            states.filter_map(|c| c.first.as_ref().map(|(_, order_id)| order_id.clone())).collect()
        };
        let firsts_before = firsts(self);
        if let Some(old) = &old
            && let Some(customer) = counting(old).and_then(|no| self.customer_mut(no))
        {
            customer.order_removed(&old.placed());
        }
        if let Some(customer) = counting(&new).and_then(|no| self.customer_mut(no)) {
            customer.order_added(new.placed());
        }
        let firsts_after = firsts(self);
        if firsts_before != firsts_after {
            affected.extend(firsts_before);
            affected.extend(firsts_after);
        }
        let before = self.entries_of_orders(&affected)?;
        self.changes.lines.entry(id.clone()).or_insert(old.is_some());
        self.loaded.orders.insert(id, new);
        for order_id in &affected {
            self.set_segment(order_id);
        }
        let after = self.entries_of_orders(&affected)?;
        self.changes.orders.extend(affected);
        self.append(difference(before, after));
        Ok(())
    }

    fn set_segment(&mut self, order_id: &str) {
        let Some(order) = self.loaded.orders.get(order_id) else { return };
        let first = self.customer(order.customer_no).and_then(|customer| customer.first.as_ref());
        let segment = match first {
            _ if order.customer_no == 0 || order.is_cancelled() => Segment::None,
            Some((_, first_id)) if first_id == order_id => Segment::New,
            _ => Segment::Returning,
        };
        if let Some(order) = self.loaded.orders.get_mut(order_id) {
            order.segment = segment;
        }
    }

    fn refund_issued(
        &mut self,
        refund: &RefundIssued,
        event_id: &str,
        at: Timestamp,
        organization: &Organization,
    ) -> Applied {
        let external_id = refund.refund_id.clone().unwrap_or_else(|| event_id.to_owned());
        if self.loaded.refund_ids.contains(&external_id) {
            return Ok(false);
        }
        let currency = refund.currency.clone().unwrap_or_else(|| organization.currency.clone());
        let rate = self.rate(&currency, &organization.currency, at)?;
        let amount_paid = refund.amount.or(LineSums::of(&refund.lines).amount).ok_or_else(too_large)?;
        check_convertible(rate, &[amount_paid], &refund.lines)?;
        // Infallible from here on.
        let signed = |amount: Money| if refund.is_reversal { Money(-amount.0) } else { amount };
        let lines = self.entry_lines(&refund.lines);
        let state = RefundState {
            refund_no: self.loaded.head.last_refund_no + 1,
            external_id: external_id.clone(),
            order_id: refund.order_id.clone(),
            org_no: organization.org_no,
            issued_at: at,
            channel_no: refund.channel.as_deref().map(|name| self.dimension_no(DimensionKind::Channel, Some(name))),
            region_no: refund.region.as_deref().map(|name| self.dimension_no(DimensionKind::Region, Some(name))),
            currency,
            rate,
            amount_paid: signed(amount_paid),
            lines: lines.into_iter().map(|line| EntryLine { amount: signed(line.amount), ..line }).collect(),
        };
        let entries = match &refund.order_id {
            None => entries_of(None, std::slice::from_ref(&state)).ok_or_else(too_large)?,
            Some(order_id) => {
                let affected = BTreeSet::from([order_id.clone()]);
                let before = self.entries_of_orders(&affected)?;
                self.loaded.refunds_by_order.entry(order_id.clone()).or_default().push(state.clone());
                difference(before, self.entries_of_orders(&affected)?)
            }
        };
        self.append(entries);
        self.loaded.head.last_refund_no += 1;
        self.loaded.refund_ids.insert(external_id);
        self.changes.refunds.push(state);
        Ok(true)
    }

    fn visits_counted(&mut self, visits: &VisitsCounted, at: Timestamp, organization: &Organization) -> Applied {
        let entry = Entry {
            kind: EntryKind::Visits,
            sign: 1,
            at,
            org_no: organization.org_no,
            channel_no: self.dimension_no(DimensionKind::Channel, visits.channel.as_deref()),
            region_no: self.dimension_no(DimensionKind::Region, visits.region.as_deref()),
            segment: Segment::None,
            customer_no: 0,
            order_no: 0,
            currency: organization.currency.clone(),
            amount_paid: Money::ZERO,
            amount: Money::ZERO,
            discount: Money::ZERO,
            units: visits.count,
            lines: Vec::new(),
        };
        self.append(vec![entry]);
        Ok(true)
    }

    fn product_viewed(&mut self, viewed: &ProductViewed) -> Applied {
        let product_no = self.product_no(&viewed.product_id, None, 0);
        self.changes.products.entry(product_no).or_default().1.views += viewed.count;
        Ok(true)
    }

    fn deal_closed(&mut self, deal: &DealClosed, at: Timestamp, organization: &Organization) -> Applied {
        let old = self.loaded.deals.get(&deal.deal_id).cloned();
        if old.as_ref().is_some_and(|old| old.version >= deal.version) {
            return Ok(false);
        }
        let owner_id = self.user(&deal.owner)?;
        let currency = deal.currency.clone().unwrap_or_else(|| organization.currency.clone());
        let rate = self.rate(&currency, &organization.currency, at)?;
        let state = DealState {
            version: deal.version,
            owner_id,
            org_no: organization.org_no,
            is_won: deal.won,
            closed_at: at,
            currency,
            amount_paid: deal.amount,
            amount: deal.amount.convert(rate, RATE_DECIMALS).ok_or_else(too_large)?,
        };
        for (deal, sign) in old.iter().map(|old| (old, -1)).chain([(&state, 1)]) {
            let key = (deal.owner_id, deal.org_no, super::rollup::quarter_slot(deal.closed_at));
            let change = self.changes.performance.entry(key).or_default();
            if deal.is_won {
                change.deals_won += sign;
                change.revenue += i128::from(sign * deal.amount.0);
            } else {
                change.deals_lost += sign;
            }
        }
        self.loaded.deals.insert(deal.deal_id.clone(), state);
        self.changes.deals.insert(deal.deal_id.clone());
        Ok(true)
    }

    fn activity_logged(&mut self, activity: &ActivityLogged, at: Timestamp, organization: &Organization) -> Applied {
        let owner_id = self.user(&activity.owner)?;
        let key = (owner_id, organization.org_no, super::rollup::quarter_slot(at));
        self.changes.performance.entry(key).or_default().activities += activity.count;
        let position = self.next_position();
        self.changes.activities.push((position, owner_id, activity.clone(), at));
        Ok(true)
    }

    fn user(&self, name: &str) -> Result<Uuid, Refusal> {
        self.loaded.users.get(name).copied().ok_or_else(|| refusal(RefusalCode::NotFound, "no such user"))
    }

    /// The rate in force on the UTC day of `at`.
    fn rate(&self, from: &str, to: &str, at: Timestamp) -> Result<i64, Refusal> {
        if from == to {
            return Ok(RATE_ONE);
        }
        let wanted = (from.to_owned(), to.to_owned(), at.0.div_euclid(DAY));
        self.loaded.rates.get(&wanted).copied().ok_or_else(|| {
            refusal(RefusalCode::NoExchangeRate, format!("no exchange rate from {from} to {to} on that day"))
        })
    }

    fn entries_of_orders(&self, ids: &BTreeSet<String>) -> Result<Vec<Entry>, Refusal> {
        let mut entries = Vec::new();
        for id in ids {
            let refunds = self.loaded.refunds_by_order.get(id).map(Vec::as_slice).unwrap_or_default();
            entries.append(&mut entries_of(self.loaded.orders.get(id), refunds).ok_or_else(too_large)?);
        }
        Ok(entries)
    }

    /// Appends entries at the position of the event being applied and adds them to customer and product totals.
    fn append(&mut self, entries: Vec<Entry>) {
        let position = self.next_position();
        for entry in entries {
            self.add_to_customer(&entry);
            self.add_to_products(&entry);
            self.changes.entries.push((position, entry));
        }
    }

    fn add_to_customer(&mut self, entry: &Entry) {
        let sign = i64::from(entry.sign);
        let amount = i128::from(sign * entry.amount.0);
        let (orders, revenue) = match entry.kind {
            EntryKind::Order => (sign, amount),
            EntryKind::Refund => (0, -amount),
            EntryKind::RefundByOrder | EntryKind::Visits => return,
        };
        let other = self.other_currency(entry.org_no);
        if let Some(customer) = self.customer_mut(entry.customer_no) {
            customer.orders_count += orders;
            if other.is_none() {
                customer.revenue += revenue;
            }
        }
        if entry.customer_no != 0 {
            self.add_other_revenue(Holder::Customer, entry.customer_no, other, revenue);
        }
    }

    fn add_to_products(&mut self, entry: &Entry) {
        let sign = i64::from(entry.sign);
        let other = self.other_currency(entry.org_no);
        for line in &entry.lines {
            let amount = i128::from(sign * line.amount.0);
            let change = &mut self.changes.products.entry(line.product_no).or_default().1;
            if entry.kind == EntryKind::Order {
                change.units += sign * line.units;
            }
            match entry.kind {
                EntryKind::Order if other.is_some() => {
                    self.add_other_revenue(Holder::Product, line.product_no, other.clone(), amount);
                }
                EntryKind::Order => {
                    change.revenue += amount;
                    if let Some(cost) = line.cost {
                        change.cost += i128::from(sign * cost.0);
                        change.revenue_with_cost += amount;
                    }
                }
                EntryKind::Refund if other.is_none() => change.refunded += amount,
                EntryKind::Refund | EntryKind::RefundByOrder | EntryKind::Visits => {}
            }
        }
    }

    /// The organization's currency if it differs from the default organization's.
    fn other_currency(&self, org_no: i32) -> Option<String> {
        let organizations = &self.loaded.organizations;
        let currency = &organizations.iter().find(|o| o.org_no == org_no)?.currency;
        let home = &find_organization(organizations, None)?.currency;
        (currency != home).then(|| currency.clone())
    }

    fn add_other_revenue(&mut self, holder: Holder, no: i64, currency: Option<String>, amount: i128) {
        if let Some(currency) = currency {
            *self.changes.other_revenue.entry((holder, no, currency)).or_default() += amount;
        }
    }

    fn customer(&self, no: i64) -> Option<&CustomerState> {
        self.loaded.customer_ids.get(&no).and_then(|id| self.loaded.customers.get(id))
    }

    fn customer_mut(&mut self, no: i64) -> Option<&mut CustomerState> {
        let id = self.loaded.customer_ids.get(&no)?;
        self.changes.customers.insert(id.clone());
        self.loaded.customers.get_mut(id)
    }
}

/// Checks that the whole amounts, each line and the sum of all lines can be converted, so that entries can be built and
/// summed.
fn check_convertible(rate: i64, whole: &[Money], lines: &[Line]) -> Result<(), Refusal> {
    let converted = |amount: Money| amount.convert(rate, RATE_DECIMALS).ok_or_else(too_large);
    whole.iter().try_for_each(|amount| converted(*amount).map(|_| ()))?;
    for of in [|line: &Line| line.amount, |line: &Line| line.discount, |line: &Line| line.cost.unwrap_or_default()] {
        let mut sum = 0;
        for line in lines {
            sum += i128::from(converted(of(line))?.0);
        }
        Money::from_sum(sum).ok_or_else(too_large)?;
    }
    Ok(())
}

/// Sums over an order's lines; `None` on overflow of the money range.
struct LineSums {
    amount: Option<Money>,
    discount: Option<Money>,
    units: i64,
}

impl LineSums {
    fn of(lines: &[Line]) -> Self {
        let sum = |of: fn(&Line) -> Money| Money::from_sum(lines.iter().map(|l| i128::from(of(l).0)).sum());
        LineSums {
            amount: sum(|l| l.amount),
            discount: sum(|l| l.discount),
            units: lines.iter().map(|l| l.quantity).sum(),
        }
    }
}

fn kind_no(fact: &Fact) -> i32 {
    match fact {
        Fact::OrderPlaced(_) => 1,
        Fact::OrderCancelled(_) => 2,
        Fact::RefundIssued(_) => 3,
        Fact::VisitsCounted(_) => 4,
        Fact::ProductViewed(_) => 5,
        Fact::DealClosed(_) => 6,
        Fact::ActivityLogged(_) => 7,
    }
}
