//! Robust location and scale: medians and scales that a few outliers do not move.

use std::collections::VecDeque;

/// Factors that convert the median, or the mean, absolute deviation to the standard deviation of a normal distribution.
const MEDIAN_TO_SD: f64 = 1.482_602_218_505_602;
const MEAN_TO_SD: f64 = 1.253_314_137_315_500_3;

/// A metric is sparse if the scale by the median is below this share of that by the mean, which is near four fifths for
/// sales: it is mostly zero, so that most buckets fit almost exactly, and says nothing about the others.
const SPARSE: f64 = 0.2;

/// One of this many deviations, the greatest, has no part in that mean: a few outliers do not make a metric sparse.
const LEFT_OUT: usize = 100;

/// The minimum scale is a hundredth of the metric's level: otherwise any change of a constant metric would be
/// infinitely unusual.
const STEADINESS: f64 = 0.01;

/// The median; `None` for an empty input.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&values)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len().is_multiple_of(2) { Some(sorted.get(middle - 1)?.midpoint(upper)) } else { Some(upper) }
}

/// A robust standard deviation: 1.4826 times the median absolute deviation (Iglewicz & Hoaglin 1993, "How to Detect and
/// Handle Outliers"), or, for a sparse metric, the root mean square. `None` where nothing deviates from a `level` of
/// zero: then there is no measure of what is unusual.
pub fn scale(deviation_sizes: &[f64], level: f64) -> Option<f64> {
    let mut sorted = deviation_sizes.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    scale_of_sorted(&sorted, level)
}

fn scale_of_sorted(sorted: &[f64], level: f64) -> Option<f64> {
    let of_median = MEDIAN_TO_SD * median_of_sorted(sorted)?;
    let usual = sorted.get(..sorted.len() - sorted.len().div_ceil(LEFT_OUT)).unwrap_or_default();
    let is_below = |mean: f64| of_median < SPARSE * MEAN_TO_SD * mean;
    let mean = || usual.iter().sum::<f64>() / usual.len() as f64;
    // The mean is at most the greatest, which need not be computed for each bucket.
    let is_sparse = of_median == 0.0 || usual.last().is_some_and(|greatest| is_below(*greatest) && is_below(mean()));
    let scale = if is_sparse { root_mean_square(sorted) } else { of_median };
    let bounded = scale.max(STEADINESS * level.abs());
    (bounded >= f64::MIN_POSITIVE).then_some(bounded)
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
}

/// A sliding window over the last buckets, also sorted by value.
pub struct Window {
    capacity: usize,
    arrived: VecDeque<Option<f64>>,
    sorted: Vec<f64>,
}

impl Window {
    /// A window of the last `capacity` buckets.
    pub fn new(capacity: usize) -> Self {
        Window { capacity, arrived: VecDeque::new(), sorted: Vec::new() }
    }

    /// Adds a bucket, which may have no value; a full window drops the oldest.
    pub fn push(&mut self, value: Option<f64>) {
        if self.arrived.len() == self.capacity
            && let Some(oldest) = self.arrived.pop_front().flatten()
        {
            self.sorted.remove(self.place_of(oldest));
        }
        self.arrived.push_back(value);
        if let Some(value) = value {
            self.sorted.insert(self.place_of(value), value);
        }
    }

    fn place_of(&self, value: f64) -> usize {
        self.sorted.partition_point(|other| other.total_cmp(&value).is_lt())
    }

    /// The number of buckets with a value.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    pub fn median(&self) -> Option<f64> {
        median_of_sorted(&self.sorted)
    }

    /// [`scale`] of the values as absolute deviations.
    pub fn scale(&self, level: f64) -> Option<f64> {
        scale_of_sorted(&self.sorted, level)
    }

    /// The value at `rank` in descending order, 1 being the greatest.
    pub fn greatest(&self, rank: usize) -> Option<f64> {
        self.sorted.len().checked_sub(rank).and_then(|index| self.sorted.get(index)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn the_scale_is_of_the_median_deviation() {
        // Median of 1, 1, 2, 4, 9 is 2.
        assert_eq!(scale(&[9.0, 1.0, 2.0, 1.0, 4.0], 0.0), Some(2.0 * MEDIAN_TO_SD));
    }

    #[test]
    fn where_most_hardly_deviate_the_others_are_the_measure() {
        // The root of (0 + 0 + 0 + 8²) / 4 = 16.
        assert_eq!(scale(&[0.0, 8.0, 0.0, 0.0], 0.0), Some(4.0));
        // The greatest is left out: the mean of 0.1, 0.1, 0.1, 0.1, 4, 4 is 1.4, the median of all is 0.1.
        // The root of (4 · 0.1² + 3 · 4²) / 7.
        let found = scale(&[0.1, 0.1, 4.0, 0.1, 4.0, 0.1, 4.0], 0.0).expect("a scale");
        assert!((found - (48.04f64 / 7.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn an_outlier_does_not_make_a_metric_sparse() {
        assert_eq!(scale(&[1.0, 2.0, 1.0, 3.0, 1e9], 0.0), Some(2.0 * MEDIAN_TO_SD));
    }

    #[test]
    fn nothing_is_steadier_than_a_hundredth_of_its_size() {
        assert_eq!(scale(&[0.0, 0.0], -500.0), Some(5.0));
        assert_eq!(scale(&[0.0, 0.0], 0.0), None);
        assert_eq!(scale(&[], 500.0), None);
    }

    proptest! {
        #[test]
        fn a_window_knows_the_order_of_its_last_values(buckets in prop::collection::vec(prop::option::weighted(0.8, -9i32..9), 1..60), capacity in 1usize..20) {
            let mut window = Window::new(capacity);
            for (index, value) in buckets.iter().enumerate() {
                window.push(value.map(f64::from));
                let mut last: Vec<f64> = buckets[(index + 1).saturating_sub(capacity)..=index].iter().flatten().map(|v| f64::from(*v)).collect();
                prop_assert_eq!(window.len(), last.len());
                prop_assert_eq!(window.median(), median(last.clone()));
                last.sort_by(f64::total_cmp);
                prop_assert_eq!(window.greatest(1), last.last().copied());
                prop_assert_eq!(window.greatest(last.len()), last.first().copied());
                prop_assert_eq!(window.greatest(last.len() + 1), None);
            }
        }
    }
}
