//! Classical seasonal decomposition: the trend is a moving average over one season, the seasonal index is the mean of
//! the remainder at each position of the season (Hyndman and Athanasopoulos, "Forecasting: Principles and Practice",
//! section 3.4).

use super::series::mean;

/// How trend and season combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Additive,
    Multiplicative,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Seasonality {
    pub mode: Mode,
    /// What each position in the season adds to the trend (mean 0) or multiplies it by (mean 1).
    pub index: Vec<f64>,
    /// Whether the index explains more than its parameters cost, by AICc.
    pub is_significant: bool,
}

/// Decomposes `values`; `None` without a season or with fewer than two of them. Multiplicative if that leaves the
/// smaller remainder, which requires positive values.
pub fn decompose(values: &[f64], season: usize) -> Option<Seasonality> {
    if season < 2 || values.len() < 2 * season {
        return None;
    }
    let trend = moving_average(values, season);
    let first = season / 2;
    let centre = &values[first..first + trend.len()];
    let indexed = |mode: Mode| {
        let index = index(centre, &trend, first, season, mode);
        let fitted = trend.iter().enumerate().map(|(i, trend)| combine(*trend, index[(first + i) % season], mode));
        let rest = centre.iter().zip(fitted).map(|(value, fitted)| (value - fitted).powi(2)).sum::<f64>();
        (mode, index, rest)
    };
    let mut best = indexed(Mode::Additive);
    if values.iter().all(|value| *value > 0.0) {
        let multiplicative = indexed(Mode::Multiplicative);
        if multiplicative.2 < best.2 {
            best = multiplicative;
        }
    }
    let (mode, index, rest) = best;
    let without = centre.iter().zip(&trend).map(|(value, trend)| (value - trend).powi(2)).sum::<f64>();
    let is_significant = aicc(rest, trend.len(), season) < aicc(without, trend.len(), 1);
    Some(Seasonality { mode, index, is_significant })
}

impl Seasonality {
    /// The deseasonalized values; the first is at the first position of the season.
    pub fn remove(&self, values: &[f64]) -> Vec<f64> {
        let places = values.iter().zip(self.index.iter().cycle());
        match self.mode {
            Mode::Additive => places.map(|(value, index)| value - index).collect(),
            Mode::Multiplicative => places.map(|(value, index)| value / index).collect(),
        }
    }

    /// The trend with the season applied, at bucket `at` of the history or later.
    pub fn apply(&self, trend: f64, at: usize) -> f64 {
        combine(trend, self.index[at % self.index.len()], self.mode)
    }

    /// The factor by which the season scales an error of the trend at bucket `at`.
    pub fn gain(&self, at: usize) -> f64 {
        match self.mode {
            Mode::Additive => 1.0,
            Mode::Multiplicative => self.index[at % self.index.len()],
        }
    }
}

/// Akaike's information criterion, corrected for small samples, of a fit with a residual sum of squares and
/// `parameters` (excluding the variance); infinite with too few values.
pub fn aicc(sum_of_squares: f64, n: usize, parameters: usize) -> f64 {
    let (n, k) = (n as f64, parameters as f64 + 1.0);
    if n <= k + 1.0 {
        return f64::INFINITY;
    }
    n * sum_of_squares.max(f64::MIN_POSITIVE).ln() + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0)
}

fn combine(trend: f64, index: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Additive => trend + index,
        Mode::Multiplicative => trend * index,
    }
}

/// Centred on each value with half a season on both sides: the first on value `season / 2`.
fn moving_average(values: &[f64], season: usize) -> Vec<f64> {
    let means: Vec<f64> = values.windows(season).map(mean).collect();
    if season % 2 == 1 { means } else { means.windows(2).map(mean).collect() }
}

fn index(centre: &[f64], trend: &[f64], first: usize, season: usize, mode: Mode) -> Vec<f64> {
    let mut places = vec![Vec::new(); season];
    for (i, (value, trend)) in centre.iter().zip(trend).enumerate() {
        places[(first + i) % season].push(match mode {
            Mode::Additive => value - trend,
            Mode::Multiplicative => value / trend,
        });
    }
    let means: Vec<f64> = places.iter().map(|place| mean(place)).collect();
    let level = mean(&means);
    means
        .iter()
        .map(|place| match mode {
            Mode::Additive => place - level,
            Mode::Multiplicative => place / level,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four seasons of three buckets on a rising trend.
    fn season_on_trend(mode: Mode, index: [f64; 3]) -> Vec<f64> {
        (0..12).map(|i| combine(100.0 + 10.0 * i as f64, index[i % 3], mode)).collect()
    }

    #[test]
    fn an_additive_season_is_found() {
        let found = decompose(&season_on_trend(Mode::Additive, [-5.0, 2.0, 3.0]), 3).expect("four seasons");
        assert_eq!((found.mode, found.is_significant), (Mode::Additive, true));
        for (index, expected) in found.index.iter().zip([-5.0, 2.0, 3.0]) {
            assert!((index - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn a_season_that_grows_with_the_trend_is_multiplicative() {
        let found = decompose(&season_on_trend(Mode::Multiplicative, [0.5, 1.0, 1.5]), 3).expect("four seasons");
        assert_eq!((found.mode, found.is_significant), (Mode::Multiplicative, true));
        assert!((found.index[0] - 0.5).abs() < 0.01);
    }

    #[test]
    fn noise_has_no_significant_season() {
        // The mean deviation is 0 at each position.
        let noise: Vec<f64> = [3.0, -3.0, 1.0, -3.0, 3.0, -1.0].iter().cycle().take(24).map(|x| 50.0 + x).collect();
        assert!(!decompose(&noise, 3).expect("eight seasons").is_significant);
        assert_eq!(decompose(&noise, 1), None);
    }

    #[test]
    fn removing_and_applying_are_opposites() {
        for mode in [Mode::Additive, Mode::Multiplicative] {
            let seasonality = Seasonality { mode, index: vec![0.5, 1.5], is_significant: true };
            let removed = seasonality.remove(&[3.0, 6.0, 9.0]);
            for (at, value) in [3.0, 6.0, 9.0].into_iter().enumerate() {
                assert_eq!(seasonality.apply(removed[at], at), value);
            }
        }
    }
}
