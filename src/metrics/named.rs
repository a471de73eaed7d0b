//! Metrics by name, for clients that learn only when they run which ones they show.

use std::sync::Arc;

use async_graphql::{ScalarType, SimpleObject, Value};
use models::kpis::{Number, Unit};

use super::catalog::Metric;
use super::cell::Values;
use super::flat::{Flat, SelectedField};
use super::kpis::graphql::KpiUnit;
use crate::graphql::scalars::{Currency, Decimal};

/// The value of a metric in one period, bucket or row: as `KpiValue` has it for KPIs, and the same as in the field that is named for the metric.
#[derive(SimpleObject)]
pub struct MetricValue {
    /// The metric.
    metric: Metric,
    /// Its unit.
    unit: KpiUnit,
    /// The amount, if the unit is MONEY; null for other units, and if there is no value.
    amount: Option<Decimal>,
    /// The number, if the unit is not MONEY: a rate of 5% is 0.05; null for MONEY, and if there is no value.
    number: Option<f64>,
    /// The currency of the amount, also if there is no value; null if the unit is not MONEY.
    currency: Option<Currency>,
}

impl MetricValue {
    /// `currency` is that of amounts in the answer.
    pub fn of(metric: Metric, values: &Values, currency: &Arc<str>) -> MetricValue {
        let is_money = metric.unit() == Unit::Money;
        let number = metric.number(values).map(Number::to_f64);
        MetricValue {
            metric,
            unit: metric.unit().into(),
            amount: metric.value(values).filter(|_| is_money).map(Decimal),
            number: number.filter(|_| !is_money),
            currency: is_money.then(|| Currency(currency.to_string())),
        }
    }
}

impl Flat for MetricValue {
    fn leaf(&self, field: &SelectedField<'_>) -> Value {
        match field.name {
            "metric" => async_graphql::resolver_utils::enum_value(self.metric),
            "unit" => async_graphql::resolver_utils::enum_value(self.unit),
            "amount" => self.amount.map_or(Value::Null, |amount| amount.to_value()),
            "number" => self.number.map_or(Value::Null, Value::from),
            _ => self.currency.as_ref().map_or(Value::Null, ScalarType::to_value),
        }
    }
}
