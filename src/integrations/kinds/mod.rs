//! The kinds of senders, one file each, and shared helpers.

pub mod pipedrive;
pub mod shopify;
pub mod standard;
pub mod stripe;

use hmac::Mac;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::Unclear;
use crate::clock::Timestamp;
use crate::ledger::check::TEXT_CHARS_MAX;
use crate::ledger::event::{Customer, Line};
use crate::mac::keyed;
use crate::money::{Money, div_half_even};

/// Tolerance for a signature's timestamp, in either direction.
const SIGNATURE_SECS: i64 = 300;

/// Maximum number of signatures checked per request: senders send two while rotating their secret.
const SIGNATURES_MAX: usize = 8;

/// Whether one of `signatures` is the HMAC-SHA256 of the parts; compared in constant time. The parts are hashed once.
fn is_hmac(secret: &[u8], parts: &[&[u8]], signatures: impl IntoIterator<Item = Vec<u8>>) -> bool {
    let mut signatures = signatures.into_iter().take(SIGNATURES_MAX).peekable();
    if signatures.peek().is_none() {
        return false;
    }
    let keyed = parts.iter().fold(keyed(secret), |keyed, part| keyed.chain_update(part));
    signatures.any(|signature| keyed.clone().verify_slice(&signature).is_ok())
}

/// Whether a signature's timestamp, in seconds since 1970, is recent.
fn is_recent(seconds: i64, now: Timestamp) -> bool {
    seconds.abs_diff(now.0.div_euclid(crate::clock::SECOND)) <= SIGNATURE_SECS.unsigned_abs()
}

/// Parses a timestamp with time zone (RFC 3339).
fn time(text: &str) -> Result<Timestamp, Unclear> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc().into()).map_err(|_| Unclear("invalid time, or no time zone".to_owned()))
}

/// An amount in JSON: a string, taken exactly, or a number, which may carry floating-point error and is rounded half to
/// even to four decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Exact(Money);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let amount = match raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(text) => text.parse().ok(),
            None => rounded(raw.get()),
        };
        amount.map(Exact).ok_or_else(|| de::Error::custom("not an exact amount"))
    }
}

/// Parses a JSON number; `None` if it is invalid or out of range.
fn rounded(number: &str) -> Option<Money> {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let units: i128 = format!("{whole}{fraction}").parse().ok()?;
    let decimals = i64::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
    let beyond = decimals.checked_sub(4)?;
    let power = |zeros: u64| 10i128.checked_pow(u32::try_from(zeros).ok()?);
    let amount = match beyond {
        ..=0 => units.checked_mul(power(beyond.unsigned_abs())?)?,
        1..=37 => div_half_even(units, power(beyond.unsigned_abs())?),
        // Limited to the digits that fit, so far behind the decimal point.
        _ => 0,
    };
    Money::from_sum(amount)
}

/// A JSON list that may be null or absent.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A JSON id: a string or an integer.
#[derive(Clone, Debug, PartialEq)]
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Number(number) => Id(number.to_string()),
            Either::Text(text) => Id(text),
        })
    }
}

/// Joins the parts of a postal address, in the order in which they are written.
fn address<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A customer whose name and address are as long as the ledger accepts: joined from several fields, they may be longer.
fn shortened(customer: Customer) -> Customer {
    let short = |text: Option<String>| text.map(|text| text.chars().take(TEXT_CHARS_MAX).collect());
    Customer { name: short(customer.name), address: short(customer.address), ..customer }
}

/// The sum of amounts. Error: overflow.
fn sum(amounts: impl IntoIterator<Item = Money>) -> Result<Money, Unclear> {
    let sum = amounts.into_iter().map(|amount| i128::from(amount.0)).sum();
    Money::from_sum(sum).ok_or_else(beyond)
}

/// What is left of an amount. Error: overflow.
fn minus(amount: Money, gone: Money) -> Result<Money, Unclear> {
    Money::from_sum(i128::from(amount.0) - i128::from(gone.0)).ok_or_else(beyond)
}

fn beyond() -> Unclear {
    Unclear("a sum is beyond the largest amount".to_owned())
}

/// Where a refund's lines exceed the refunded amount, scales them to it proportionally. Error: overflow.
fn share(amount: Money, lines: &mut [Line]) -> Result<(), Unclear> {
    let full: i128 = lines.iter().map(|line| i128::from(line.amount.0)).sum();
    if full <= i128::from(amount.0.max(0)) {
        return Ok(());
    }
    let (mut before, mut given) = (0, 0);
    for line in lines {
        before += i128::from(line.amount.0);
        let up_to_here = div_half_even(before.checked_mul(i128::from(amount.0)).ok_or_else(beyond)?, full);
        line.amount = Money::from_sum(up_to_here - given).ok_or_else(beyond)?;
        given = up_to_here;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_share_what_was_given_back() {
        let line = |amount| Line { amount: Money(amount), ..Line::default() };
        let mut lines = [line(10), line(10), line(10)];
        share(Money(10), &mut lines).expect("shared");
        // 10/3, 20/3 - 10/3 and the rest, rounded cumulatively.
        assert_eq!(lines.map(|line| line.amount.0), [3, 4, 3]);
        let mut lines = [line(0)];
        share(Money(-5), &mut lines).expect("shared");
        assert_eq!(lines.map(|line| line.amount.0), [0]);
        let mut lines = [line(4), line(5)];
        share(Money(10), &mut lines).expect("shared");
        assert_eq!(lines.map(|line| line.amount.0), [4, 5]);
        let mut lines = [line(i64::MAX), line(i64::MAX), line(i64::MAX)];
        assert!(share(Money(i64::MAX), &mut lines).is_err());
        assert!(minus(Money::ZERO, Money(i64::MIN)).is_err());
    }

    #[test]
    fn amounts_are_read_to_the_last_digit() {
        let read = |text: &str| serde_json::from_str::<Exact>(text).map(|exact| exact.0);
        assert_eq!(read("\"19.99\"").expect("a string"), Money(199_900));
        assert_eq!(read("922337203685477.5807").expect("more digits than a float has"), Money(i64::MAX));
        for wrong in
            ["\"\"", "\"1e3\"", "null", "[1]", "true", "\"1,5\"", "\"0.00001\"", "1e30", "1e99999999999999999999"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_rounded_half_to_even() {
        for (number, amount) in [
            ("19.99", 199_900),
            ("59.97000000000001", 599_700),
            ("-59.969999999999999", -599_700),
            ("0.00005", 0),
            ("0.00015", 2),
            ("0.000150001", 2),
            ("7.105427357601002e-15", 0),
            ("1e-400", 0),
            ("1.5E2", 1_500_000),
            ("-0.0", 0),
        ] {
            assert_eq!(serde_json::from_str::<Exact>(number).expect(number).0, Money(amount), "{number}");
        }
    }

    #[test]
    fn a_time_has_a_zone() {
        assert_eq!(time("2021-12-31T19:00:00-05:00").expect("a time"), time("2022-01-01T00:00:00Z").expect("a time"));
        assert!(time("2021-12-31T19:00:00").is_err() && time("").is_err());
    }
}
