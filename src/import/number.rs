//! Exact decimal numbers as written in files.

use crate::money::{Money, div_half_even};

const DIGITS_MAX: usize = 36;
const EXPONENT_MAX: u32 = 36;
const MONEY_DECIMALS: u32 = 4;

/// `units / 10^decimals`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    units: i128,
    decimals: u32,
}

impl Number {
    pub const ZERO: Number = Number { units: 0, decimals: 0 };

    /// Parses "12.50", "-3", "6.66e-16"; with `decimal_comma`, "1.234,56".
    pub fn parse(text: &str, decimal_comma: bool) -> Option<Number> {
        let with_point;
        let text = if decimal_comma {
            with_point = with_decimal_point(text)?;
            &with_point
        } else {
            text
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (is_negative, digits) = match mantissa.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let len = whole.len() + fraction.len();
        if len == 0 || len > DIGITS_MAX || exponent.unsigned_abs() > EXPONENT_MAX {
            return None;
        }
        let mut units: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            units = units * 10 + i128::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        let decimals = i32::try_from(fraction.len()).ok()? - exponent;
        if decimals < 0 {
            units = units.checked_mul(10i128.checked_pow(decimals.unsigned_abs())?)?;
        }
        Some(Number { units: if is_negative { -units } else { units }, decimals: decimals.max(0).unsigned_abs() })
    }

    pub fn add(self, other: Number) -> Option<Number> {
        let decimals = self.decimals.max(other.decimals);
        let units = self.scaled(decimals)?.checked_add(other.scaled(decimals)?)?;
        Some(Number { units, decimals })
    }

    pub fn multiply(self, other: Number) -> Option<Number> {
        Some(Number { units: self.units.checked_mul(other.units)?, decimals: self.decimals + other.decimals })
    }

    pub fn negate(self) -> Number {
        Number { units: -self.units, ..self }
    }

    /// Rounded half to even.
    pub fn round(self, decimals: u32) -> Number {
        if self.decimals <= decimals {
            return self;
        }
        // Beyond 38 digits nothing is left.
        let units = match 10i128.checked_pow(self.decimals - decimals) {
            Some(divisor) => div_half_even(self.units, divisor),
            None => 0,
        };
        Number { units, decimals }
    }

    pub fn compare(self, other: i64) -> Option<std::cmp::Ordering> {
        Some(self.units.cmp(&i128::from(other).checked_mul(10i128.checked_pow(self.decimals)?)?))
    }

    /// Error: what is wrong with the number.
    pub fn to_money(self) -> Result<Money, &'static str> {
        let units = self.exactly(MONEY_DECIMALS).ok_or("has more than four decimals (see `round`)")?;
        Money::from_sum(units).ok_or("is beyond the largest amount")
    }

    /// Error: what is wrong with the number.
    pub fn to_whole(self) -> Result<i64, &'static str> {
        let units = self.exactly(0).ok_or("is not a whole number")?;
        i64::try_from(units).map_err(|_| "is too large")
    }

    /// The units at that many decimals, if exact.
    fn exactly(self, decimals: u32) -> Option<i128> {
        let rounded = self.round(decimals);
        let is_same = rounded.scaled(self.decimals.max(decimals))? == self.scaled(self.decimals.max(decimals))?;
        is_same.then(|| rounded.scaled(decimals)).flatten()
    }

    fn scaled(self, decimals: u32) -> Option<i128> {
        self.units.checked_mul(10i128.checked_pow(decimals.checked_sub(self.decimals)?)?)
    }
}

/// "1.234,56" as "1234.56"; `None` where points do not separate groups of three digits, as in "12.34", which would be a
/// different number in another country's files.
fn with_decimal_point(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once(',').unwrap_or((text, ""));
    let mut groups = whole.trim_start_matches(['-', '+']).split('.');
    let first = groups.next()?.len();
    let is_grouped = whole.contains('.');
    let is_good = !is_grouped || (1..=3).contains(&first) && groups.all(|group| group.len() == 3);
    (is_good && !fraction.contains(['.', ','])).then(|| format!("{}.{fraction}", whole.replace('.', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text, false).expect(text)
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(number("12").multiply(number("6.955")).expect("fits").to_money(), Ok(Money(834_600)));
        assert_eq!(number("0.1").add(number("0.2")).expect("fits").to_money(), Ok(Money(3_000)));
        assert_eq!(number("6.661339999999999e-16").round(2).to_money(), Ok(Money(0)));
        assert_eq!(number("1.5e3").to_whole(), Ok(1500));
        assert_eq!(Number::parse("1.234,50", true).expect("read").to_money(), Ok(Money(12_345_000)));
        assert!(number("0.00001").to_money().is_err() && number("2.5").to_whole().is_err());
        assert_eq!(number("2.50000").to_money(), Ok(Money(25_000)));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "NaN", "inf", "1,5", "0x10", "1e", "1e99", "1e-2147483648", "--1", "1 2", "\0"] {
            assert!(Number::parse(text, false).is_none(), "{text:?}");
        }
    }
}
