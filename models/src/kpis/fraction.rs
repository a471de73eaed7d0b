//! Exact fractions with 128-bit integers.
//!
//! Every operation is `None` where a numerator or denominator would overflow, even if the reduced value would not: see
//! [`Fraction::reduced`].

use std::cmp::Ordering;

/// `numerator / denominator`; the denominator is positive, and the two may have common factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// `None` for a denominator of zero.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Fraction> {
        match denominator {
            0 => None,
            1.. => Some(Fraction { numerator, denominator }),
            _ => Some(Fraction { numerator: numerator.checked_neg()?, denominator: denominator.checked_neg()? }),
        }
    }

    /// `units / 10^decimals`, for at most 38 decimals.
    pub(super) const fn decimal(units: i64, decimals: u32) -> Fraction {
        Fraction { numerator: units as i128, denominator: 10i128.saturating_pow(decimals) }
    }

    pub(super) fn is_zero(self) -> bool {
        self.numerator == 0
    }

    pub(super) fn negated(self) -> Option<Fraction> {
        Some(Fraction { numerator: self.numerator.checked_neg()?, ..self })
    }

    pub(super) fn plus(self, other: Fraction) -> Option<Fraction> {
        if self.denominator == other.denominator {
            return Some(Fraction { numerator: self.numerator.checked_add(other.numerator)?, ..self });
        }
        let left = product(self.numerator, other.denominator)?;
        let right = product(other.numerator, self.denominator)?;
        let denominator = product(self.denominator, other.denominator)?;
        Some(Fraction { numerator: left.checked_add(right)?, denominator })
    }

    pub(super) fn minus(self, other: Fraction) -> Option<Fraction> {
        self.plus(other.negated()?)
    }

    pub(super) fn times(self, other: Fraction) -> Option<Fraction> {
        let numerator = product(self.numerator, other.numerator)?;
        Some(Fraction { numerator, denominator: product(self.denominator, other.denominator)? })
    }

    /// `None` also where `other` is zero.
    pub(super) fn per(self, other: Fraction) -> Option<Fraction> {
        if self.denominator == other.denominator {
            return Fraction::new(self.numerator, other.numerator);
        }
        let numerator = product(self.numerator, other.denominator)?;
        Fraction::new(numerator, product(self.denominator, other.numerator)?)
    }

    pub(super) fn compare(self, other: Fraction) -> Option<Ordering> {
        if self.denominator == other.denominator {
            return Some(self.numerator.cmp(&other.numerator));
        }
        let left = product(self.numerator, other.denominator)?;
        Some(left.cmp(&product(other.numerator, self.denominator)?))
    }

    /// The same value in lowest terms.
    pub(super) fn reduced(self) -> Fraction {
        let divisor = greatest_common_divisor(self.numerator.unsigned_abs(), self.denominator.unsigned_abs());
        match i128::try_from(divisor) {
            Ok(divisor) if divisor > 1 => {
                Fraction { numerator: self.numerator / divisor, denominator: self.denominator / divisor }
            }
            _ => self,
        }
    }

    /// The nearest multiple of `1 / scale`, rounded half to even.
    pub(super) fn rounded(self, scale: i128) -> Option<i128> {
        let scaled = product(self.numerator, scale)?;
        let (quotient, rest) = (scaled.div_euclid(self.denominator), scaled.rem_euclid(self.denominator));
        match rest.cmp(&(self.denominator - rest)) {
            Ordering::Less => Some(quotient),
            Ordering::Greater => quotient.checked_add(1),
            Ordering::Equal => quotient.checked_add(quotient & 1),
        }
    }

    /// The nearest float where both parts are below 2^53, otherwise within two ULPs.
    pub(super) fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

/// Most factors are small, and those are multiplied much faster.
fn product(a: i128, b: i128) -> Option<i128> {
    match (i64::try_from(a), i64::try_from(b)) {
        (Ok(a), Ok(b)) => Some(i128::from(a) * i128::from(b)),
        _ => a.checked_mul(b),
    }
}

/// Euclid's algorithm.
fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numerator: i128, denominator: i128) -> Fraction {
        Fraction::new(numerator, denominator).expect("a denominator")
    }

    fn parts(fraction: Fraction) -> (i128, i128) {
        let reduced = fraction.reduced();
        (reduced.numerator, reduced.denominator)
    }

    #[test]
    fn arithmetic_is_that_of_school() {
        let (half, third) = (of(1, 2), of(1, 3));
        assert_eq!(half.plus(third).map(parts), Some((5, 6)));
        assert_eq!(half.minus(third).map(parts), Some((1, 6)));
        assert_eq!(half.times(third).map(parts), Some((1, 6)));
        assert_eq!(half.per(third).map(parts), Some((3, 2)));
        assert_eq!(half.compare(third), Some(Ordering::Greater));
        assert_eq!(half.per(of(-1, 3)).map(parts), Some((-3, 2)), "the denominator stays above zero");
        assert!(half.per(of(0, 7)).is_none());
    }

    #[test]
    fn halves_round_to_even() {
        let rounded = |tenths: i128| of(tenths, 10).rounded(1);
        assert_eq!([5, 15, 25, -5, -15, 14, -16].map(rounded), [0, 2, 2, 0, -2, 1, -2].map(Some));
        assert_eq!(of(1, 3).rounded(10_000), Some(3_333));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let large = of(i128::MAX, 1);
        assert!(large.plus(of(1, 1)).is_none() && large.times(of(2, 1)).is_none());
        assert!(of(i128::MIN, 1).negated().is_none() && Fraction::new(1, i128::MIN).is_none());
        assert_eq!(parts(of(i128::MIN, 2)), (i128::MIN / 2, 1));
    }
}
