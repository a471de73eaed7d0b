//! Ledger entries: signed facts with the dimensions they count under. They are immutable; a correction is a reversal
//! (`sign` -1) plus a new entry. Rollups are sums of entries and nothing else.

use strum::FromRepr;

use crate::clock::Timestamp;
use crate::money::Money;

/// What an entry contributes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromRepr)]
#[repr(i32)]
pub enum EntryKind {
    /// An order, at the time it was placed.
    Order = 1,
    /// A refund, at the time it was issued.
    Refund = 2,
    /// The same refund, at the time its order was placed.
    RefundByOrder = 3,
    /// Visits; `units` is their number.
    Visits = 4,
}

/// Whether an order is the first of its customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromRepr)]
#[repr(i32)]
pub enum Segment {
    /// No known customer.
    #[default]
    None = 0,
    /// The customer's first counting order.
    New = 1,
    /// A later counting order.
    Returning = 2,
}

/// One signed fact. `_no` fields are tenant-local sequence numbers, 0 meaning none; amounts are in the organization's
/// currency except `amount_paid`, which is in `currency`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub kind: EntryKind,
    /// 1, or -1 for a reversal.
    pub sign: i32,
    pub at: Timestamp,
    pub org_no: i32,
    pub channel_no: i32,
    pub region_no: i32,
    pub segment: Segment,
    pub customer_no: i64,
    pub order_no: i64,
    pub currency: String,
    pub amount_paid: Money,
    pub amount: Money,
    pub discount: Money,
    pub units: i64,
    pub lines: Vec<EntryLine>,
}

/// One product's share of an entry, in the organization's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryLine {
    pub category_no: i32,
    pub product_no: i64,
    pub units: i64,
    pub amount: Money,
    pub discount: Money,
    pub cost: Option<Money>,
}

/// Storage form of a line: category, product, units, amount, discount, cost.
pub type StoredLine = (i32, i64, i64, i64, i64, Option<i64>);

impl Entry {
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.sign = -self.sign;
        self
    }
}

pub fn stored_lines(lines: &[EntryLine]) -> Vec<StoredLine> {
    lines
        .iter()
        .map(|l| (l.category_no, l.product_no, l.units, l.amount.0, l.discount.0, l.cost.map(|c| c.0)))
        .collect()
}

pub fn lines_from(stored: Vec<StoredLine>) -> Vec<EntryLine> {
    stored
        .into_iter()
        .map(|(category_no, product_no, units, amount, discount, cost)| EntryLine {
            category_no,
            product_no,
            units,
            amount: Money(amount),
            discount: Money(discount),
            cost: cost.map(Money),
        })
        .collect()
}

/// Storage form of lines: a JSON array.
pub fn lines_to_json(lines: &[EntryLine]) -> Result<String, serde_json::Error> {
    serde_json::to_string(&stored_lines(lines))
}

pub fn lines_from_json(text: &str) -> Result<Vec<EntryLine>, serde_json::Error> {
    Ok(lines_from(serde_json::from_str(text)?))
}

/// The entries to append so that the ledger states `after` where it stated `before`: reversals first.
pub fn difference(before: Vec<Entry>, mut after: Vec<Entry>) -> Vec<Entry> {
    let mut changes = Vec::new();
    for entry in before {
        match after.iter().position(|other| *other == entry) {
            Some(index) => {
                after.remove(index);
            }
            None => changes.push(entry.reversed()),
        }
    }
    changes.append(&mut after);
    changes
}
