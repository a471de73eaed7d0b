//! A model's forecast, bucket by bucket.

/// Values and the model's own uncertainty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    pub values: Vec<f64>,
    /// The standard deviation of each value's error, as estimated by the model.
    pub deviations: Vec<f64>,
}

impl Path {
    pub fn with_capacity(horizon: usize) -> Path {
        Path { values: Vec::with_capacity(horizon), deviations: Vec::with_capacity(horizon) }
    }

    pub fn push(&mut self, value: f64, deviation: f64) {
        self.values.push(value);
        self.deviations.push(deviation);
    }

    pub fn is_finite(&self) -> bool {
        self.values.iter().chain(&self.deviations).all(|x| x.is_finite())
    }

    /// Back-transforms a forecast of logarithms; the values become medians.
    pub fn exp(mut self) -> Path {
        for (value, deviation) in self.values.iter_mut().zip(&mut self.deviations) {
            *value = value.exp();
            *deviation *= *value;
        }
        self
    }

    /// Adds a term to each value.
    pub fn plus(mut self, more: &[f64]) -> Path {
        self.values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
        self
    }

    /// Raises values to a floor.
    pub fn at_least(mut self, floor: Option<f64>) -> Path {
        if let Some(floor) = floor {
            self.values.iter_mut().for_each(|value| *value = value.max(floor));
        }
        self
    }

    /// The mean of two. Deviations are averaged as if errors were perfectly correlated, since models of one history
    /// mostly err together.
    pub fn mean(&self, other: &Path) -> Path {
        let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect();
        Path { values: mean(&self.values, &other.values), deviations: mean(&self.deviations, &other.deviations) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_two_paths_is_taken_bucket_by_bucket() {
        let [one, other] = [(1.0, 2.0), (3.0, 6.0)].map(|(value, deviation)| {
            let mut path = Path::with_capacity(1);
            path.push(value, deviation);
            path
        });
        assert_eq!(one.mean(&other), Path { values: vec![2.0], deviations: vec![4.0] });
    }

    #[test]
    fn a_path_of_logarithms_becomes_one_of_values() {
        let path = Path { values: vec![10.0_f64.ln()], deviations: vec![0.1] }.exp();
        assert!((path.values[0] - 10.0).abs() < 1e-12 && (path.deviations[0] - 1.0).abs() < 1e-12);
    }
}
