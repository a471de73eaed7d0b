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
    /// The customer, by the source's id; orders of guests and refunds of unknown orders have no value, and visits are not counted. No sums are kept by customer, so rows are added up from orders and refunds: at most 100,000 in a period (a refund counts twice, and so does what a correction takes back and adds), and none of months whose events were dropped. Errors, which fail the whole answer: BAD_USER_INPUT, AS_OF_NOT_AVAILABLE.
    Customer,
    /// The day of the week in the time zone of the answer or of the series, also for organizations in others; at most 7 rows, since days without facts have none.
    DayOfWeek,
    /// The hour of the day in the time zone of the answer or of the series, also for organizations in others; at most 24 rows, since hours without facts have none. An hour that occurs twice as the clocks are set back counts as one. Facts that are dated without a time are all in the first hour of their day.
    HourOfDay,
}

impl Dimension {
    /// Whether the cells of its values sum to the whole: an order may be in several categories, and visits are nobody's.
    pub fn adds_up(self) -> bool {
        self.has_visits() && !matches!(self, Dimension::ProductCategory | Dimension::Product)
    }

    /// Whether visits can be attributed to its values, unless those are of order lines.
    pub fn has_visits(self) -> bool {
        !matches!(self, Dimension::CustomerSegment | Dimension::Customer)
    }

    /// Whether it follows from the time.
    pub fn is_of_time(self) -> bool {
        matches!(self, Dimension::DayOfWeek | Dimension::HourOfDay)
    }

    /// The column of `sales_metrics m`; `None` if that has none for it.
    pub fn column(self) -> Option<&'static str> {
        match self {
            Dimension::Organization => Some("m.org_no"),
            Dimension::Channel => Some("m.channel_no"),
            Dimension::Region => Some("m.region_no"),
            Dimension::CustomerSegment => Some("m.segment"),
            Dimension::ProductCategory => Some("m.category_no"),
            Dimension::Product => Some("m.product_no"),
            Dimension::Customer | Dimension::DayOfWeek | Dimension::HourOfDay => None,
        }
    }

    /// Its number in a rollup's key; 0 if that does not have it.
    pub fn of_key(self, key: &Key) -> i64 {
        match self {
            Dimension::Organization => key.org_no.into(),
            Dimension::Channel => key.channel_no.into(),
            Dimension::Region => key.region_no.into(),
            Dimension::CustomerSegment => key.segment.into(),
            Dimension::ProductCategory => key.category_no.into(),
            Dimension::Product => key.product_no,
            Dimension::Customer | Dimension::DayOfWeek | Dimension::HourOfDay => 0,
        }
    }
}
