//! The posterior of a Prophet model with a linear trend (Taylor and Letham, "Forecasting at Scale", 2018), and its
//! mode.
//!
//! With parameters w = (k, m, delta, beta) the trend is linear in k, m and delta, and the negative log posterior is
//!
//! ```text
//! rss / 2 sigma^2 + n ln sigma + 2 sigma^2 + (k^2 + m^2) / 50 + sum |delta| / tau + sum beta^2 / 2 s^2
//! ```
//!
//! Sigma has a closed form given the rest. Given sigma, k, m and beta are the solution of a ridge regression for any
//! deltas, and deltas that of a lasso once the others are eliminated. With multiplicative features this is done for the
//! linearised model (Gauss-Newton).
//!
//! The hinge of a change at s, `(t - s)+`, is the column of t minus s times the column of 1 in the rows after s, so its
//! products with other columns follow from those two, summed over these rows.

use super::lasso;
use super::linalg::{Gram, dot, eliminate, substitute};

/// The smallest sigma, with values of up to 1: a perfect fit has none.
const SIGMA_MIN: f64 = 1e-6;
/// The search ends with the step that improves the objective by less than this share.
const GAIN_MIN: f64 = 1e-7;
const STEPS_MAX: usize = 100;
const HALVINGS_MAX: usize = 12;
/// Of k and m, whose standard deviation is 5.
const TREND_PRECISION: f64 = 1.0 / 25.0;

/// A model with its data.
#[derive(Debug)]
pub struct Posterior {
    /// Of the values, ascending.
    pub times: Vec<f64>,
    pub values: Vec<f64>,
    /// Row-major: the additive features, then the multiplicative ones.
    pub features: Vec<f64>,
    pub additive: usize,
    /// Times of potential change points, ascending.
    pub changes: Vec<f64>,
    /// The prior scale of deltas.
    pub tau: f64,
    /// Prior precisions of the features: 1 / s^2.
    pub precisions: Vec<f64>,
}

/// A search point: k, m, the effects of features, deltas.
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
    /// The posterior mode, searched from the given k and m; `None` if the computation is not finite.
    pub fn mode(&self, k: f64, m: f64) -> Option<Point> {
        let mut w = vec![0.0; self.fixed() + self.changes.len()];
        w[..2].copy_from_slice(&[k, m]);
        let mut at = self.point(w);
        let mut near = self.linearise(&at.w);
        for _ in 0..STEPS_MAX {
            if self.is_multiplicative() {
                near = self.linearise(&at.w);
            }
            let target = self.solve(&near, &at)?;
            let Some(next) = self.descend(&at, &target) else { break };
            let gain = at.objective - next.objective;
            at = next;
            if gain < GAIN_MIN * at.objective.abs() {
                break;
            }
        }
        at.objective.is_finite().then_some(at)
    }

    /// Backtracking line search: the first point towards `target` where the objective is not higher; `None` if there is
    /// none.
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

    /// The posterior mode of the linearised model with the sigma of a point.
    fn solve(&self, near: &Linearised, at: &Point) -> Option<Vec<f64>> {
        let (p, fixed, variance) = (at.w.len(), self.fixed(), at.sigma * at.sigma);
        let (mut matrix, mut solution) = (near.gram.clone(), near.target.clone());
        let precisions = [TREND_PRECISION; 2].into_iter().chain(self.precisions.iter().copied());
        for (i, precision) in precisions.enumerate() {
            matrix[i * p + i] += variance * precision;
        }
        eliminate(&mut matrix, &mut solution, fixed)?;
        let of_deltas: Vec<f64> = matrix.chunks_exact(p).skip(fixed).flat_map(|row| &row[fixed..]).copied().collect();
        let mut deltas = at.w[fixed..].to_vec();
        lasso::minimize(&of_deltas, &solution[fixed..], variance / self.tau, &mut deltas);
        solution[fixed..].copy_from_slice(&deltas);
        substitute(&matrix, &mut solution, fixed);
        Some(solution)
    }

    fn point(&self, w: Vec<f64>) -> Point {
        let fitted = self.fitted(&w).map(|(_, fitted)| fitted.value);
        let rss: f64 = fitted.zip(&self.values).map(|(fitted, value)| (value - fitted).powi(2)).sum();
        let n = self.values.len() as f64;
        // The root of 4 sigma^4 + n sigma^2 - rss.
        let variance = (2.0 * rss / (n + (n * n + 16.0 * rss).sqrt())).max(SIGMA_MIN * SIGMA_MIN);
        let (rates, rest) = w.split_at(2);
        let (effects, deltas) = rest.split_at(self.precisions.len());
        let rates = rates.iter().map(|rate| rate * rate).sum::<f64>() * TREND_PRECISION / 2.0;
        let deltas = deltas.iter().map(|delta| delta.abs()).sum::<f64>() / self.tau;
        let effects: f64 = effects.iter().zip(&self.precisions).map(|(x, precision)| x * x * precision).sum();
        let fit = rss / (2.0 * variance) + n * variance.ln() / 2.0 + 2.0 * variance;
        Point { w, sigma: variance.sqrt(), objective: fit + rates + deltas + effects / 2.0 }
    }

    /// Sums over rows are accumulated from the last one, so that each change point gets those of the rows after it.
    fn linearise(&self, w: &[f64]) -> Linearised {
        let (p, fixed) = (w.len(), self.fixed());
        let columns = self.columns(w);
        let rows: Vec<&[f64]> = columns.chunks_exact(fixed + 1).collect();
        let mut sums = Gram::new(fixed + 1);
        let (mut gram, mut target) = (vec![0.0; p * p], vec![0.0; p]);
        let mut end = rows.len();
        for (j, change) in self.changes.iter().enumerate().rev() {
            let start = self.times.partition_point(|time| time < change).min(end);
            rows[start..end].iter().for_each(|row| sums.add(row));
            end = start;
            let hinge = |i: usize| sums.at(0, i) - change * sums.at(1, i);
            let (before, deltas) = gram[(fixed + j) * p..][..=fixed + j].split_at_mut(fixed);
            before.iter_mut().enumerate().for_each(|(i, product)| *product = hinge(i));
            for (product, other) in deltas.iter_mut().zip(&self.changes) {
                *product = hinge(0) - other * hinge(1);
            }
            target[fixed + j] = hinge(fixed);
        }
        rows[..end].iter().for_each(|row| sums.add(row));
        for i in 0..fixed {
            target[i] = sums.at(i, fixed);
            gram[i * p..=i * p + i].iter_mut().enumerate().for_each(|(j, product)| *product = sums.at(i, j));
        }
        Linearised { gram, target }
    }

    /// The columns of the linearised model, row-major: t, 1, the features, the target.
    fn columns(&self, w: &[f64]) -> Vec<f64> {
        let mut columns = Vec::with_capacity(self.times.len() * (self.fixed() + 1));
        for (((features, fitted), time), value) in self.fitted(w).zip(&self.times).zip(&self.values) {
            let (additive, multiplicative) = features.split_at(self.additive);
            columns.extend([fitted.factor * time, fitted.factor]);
            columns.extend_from_slice(additive);
            columns.extend(multiplicative.iter().map(|feature| feature * fitted.trend));
            columns.push(value + fitted.trend * (fitted.factor - 1.0));
        }
        columns
    }

    /// Evaluates each row's features.
    fn fitted<'a>(&'a self, w: &'a [f64]) -> impl Iterator<Item = (&'a [f64], Fitted)> {
        let (rates, rest) = w.split_at(2);
        let (effects, deltas) = rest.split_at(self.precisions.len());
        let (additive, multiplicative) = effects.split_at(self.additive);
        let (mut slope, mut level) = (rates[0], rates[1]);
        let mut changes = self.changes.iter().zip(deltas).peekable();
        let fit = move |(time, features): (&f64, &'a [f64])| {
            while let Some((change, delta)) = changes.next_if(|(change, _)| *change < time) {
                slope += delta;
                level -= delta * change;
            }
            let trend = slope * time + level;
            let factor = 1.0 + dot(&features[self.additive..], multiplicative);
            let value = trend * factor + dot(&features[..self.additive], additive);
            (features, Fitted { trend, factor, value })
        };
        self.times.iter().zip(self.features.chunks_exact(self.precisions.len())).map(fit)
    }

    /// The number of parameters other than deltas.
    fn fixed(&self) -> usize {
        2 + self.precisions.len()
    }

    fn is_multiplicative(&self) -> bool {
        self.additive < self.precisions.len()
    }
}

/// A row evaluated by the model.
struct Fitted {
    trend: f64,
    /// The factor that multiplicative features apply to the trend.
    factor: f64,
    value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that bends at .5, and a feature that adds 1 to it or doubles it in every other row.
    fn bent(is_multiplicative: bool) -> Posterior {
        let (mut times, mut values, mut features) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..60 {
            let (t, feature) = (f64::from(i) / 59.0, f64::from(i % 2));
            let trend = 0.2 + 0.1 * t + 0.5 * (t - 0.5).max(0.0);
            let jitter = 0.01 * f64::from((i * 7) % 5 - 2);
            times.push(t);
            features.push(feature);
            values.push(jitter + if is_multiplicative { trend * (1.0 + feature) } else { trend + feature });
        }
        let additive = usize::from(!is_multiplicative);
        let changes = vec![0.25, 0.5, 0.75];
        Posterior { times, values, features, additive, changes, tau: 0.05, precisions: vec![0.01] }
    }

    #[test]
    fn the_parameters_that_made_the_values_are_found() {
        for is_multiplicative in [false, true] {
            let Point { w, sigma, .. } = bent(is_multiplicative).mode(0.0, 0.5).expect("a mode");
            assert!((w[1] - 0.2).abs() < 0.02 && (w[2] - 1.0).abs() < 0.03, "{w:?}");
            // The bend may be shared with neighbouring hinges.
            assert!((w[3] + w[4] + w[5] - 0.5).abs() < 0.1 && w[4] > 0.3, "{w:?}");
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
