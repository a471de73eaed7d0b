//! How metrics usually deviate together, and how unusual a bucket is given that.
//!
//! Orders and units that rise together are one surprise, not two; orders that rise while units fall are a greater one
//! than either alone. The Mahalanobis distance measures both.

use super::cholesky::Cholesky;

/// Deviations are winsorized to this many standard deviations for the correlation, so that anomalies do not distort it.
const WINSOR_SDS: f64 = 3.0;

/// Sums of products of deviations, from which correlations are computed. A missing value contributes nothing.
pub struct Products {
    metrics: usize,
    buckets: usize,
    /// Row-major, `metrics` per row.
    sums: Vec<f64>,
}

impl Products {
    pub fn new(metrics: usize) -> Self {
        Products { metrics, buckets: 0, sums: vec![0.0; metrics * metrics] }
    }

    /// Adds a bucket, given each metric's deviation in standard deviations.
    pub fn add(&mut self, deviations: &[Option<f64>]) {
        self.buckets += 1;
        self.count(deviations, 1.0);
    }

    /// Removes a bucket that was added.
    pub fn remove(&mut self, deviations: &[Option<f64>]) {
        self.buckets = self.buckets.saturating_sub(1);
        self.count(deviations, -1.0);
    }

    fn count(&mut self, deviations: &[Option<f64>], sign: f64) {
        let bounded = |deviation: &Option<f64>| deviation.unwrap_or(0.0).clamp(-WINSOR_SDS, WINSOR_SDS);
        for (row, a) in self.sums.chunks_exact_mut(self.metrics).zip(deviations) {
            for (sum, b) in row.iter_mut().zip(deviations) {
                *sum += sign * bounded(a) * bounded(b);
            }
        }
    }

    /// The correlations, regularized with as many uncorrelated pseudo-buckets as there are metrics, so that the matrix
    /// is invertible even for two identical metrics.
    pub fn correlation(&self) -> Correlation {
        let weight = self.buckets as f64 / (self.buckets + self.metrics) as f64;
        let sizes: Vec<f64> = self.sums.iter().step_by(self.metrics + 1).map(|sum| sum.max(0.0).sqrt()).collect();
        let of = |sum: f64, a: f64, b: f64| if a * b > 0.0 { weight * (sum / (a * b)).clamp(-1.0, 1.0) } else { 0.0 };
        let mut rows: Vec<Vec<f64>> = self
            .sums
            .chunks_exact(self.metrics)
            .zip(&sizes)
            .map(|(row, a)| row.iter().zip(&sizes).map(|(sum, b)| of(*sum, *a, *b)).collect())
            .collect();
        for (metric, row) in rows.iter_mut().enumerate() {
            row.iter_mut().skip(metric).take(1).for_each(|own| *own = 1.0);
        }
        let cholesky = Cholesky::of(&rows);
        Correlation { rows, cholesky }
    }
}

/// The correlations of metrics.
pub struct Correlation {
    rows: Vec<Vec<f64>>,
    cholesky: Cholesky,
}

/// Decorrelated deviations of a bucket.
pub struct Whitened {
    pub values: Vec<f64>,
    /// The joint deviation of the metrics that have a value: see [`single_metric_equivalent`].
    pub score: f64,
}

impl Correlation {
    /// Decorrelates the deviations; `None` where no metric has one.
    ///
    /// A missing deviation is replaced by its regression on the others, which does not add to their distance.
    pub fn whiten(&self, deviations: &[Option<f64>]) -> Option<Whitened> {
        let known = deviations.iter().flatten().count();
        if known == 0 {
            return None;
        }
        let values = match deviations.iter().copied().collect::<Option<Vec<f64>>>() {
            Some(complete) => self.cholesky.forward(&complete),
            None => self.cholesky.forward(&self.completed(deviations)),
        };
        let distance = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        Some(Whitened { values, score: single_metric_equivalent(distance, known) })
    }

    /// The deviations, with missing ones replaced by their regression on the others.
    fn completed(&self, deviations: &[Option<f64>]) -> Vec<f64> {
        let among_known = |row: &[f64]| -> Vec<f64> {
            row.iter().zip(deviations).filter_map(|(correlation, deviation)| deviation.map(|_| *correlation)).collect()
        };
        let known_rows: Vec<Vec<f64>> =
            self.rows.iter().zip(deviations).filter_map(|(row, d)| d.map(|_| among_known(row))).collect();
        let cholesky = Cholesky::of(&known_rows);
        let values: Vec<f64> = deviations.iter().copied().flatten().collect();
        let weights = cholesky.backward(cholesky.forward(&values));
        let regressed = |row: &[f64]| among_known(row).iter().zip(&weights).map(|(r, weight)| r * weight).sum();
        deviations.iter().zip(&self.rows).map(|(deviation, row)| deviation.unwrap_or_else(|| regressed(row))).collect()
    }
}

/// The deviation of a single metric, in standard deviations, that is as unlikely as the Mahalanobis `distance` of
/// `metrics` metrics, which makes scores comparable however many metrics have a value. For one metric it is the
/// distance itself.
///
/// Uses the cube-root transformation to approximate normality of a chi-squared variable (Wilson & Hilferty 1931, "The
/// Distribution of Chi-Square"), there and back. Far out it overestimates, and is capped at the distance.
fn single_metric_equivalent(distance: f64, metrics: usize) -> f64 {
    let spread = |freedom: f64| 2.0 / (9.0 * freedom);
    let freedom = metrics.max(1) as f64;
    let normal = ((distance * distance / freedom).cbrt() - (1.0 - spread(freedom))) / spread(freedom).sqrt();
    let single = (1.0 - spread(1.0) + normal * spread(1.0).sqrt()).max(0.0).powi(3).sqrt();
    single.min(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two metrics with correlation ±.8, seen 998 times: 2 pseudo-buckets make .8 * 998 / 1000 of it.
    fn pair() -> Products {
        let mut products = Products::new(2);
        for bucket in 0..998 {
            // Equal signs in nine of ten buckets.
            let sign = if bucket % 2 == 0 { 1.0 } else { -1.0 };
            let other = if bucket < 898 { sign } else { -sign };
            products.add(&[Some(sign), Some(other)]);
        }
        products
    }

    fn length(whitened: &Whitened) -> f64 {
        whitened.values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn correlations_are_shrunk_by_a_bucket_per_metric() {
        // (898 - 100) / 998 * 998 / 1000.
        assert!((pair().correlation().rows[0][1] - 0.798).abs() < 1e-12);
    }

    #[test]
    fn moving_together_is_less_of_a_surprise_than_moving_apart() {
        let distance = |a, b| length(&pair().correlation().whiten(&[Some(a), Some(b)]).expect("values"));
        // For correlation r, (a² - 2rab + b²) / (1 - r²) = 18 (1 - r) / (1 - r²) = 18 / (1 + r), or 18 / (1 - r).
        assert!((distance(3.0, 3.0) - (18.0f64 / 1.798).sqrt()).abs() < 1e-12);
        assert!((distance(3.0, -3.0) - (18.0f64 / 0.202).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_metric_without_a_value_changes_no_distance() {
        let whitened = pair().correlation().whiten(&[None, Some(4.0)]).expect("a value");
        assert!((length(&whitened) - 4.0).abs() < 1e-9, "{}", length(&whitened));
        assert!((whitened.score - 4.0).abs() < 1e-9, "as of a single metric: {}", whitened.score);
        assert!(pair().correlation().whiten(&[None, None]).is_none());
    }

    #[test]
    fn two_metrics_must_be_farther_out_than_one() {
        let whitened = pair().correlation().whiten(&[Some(2.0), Some(2.0)]).expect("values");
        assert_eq!(whitened.score, single_metric_equivalent(length(&whitened), 2));
        assert!(whitened.score < length(&whitened) - 0.2);
    }

    #[test]
    fn an_outlier_does_not_shape_the_correlation() {
        let mut products = pair();
        products.add(&[Some(1e6), Some(-1e6)]);
        // It counts as (3, -3): (798 - 9) / (998 + 9), of 999 buckets and two pseudo-buckets.
        assert!((products.correlation().rows[0][1] - 789.0 / 1007.0 * 999.0 / 1001.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_taken_back_leaves_no_trace() {
        let mut products = pair();
        products.add(&[Some(2.0), Some(-2.0)]);
        products.remove(&[Some(2.0), Some(-2.0)]);
        assert_eq!(products.sums, pair().sums);
    }

    #[test]
    fn metrics_that_are_the_same_count_once() {
        let mut products = Products::new(2);
        (0..998).for_each(|bucket| products.add(&[Some(f64::from(bucket % 5 - 2)); 2]));
        let whitened = products.correlation().whiten(&[Some(5.0), Some(5.0)]).expect("values");
        assert!((length(&whitened) - 5.0).abs() < 0.01, "{}", length(&whitened));
    }

    #[test]
    fn equivalents_are_as_unlikely() {
        // P(chi-squared with 2 > d²) = exp(-d²/2); a normal variable is beyond 3.586 with exp(-8), beyond 4.626 with
        // exp(-12.5).
        for (distance, single) in [(4.0, 3.586), (5.0, 4.626)] {
            assert!((single_metric_equivalent(distance, 2) - single).abs() < 0.1, "{distance}");
        }
        for distance in [0.0, 0.5, 3.0, 1e9] {
            assert!((single_metric_equivalent(distance, 1) - distance).abs() <= 1e-9 * distance);
        }
        assert_eq!(single_metric_equivalent(0.0, 5), 0.0);
        assert_eq!(single_metric_equivalent(1e6, 5), 1e6);
    }
}
