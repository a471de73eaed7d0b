//! Exact decimal numbers as written in files.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::money::{Money, div_half_even};

const DIGITS_MAX: usize = 36;
const EXPONENT_MAX: u32 = 36;
const MONEY_DECIMALS: u32 = 4;

/// How a feed's files write numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberFormat {
    /// As 1.234,56.
    pub decimal_comma: bool,
    /// With this before or after them.
    pub currency_sign: Option<String>,
}

/// `units / 10^decimals`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    units: i128,
    decimals: u32,
}

impl Number {
    /// Parses "12.50", "-3", "6.66e-16", "1,234.56"; with a decimal comma "1.234,56". As bookkeeping writes them, negative
    /// ones also as "(5.00)" or "5.00-". `None` if it is not a number, or not certainly which: "1,234" may be a thousand
    /// or a bit more than one.
    pub fn parse(text: &str, format: &NumberFormat) -> Option<Number> {
        let (text, is_reversed) = match text.strip_prefix('(') {
            Some(rest) => (rest.strip_suffix(')')?, true),
            None => text.strip_suffix('-').map_or((text, false), |rest| (rest, true)),
        };
        let (sign, unsigned) = split_sign(text);
        let (sign, digits) = match (sign, format.without_currency(unsigned)) {
            // The sign may stand on either side of the currency's.
            ("", digits) => split_sign(digits),
            (sign, digits) => (sign, digits),
        };
        if is_reversed && !sign.is_empty() {
            return None;
        }
        let is_decorated = is_reversed || digits.len() != unsigned.len();
        let number = Number::unsigned(&format.without_groups(digits, is_decorated)?)?;
        Some(if is_reversed || sign == "-" { number.negate() } else { number })
    }

    fn unsigned(text: &str) -> Option<Number> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
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
        Some(Number { units, decimals: decimals.max(0).unsigned_abs() })
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

    /// What is too large for the same decimals is beyond all units.
    pub fn compare(self, other: i64) -> Ordering {
        self.units.cmp(&i128::from(other).saturating_mul(10i128.saturating_pow(self.decimals)))
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

/// A leading sign, and what follows it.
fn split_sign(text: &str) -> (&str, &str) {
    text.split_at(usize::from(text.starts_with(['-', '+'])))
}

impl NumberFormat {
    /// Without the currency's sign before or after the number, and the space between them.
    fn without_currency<'a>(&self, text: &'a str) -> &'a str {
        let Some(sign) = self.currency_sign.as_deref() else { return text };
        let bare = text.strip_prefix(sign).or_else(|| text.strip_suffix(sign));
        bare.map_or(text, str::trim)
    }

    /// "1,234.56", or with a decimal comma "1.234,56", as "1234.56". `None` where it would be a different number in
    /// another country's files: groups that do not have three digits ("12.34" with a decimal comma), a single group
    /// without decimals after it ("1,234"), and the same with a point in numbers that are written for people.
    fn without_groups<'a>(&self, text: &'a str, is_decorated: bool) -> Option<Cow<'a, str>> {
        let (group, point) = if self.decimal_comma { ('.', ',') } else { (',', '.') };
        if !text.contains(['.', ',']) {
            return Some(Cow::Borrowed(text));
        }
        let (whole, fraction) = text.split_once(point).unwrap_or((text, ""));
        let mut groups = whole.split(group);
        let first = groups.next()?;
        let rest: Vec<_> = groups.collect();
        if rest.is_empty() {
            let looks_grouped = fraction.len() == 3 && (1..=3).contains(&first.len()) && !first.starts_with('0');
            let is_certain = self.decimal_comma || !is_decorated || !looks_grouped;
            return (is_certain && !fraction.contains(['.', ','])).then(|| Cow::Owned(format!("{whole}.{fraction}")));
        }
        let is_grouped =
            (1..=3).contains(&first.len()) && !first.starts_with('0') && rest.iter().all(|group| group.len() == 3);
        let is_certain = self.decimal_comma || rest.len() > 1 || text.contains(point);
        (is_grouped && is_certain && !fraction.contains(['.', ',']))
            .then(|| Cow::Owned(format!("{}.{fraction}", whole.replace(group, ""))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(decimal_comma: bool, sign: &str) -> NumberFormat {
        NumberFormat { decimal_comma, currency_sign: Some(sign.to_owned()).filter(|sign| !sign.is_empty()) }
    }

    fn number(text: &str) -> Number {
        Number::parse(text, &NumberFormat::default()).expect(text)
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(number("12").multiply(number("6.955")).expect("fits").to_money(), Ok(Money(834_600)));
        assert_eq!(number("0.1").add(number("0.2")).expect("fits").to_money(), Ok(Money(3_000)));
        assert_eq!(number("6.661339999999999e-16").round(2).to_money(), Ok(Money(0)));
        assert_eq!(number("1.5e3").to_whole(), Ok(1500));
        assert_eq!(Number::parse("1.234,50", &format(true, "")).expect("read").to_money(), Ok(Money(12_345_000)));
        assert!(number("0.00001").to_money().is_err() && number("2.5").to_whole().is_err());
        assert_eq!(number("2.50000").to_money(), Ok(Money(25_000)));
    }

    #[test]
    fn numbers_are_read_as_bookkeeping_writes_them() {
        for (text, comma, sign, expected) in [
            ("(5.00)", false, "", "-5.00"),
            ("5.00-", false, "", "-5.00"),
            ("(0.125)", false, "", "-0.125"),
            ("1,234.56", false, "", "1234.56"),
            ("-12,345,678", false, "", "-12345678.00"),
            ("1,234.", false, "", "1234.00"),
            ("1.234", false, "", "1.234"),
            ("$1.50", false, "$", "1.50"),
            ("-$1.50", false, "$", "-1.50"),
            ("$-1.50", false, "$", "-1.50"),
            ("(€ 12)", false, "€", "-12.00"),
            ("3.20 kr.", false, "kr.", "3.20"),
            ("(1.234,50 €)", true, "€", "-1234.50"),
            ("1.234 €", true, "€", "1234.00"),
            ("1.234", true, "", "1234.00"),
            ("12,5", true, "", "12.50"),
            ("0,500", true, "", "0.50"),
            ("7", true, "", "7.00"),
        ] {
            let number = Number::parse(text, &format(comma, sign)).expect(text);
            assert_eq!(number.to_money(), Ok(expected.parse().expect("an amount")), "{text:?}");
        }
    }

    #[test]
    fn what_may_be_another_number_is_refused() {
        for (text, comma, sign) in [
            ("1,234", false, ""),
            ("1.234 €", false, "€"),
            ("1.234-", false, ""),
            ("(1.234)", false, ""),
            ("12.34", true, ""),
            ("0.500", true, ""),
            ("1.2345", true, ""),
            ("1,234.56", true, ""),
            ("£5.00", false, "$"),
            ("$5.00", false, ""),
        ] {
            assert!(Number::parse(text, &format(comma, sign)).is_none(), "{text:?}");
        }
    }

    #[test]
    fn numbers_of_any_size_are_compared() {
        for (text, other, expected) in [
            ("6.661339999999999e-16", 1_000_000_000, Ordering::Less),
            ("6.661339999999999e-16", -1_000_000_000, Ordering::Greater),
            ("6.661339999999999e-16", 0, Ordering::Greater),
            ("-1e-36", i64::MAX, Ordering::Less),
            ("-1e-36", i64::MIN, Ordering::Greater),
            ("-1e-36", 0, Ordering::Less),
            ("12.50", 12, Ordering::Greater),
            ("12.00", 12, Ordering::Equal),
        ] {
            let number = Number::parse(text, &NumberFormat::default()).expect(text);
            assert_eq!(number.compare(other), expected, "{text} {other}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["(-5)", "(5", "-5-", "()", "$", "$$1", "12,34.5", "1,23", ",5", "1.5,000", "1 234", "%5", "1,2,3"]
        {
            for comma in [false, true] {
                let is_read = Number::parse(text, &format(comma, "$")).is_some();
                assert_eq!(is_read, comma && matches!(text, "1,23" | ",5"), "{text:?}");
            }
        }
        for text in ["", "-", ".", "NaN", "inf", "1,5", "0x10", "1e", "1e99", "1e-2147483648", "--1", "1 2", "\0"] {
            assert!(Number::parse(text, &NumberFormat::default()).is_none(), "{text:?}");
        }
    }
}
