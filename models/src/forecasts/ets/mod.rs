//! Exponential smoothing in state space form (Hyndman, Koehler, Ord and Snyder 2008): ETS(A,N,N), (A,A,N), (A,Ad,N) and
//! (A,N,A), (A,A,A), (A,Ad,A). The trend is chosen by AICc; the season is that of the history if significant. A
//! multiplicative season is an additive one of logarithms.

mod recursion;

use super::decompose::{Mode, Seasonality, aicc};
use super::path::Path;
use super::simplex::{Variable, minimize};
use recursion::{Pass, Smoothing, State, run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trend {
    None,
    Linear,
    Damped,
}

/// The usual bounds of smoothing weights and damping (Hyndman et al. 2008, section 2.5).
const WEIGHT: Variable = Variable { start: 0.1, step: 0.2, min: 1e-4, max: 0.9999 };
const DAMPING: Variable = Variable { start: 0.95, step: -0.05, min: 0.8, max: 0.98 };
/// Tolerance on the criterion, by which models differ by whole numbers.
const TOLERANCE: f64 = 1e-2;

/// Forecasts the `horizon` values after `values`, the first of which is at the first position of the season.
pub fn forecast(values: &[f64], seasonality: Option<&Seasonality>, horizon: usize) -> Path {
    match seasonality.filter(|seasonality| seasonality.is_significant) {
        None => additive(values, None, horizon),
        Some(Seasonality { mode: Mode::Additive, index, .. }) => additive(values, Some(index), horizon),
        Some(Seasonality { mode: Mode::Multiplicative, index, .. }) => {
            let logarithms = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<f64>>();
            additive(&logarithms(values), Some(&logarithms(index)), horizon).exp()
        }
    }
}

fn additive(values: &[f64], index: Option<&[f64]>, horizon: usize) -> Path {
    let candidates = [Trend::None, Trend::Linear, Trend::Damped].map(|trend| Fitted::new(values, index, trend));
    let best = candidates.into_iter().reduce(|best, next| if next.aicc < best.aicc { next } else { best });
    best.map(|best| best.forecast(values.len(), horizon)).unwrap_or_default()
}

struct Fitted {
    smoothing: Smoothing,
    /// After the last value.
    state: State,
    /// One-step-ahead error variance.
    variance: f64,
    aicc: f64,
}

impl Fitted {
    fn new(values: &[f64], index: Option<&[f64]>, trend: Trend) -> Fitted {
        let n = values.len();
        let pass = |weights: &[f64]| {
            run(values, &smoothing(weights, trend, index.is_some()), index.unwrap_or(&[0.0]), trend != Trend::None)
        };
        let criterion = |pass: &Pass| n as f64 * pass.sum_of_squares.max(f64::MIN_POSITIVE).ln();
        let variables = variables(trend, index.is_some());
        let weights = minimize(&variables, TOLERANCE, |weights| criterion(&pass(weights)));
        let Pass { state, sum_of_squares } = pass(&weights);
        let slopes = if trend == Trend::None { 0 } else { 1 };
        let parameters = weights.len() + 1 + slopes + index.map_or(0, <[f64]>::len);
        let variance = sum_of_squares / n.saturating_sub(weights.len() + 1 + slopes).max(1) as f64;
        let aicc = aicc(sum_of_squares, n, parameters);
        Fitted { smoothing: smoothing(&weights, trend, index.is_some()), state, variance, aicc }
    }

    /// Variances are those of the linear models (Hyndman et al. 2008, table 6.2).
    fn forecast(&self, n: usize, horizon: usize) -> Path {
        let Smoothing { alpha, beta, gamma, phi } = self.smoothing;
        let season = self.state.season.len();
        let (mut damping, mut slopes, mut variance) = (1.0, 0.0, 1.0);
        let mut path = Path::with_capacity(horizon);
        for step in 1..=horizon {
            damping *= phi;
            slopes += damping;
            let value = self.state.level + slopes * self.state.slope + self.state.season[(n + step - 1) % season];
            path.push(value, (self.variance * variance).sqrt());
            // The response of the forecast `step` buckets ahead to an error.
            let response = alpha + beta * slopes + if step % season == 0 { gamma } else { 0.0 };
            variance += response * response;
        }
        path
    }
}

/// The search variables: alpha, beta as a share of alpha, phi, and gamma as a share of 1 - alpha.
fn variables(trend: Trend, is_seasonal: bool) -> Vec<Variable> {
    let mut variables = vec![Variable { start: 0.3, ..WEIGHT }];
    match trend {
        Trend::None => {}
        Trend::Linear => variables.push(WEIGHT),
        Trend::Damped => variables.extend([WEIGHT, DAMPING]),
    }
    variables.extend(is_seasonal.then_some(WEIGHT));
    variables
}

/// Converts a search point to parameters.
fn smoothing(point: &[f64], trend: Trend, is_seasonal: bool) -> Smoothing {
    let mut point = point.iter().copied();
    let mut next = |is_used: bool, unused: f64| if is_used { point.next().unwrap_or(unused) } else { unused };
    let alpha = next(true, 0.0);
    Smoothing {
        alpha,
        beta: alpha * next(trend != Trend::None, 0.0),
        phi: next(trend == Trend::Damped, 1.0),
        gamma: (1.0 - alpha) * next(is_seasonal, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decompose::decompose;
    use super::*;

    /// Deterministic jitter of mean zero.
    fn jitter(t: usize) -> f64 {
        [0.3, -0.5, 0.2, 0.4, -0.1, -0.3][t % 6]
    }

    #[test]
    fn without_a_trend_the_level_is_forecast() {
        let values: Vec<f64> = (0..60).map(|t| 50.0 + jitter(t)).collect();
        let path = forecast(&values, None, 10);
        assert!(path.values.iter().all(|value| (value - 50.0).abs() < 0.3), "{path:?}");
        assert!(path.deviations.is_sorted());
    }

    #[test]
    fn a_trend_with_a_season_goes_on() {
        let at = |t: usize| 20.0 + 2.0 * t as f64 + [5.0, -5.0, 9.0, -9.0][t % 4];
        let values: Vec<f64> = (0..60).map(|t| at(t) + jitter(t)).collect();
        let path = forecast(&values, decompose(&values, 4).as_ref(), 8);
        for (step, value) in path.values.iter().enumerate() {
            assert!((value - at(60 + step)).abs() < 1.0, "{step}: {value}");
        }
    }

    #[test]
    fn a_multiplicative_season_grows_with_the_trend() {
        let at = |t: usize| (20.0 + 2.0 * t as f64) * [0.5, 1.0, 2.0, 0.5][t % 4];
        let values: Vec<f64> = (0..60).map(at).collect();
        let path = forecast(&values, decompose(&values, 4).as_ref(), 4);
        for (step, value) in path.values.iter().enumerate() {
            assert!((value / at(60 + step) - 1.0).abs() < 0.05, "{step}: {value} for {}", at(60 + step));
        }
    }
}
