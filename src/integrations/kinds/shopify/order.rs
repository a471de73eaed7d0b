//! Orders in their current state, and their refunds.

use std::collections::HashMap;

use super::super::{minus, sum, time};
use super::payload::{Item, Order, Refund};
use super::refund::{Shop, lines, paid, refund};
use crate::clock::SECOND;
use crate::integrations::{Delivery, Settings, Unclear, WebhookContent};
use crate::ledger::event::{Fact, Line, OrderCancelled, OrderPlaced};
use crate::money::{Money, div_half_even};

pub fn order(delivery: &Delivery<'_>, mut order: Order, settings: &Settings) -> Result<WebhookContent, Unclear> {
    if order.test == Some(true) && !settings.counts_tests {
        return Ok(WebhookContent::Nothing);
    }
    let (id, version) = (order.id, time(&order.updated_at)?.0 / SECOND);
    let refunds = order.refunds.take();
    let currency = order.currency.clone();
    let total = order.total_price_set.take();
    let shop = Shop { currency: currency.as_deref(), total: total.as_ref() };
    let mut events = Vec::new();
    for one in refunds.iter().flatten() {
        events.extend(refund(delivery, one, shop, settings)?);
    }
    let is_off = order.cancelled_at.is_some() || order.financial_status.as_deref() == Some("voided");
    let worth = match is_off {
        true => None,
        false => Worth::of(&order, &Kept::of(&order, refunds.as_deref(), shop, settings)?)?,
    };
    let event = match worth {
        Some(worth) => {
            let at = time(order.processed_at.as_deref().unwrap_or(&order.created_at))?;
            delivery.event(&format!("order-{id}-{version}"), at, settings, placed(order, version, worth, settings))
        }
        None => {
            let at = time(order.cancelled_at.as_deref().unwrap_or(&order.updated_at))?;
            // Cancelled in the second of its last change: the cancellation wins.
            let cancelled = OrderCancelled { order_id: id.to_string(), version: version + i64::from(is_off) };
            delivery.event(&format!("cancelled-{id}-{version}"), at, settings, Fact::OrderCancelled(cancelled))
        }
    };
    events.insert(0, event);
    Ok(WebhookContent::Events(events))
}

fn placed(order: Order, version: i64, worth: Worth, settings: &Settings) -> Fact {
    let addresses = [&order.shipping_address, &order.billing_address];
    let region = addresses.into_iter().flatten().find_map(|address| address.country_code.clone());
    Fact::OrderPlaced(OrderPlaced {
        order_id: order.id.to_string(),
        version,
        currency: order.currency,
        amount: Some(worth.amount),
        discount: worth.discount,
        channel: settings.channel.clone().or(order.source_name),
        region,
        customer: order.customer.map(|buyer| buyer.customer(order.email)),
        lines: worth.lines,
    })
}

/// What stays in an order despite its return, because money was refunded for it.
struct Kept {
    /// The order's amount including it.
    amount: Money,
    /// By line; `None` where the order counts as placed.
    lines: Option<HashMap<u64, KeptLine>>,
}

#[derive(Default)]
struct KeptLine {
    quantity: i64,
    /// The value of the goods beyond the money refunded for them: as in an exchange, where only the difference was.
    unpaid: i128,
}

impl Kept {
    fn of(order: &Order, refunds: Option<&[Refund]>, shop: Shop<'_>, settings: &Settings) -> Result<Kept, Unclear> {
        let as_placed = Kept { amount: order.total_price.0, lines: None };
        let (Some(current), Some(refunds)) = (order.current_total_price, refunds) else { return Ok(as_placed) };
        let (mut worth, mut kept) = (vec![current.0], HashMap::<u64, KeptLine>::new());
        for refund in refunds {
            let paid = paid(refund, shop, settings)?;
            // A pending transaction is about to become a refund: the order does not shrink meanwhile.
            let money = sum([paid.succeeded, paid.pending])?;
            if money == Money::ZERO {
                continue;
            }
            if !paid.is_shops {
                return Ok(as_placed);
            }
            let money = sum([money, refund.withheld()?])?;
            worth.push(money);
            for (returned, line) in refund.refund_line_items.iter().zip(lines(refund, money)?) {
                let Some(id) = returned.line_item.id else { continue };
                let kept = kept.entry(id).or_default();
                kept.quantity = kept.quantity.saturating_add(returned.quantity);
                kept.unpaid += i128::from(returned.subtotal()?.0) - i128::from(line.amount.0);
            }
        }
        Ok(Kept { amount: sum(worth)?.min(order.total_price.0), lines: Some(kept) })
    }
}

/// An order's amount: without gift cards, which are stored value and not a sale.
struct Worth {
    amount: Money,
    discount: Option<Money>,
    lines: Vec<Line>,
}

impl Worth {
    /// `None` for an order of gift cards only.
    fn of(order: &Order, kept: &Kept) -> Result<Option<Worth>, Unclear> {
        let (mut lines, mut of_cards, mut discount_gone) = (Vec::new(), Vec::new(), Vec::new());
        for item in &order.line_items {
            let line = item.line(kept.lines.as_ref())?;
            let is_counted = line.quantity != 0 || item.quantity == 0;
            let discount_left = if is_counted && !item.is_gift_card() { line.discount } else { Money::ZERO };
            discount_gone.push(minus(item.discount()?, discount_left)?);
            match is_counted {
                true if item.is_gift_card() => of_cards.push(line.amount),
                true => lines.push(line),
                false => {}
            }
        }
        let without = |all: Money, gone: &[Money]| {
            let gone = sum(gone.iter().copied())?;
            Ok(minus(all, gone)?.max(Money::ZERO))
        };
        if lines.is_empty() && !of_cards.is_empty() {
            return Ok(None);
        }
        Ok(Some(Worth {
            amount: without(kept.amount, &of_cards)?,
            discount: order.total_discounts.map(|total| without(total.0, &discount_gone)).transpose()?,
            lines,
        }))
    }
}

impl Item {
    /// The line in its current state, with the quantity that is kept.
    fn line(&self, kept: Option<&HashMap<u64, KeptLine>>) -> Result<Line, Unclear> {
        let nothing = KeptLine::default();
        let of_line = kept.and_then(|kept| kept.get(&self.id?)).unwrap_or(&nothing);
        let quantity = match self.current_quantity.filter(|_| kept.is_some()) {
            Some(current) => current.saturating_add(of_line.quantity).clamp(0, self.quantity.max(0)),
            None => self.quantity,
        };
        let beyond = || Unclear("a line is beyond the largest amount".to_owned());
        let mut discount = self.discount()?;
        if quantity != self.quantity {
            let part = div_half_even(i128::from(discount.0) * i128::from(quantity), self.quantity.into());
            discount = Money::from_sum(part).ok_or_else(beyond)?;
        }
        let full = i128::from(self.price.0.0) * i128::from(quantity) - i128::from(discount.0);
        let amount = full - of_line.unpaid.clamp(0, full.max(0));
        Ok(Line {
            product_id: self.product_id(),
            title: self.title.clone(),
            quantity,
            amount: Money::from_sum(amount).ok_or_else(beyond)?,
            discount,
            ..Line::default()
        })
    }
}
