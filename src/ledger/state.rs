//! The ledger's state of orders, refunds and customers, and the entries it amounts to.
//!
//! An order with its refunds is one unit: [`entries_of`] is its contribution in the current state. Every change (a new
//! version, a cancellation, a refund, a late order that makes another one the customer's second) is the difference of
//! that before and after ([`super::entry::difference`]).

use std::collections::BTreeSet;

use super::entry::{Entry, EntryKind, EntryLine, Segment};
use crate::clock::Timestamp;
use crate::money::Money;
use crate::personal::CustomerDetails;

/// Decimals of an exchange rate.
pub const RATE_DECIMALS: u32 = 8;
/// A rate of 1.
pub const RATE_ONE: i64 = 100_000_000;

/// The newest version of an order. Amounts are in `currency`; times `rate` they are in the organization's.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderState {
    pub order_no: i64,
    pub external_id: String,
    pub version: i64,
    /// When it was cancelled, if it was; the first cancellation wins.
    pub cancelled_at: Option<Timestamp>,
    pub org_no: i32,
    pub placed_at: Timestamp,
    pub customer_no: i64,
    pub channel_no: i32,
    pub region_no: i32,
    pub segment: Segment,
    pub currency: String,
    pub rate: i64,
    pub amount_paid: Money,
    pub discount_paid: Money,
    pub units: i64,
    /// Of the event that brought this version; unknown of what was recorded before positions were kept.
    pub position: Option<i64>,
    /// In the order's currency; empty while not loaded.
    pub lines: Vec<EntryLine>,
}

/// A refund; `None` is taken from its order.
#[derive(Clone, Debug, PartialEq)]
pub struct RefundState {
    pub refund_no: i64,
    pub external_id: String,
    pub order_id: Option<String>,
    pub org_no: i32,
    pub issued_at: Timestamp,
    pub channel_no: Option<i32>,
    pub region_no: Option<i32>,
    pub currency: String,
    pub rate: i64,
    pub amount_paid: Money,
    /// In the refund's currency.
    pub lines: Vec<EntryLine>,
}

/// An order's time and source id: a total order of a customer's orders, independent of arrival.
pub type Placed = (Timestamp, String);

/// Summary of a customer's counting orders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomerState {
    pub customer_no: i64,
    pub external_id: String,
    /// Identifying data is no longer kept.
    pub is_erased: bool,
    /// Details given by this batch.
    pub details: CustomerDetails,
    /// What identifies the details last stored, if any.
    pub details_print: Option<Vec<u8>>,
    pub first: Option<Placed>,
    pub last_at: Option<Timestamp>,
    pub orders_count: i64,
    pub revenue: i128,
    /// All counting orders; `None` while not loaded, which suffices for orders after the first.
    pub history: Option<BTreeSet<Placed>>,
}

impl OrderState {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled_at.is_some()
    }

    pub fn placed(&self) -> Placed {
        (self.placed_at, self.external_id.clone())
    }
}

impl CustomerState {
    pub fn order_added(&mut self, placed: Placed) {
        self.last_at = self.last_at.max(Some(placed.0));
        if self.first.as_ref().is_none_or(|first| placed < *first) {
            self.first = Some(placed.clone());
        }
        if let Some(history) = &mut self.history {
            history.insert(placed);
        }
    }

    /// Requires the history.
    pub fn order_removed(&mut self, placed: &Placed) {
        debug_assert!(self.history.is_some(), "the history of a customer whose order is removed is loaded");
        if let Some(history) = &mut self.history {
            history.remove(placed);
            self.first = history.first().cloned();
            self.last_at = history.last().map(|(at, _)| *at);
        }
    }
}

/// The contribution of an order and its refunds. A cancelled order and its refunds contribute nothing; refunds of an
/// order not known yet count at their own time.
pub fn entries_of(order: Option<&OrderState>, refunds: &[RefundState]) -> Option<Vec<Entry>> {
    if order.is_some_and(OrderState::is_cancelled) {
        return Some(Vec::new());
    }
    let mut entries = Vec::with_capacity(1 + 2 * refunds.len());
    if let Some(order) = order {
        entries.push(Entry {
            kind: EntryKind::Order,
            sign: 1,
            at: order.placed_at,
            org_no: order.org_no,
            channel_no: order.channel_no,
            region_no: order.region_no,
            segment: order.segment,
            customer_no: order.customer_no,
            order_no: order.order_no,
            currency: order.currency.clone(),
            amount_paid: order.amount_paid,
            amount: convert(order.amount_paid, order.rate)?,
            discount: convert(order.discount_paid, order.rate)?,
            units: order.units,
            lines: convert_lines(&order.lines, order.rate)?,
        });
    }
    for refund in refunds {
        let entry = Entry {
            kind: EntryKind::Refund,
            sign: 1,
            at: refund.issued_at,
            org_no: refund.org_no,
            channel_no: refund.channel_no.or(order.map(|o| o.channel_no)).unwrap_or(0),
            region_no: refund.region_no.or(order.map(|o| o.region_no)).unwrap_or(0),
            segment: order.map_or(Segment::None, |o| o.segment),
            customer_no: order.map_or(0, |o| o.customer_no),
            order_no: order.map_or(0, |o| o.order_no),
            currency: refund.currency.clone(),
            amount_paid: refund.amount_paid,
            amount: convert(refund.amount_paid, refund.rate)?,
            discount: Money::ZERO,
            units: 0,
            lines: convert_lines(&refund.lines, refund.rate)?,
        };
        let at_order = Entry {
            kind: EntryKind::RefundByOrder,
            at: order.map_or(refund.issued_at, |o| o.placed_at),
            ..entry.clone()
        };
        entries.push(entry);
        entries.push(at_order);
    }
    Some(entries)
}

/// `None` on overflow of the money range.
fn convert(amount: Money, rate: i64) -> Option<Money> {
    if rate == RATE_ONE { Some(amount) } else { amount.convert(rate, RATE_DECIMALS) }
}

fn convert_lines(lines: &[EntryLine], rate: i64) -> Option<Vec<EntryLine>> {
    lines
        .iter()
        .map(|line| {
            Some(EntryLine {
                amount: convert(line.amount, rate)?,
                discount: convert(line.discount, rate)?,
                cost: match line.cost {
                    Some(cost) => Some(convert(cost, rate)?),
                    None => None,
                },
                ..*line
            })
        })
        .collect()
}
