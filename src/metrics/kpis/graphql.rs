//! A KPI's value as a GraphQL object.

use async_graphql::{Enum, ScalarType, SimpleObject, Value};
use models::kpis::{Absent, Unit};

use crate::error::{Error, Result};
use crate::graphql::scalars::Decimal;
use crate::metrics::cell::Values;
use crate::metrics::flat::{Flat, SelectedField};

/// The value of a KPI in one period, bucket or row.
#[derive(SimpleObject)]
pub struct KpiValue {
    /// The KPI's name.
    name: String,
    /// Its unit, which follows from its formula.
    unit: KpiUnit,
    /// The amount, if the unit is MONEY, rounded half to even at four decimals; null for other units, and if there is no value.
    amount: Option<Decimal>,
    /// The number, if the unit is not MONEY: a ratio of 5% is 0.05, a duration is in seconds; null for MONEY, and if there is no value.
    number: Option<f64>,
    /// Why there is no value; null if there is one.
    absent: Option<KpiNullReason>,
}

/// The unit of a metric or a KPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(remote = "Unit")]
pub enum KpiUnit {
    /// An amount in the currency of the answer.
    Money,
    /// A number of orders, units, visits or customers.
    Count,
    /// A plain number: a share, a rate, a factor.
    Ratio,
    /// A length of time in seconds.
    Duration,
}

/// Why a KPI has no value.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum KpiNullReason {
    /// A metric that it needs has no value here, or `nullif` made it null.
    NoValue,
    /// A division by zero.
    DivisionByZero,
    /// The number is too large to be represented.
    TooLarge,
}

impl KpiValue {
    /// The KPI with a given name among the values. Error: NOT_FOUND.
    pub fn of(values: &Values, name: &str) -> Result<KpiValue> {
        let kpi = values.kpi(name).ok_or_else(|| Error::not_found("KPI"))?;
        let is_money = kpi.unit == Unit::Money;
        let amount = kpi.value().filter(|_| is_money).map(Decimal);
        let number = kpi.result.ok().filter(|_| !is_money).map(models::kpis::Number::to_f64);
        let absent = match kpi.result {
            Err(Absent::NoValue) => Some(KpiNullReason::NoValue),
            Err(Absent::DivisionByZero) => Some(KpiNullReason::DivisionByZero),
            Err(Absent::Overflow) => Some(KpiNullReason::TooLarge),
            Ok(_) => (amount.is_none() && number.is_none()).then_some(KpiNullReason::TooLarge),
        };
        Ok(KpiValue { name: name.to_owned(), unit: kpi.unit.into(), amount, number, absent })
    }
}

impl Flat for KpiValue {
    fn leaf(&self, field: &SelectedField<'_>) -> Value {
        match field.name {
            "name" => Value::String(self.name.clone()),
            "unit" => async_graphql::resolver_utils::enum_value(self.unit),
            "amount" => self.amount.map_or(Value::Null, |amount| amount.to_value()),
            "number" => self.number.map_or(Value::Null, Value::from),
            _ => self.absent.map_or(Value::Null, async_graphql::resolver_utils::enum_value),
        }
    }
}
