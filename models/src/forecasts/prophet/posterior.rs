//! The posterior of a Prophet model with a linear trend (Taylor and Letham, "Forecasting at Scale", 2018), and its top.
//!
//! With parameters w = (k, m, delta, beta) the trend is linear in k, m and delta, and the negative log posterior is
//!
//! ```text
//! rss / 2 sigma^2 + n ln sigma + 2 sigma^2 + (k^2 + m^2) / 50 + sum |delta| / tau + sum beta^2 / 2 s^2
//! ```
//!
//! Each |delta| is bounded from above by a parabola through its present value (iteratively reweighted least squares), which
//! leaves a ridge regression; with multiplicative features it is that of the linearised model (Gauss-Newton). Sigma has a
//! closed form given the rest.

use super::linalg::{add_scaled, dot, gram, solve};

/// |delta| is taken for at least this, so that its parabola stays finite.
const DELTA_MIN: f64 = 1e-7;
/// What deltas are lifted to after the first solution: one that is zero would stay there.
const DELTA_LIFT: f64 = 1e-4;
/// The smallest sigma, with values of up to 1: a perfect fit has none.
const SIGMA_MIN: f64 = 1e-6;
/// The search ends after three steps in a row that each win less than this share of the objective.
const GAIN_MIN: f64 = 1e-7;
const IDLE_STEPS: usize = 3;
const STEPS_MAX: usize = 400;
const HALVINGS_MAX: usize = 12;
/// Of k and m, whose standard deviation is 5.
const TREND_PRECISION: f64 = 1.0 / 25.0;
/// How often parabolas are renewed before the model is linearised again, which costs much more.
const REWEIGHTINGS: usize = 20;

/// A model with its data. A row of the design holds the trend's columns (t, 1, the hinges), the additive features, and the
/// multiplicative ones.
#[derive(Debug)]
pub struct Posterior {
    pub design: Vec<f64>,
    pub values: Vec<f64>,
    pub changes: usize,
    pub additive: usize,
    /// The prior scale of deltas.
    pub tau: f64,
    /// Prior precisions of the features: 1 / s^2.
    pub precisions: Vec<f64>,
}

/// A point of the search.
#[derive(Debug)]
pub struct Point {
    pub w: Vec<f64>,
    pub sigma: f64,
    pub objective: f64,
}

/// The least squares problem near a point: products of its columns with each other and with the target.
struct Linearised {
    gram: Vec<f64>,
    target: Vec<f64>,
}

impl Posterior {
    /// The most probable parameters, searched from the given k and m; `None` if numbers fail.
    pub fn mode(&self, k: f64, m: f64) -> Option<Point> {
        let mut w = vec![0.0; self.parameters()];
        w[..2].copy_from_slice(&[k, m]);
        let start = self.point(w);
        let mut near = self.linearise(&start.w);
        let mut first = self.reweight(&near, start.sigma, &start.w)?;
        for delta in &mut first[2..self.trend()] {
            *delta = if delta.abs() < DELTA_LIFT { DELTA_LIFT } else { *delta };
        }
        let mut at = self.point(first);
        let mut idle = 0;
        for _ in 0..STEPS_MAX {
            let mut target = at.w.clone();
            if self.is_multiplicative() {
                near = self.linearise(&at.w);
                for _ in 0..REWEIGHTINGS {
                    target = self.reweight(&near, at.sigma, &target)?;
                }
            } else {
                target = self.reweight(&near, at.sigma, &target)?;
            }
            let Some(next) = self.descend(&at, &target) else { break };
            idle = if at.objective - next.objective < GAIN_MIN * next.objective.abs() { idle + 1 } else { 0 };
            at = next;
            if idle == IDLE_STEPS {
                break;
            }
        }
        at.objective.is_finite().then_some(at)
    }

    /// The first point on the way to `target` where the objective is not higher, halving the way; `None` if there is none.
    fn descend(&self, from: &Point, target: &[f64]) -> Option<Point> {
        let mut share = 1.0;
        for _ in 0..HALVINGS_MAX {
            let w = from.w.iter().zip(target).map(|(from, to)| from + share * (to - from)).collect();
            let point = self.point(w);
            if point.objective <= from.objective {
                return Some(point);
            }
            share /= 2.0;
        }
        None
    }

    /// The solution of the ridge regression with parabolas for the deltas of `w`.
    fn reweight(&self, near: &Linearised, sigma: f64, w: &[f64]) -> Option<Vec<f64>> {
        let (p, variance) = (w.len(), sigma * sigma);
        let mut matrix = near.gram.clone();
        let trend = self.trend();
        for (i, w) in w.iter().enumerate() {
            let precision = match i {
                0 | 1 => TREND_PRECISION,
                i if i < trend => 1.0 / (self.tau * w.abs().max(DELTA_MIN)),
                i => self.precisions[i - trend],
            };
            matrix[i * p + i] += variance * precision;
        }
        let mut solution = near.target.clone();
        solve(&mut matrix, &mut solution)?;
        Some(solution)
    }

    fn point(&self, w: Vec<f64>) -> Point {
        let rss: f64 = self.rows().zip(&self.values).map(|(row, value)| (value - self.at(row, &w).value).powi(2)).sum();
        let n = self.values.len() as f64;
        // The root of 4 sigma^4 + n sigma^2 - rss.
        let variance = (2.0 * rss / (n + (n * n + 16.0 * rss).sqrt())).max(SIGMA_MIN * SIGMA_MIN);
        let trend = self.trend();
        let rates = (w[0] * w[0] + w[1] * w[1]) * TREND_PRECISION / 2.0;
        let deltas: f64 = w[2..trend].iter().map(|delta| delta.abs()).sum::<f64>() / self.tau;
        let betas: f64 = w[trend..].iter().zip(&self.precisions).map(|(beta, precision)| beta * beta * precision).sum();
        let fit = rss / (2.0 * variance) + n * variance.ln() / 2.0 + 2.0 * variance;
        Point { w, sigma: variance.sqrt(), objective: fit + rates + deltas + betas / 2.0 }
    }

    fn linearise(&self, w: &[f64]) -> Linearised {
        let (p, trend) = (w.len(), self.trend());
        if !self.is_multiplicative() {
            let mut target = vec![0.0; p];
            for (row, value) in self.rows().zip(&self.values) {
                add_scaled(&mut target, *value, row);
            }
            return Linearised { gram: gram(&self.design, p), target };
        }
        let mut jacobian = self.design.clone();
        let mut target = vec![0.0; p];
        for ((row, slopes), value) in self.rows().zip(jacobian.chunks_exact_mut(p)).zip(&self.values) {
            let at = self.at(row, w);
            for slope in &mut slopes[..trend] {
                *slope *= at.factor;
            }
            for slope in &mut slopes[trend + self.additive..] {
                *slope *= at.trend;
            }
            let linear = value - at.value + dot(slopes, w);
            add_scaled(&mut target, linear, slopes);
        }
        Linearised { gram: gram(&jacobian, p), target }
    }

    fn at(&self, row: &[f64], w: &[f64]) -> Fitted {
        let (trend, additive) = (self.trend(), self.trend() + self.additive);
        let fitted = dot(&row[..trend], &w[..trend]);
        let factor = 1.0 + dot(&row[additive..], &w[additive..]);
        let value = fitted * factor + dot(&row[trend..additive], &w[trend..additive]);
        Fitted { trend: fitted, factor, value }
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.design.chunks_exact(self.parameters())
    }

    fn trend(&self) -> usize {
        2 + self.changes
    }

    fn parameters(&self) -> usize {
        self.trend() + self.precisions.len()
    }

    fn is_multiplicative(&self) -> bool {
        self.additive < self.precisions.len()
    }
}

struct Fitted {
    trend: f64,
    /// What multiplicative features make of the trend.
    factor: f64,
    value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that bends at .5, and a feature that adds 1 to it or doubles it in every other row.
    fn bent(is_multiplicative: bool) -> Posterior {
        let (mut design, mut values) = (Vec::new(), Vec::new());
        for i in 0..60 {
            let (t, feature) = (f64::from(i) / 59.0, f64::from(i % 2));
            let trend = 0.2 + 0.1 * t + 0.5 * (t - 0.5).max(0.0);
            let jitter = 0.01 * f64::from((i * 7) % 5 - 2);
            design.extend([t, 1.0, (t - 0.25).max(0.0), (t - 0.5).max(0.0), (t - 0.75).max(0.0), feature]);
            values.push(jitter + if is_multiplicative { trend * (1.0 + feature) } else { trend + feature });
        }
        let additive = usize::from(!is_multiplicative);
        Posterior { design, values, changes: 3, additive, tau: 0.05, precisions: vec![0.01] }
    }

    #[test]
    fn the_parameters_that_made_the_values_are_found() {
        for is_multiplicative in [false, true] {
            let Point { w, sigma, .. } = bent(is_multiplicative).mode(0.0, 0.5).expect("a mode");
            assert!((w[1] - 0.2).abs() < 0.02 && (w[5] - 1.0).abs() < 0.03, "{w:?}");
            // The bend may be shared with the hinges beside it.
            assert!((w[2] + w[3] + w[4] - 0.5).abs() < 0.1 && w[3] > 0.3, "{w:?}");
            assert!((0.01..0.02).contains(&sigma), "{sigma}");
        }
    }

    #[test]
    fn no_step_along_a_parameter_leads_higher() {
        for is_multiplicative in [false, true] {
            let posterior = bent(is_multiplicative);
            let mode = posterior.mode(0.0, 0.5).expect("a mode");
            for (i, step) in (0..mode.w.len()).flat_map(|i| [(i, 1e-3), (i, -1e-3)]) {
                let mut w = mode.w.clone();
                w[i] += step;
                assert!(posterior.point(w).objective >= mode.objective, "parameter {i}");
            }
        }
    }

    #[test]
    fn a_perfect_fit_has_a_mode() {
        let mut posterior = bent(false);
        posterior.values.fill(1.0);
        assert!(posterior.mode(0.0, 1.0).is_some());
    }
}
