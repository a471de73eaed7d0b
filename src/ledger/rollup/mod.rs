//! Rollups: sums of entries by time slot and dimensions.
//!
//! The base is a 15-minute slot in UTC, from which every time zone's hours, days and months are derived when reading
//! (all zones in use are offset by multiples of 15 minutes). Coarser levels exist to read less; they equal the base,
//! which [`crate::ledger::verify`] checks. Levels differ in slot length and in the dimensions they keep.
//!
//! Rollups are the sums of the entries up to the position `folded` of the tenant's head; later entries are added when
//! reading ([`super::tail`]), so answers never lag behind the ledger.

pub mod days;
pub mod packed;
pub mod set;
pub mod sketch;
mod store;
mod varint;

use std::collections::HashMap;

use chrono_tz::Tz;
use strum::FromRepr;

use self::set::CountedSet;
use self::sketch::Sketch;
use super::entry::{Entry, EntryKind};
use crate::calendar;
use crate::clock::Timestamp;
pub use store::{IN_RANGE, for_each, load, range_table, save};
pub use varint::BadBytes;

/// Length of a base slot, in microseconds.
pub const QUARTER_HOUR: i64 = 15 * crate::clock::MINUTE;

/// One granularity of aggregation. Day levels are in ascending order of the dimensions they keep, since a query uses
/// the first that suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromRepr)]
#[repr(i32)]
pub enum Level {
    /// 15 minutes, whole orders.
    Quarter = 1,
    /// 15 minutes, lines.
    QuarterLine = 2,
    /// A day in the organization's zone, whole orders.
    Day = 3,
    DayChannel = 4,
    DayRegion = 5,
    DayChannelRegion = 6,
    /// A day, lines.
    DayCategory = 7,
    DayProduct = 8,
    DayChannelRegionCategory = 9,
}

/// Dimensions that distinguish rows, besides organization and slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub channel: bool,
    pub region: bool,
    pub segment: bool,
    pub category: bool,
    pub product: bool,
}

impl Split {
    /// Whether rows split this way can answer everything `asked` needs.
    fn tells(self, asked: Split) -> bool {
        self.channel >= asked.channel
            && self.region >= asked.region
            && self.segment >= asked.segment
            && self.category >= asked.category
            && self.product >= asked.product
    }

    /// Whether rows aggregate order lines rather than whole orders.
    pub fn by_line(self) -> bool {
        self.category || self.product
    }
}

impl Level {
    pub const ALL: [Level; 9] = [
        Level::Quarter,
        Level::QuarterLine,
        Level::Day,
        Level::DayChannel,
        Level::DayRegion,
        Level::DayChannelRegion,
        Level::DayCategory,
        Level::DayProduct,
        Level::DayChannelRegionCategory,
    ];

    /// The cheapest day level that can answer the split `asked`, if any.
    pub fn of_days(asked: Split) -> Option<Self> {
        let fits = |level: &Level| level.by_line() == asked.by_line() && level.split().tells(asked);
        Level::ALL.into_iter().filter(|level| level.by_day()).find(fits)
    }

    pub fn split(self) -> Split {
        let order = Split { segment: true, ..Split::default() };
        let line = Split { category: true, ..order };
        match self {
            Level::Day => order,
            Level::DayChannel => Split { channel: true, ..order },
            Level::DayRegion => Split { region: true, ..order },
            Level::Quarter | Level::DayChannelRegion => Split { channel: true, region: true, ..order },
            Level::DayCategory => line,
            Level::DayProduct => Split { product: true, segment: false, ..line },
            Level::DayChannelRegionCategory => Split { channel: true, region: true, ..line },
            Level::QuarterLine => Split { channel: true, region: true, product: true, ..line },
        }
    }

    pub fn by_line(self) -> bool {
        self.split().by_line()
    }

    pub fn by_day(self) -> bool {
        !matches!(self, Level::Quarter | Level::QuarterLine)
    }
}

/// Slots `from..to` of one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    pub org_no: i32,
    pub by_day: bool,
    pub from: i32,
    pub to: i32,
}

/// Identifies a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub level: Level,
    pub org_no: i32,
    /// 15-minute steps or local days since 1970-01-01.
    pub slot: i32,
    pub channel_no: i32,
    pub region_no: i32,
    pub segment: i32,
    pub category_no: i32,
    pub product_no: i64,
}

impl Key {
    /// Without dimensions.
    fn of_slot(level: Level, org_no: i32, slot: i32) -> Self {
        Key { level, org_no, slot, channel_no: 0, region_no: 0, segment: 0, category_no: 0, product_no: 0 }
    }
}

/// One row's sums and sets. Amounts are in ten-thousandths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub orders: i64,
    pub gross: i64,
    pub discount: i64,
    pub units: i64,
    pub refunds: i64,
    pub refunds_by_order: i64,
    pub visits: i64,
    /// Customers with their order counts.
    pub customers: CountedSet,
    /// Orders; kept only by line levels, where an order is in several rows.
    pub order_set: CountedSet,
    /// Whole-order amounts; not kept by line levels.
    pub order_values: Sketch,
}

/// A row's number overflowed 64 bits, or more was reversed than had been added.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("a sum is beyond 64 bits")]
    OutOfRange,
    #[error("a rollup row misses what an entry takes back")]
    Inconsistent,
}

/// The base slot containing `at`.
pub fn quarter_slot(at: Timestamp) -> i32 {
    i32::try_from(at.0.div_euclid(QUARTER_HOUR)).unwrap_or(i32::MAX)
}

/// Both slots of an entry; zero where rows differ by dimensions alone.
#[derive(Clone, Copy, Default)]
pub struct Slots {
    quarter: i32,
    day: i32,
}

impl Slots {
    pub fn of(entry: &Entry, zone: Tz) -> Self {
        Slots { quarter: quarter_slot(entry.at), day: calendar::day_of(entry.at, zone) }
    }
}

/// Rows by key: those a batch changes, or the sums of a period.
pub type Rows = HashMap<Key, Row, foldhash::fast::RandomState>;

/// Folds `entry` into the rows of every level; `zone` is its organization's. What the entry reverses must be in `rows`.
pub fn fold(entry: &Entry, zone: Tz, rows: &mut Rows) -> Result<(), FoldError> {
    let slots = Slots::of(entry, zone);
    for level in Level::ALL {
        for (key, part) in parts(entry, level, slots) {
            rows.entry(key).or_default().add(entry, part, level)?;
        }
    }
    Ok(())
}

/// The keys of the rows, at every level, that `entry` adds to.
pub fn keys(entry: &Entry, zone: Tz) -> impl Iterator<Item = Key> {
    let slots = Slots::of(entry, zone);
    Level::ALL.into_iter().flat_map(move |level| parts(entry, level, slots)).map(|(key, _)| key)
}

/// What an entry adds to one row.
#[derive(Clone, Copy)]
pub struct RollupDelta {
    pub amount: i64,
    pub discount: i64,
    pub units: i64,
}

/// The rows of one level that `entry` adds to, with the deltas: one for a whole order, or one for each of its
/// categories or products.
pub fn parts(entry: &Entry, level: Level, slots: Slots) -> Vec<(Key, RollupDelta)> {
    let slot = if level.by_day() { slots.day } else { slots.quarter };
    let split = level.split();
    let whole = Key {
        channel_no: if split.channel { entry.channel_no } else { 0 },
        region_no: if split.region { entry.region_no } else { 0 },
        segment: if split.segment { entry.segment as i32 } else { 0 },
        ..Key::of_slot(level, entry.org_no, slot)
    };
    if !split.by_line() {
        return vec![(whole, RollupDelta { amount: entry.amount.0, discount: entry.discount.0, units: entry.units })];
    }
    let mut parts: Vec<(Key, RollupDelta)> = Vec::with_capacity(entry.lines.len());
    for line in &entry.lines {
        let product_no = if split.product { line.product_no } else { 0 };
        let key = Key { category_no: line.category_no, product_no, ..whole };
        let added = RollupDelta { amount: line.amount.0, discount: line.discount.0, units: line.units };
        match parts.iter_mut().find(|(other, _)| *other == key) {
            // Cannot overflow within one order: the batch refused those whose lines together would.
            Some((_, part)) => {
                part.amount += added.amount;
                part.discount += added.discount;
                part.units += added.units;
            }
            None => parts.push((key, added)),
        }
    }
    parts
}

impl Row {
    /// Adds the part of `entry` that belongs to a row of `level`.
    pub fn add(&mut self, entry: &Entry, part: RollupDelta, level: Level) -> Result<(), FoldError> {
        let sign = i64::from(entry.sign);
        match entry.kind {
            EntryKind::Order => {
                add(&mut self.orders, sign, 1)?;
                add(&mut self.gross, sign, part.amount)?;
                add(&mut self.discount, sign, part.discount)?;
                add(&mut self.units, sign, part.units)?;
                count(&mut self.customers, entry.customer_no, sign)?;
                if level.by_line() {
                    count(&mut self.order_set, entry.order_no, sign)?;
                } else {
                    self.order_values.add(entry.amount, sign);
                }
            }
            EntryKind::Refund => add(&mut self.refunds, sign, part.amount)?,
            EntryKind::RefundByOrder => add(&mut self.refunds_by_order, sign, part.amount)?,
            EntryKind::Visits if level.by_line() => {}
            EntryKind::Visits => add(&mut self.visits, sign, part.units)?,
        }
        Ok(())
    }

    /// The largest absolute sum.
    pub fn largest_sum(&self) -> i64 {
        let sums =
            [self.orders, self.gross, self.discount, self.units, self.refunds, self.refunds_by_order, self.visits];
        sums.into_iter().map(i64::saturating_abs).max().unwrap_or(0)
    }

    /// Adds all of `other`; only the sets `other` has.
    pub fn merge(&mut self, other: &Row) -> Result<(), FoldError> {
        add(&mut self.orders, 1, other.orders)?;
        add(&mut self.gross, 1, other.gross)?;
        add(&mut self.discount, 1, other.discount)?;
        add(&mut self.units, 1, other.units)?;
        add(&mut self.refunds, 1, other.refunds)?;
        add(&mut self.refunds_by_order, 1, other.refunds_by_order)?;
        add(&mut self.visits, 1, other.visits)?;
        self.customers.merge(&other.customers);
        self.order_set.merge(&other.order_set);
        self.order_values.merge(&other.order_values);
        Ok(())
    }
}

fn add(sum: &mut i64, sign: i64, value: i64) -> Result<(), FoldError> {
    let change = value.checked_mul(sign).ok_or(FoldError::OutOfRange)?;
    *sum = sum.checked_add(change).ok_or(FoldError::OutOfRange)?;
    Ok(())
}

fn count(set: &mut CountedSet, number: i64, sign: i64) -> Result<(), FoldError> {
    if number == 0 {
        return Ok(());
    }
    let member = u32::try_from(number).map_err(|_| FoldError::OutOfRange)?;
    if set.add(member, sign) { Ok(()) } else { Err(FoldError::Inconsistent) }
}
