//! What metrics can be split by.

use async_graphql::Enum;
use chrono::{Datelike, Timelike};
use chrono_tz::Tz;

use super::plan::BUCKETS_MAX;
use super::ranges::{round_down, round_up};
use crate::calendar::{self, Step, date_of, local_time};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ledger::rollup::Key;

/// The dimensions that metrics can be split by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enum)]
pub enum Dimension {
    /// The organization.
    Organization,
    /// The sales channel.
    Channel,
    /// The region.
    Region,
    /// Whether an order is the first of its customer or a later one; orders of guests have no value.
    CustomerSegment,
    /// The category of order lines. Rows have the amounts of lines, and so add up to the lines and not to the orders.
    ProductCategory,
    /// The product of order lines.
    Product,
    /// The day of the week, in the time zone of the answer or of the series: MONDAY to SUNDAY.
    DayOfWeek,
    /// The hour of the day, in the time zone of the answer or of the series: 00 to 23. An hour that occurs twice as the clocks are set back counts as one.
    HourOfDay,
}

impl Dimension {
    /// Whether the cells of its values sum to the whole: an order may be in several categories, and visits have no
    /// segment.
    pub fn adds_up(self) -> bool {
        !matches!(self, Dimension::CustomerSegment | Dimension::ProductCategory | Dimension::Product)
    }

    /// The column of `sales_metrics m`; `None` if it follows from the time.
    pub fn column(self) -> Option<&'static str> {
        match self {
            Dimension::Organization => Some("m.org_no"),
            Dimension::Channel => Some("m.channel_no"),
            Dimension::Region => Some("m.region_no"),
            Dimension::CustomerSegment => Some("m.segment"),
            Dimension::ProductCategory => Some("m.category_no"),
            Dimension::Product => Some("m.product_no"),
            Dimension::DayOfWeek | Dimension::HourOfDay => None,
        }
    }

    /// Its number in a rollup's key; 0 if it follows from the time.
    pub fn of_key(self, key: &Key) -> i64 {
        match self {
            Dimension::Organization => key.org_no.into(),
            Dimension::Channel => key.channel_no.into(),
            Dimension::Region => key.region_no.into(),
            Dimension::CustomerSegment => key.segment.into(),
            Dimension::ProductCategory => key.category_no.into(),
            Dimension::Product => key.product_no,
            Dimension::DayOfWeek | Dimension::HourOfDay => 0,
        }
    }

    /// Its number at a time: Monday, and the first hour of the day, are 1. `None` if it does not follow from the time.
    pub fn of_time(self, at: Timestamp, zone: Tz) -> Option<i64> {
        match self {
            Dimension::DayOfWeek => Some(date_of(at, zone).weekday().number_from_monday().into()),
            Dimension::HourOfDay => Some(i64::from(local_time(at, zone).hour()) + 1),
            _ => None,
        }
    }

    /// The longest part of time within which its number is the same.
    fn step(self) -> Option<Step> {
        match self {
            Dimension::DayOfWeek => Some(Step::Day),
            Dimension::HourOfDay => Some(Step::Minutes(60)),
            _ => None,
        }
    }
}

/// What the rows of an answer are grouped by.
#[derive(Clone, Debug)]
pub struct GroupBy {
    pub dimensions: Vec<Dimension>,
    /// Time zone of hours and of days of the week.
    pub zone: Tz,
}

/// All rows together.
pub static UNGROUPED: GroupBy = GroupBy { dimensions: Vec::new(), zone: Tz::UTC };

impl GroupBy {
    /// Whether rows are told apart by their time.
    pub fn by_time(&self) -> bool {
        self.dimensions.iter().any(|dimension| dimension.step().is_some())
    }

    /// What of its groups follows from the time. Quarters of an hour are kept together also where a zone's hours begin
    /// within them.
    pub fn time_key(&self, at: Timestamp) -> TimeKey {
        let slot = round_down(at);
        self.dimensions.iter().map(|dimension| dimension.of_time(slot, self.zone)).collect()
    }

    pub fn key(&self, time: &TimeKey, key: &Key) -> GroupKey {
        let dimensions = self.dimensions.iter().zip(time);
        dimensions.map(|(dimension, of_time)| of_time.unwrap_or_else(|| dimension.of_key(key))).collect()
    }

    /// `boundaries` of buckets and those of the hours or days within them. Error: BAD_USER_INPUT (too many).
    pub fn cuts(&self, boundaries: &[Timestamp]) -> Result<Vec<Timestamp>> {
        let mut cuts = boundaries.to_vec();
        let is_by = |dimension| self.dimensions.contains(&dimension);
        let dimension = [Dimension::HourOfDay, Dimension::DayOfWeek].into_iter().find(|dimension| is_by(*dimension));
        let (Some(step), [start, .., end]) = (dimension.and_then(Dimension::step), boundaries) else { return Ok(cuts) };
        let of_time = calendar::boundaries(*start, *end, step, self.zone, BUCKETS_MAX).ok_or_else(too_many_parts)?;
        cuts.extend(of_time.into_iter().map(round_up).filter(|at| at < end));
        cuts.sort_unstable();
        cuts.dedup();
        Ok(cuts)
    }
}

fn too_many_parts() -> Error {
    Error::bad_input("by", format!("more than {BUCKETS_MAX} hours or days; use a shorter period"))
}

/// A combination of dimension values, by number, in the requested order.
pub type GroupKey = Vec<i64>;

/// The part of a [`GroupKey`] that follows from the time.
pub type TimeKey = Vec<Option<i64>>;
