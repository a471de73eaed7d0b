//! What metrics can be split by.

use async_graphql::Enum;

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
    /// The day of the week in the time zone of the answer or of the series, also for organizations in others; at most 7 rows, since days without facts have none.
    DayOfWeek,
    /// The hour of the day in the time zone of the answer or of the series, also for organizations in others; at most 24 rows, since hours without facts have none. An hour that occurs twice as the clocks are set back counts as one. Facts that are dated without a time are all in the first hour of their day.
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
}
