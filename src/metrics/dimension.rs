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
}

impl Dimension {
    /// Whether the cells of its values sum to the whole: an order may be in several categories, and visits have no
    /// segment.
    pub fn adds_up(self) -> bool {
        matches!(self, Dimension::Organization | Dimension::Channel | Dimension::Region)
    }

    /// The column of `sales_metrics m`.
    pub fn column(self) -> &'static str {
        match self {
            Dimension::Organization => "m.org_no",
            Dimension::Channel => "m.channel_no",
            Dimension::Region => "m.region_no",
            Dimension::CustomerSegment => "m.segment",
            Dimension::ProductCategory => "m.category_no",
            Dimension::Product => "m.product_no",
        }
    }

    /// Its number in a rollup's key.
    pub fn of_key(self, key: &Key) -> i64 {
        match self {
            Dimension::Organization => key.org_no.into(),
            Dimension::Channel => key.channel_no.into(),
            Dimension::Region => key.region_no.into(),
            Dimension::CustomerSegment => key.segment.into(),
            Dimension::ProductCategory => key.category_no.into(),
            Dimension::Product => key.product_no,
        }
    }
}

/// A combination of dimension values, by number, in the requested order.
pub type GroupKey = Vec<i64>;
