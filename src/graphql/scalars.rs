//! The scalars of the schema.

use async_graphql::{InputValueError, InputValueResult, Number, Scalar, ScalarType, Value};
use chrono::{Datelike, NaiveDate, SecondsFormat};
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::money::{Money, MoneyError};

const YEARS: std::ops::RangeInclusive<i32> = 1970..=2100;
/// The largest integer that a JSON number represents exactly everywhere.
const COUNT_MAX: i64 = 1 << 53;

/// How values of a scalar are written, for error messages about invalid ones.
pub fn form_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "DateTime" => "a time such as \"2026-01-31T12:00:00Z\", of the years 1970 to 2100",
        "Date" => "a day such as \"2026-01-31\", of the years 1970 to 2100",
        "Decimal" => "a decimal number such as \"19.90\", with at most four decimals",
        "Count" => "a whole number of up to 2^53",
        "Position" => "a position such as \"42\"",
        "TimeZone" => "a time zone of the IANA list, such as \"Europe/London\"",
        "Currency" => "a currency code of ISO 4217, such as \"EUR\"",
        _ => return None,
    })
}

/// A point in time in RFC 3339 format, with an offset or Z, of the years 1970 to 2100; returned in UTC with up to six decimals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DateTime(pub Timestamp);

impl DateTime {
    /// RFC 3339 in UTC, with up to six decimals.
    pub fn to_text(self) -> Option<String> {
        Some(self.0.to_utc()?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// A point in time in RFC 3339 format, with an offset or Z, of the years 1970 to 2100; returned in UTC with up to six decimals.
#[Scalar]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(InputValueError::expected_type(value)) };
        let at = chrono::DateTime::parse_from_rfc3339(text)
            .map_err(|_| InputValueError::custom("not a time such as 2026-01-31T12:00:00Z"))?
            .to_utc();
        if !YEARS.contains(&at.year()) {
            return Err(InputValueError::custom("the year must be from 1970 to 2100"));
        }
        Ok(DateTime(at.into()))
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        self.to_text().map_or(Value::Null, Value::String)
    }
}

/// A calendar date, such as 2026-01-31.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Date(pub NaiveDate);

/// A calendar date, such as 2026-01-31.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(InputValueError::expected_type(value)) };
        let day: NaiveDate = text.parse().map_err(|_| InputValueError::custom("not a day such as 2026-01-31"))?;
        if !YEARS.contains(&day.year()) {
            return Err(InputValueError::custom("the year must be from 1970 to 2100"));
        }
        Ok(Date(day))
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An exact decimal number as a string, such as "19.90", with at most four decimals; money is in whole units of its currency. Returned with at least two decimals. As input, a JSON number without an exponent is accepted too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decimal(pub Money);

/// An exact decimal number as a string, such as "19.90", with at most four decimals; money is in whole units of its currency. Returned with at least two decimals. As input, a JSON number without an exponent is accepted too.
#[Scalar]
impl ScalarType for Decimal {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(InputValueError::expected_type(value)),
        };
        text.parse().map(Decimal).map_err(|error| {
            InputValueError::custom(match error {
                MoneyError::NotADecimal => "not a decimal number such as \"19.90\"",
                MoneyError::TooPrecise => "more than four decimals",
                MoneyError::OutOfRange => "beyond the largest amount",
            })
        })
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A whole number up to 2^53 as a JSON number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count(pub i64);

/// A whole number up to 2^53 as a JSON number.
#[Scalar]
impl ScalarType for Count {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => match number.as_i64() {
                Some(n) if (-COUNT_MAX..=COUNT_MAX).contains(&n) => Ok(Count(n)),
                _ => Err(InputValueError::custom("not a whole number of up to 2^53")),
            },
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

/// A position in the tenant's ledger: a whole number as a string, strictly increasing and without gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position(pub i64);

/// A position in the tenant's ledger: a whole number as a string, strictly increasing and without gaps.
#[Scalar]
impl ScalarType for Position {
    fn parse(value: Value) -> InputValueResult<Self> {
        let position = match &value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            _ => return Err(InputValueError::expected_type(value)),
        };
        position.filter(|p| *p >= 0).map(Position).ok_or_else(|| InputValueError::custom("not a position"))
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Where a subscription stands: opaque, signed, and valid for one tenant and one subscription. Each live result carries one in `extensions.cursor`, and as a field (`SalesMetrics.cursor`, `Alert.cursor`). The cursors of connections are something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor(pub String);

/// Where a subscription stands: opaque, signed, and valid for one tenant and one subscription. Each live result carries one in `extensions.cursor`, and as a field (`SalesMetrics.cursor`, `Alert.cursor`). The cursors of connections are something else.
#[Scalar]
impl ScalarType for Cursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(InputValueError::expected_type(value)) };
        Ok(Cursor(text))
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// A time zone by its IANA name, such as Europe/London.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeZone(pub chrono_tz::Tz);

/// A time zone by its IANA name, such as Europe/London.
#[Scalar]
impl ScalarType for TimeZone {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(InputValueError::expected_type(value)) };
        text.parse()
            .map(TimeZone)
            .map_err(|_| InputValueError::custom("not a time zone of the IANA list, such as Europe/London"))
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.name().to_owned())
    }
}

/// A currency by its ISO 4217 code, such as EUR.
#[derive(Clone, Debug, PartialEq)]
pub struct Currency(pub String);

/// A currency by its ISO 4217 code, such as EUR.
#[Scalar]
impl ScalarType for Currency {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(code) if crate::money::is_currency(&code) => Ok(Currency(code)),
            Value::String(_) => Err(InputValueError::custom("not a currency code of ISO 4217, such as EUR")),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub struct Json(pub serde_json::Value);

/// Any JSON value.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        value.into_json().map(Json).map_err(|_| InputValueError::custom("not a JSON value"))
    }

    fn is_valid(value: &Value) -> bool {
        Self::parse(value.clone()).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or(Value::Null)
    }
}
