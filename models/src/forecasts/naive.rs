//! The seasonal naive forecast, which repeats the last season: the benchmark for every other model.

use super::path::Path;

/// Forecasts the `horizon` values after `values`. Errors are those of a seasonal random walk (Hyndman and
/// Athanasopoulos, section 5.5).
pub fn forecast(values: &[f64], season: usize, horizon: usize) -> Path {
    let steps: Vec<f64> = values.iter().zip(values.iter().skip(season)).map(|(a, b)| (b - a).powi(2)).collect();
    let variance = super::series::mean(&steps);
    let last = &values[values.len().saturating_sub(season)..];
    let mut path = Path::with_capacity(horizon);
    for (i, value) in last.iter().cycle().take(horizon).enumerate() {
        let seasons_ahead = 1 + i / season;
        path.push(*value, (variance * seasons_ahead as f64).sqrt());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_season_comes_again() {
        let path = forecast(&[1.0, 5.0, 3.0, 7.0], 2, 3);
        // Both positions moved by 2.
        assert_eq!((path.values, path.deviations), (vec![3.0, 7.0, 3.0], vec![2.0, 2.0, 8.0_f64.sqrt()]));
    }
}
