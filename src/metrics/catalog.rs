//! The metrics catalog: inputs, unit and value of each. GraphQL fields, alerts and orderings derive from it.

use async_graphql::Enum;
use models::kpis::{Number, SALES, Unit};

use super::cell::Values;
use crate::money::{Money, SCALE};

/// The built-in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Metric {
    /// Gross revenue less refunds.
    TotalRevenue,
    /// Sum of order amounts.
    GrossRevenue,
    /// Sum of refunds by the time they were issued.
    Refunds,
    /// Sum of discounts.
    Discounts,
    /// Orders placed.
    OrdersCount,
    /// Units sold.
    UnitsSold,
    /// Gross revenue per order.
    AvgOrderValue,
    /// Orders per visit.
    ConversionRate,
    /// Visits counted.
    Visits,
    /// Customers whose first order ever lies in the period.
    NewCustomers,
    /// Customers who bought in the period and had bought before it.
    ReturningCustomers,
    /// Distinct customers who bought.
    UniqueCustomers,
    /// Refunds divided by gross revenue.
    RefundRate,
    /// Median order value.
    #[graphql(name = "ORDER_VALUE_P50")]
    #[serde(rename = "ORDER_VALUE_P50")]
    OrderValueP50,
    /// 95th percentile of order values.
    #[graphql(name = "ORDER_VALUE_P95")]
    #[serde(rename = "ORDER_VALUE_P95")]
    OrderValueP95,
}

/// What a set of metrics needs beyond sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// Amounts of money.
    pub amounts: bool,
    /// The number of orders.
    pub orders: bool,
    /// Customers' first orders, distinguished by segment.
    pub first_orders: bool,
    /// Distinct customers who bought.
    pub customers: bool,
    /// Customers whose first order lies in the same bucket, regardless of the filter.
    pub first_customers: bool,
    /// Order values.
    pub order_values: bool,
}

impl Metric {
    pub const ALL: [Metric; 15] = [
        Metric::TotalRevenue,
        Metric::GrossRevenue,
        Metric::Refunds,
        Metric::Discounts,
        Metric::OrdersCount,
        Metric::UnitsSold,
        Metric::AvgOrderValue,
        Metric::ConversionRate,
        Metric::Visits,
        Metric::NewCustomers,
        Metric::ReturningCustomers,
        Metric::UniqueCustomers,
        Metric::RefundRate,
        Metric::OrderValueP50,
        Metric::OrderValueP95,
    ];

    /// The metric's GraphQL field.
    pub fn field(self) -> &'static str {
        match self {
            Metric::TotalRevenue => "totalRevenue",
            Metric::GrossRevenue => "grossRevenue",
            Metric::Refunds => "refunds",
            Metric::Discounts => "discounts",
            Metric::OrdersCount => "ordersCount",
            Metric::UnitsSold => "unitsSold",
            Metric::AvgOrderValue => "avgOrderValue",
            Metric::ConversionRate => "conversionRate",
            Metric::Visits => "visits",
            Metric::NewCustomers => "newCustomers",
            Metric::ReturningCustomers => "returningCustomers",
            Metric::UniqueCustomers => "uniqueCustomers",
            Metric::RefundRate => "refundRate",
            Metric::OrderValueP50 => "orderValueP50",
            Metric::OrderValueP95 => "orderValueP95",
        }
    }

    /// The metric of a GraphQL field.
    pub fn of_field(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.field() == name)
    }

    pub fn needs(self) -> Needs {
        let none = Needs::default();
        match self {
            Metric::UnitsSold | Metric::Visits => none,
            Metric::TotalRevenue | Metric::GrossRevenue | Metric::Refunds | Metric::Discounts | Metric::RefundRate => {
                Needs { amounts: true, ..none }
            }
            Metric::AvgOrderValue => Needs { amounts: true, orders: true, ..none },
            Metric::OrdersCount | Metric::ConversionRate => Needs { orders: true, ..none },
            Metric::NewCustomers => Needs { first_orders: true, ..none },
            Metric::ReturningCustomers => Needs { customers: true, first_customers: true, ..none },
            Metric::UniqueCustomers => Needs { customers: true, ..none },
            Metric::OrderValueP50 | Metric::OrderValueP95 => Needs { amounts: true, order_values: true, ..none },
        }
    }

    /// The metric's unit, as in formulas.
    pub fn unit(self) -> Unit {
        SALES.find(self.field()).map_or(Unit::Ratio, |metric| metric.unit)
    }

    /// The metric's exact value, with averages and rates as quotients; `None` if undefined.
    pub fn number(self, values: &Values) -> Option<Number> {
        let money = |money: Money| Number::money(money.0);
        match self {
            Metric::TotalRevenue => Some(money(values.total_revenue)),
            Metric::GrossRevenue => Some(money(values.gross)),
            Metric::Refunds => Some(money(values.refunds)),
            Metric::Discounts => Some(money(values.discounts)),
            Metric::OrdersCount => Some(Number::count(values.orders)),
            Metric::UnitsSold => Some(Number::count(values.units)),
            // The sum is in ten-thousandths; with too many orders for an exact quotient, it is rounded.
            Metric::AvgOrderValue => match values.orders.checked_mul(SCALE) {
                Some(parts) => Number::ratio(values.gross.0, parts),
                None => values.avg_order_value().map(money),
            },
            Metric::ConversionRate => Number::ratio(values.orders, values.visits?),
            Metric::Visits => values.visits.map(Number::count),
            Metric::NewCustomers => Some(Number::count(values.new_customers)),
            Metric::ReturningCustomers => Some(Number::count(values.returning_customers)),
            Metric::UniqueCustomers => Some(Number::count(values.unique_customers)),
            Metric::RefundRate => Number::ratio(values.refunds.0, values.gross.0),
            Metric::OrderValueP50 => values.order_value_p50.map(money),
            Metric::OrderValueP95 => values.order_value_p95.map(money),
        }
    }

    /// The metric's value in ten-thousandths (of currency, or of one: a rate of 5 % is 500); `None` if undefined.
    pub fn value(self, values: &Values) -> Option<Money> {
        self.number(values)?.ten_thousandths().map(Money)
    }
}

impl Needs {
    #[must_use]
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            amounts: self.amounts || other.amounts,
            orders: self.orders || other.orders,
            first_orders: self.first_orders || other.first_orders,
            customers: self.customers || other.customers,
            first_customers: self.first_customers || other.first_customers,
            order_values: self.order_values || other.order_values,
        }
    }

    pub fn of(metrics: impl IntoIterator<Item = Metric>) -> Needs {
        metrics.into_iter().fold(Needs::default(), |needs, metric| needs.and(metric.needs()))
    }

    /// Whether sets must be read, not just sums. At line levels an order is in several rows, so even the number of
    /// orders needs a set.
    pub fn sets(self, by_line: bool) -> bool {
        self.customers || self.order_values || (by_line && (self.orders || self.first_orders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_name_the_metrics_of_the_catalog() {
        let named: Vec<_> = SALES.names().map(Metric::of_field).collect();
        assert_eq!(named, Metric::ALL.map(Some));
    }

    #[test]
    fn averages_are_exact_and_rounded_like_the_metric() {
        let values = Values { gross: Money(100_000), orders: 3, refunds: Money(50_000), ..Values::default() };
        let average = Metric::AvgOrderValue.number(&values).expect("an average");
        assert_eq!(average.ten_thousandths().map(Money), values.avg_order_value());
        assert_eq!(Metric::RefundRate.number(&values).map(Number::to_f64), values.refund_rate());
        assert_eq!(Metric::ConversionRate.number(&values), None);
    }
}
