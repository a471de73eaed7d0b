//! The sales metrics, by the names of their GraphQL fields.

use super::catalog::{Aggregate, Catalog, MetricDef};
use super::filter::Dimension;
use super::unit::Unit::{self, Count, Money, Ratio};

/// Visits have no lines and no customer.
const VISITS: &[Dimension] = &[Dimension::Category, Dimension::Product, Dimension::Segment];
/// An order's value is that of all its lines.
const ORDER_VALUES: &[Dimension] = &[Dimension::Category, Dimension::Product];

/// The catalog of formulas about sales.
pub const SALES: Catalog = Catalog(&[
    aggregate("totalRevenue", Money, Aggregate::Sum, "net"),
    aggregate("grossRevenue", Money, Aggregate::Sum, "gross"),
    aggregate("refunds", Money, Aggregate::Sum, "refunds"),
    aggregate("discounts", Money, Aggregate::Sum, "discounts"),
    aggregate("ordersCount", Count, Aggregate::Count, "orders"),
    aggregate("unitsSold", Count, Aggregate::Sum, "units"),
    metric("avgOrderValue", Money, &[]),
    metric("conversionRate", Ratio, VISITS),
    MetricDef { not_by: VISITS, ..aggregate("visits", Count, Aggregate::Count, "visits") },
    metric("newCustomers", Count, &[]),
    metric("returningCustomers", Count, &[]),
    aggregate("uniqueCustomers", Count, Aggregate::Distinct, "customer"),
    metric("refundRate", Ratio, &[]),
    metric("orderValueP50", Money, ORDER_VALUES),
    metric("orderValueP95", Money, ORDER_VALUES),
]);

const fn metric(name: &'static str, unit: Unit, not_by: &'static [Dimension]) -> MetricDef {
    MetricDef { name, unit, aggregate: None, not_by }
}

const fn aggregate(name: &'static str, unit: Unit, aggregate: Aggregate, field: &'static str) -> MetricDef {
    MetricDef { name, unit, aggregate: Some((aggregate, field)), not_by: &[] }
}
