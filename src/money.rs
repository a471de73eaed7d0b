//! Exact money: a fixed-point integer with four decimals.
//!
//! `Money` is what is stored and summed; it never passes through a float. Callers sum in `i128` and convert back
//! through [`Money::from_sum`], which rejects overflow.

use std::fmt;
use std::str::FromStr;

/// Ten-thousandths per unit of currency.
pub const SCALE: i64 = 10_000;
const DECIMALS: usize = 4;

/// The largest amount one event may carry, in ten-thousandths: 10^12 units of currency.
pub const EVENT_AMOUNT_MAX: Money = Money(1_000_000_000_000 * SCALE);

/// An amount in ten-thousandths of a unit of currency (19.99 is `Money(199_900)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Money(pub i64);

/// Parse errors of amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("not a decimal number")]
    NotADecimal,
    #[error("more than four decimals")]
    TooPrecise,
    #[error("beyond the largest amount")]
    OutOfRange,
}

impl Money {
    pub const ZERO: Money = Money(0);

    /// Converts a sum computed in `i128`; `None` beyond the range of storage.
    pub fn from_sum(sum: i128) -> Option<Money> {
        i64::try_from(sum).ok().map(Money)
    }

    /// A step on a logarithmic scale, eight for each doubling; below zero for negative amounts. Never less for a larger
    /// amount.
    pub fn magnitude(self) -> i64 {
        let units = self.0.unsigned_abs();
        let bits = u64::BITS - units.leading_zeros();
        // The three bits after the first.
        let fraction = if bits >= 4 { units >> (bits - 4) } else { units << (4 - bits) } & 7;
        (i64::from(bits) * 8 + i64::from(fraction as u8)) * self.0.signum()
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// This amount times `rate` (a decimal given as `units / 10^decimals`), rounded half to even.
    pub fn convert(self, rate_units: i64, rate_decimals: u32) -> Option<Money> {
        let product = i128::from(self.0) * i128::from(rate_units);
        Money::from_sum(div_half_even(product, 10i128.pow(rate_decimals)))
    }

    /// A ratio in ten-thousandths, rounded half to even; `None` for a zero denominator.
    pub fn rate(numerator: i128, denominator: i128) -> Option<Money> {
        let numerator = numerator.checked_mul(SCALE.into())?;
        (denominator != 0).then(|| Money::from_sum(div_half_even(numerator, denominator))).flatten()
    }

    /// This sum divided by a count, rounded half to even; `None` for a zero count.
    pub fn per(self, count: i64) -> Option<Money> {
        (count != 0).then(|| Money::from_sum(div_half_even(i128::from(self.0), i128::from(count)))).flatten()
    }
}

/// Integer division rounded half to even.
pub fn div_half_even(numerator: i128, denominator: i128) -> i128 {
    let (n, d) = if denominator < 0 { (-numerator, -denominator) } else { (numerator, denominator) };
    let quotient = n.div_euclid(d);
    let rest = n.rem_euclid(d);
    match (rest * 2).cmp(&d) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
    }
}

/// Parses a plain decimal ("-12.5"; "1e3" is rejected) into `units / 10^decimals`.
///
/// Trailing zeros beyond `decimals` are accepted, other digits there are [`MoneyError::TooPrecise`].
pub fn parse_decimal(text: &str, decimals: usize) -> Result<i64, MoneyError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(MoneyError::NotADecimal);
    }
    let (kept, beyond) = fraction.split_at(fraction.len().min(decimals));
    if beyond.bytes().any(|b| b != b'0') {
        return Err(MoneyError::TooPrecise);
    }
    let digits = whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', decimals - kept.len()));
    let mut units: i64 = 0;
    for digit in digits {
        units =
            units.checked_mul(10).and_then(|u| u.checked_add(i64::from(digit - b'0'))).ok_or(MoneyError::OutOfRange)?;
    }
    Ok(if negative { -units } else { units })
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_decimal(text, DECIMALS).map(Money)
    }
}

impl fmt::Display for Money {
    /// At least two decimals, at most four: "19.90", "0.125", "-3.00".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let whole = self.0.unsigned_abs() / SCALE.unsigned_abs();
        let fraction = self.0.unsigned_abs() % SCALE.unsigned_abs();
        match (fraction.is_multiple_of(100), fraction.is_multiple_of(10)) {
            (true, _) => write!(f, "{sign}{whole}.{:02}", fraction / 100),
            (_, true) => write!(f, "{sign}{whole}.{:03}", fraction / 10),
            _ => write!(f, "{sign}{whole}.{fraction:04}"),
        }
    }
}

/// Whether `code` is an ISO 4217 currency.
pub fn is_currency(code: &str) -> bool {
    iso_currency::Currency::from_code(code).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_and_printed_exactly() {
        for (text, units, printed) in [
            ("19.99", 199_900, "19.99"),
            ("-0.0001", -1, "-0.0001"),
            ("2031733.998", 20_317_339_980, "2031733.998"),
            ("7", 70_000, "7.00"),
            (".5", 5_000, "0.50"),
            ("1.230000", 12_300, "1.23"),
        ] {
            let money: Money = text.parse().expect(text);
            assert_eq!((money.0, money.to_string().as_str()), (units, printed));
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-", ".", "NaN", "inf", "1e3", "1,5", "0x10", " 1", "1.2.3", "١"] {
            assert_eq!(text.parse::<Money>(), Err(MoneyError::NotADecimal), "{text:?}");
        }
        assert_eq!("0.00001".parse::<Money>(), Err(MoneyError::TooPrecise));
        assert_eq!("922337203685477.5808".parse::<Money>(), Err(MoneyError::OutOfRange));
    }

    #[test]
    fn halves_round_to_even() {
        assert_eq!([5, 15, 25, -5, -15].map(|n| div_half_even(n, 10)), [0, 2, 2, 0, -2]);
        assert_eq!(Money(10_000).per(3), Some(Money(3_333)));
        assert_eq!(Money(1).per(0), None);
    }

    proptest! {
        #[test]
        fn printing_then_reading_gives_the_same_amount(units in any::<i64>().prop_filter("|min| has no positive", |u| *u != i64::MIN)) {
            prop_assert_eq!(Money(units).to_string().parse::<Money>(), Ok(Money(units)));
        }

        #[test]
        fn magnitudes_are_ordered_as_amounts_are(a in any::<i64>(), shift in 0..63, more in 0..1000i64) {
            let less = Money(a >> shift);
            let larger = Money(less.0.saturating_add(more));
            prop_assert!(less.magnitude() <= larger.magnitude());
            // A step is an eighth of a doubling: what is more than a seventh larger is on another one.
            let other = Money(less.0.saturating_add((less.0 / 7).saturating_add(1)));
            prop_assert!(less.0 <= 8 || other.0 == i64::MAX || less.magnitude() < other.magnitude());
        }
    }
}
