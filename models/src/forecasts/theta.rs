//! The optimised theta model: simple exponential smoothing combined with the regression line through the history, whose
//! weight is optimised (Fiorucci, Pellegrini, Louzada, Petropoulos and Koehler, "Models for optimising the theta method
//! and their relationship to state space models", 2016; the method is that of Assimakopoulos and Nikolopoulos 2000).
//!
//! One step ahead of t, the forecast is `level + share * line(t + 1)`, and its error moves the level by alpha, where
//! share is 1 - 1/theta. Errors are linear in the initial level and the share, so for each alpha both are found by
//! least squares.

use super::decompose::Seasonality;
use super::least_squares::{Error, Sums};
use super::line::Line;
use super::path::Path;

/// Number of alphas tried before the search narrows around the best one.
const GRID: usize = 12;
/// Steps of the golden section search, each of which leaves .618 of the interval.
const NARROWINGS: usize = 16;
const ALPHA_MIN: f64 = 1e-3;
const ALPHA_MAX: f64 = 1.0 - ALPHA_MIN;

/// Forecasts the `horizon` values after `values`, the first of which is at the first position of the season.
pub fn forecast(values: &[f64], seasonality: Option<&Seasonality>, horizon: usize) -> Path {
    let Some(seasonality) = seasonality.filter(|seasonality| seasonality.is_significant) else {
        return without_season(values, horizon);
    };
    let mut path = without_season(&seasonality.remove(values), horizon);
    for (i, (value, deviation)) in path.values.iter_mut().zip(&mut path.deviations).enumerate() {
        let at = values.len() + i;
        *value = seasonality.apply(*value, at);
        *deviation *= seasonality.gain(at);
    }
    path
}

fn without_season(values: &[f64], horizon: usize) -> Path {
    let line = Line::through(values);
    let best = best_alpha(|alpha| fit(values, &line, alpha).sum_of_squares);
    let fitted = fit(values, &line, best);
    let variance = fitted.sum_of_squares / values.len().saturating_sub(3).max(1) as f64;
    let mut path = Path::with_capacity(horizon);
    for step in 0..horizon {
        let value = fitted.level + fitted.share * line.at((values.len() + step) as f64);
        path.push(value, (variance * (1.0 + step as f64 * best * best)).sqrt());
    }
    path
}

struct Fit {
    /// After the last value.
    level: f64,
    share: f64,
    sum_of_squares: f64,
}

/// One pass for a given alpha: the plain one, and side by side the sensitivity of the errors to the two unknowns.
fn fit(values: &[f64], line: &Line, alpha: f64) -> Fit {
    let (mut plain, mut by_level, mut by_share) = (0.0, 1.0, 0.0);
    let mut sums = Sums::default();
    for (t, value) in values.iter().enumerate() {
        let error = Error { plain: value - plain, first: -by_level, second: -by_share - line.at(t as f64) };
        plain += alpha * error.plain;
        by_level += alpha * error.first;
        by_share += alpha * error.second;
        sums.add(error);
    }
    let share = sums.best_second().clamp(0.0, 1.0);
    let first = sums.best_first(share);
    let level = plain + first * by_level + share * by_share;
    Fit { level, share, sum_of_squares: sums.rest(first, share) }
}

/// The alpha of the smallest error: a grid search, then a golden section search between the best point's neighbours.
fn best_alpha(error: impl Fn(f64) -> f64) -> f64 {
    let on_grid = |i: usize| ALPHA_MIN + (ALPHA_MAX - ALPHA_MIN) * i as f64 / (GRID - 1) as f64;
    let best = (0..GRID).min_by(|i, j| error(on_grid(*i)).total_cmp(&error(on_grid(*j)))).unwrap_or_default();
    let (mut low, mut high) = (on_grid(best.saturating_sub(1)), on_grid((best + 1).min(GRID - 1)));
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    for _ in 0..NARROWINGS {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if error(left) < error(right) { high = right } else { low = left }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::decompose::decompose;
    use super::*;

    #[test]
    fn half_of_a_line_and_a_level_that_follows_go_on_along_the_line() {
        let line: Vec<f64> = (0..20).map(|t| 5.0 + 2.0 * f64::from(t)).collect();
        let path = forecast(&line, None, 3);
        for (value, expected) in path.values.iter().zip([45.0, 47.0, 49.0]) {
            assert!((value - expected).abs() < 1e-6, "{path:?}");
        }
    }

    #[test]
    fn the_share_of_the_line_stays_within_the_method() {
        let jumps: Vec<f64> = (0..30).map(|t| f64::from(t * t)).collect();
        let fitted = fit(&jumps, &Line::through(&jumps), 0.5);
        assert_eq!(fitted.share, 1.0);
    }

    #[test]
    fn a_multiplicative_season_comes_back() {
        let values: Vec<f64> = (0..24).map(|t| 100.0 * [0.5, 1.0, 1.5][t % 3]).collect();
        let path = forecast(&values, decompose(&values, 3).as_ref(), 3);
        for (value, expected) in path.values.iter().zip([50.0, 100.0, 150.0]) {
            assert!((value - expected).abs() < 1e-6, "{path:?}");
        }
    }
}
