//! Decimal literals in formulas.

use std::fmt;

use super::number::Number;

/// Maximum number of digits of a literal, before and after the point together.
pub const DIGITS_MAX: usize = 18;

/// A literal without trailing zeros after the point: `digits / 10^decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    digits: i64,
    decimals: u32,
}

impl Decimal {
    /// Parses digits with at most one point among them; `None` for anything else, and for more than [`DIGITS_MAX`]
    /// digits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if whole.len() + fraction.len() > DIGITS_MAX {
            return None;
        }
        let digits = format!("0{whole}{fraction}").parse().ok()?;
        Some(Decimal { digits, decimals: u32::try_from(fraction.len()).ok()? })
    }

    /// The integer value, if it is one.
    pub fn whole(self) -> Option<i64> {
        (self.decimals == 0).then_some(self.digits)
    }

    pub fn number(self) -> Number {
        Number::decimal(self.digits, self.decimals)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.decimals as usize;
        // At least one digit before the point.
        let digits = format!("{:0width$}", self.digits, width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        f.write_str(whole)?;
        if decimals > 0 { write!(f, ".{fraction}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_and_printed_shortest() {
        for (text, printed) in [
            ("0", "0"),
            ("007", "7"),
            ("1.50", "1.5"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("999999999999999999", "999999999999999999"),
            ("12.0", "12"),
        ] {
            let decimal = Decimal::parse(text).expect(text);
            assert_eq!(decimal.to_string(), printed);
            assert_eq!(Ok(decimal.number().to_f64()), text.parse(), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_number_is_refused() {
        for text in ["", ".", "1.", ".5", "1e3", "-1", "1.2.3", "١", "1234567890123456789", "0.1234567890123456789"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }
}
