//! Least squares with two unknowns, accumulated incrementally: errors are `plain + x first + y second`.

/// An error and its sensitivity to each unknown.
#[derive(Clone, Copy, Debug)]
pub struct Error {
    pub plain: f64,
    pub first: f64,
    pub second: f64,
}

/// The sums of products of errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    plain: f64,
    first: f64,
    second: f64,
    plain_first: f64,
    plain_second: f64,
    first_second: f64,
}

impl Sums {
    pub fn add(&mut self, error: Error) {
        let Error { plain, first, second } = error;
        self.plain += plain * plain;
        self.first += first * first;
        self.second += second * second;
        self.plain_first += plain * first;
        self.plain_second += plain * second;
        self.first_second += first * second;
    }

    /// The optimal second unknown; zero where it cannot be distinguished from the first.
    pub fn best_second(&self) -> f64 {
        let determinant = self.first * self.second - self.first_second * self.first_second;
        if determinant <= 1e-9 * self.first * self.second {
            return 0.0;
        }
        (self.first_second * self.plain_first - self.first * self.plain_second) / determinant
    }

    /// The optimal first unknown, given the second; zero where errors do not depend on it.
    pub fn best_first(&self, second: f64) -> f64 {
        if self.first > 0.0 { -(self.plain_first + self.first_second * second) / self.first } else { 0.0 }
    }

    /// The residual sum of squares.
    pub fn rest(&self, first: f64, second: f64) -> f64 {
        let of_first = first * (2.0 * self.plain_first + first * self.first);
        let of_second = second * (2.0 * self.plain_second + second * self.second);
        (self.plain + of_first + of_second + 2.0 * first * second * self.first_second).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_three_points() {
        // 1, 2 and 6 at -1, 0 and 1: mean 3, slope 2.5, rest .5^2 + 1^2 + .5^2.
        let mut sums = Sums::default();
        for (at, value) in [(-1.0, 1.0), (0.0, 2.0), (1.0, 6.0)] {
            sums.add(Error { plain: value, first: -1.0, second: -at });
        }
        let slope = sums.best_second();
        let level = sums.best_first(slope);
        assert_eq!((level, slope), (3.0, 2.5));
        assert!((sums.rest(level, slope) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn unknowns_that_cannot_be_told_apart_leave_the_second_at_zero() {
        let mut sums = Sums::default();
        sums.add(Error { plain: 4.0, first: -1.0, second: -2.0 });
        assert_eq!((sums.best_second(), sums.best_first(0.0)), (0.0, 4.0));
        assert_eq!(Sums::default().best_first(1.0), 0.0);
    }
}
