//! The arithmetic of formulas.
//!
//! Amounts and counts are exact, and so are their sums, products and quotients, as long as the reduced fraction fits
//! 128 bits; beyond that they become the nearest float. So `grossRevenue / ordersCount` is the average order value to
//! the last decimal, and `x / y = 0.1` means what it says.

use std::cmp::Ordering;

use super::fraction::Fraction;

/// A number of any unit: currency, pieces, one, or seconds. Never NaN or infinite.
#[derive(Clone, Copy, Debug)]
pub struct Number(Repr);

#[derive(Clone, Copy, Debug)]
enum Repr {
    Exact(Fraction),
    Float(f64),
}

/// Why there is no number. In a response each is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Absent {
    /// A metric has no value here, or `nullif` removed it.
    #[error("no value")]
    NoValue,
    #[error("division by zero")]
    DivisionByZero,
    /// Beyond the largest float.
    #[error("the number is too large")]
    Overflow,
}

impl Number {
    pub const ZERO: Number = Number::count(0);

    /// A whole number.
    pub const fn count(count: i64) -> Number {
        Number::decimal(count, 0)
    }

    /// An amount of money in ten-thousandths of a currency unit.
    pub const fn money(ten_thousandths: i64) -> Number {
        Number::decimal(ten_thousandths, 4)
    }

    /// `units / 10^decimals`, for at most 38 decimals.
    pub(super) const fn decimal(units: i64, decimals: u32) -> Number {
        Number(Repr::Exact(Fraction::decimal(units, decimals)))
    }

    /// An exact ratio; `None` where the denominator is zero.
    pub fn ratio(numerator: i64, denominator: i64) -> Option<Number> {
        Fraction::new(numerator.into(), denominator.into()).map(|fraction| Number(Repr::Exact(fraction)))
    }

    /// `None` for NaN and the infinities.
    pub fn float(value: f64) -> Option<Number> {
        // Adding zero normalizes -0.0.
        value.is_finite().then_some(Number(Repr::Float(value + 0.0)))
    }

    pub fn to_f64(self) -> f64 {
        match self.0 {
            Repr::Exact(fraction) => fraction.to_f64(),
            Repr::Float(value) => value,
        }
    }

    /// The number in ten-thousandths, rounded half to even, as money and metrics are stored; `None` beyond 64 bits.
    pub fn ten_thousandths(self) -> Option<i64> {
        let exact = match self.0 {
            Repr::Exact(fraction) => fraction.rounded(10_000).or_else(|| fraction.reduced().rounded(10_000)),
            Repr::Float(_) => None,
        };
        exact.map_or_else(|| whole_i64((self.to_f64() * 10_000.0).round_ties_even()), |units| i64::try_from(units).ok())
    }

    pub(super) fn is_zero(self) -> bool {
        match self.0 {
            Repr::Exact(fraction) => fraction.is_zero(),
            Repr::Float(value) => value == 0.0,
        }
    }

    pub(super) fn plus(self, other: Number) -> Result<Number, Absent> {
        self.exactly(other, Fraction::plus).map_or_else(|| finite(self.to_f64() + other.to_f64()), Ok)
    }

    pub(super) fn minus(self, other: Number) -> Result<Number, Absent> {
        self.exactly(other, Fraction::minus).map_or_else(|| finite(self.to_f64() - other.to_f64()), Ok)
    }

    pub(super) fn times(self, other: Number) -> Result<Number, Absent> {
        self.exactly(other, Fraction::times).map_or_else(|| finite(self.to_f64() * other.to_f64()), Ok)
    }

    pub(super) fn per(self, other: Number) -> Result<Number, Absent> {
        if other.is_zero() {
            return Err(Absent::DivisionByZero);
        }
        self.exactly(other, Fraction::per).map_or_else(|| finite(self.to_f64() / other.to_f64()), Ok)
    }

    /// The difference to an earlier number; `None` on overflow.
    pub fn less(self, before: Number) -> Option<Number> {
        self.minus(before).ok()
    }

    /// The relative change since an earlier number; `None` where that is zero.
    pub fn change_since(self, before: Number) -> Option<Number> {
        self.minus(before).and_then(|change| change.per(before)).ok()
    }

    pub(super) fn negated(self) -> Result<Number, Absent> {
        Number::ZERO.minus(self)
    }

    pub(super) fn absolute(self) -> Result<Number, Absent> {
        if self.compare(Number::ZERO) == Ordering::Less { self.negated() } else { Ok(self) }
    }

    pub(super) fn smaller(self, other: Number) -> Number {
        if other.compare(self).is_lt() { other } else { self }
    }

    pub(super) fn larger(self, other: Number) -> Number {
        if other.compare(self).is_gt() { other } else { self }
    }

    /// By value, regardless of representation.
    pub fn compare(self, other: Number) -> Ordering {
        let exact = match (self.0, other.0) {
            (Repr::Exact(a), Repr::Exact(b)) => a.compare(b).or_else(|| a.reduced().compare(b.reduced())),
            _ => None,
        };
        exact.unwrap_or_else(|| self.to_f64().total_cmp(&other.to_f64()))
    }

    /// The exact result, if both are exact and it fits.
    fn exactly(self, other: Number, operation: fn(Fraction, Fraction) -> Option<Fraction>) -> Option<Number> {
        let (Repr::Exact(a), Repr::Exact(b)) = (self.0, other.0) else { return None };
        let result = operation(a, b).or_else(|| operation(a.reduced(), b.reduced()))?;
        Some(Number(Repr::Exact(result)))
    }
}

/// Equality by value: 0.5 is 1/2.
impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.compare(*other) == Ordering::Equal
    }
}

fn finite(value: f64) -> Result<Number, Absent> {
    Number::float(value).ok_or(Absent::Overflow)
}

/// The integer value of a whole float; `None` beyond 64 bits.
fn whole_i64(value: f64) -> Option<i64> {
    // -2^63 is representable and fits; 2^63 is the smallest float above that does not.
    (value >= i64::MIN as f64 && value < -(i64::MIN as f64)).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_per_count_is_rounded_once_at_the_end() {
        // 10.00 / 3 = 3.3333...; times 3 it is 10.00 again, not 9.9999.
        let third = Number::money(100_000).per(Number::count(3)).expect("a quotient");
        assert_eq!(third.ten_thousandths(), Some(33_333));
        assert_eq!(third.times(Number::count(3)), Ok(Number::money(100_000)));
    }

    #[test]
    fn equality_is_of_values() {
        let tenth = Number::count(1).per(Number::count(10)).expect("a quotient");
        assert_eq!(tenth, Number::money(1_000));
        assert_eq!(Some(tenth), Number::float(0.1), "the nearest float of a tenth");
        assert_ne!(Number::count(1), Number::count(2));
    }

    #[test]
    fn what_does_not_fit_128_bits_is_a_float_and_then_nothing() {
        let mut number = Number::count(i64::MAX);
        for _ in 0..4 {
            number = number.times(number).expect("below 1e308");
        }
        assert!((number.to_f64() / 2f64.powi(1008) - 1.0).abs() < 1e-12, "2^63 to the 16th: {number:?}");
        assert_eq!(number.ten_thousandths(), None);
        assert_eq!(number.times(number), Err(Absent::Overflow));
        assert_eq!(number.per(Number::float(0.0).expect("zero")), Err(Absent::DivisionByZero));
        assert_eq!([f64::NAN, f64::INFINITY].map(Number::float), [None, None]);
    }

    #[test]
    fn factors_that_cancel_out_cost_no_digits() {
        let (large, larger) = (Number::money(i64::MAX - 1), Number::money(i64::MAX));
        let factor = Number::ratio(1 << 55, 1 << 55).expect("one");
        let long = larger.times(factor).expect("2^118 / 2^68");
        assert_eq!(long.ten_thousandths(), Some(i64::MAX));
        assert_eq!(long.compare(large), Ordering::Greater);
        let again = long.times(factor).and_then(|longer| longer.plus(factor)).and_then(|sum| sum.minus(factor));
        assert_eq!(again.map(Number::ten_thousandths), Ok(Some(i64::MAX)));
    }

    #[test]
    fn rounding_of_floats_keeps_within_64_bits() {
        let at = |value: f64| Number::float(value).and_then(Number::ten_thousandths);
        assert_eq!([0.00005, 2.000_06, -2.5].map(at), [Some(0), Some(20_001), Some(-25_000)]);
        assert_eq!([9.3e14, -9.3e14, 1e300].map(at), [None; 3]);
        assert_eq!(at(922_337_203_685_477.6), None, "2^63 ten thousandths");
    }

    #[test]
    fn zero_has_no_sign() {
        for zero in [0.0, -0.0].map(|zero| Number::float(zero).expect("zero")) {
            let negative = zero.times(Number::count(-1)).expect("zero");
            assert_eq!([zero, negative].map(|zero| zero.to_f64().to_bits()), [0, 0]);
        }
    }

    proptest! {
        /// Matches `Money::per` of the metrics: the quotient of integers, rounded half to even.
        #[test]
        fn a_quotient_of_metrics_is_the_rounded_quotient(sum in any::<i64>(), count in 1..i64::MAX) {
            let (sum_wide, count_wide) = (i128::from(sum), i128::from(count));
            let (floor, rest) = (sum_wide.div_euclid(count_wide), sum_wide.rem_euclid(count_wide));
            let is_up = 2 * rest > count_wide || (2 * rest == count_wide && floor % 2 != 0);
            let quotient = Number::money(sum).per(Number::count(count)).expect("a quotient");
            prop_assert_eq!(quotient.ten_thousandths().map(i128::from), Some(floor + i128::from(is_up)));
        }

        #[test]
        fn no_operation_gives_nan_or_infinity(a in any_number(), b in any_number()) {
            for result in [a.plus(b), a.minus(b), a.times(b), a.per(b), a.negated(), a.absolute()].into_iter().flatten() {
                prop_assert!(result.to_f64().is_finite());
            }
        }

        #[test]
        fn sums_and_products_can_be_undone(a in -1_000_000i64..1_000_000, b in 1i64..1_000_000, c in 1i64..1_000_000) {
            let (a, b) = (Number::money(a), Number::ratio(b, c).expect("a ratio"));
            prop_assert_eq!(a.plus(b).and_then(|sum| sum.minus(b)), Ok(a));
            prop_assert_eq!(a.times(b).and_then(|product| product.per(b)), Ok(a));
        }
    }

    fn any_number() -> impl Strategy<Value = Number> {
        let exact = (any::<i64>(), any::<i64>()).prop_filter_map("zero", |(n, d)| Number::ratio(n, d));
        prop_oneof![exact, any::<f64>().prop_filter_map("not finite", Number::float)]
    }
}
