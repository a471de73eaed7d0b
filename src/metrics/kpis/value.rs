//! The inputs and results of formulas.

use std::sync::Arc;

use models::kpis::{Absent, Number, SALES, Unit};

use crate::metrics::catalog::Metric;
use crate::metrics::cell::Values;
use crate::money::{Money, SCALE};

/// A KPI's value in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct KpiValue {
    pub name: Arc<str>,
    pub unit: Unit,
    pub result: Result<Number, Absent>,
}

impl KpiValue {
    /// In ten-thousandths, as metrics are compared; `None` if undefined or beyond 64 bits.
    pub fn value(&self) -> Option<Money> {
        self.result.ok()?.ten_thousandths().map(Money)
    }
}

impl Values {
    /// The KPI with this name, if it was requested.
    pub fn kpi(&self, name: &str) -> Option<&KpiValue> {
        self.kpis.iter().find(|kpi| *kpi.name == *name)
    }
}

impl Metric {
    /// The metric's unit.
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
