//! Adapter of our solver to the optimizer interface of `augurs-prophet`.

use std::cell::Cell;
use std::cmp::Ordering;

use augurs_prophet::PositiveFloat;
use augurs_prophet::optimizer::{Data, Error, InitialParams, OptimizeOpts, OptimizedParams, Optimizer};

use super::posterior::{Point, Posterior};

/// Fits the parameters and keeps the noise estimates, which the model itself does not expose.
#[derive(Debug, Default)]
pub struct Solver {
    noise: Cell<Noise>,
}

/// The noise of a fitted model, in units of its scaled values and times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    /// The standard deviation of an observation.
    pub sigma: f64,
    /// Number of potential change points in the history, and their mean size.
    pub changes: f64,
    pub mean_change: f64,
}

impl Solver {
    pub fn noise(&self) -> Noise {
        self.noise.get()
    }
}

impl Optimizer for &Solver {
    fn optimize(&self, init: &InitialParams, data: &Data, _: &OptimizeOpts) -> Result<OptimizedParams, Error> {
        let order = Columns::of(data);
        let posterior = order.posterior(data);
        let Point { w, sigma, .. } =
            posterior.mode(init.k, init.m).ok_or_else(|| Error::static_str("the posterior has no finite mode"))?;
        let (trend, rest) = w.split_at(2);
        let (features, delta) = rest.split_at(posterior.precisions.len());
        let size: f64 = delta.iter().map(|delta| delta.abs()).sum();
        let changes = delta.len() as f64;
        self.noise.set(Noise { sigma, changes, mean_change: size / changes.max(1.0) });
        let mut beta = vec![0.0; features.len()];
        for (place, value) in order.order.iter().zip(features) {
            beta[*place] = *value;
        }
        let sigma_obs = PositiveFloat::try_new(sigma).map_err(Error::custom)?;
        Ok(OptimizedParams { k: trend[0], m: trend[1], sigma_obs, delta: delta.to_vec(), beta, trend: Vec::new() })
    }
}

/// The features of a model in a fixed order. `augurs-prophet` keeps them in hash maps, whose order varies; a different
/// order of summation would change the last digits.
struct Columns {
    /// Additive ones first, then by their values.
    order: Vec<usize>,
    additive: usize,
}

impl Columns {
    fn of(data: &Data) -> Columns {
        let is_multiplicative = |column: usize| data.s_m.get(column) == Some(&1);
        let values = |column: usize| data.X.iter().skip(column).step_by(data.sigmas.len());
        let by_values = |a: usize, b: usize| {
            values(a).zip(values(b)).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..data.sigmas.len()).collect();
        order.sort_by(|a, b| is_multiplicative(*a).cmp(&is_multiplicative(*b)).then_with(|| by_values(*a, *b)));
        let additive = order.iter().filter(|column| !is_multiplicative(**column)).count();
        Columns { order, additive }
    }

    fn posterior(&self, data: &Data) -> Posterior {
        let row = |row: &[f64]| self.order.iter().map(|column| row[*column]).collect::<Vec<f64>>();
        Posterior {
            times: data.t.clone(),
            values: data.y.clone(),
            features: data.X.chunks_exact(self.order.len()).flat_map(row).collect(),
            additive: self.additive,
            changes: data.t_change.clone(),
            tau: *data.tau,
            precisions: self.order.iter().map(|column| data.sigmas[*column].powi(-2)).collect(),
        }
    }
}
