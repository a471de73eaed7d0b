//! MSTL with one season: the season by loess (STL; Cleveland et al. 1990), the remainder by exponential smoothing, and
//! the last season added back (Bandara, Hyndman and Bergmeir, "MSTL: A Seasonal-Trend Decomposition Algorithm for Time
//! Series with Multiple Seasonal Patterns", 2021).

use super::ets;
use super::path::Path;

/// Seasonal smoothing span, in seasons: the first window of MSTL.
const SEASONAL_WINDOW: usize = 11;

/// Forecasts the `horizon` values after `values`; `None` where the decomposition fails. Without a season (1), this is
/// exponential smoothing alone.
pub fn forecast(values: &[f64], season: usize, horizon: usize) -> Option<Path> {
    if season < 2 {
        return Some(ets::forecast(values, None, horizon));
    }
    let parts = stlrs::params().seasonal_length(SEASONAL_WINDOW).fit(values, season).ok()?;
    let adjusted: Vec<f64> = values.iter().zip(parts.seasonal()).map(|(value, index)| value - index).collect();
    let mut path = ets::forecast(&adjusted, None, horizon);
    let last = parts.seasonal().get(values.len().checked_sub(season)?..)?;
    for (value, index) in path.values.iter_mut().zip(last.iter().cycle()) {
        *value += index;
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_on_a_line_goes_on() {
        let at = |t: usize| 100.0 + 3.0 * t as f64 + [0.0, 8.0, -8.0, 4.0][t % 4];
        let values: Vec<f64> = (0..40).map(at).collect();
        let path = forecast(&values, 4, 6).expect("ten seasons");
        for (step, value) in path.values.iter().enumerate() {
            // Loess of degree 0 lags a little at the ends.
            assert!((value - at(40 + step)).abs() < 0.5, "{path:?}");
        }
    }

    #[test]
    fn fewer_than_two_seasons_are_not_decomposed() {
        assert_eq!(forecast(&[1.0, 2.0, 3.0, 4.0, 5.0], 3, 2), None);
    }
}
