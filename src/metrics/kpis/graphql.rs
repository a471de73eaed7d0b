//! A KPI's number as a GraphQL object.

use async_graphql::{Enum, ScalarType, SimpleObject, Value};
use models::kpis::{Absent, Unit};

use crate::error::{Error, Result};
use crate::graphql::scalars::Decimal;
use crate::metrics::cell::Values;
use crate::metrics::flat::{Flat, SelectedField};

/// A KPI in one period, bucket or row.
#[derive(SimpleObject)]
pub struct KpiNumber {
    /// The KPI's name.
    name: String,
    /// Its unit, which follows from its formula.
    unit: KpiUnit,
    /// Of a KPI of money, the amount, rounded half to even at four decimals; null for others, and where there is none.
    amount: Option<Decimal>,
    /// Of a KPI of another unit, the number: a ratio of 5 % is 0.05, a duration is in seconds; null for money, and where there is none.
    number: Option<f64>,
    /// Why there is no value.
    absent: Option<KpiAbsence>,
}

/// What a metric or a KPI counts.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Unit")]
pub enum KpiUnit {
    /// An amount in the currency of the answer.
    Money,
    /// A number of orders, pieces, visits or customers.
    Count,
    /// A plain number: a share, a rate, a factor.
    Ratio,
    /// A length of time in seconds.
    Duration,
}

/// Why a KPI has no value.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum KpiAbsence {
    /// A metric that it needs has none here, or `nullif` took it away.
    NoValue,
    /// Something is divided by zero.
    DivisionByZero,
    /// The number is too large to be shown.
    TooLarge,
}

impl KpiNumber {
    /// The KPI of a name among values. Error: NOT_FOUND.
    pub fn of(values: &Values, name: &str) -> Result<KpiNumber> {
        let kpi = values.kpi(name).ok_or_else(|| Error::not_found("KPI"))?;
        let is_money = kpi.unit == Unit::Money;
        let amount = kpi.value().filter(|_| is_money).map(Decimal);
        let number = kpi.result.ok().filter(|_| !is_money).map(models::kpis::Number::to_f64);
        let absent = match kpi.result {
            Err(Absent::NoValue) => Some(KpiAbsence::NoValue),
            Err(Absent::DivisionByZero) => Some(KpiAbsence::DivisionByZero),
            Err(Absent::Overflow) => Some(KpiAbsence::TooLarge),
            Ok(_) => (amount.is_none() && number.is_none()).then_some(KpiAbsence::TooLarge),
        };
        Ok(KpiNumber { name: name.to_owned(), unit: kpi.unit.into(), amount, number, absent })
    }
}

impl Flat for KpiNumber {
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
