//! One pass of exponential smoothing over a series (Hyndman et al. 2008, table 2.2). Errors are linear in the initial
//! level and slope, so three passes run side by side: the plain one, and one for the sensitivity of the errors to each
//! of the two. That yields the optimal initial state for given weights, leaving only the weights to search for.

use super::super::least_squares::{Error, Sums};

/// The weights by which an error updates level, slope and season, and the damping of the slope.
#[derive(Clone, Copy, Debug)]
pub struct Smoothing {
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    pub phi: f64,
}

/// The state carried from bucket to bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub level: f64,
    pub slope: f64,
    /// By position in the season; a single 0 without one.
    pub season: Vec<f64>,
}

/// The state after the last value, and the sum of squared one-step-ahead errors.
#[derive(Clone, Debug)]
pub struct Pass {
    pub state: State,
    pub sum_of_squares: f64,
}

/// Smooths values, the first of which is at the first position of the season. The initial season is `index`, the
/// initial level and slope are the optimal ones; without a slope it is zero.
pub fn run(values: &[f64], smoothing: &Smoothing, index: &[f64], has_slope: bool) -> Pass {
    let mut season: Vec<Lanes> = index.iter().map(|index| Lanes([*index, 0.0, 0.0])).collect();
    let (mut level, mut slope) = (Lanes([0.0, 1.0, 0.0]), Lanes([0.0, 0.0, if has_slope { 1.0 } else { 0.0 }]));
    let mut sums = Sums::default();
    for cycle in values.chunks(index.len()) {
        for (value, index) in cycle.iter().zip(&mut season) {
            let trend = level.plus(smoothing.phi, slope);
            let error = Lanes([*value, 0.0, 0.0]).plus(-1.0, *index).plus(-1.0, trend);
            level = trend.plus(smoothing.alpha, error);
            slope = error.times(smoothing.beta).plus(smoothing.phi, slope);
            *index = index.plus(smoothing.gamma, error);
            let Lanes([plain, first, second]) = error;
            sums.add(Error { plain, first, second });
        }
    }
    let second = sums.best_second();
    let first = sums.best_first(second);
    let at_best = |lanes: &Lanes| lanes.0[0] + first * lanes.0[1] + second * lanes.0[2];
    let state = State { level: at_best(&level), slope: at_best(&slope), season: season.iter().map(at_best).collect() };
    Pass { state, sum_of_squares: sums.rest(first, second) }
}

/// The three passes side by side.
#[derive(Clone, Copy, Debug)]
struct Lanes([f64; 3]);

impl Lanes {
    fn plus(self, factor: f64, other: Lanes) -> Lanes {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Lanes([a + factor * x, b + factor * y, c + factor * z])
    }

    fn times(self, factor: f64) -> Lanes {
        Lanes(self.0.map(|x| factor * x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALVES: Smoothing = Smoothing { alpha: 0.5, beta: 0.25, gamma: 0.5, phi: 1.0 };

    #[test]
    fn the_first_level_and_slope_are_the_best() {
        // A line with a season is fitted exactly: 10, 12, 14... plus alternating +1, -1.
        let values = [11.0, 11.0, 15.0, 15.0, 19.0, 19.0];
        let Pass { state, sum_of_squares } = run(&values, &HALVES, &[1.0, -1.0], true);
        assert!((state.level - 20.0).abs() < 1e-9 && (state.slope - 2.0).abs() < 1e-9, "{state:?}");
        assert!(sum_of_squares < 1e-9);
    }

    #[test]
    fn a_pass_can_be_followed_by_hand() {
        // Without a slope the errors are (2 - l), then 4 - l - (2 - l) / 2 = 3 - l / 2: the best l is (2 + 1.5) / 1.25
        // = 2.8.
        let level_only = Smoothing { beta: 0.0, gamma: 0.0, ..HALVES };
        let Pass { state, sum_of_squares } = run(&[2.0, 4.0], &level_only, &[0.0], false);
        assert!((sum_of_squares - (0.64 + 1.6 * 1.6)).abs() < 1e-12);
        // 2.8 - .4 = 2.4, then + .8.
        assert!((state.level - 3.2).abs() < 1e-12 && state.slope == 0.0);
    }
}
