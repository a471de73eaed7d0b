//! An anomalous bucket and its readings.

/// The minimum score of an anomaly, however few there are: the usual outlier cut-off (Iglewicz & Hoaglin 1993).
pub const SCORE_MIN: f64 = 3.5;

/// Deviations are clamped to this many standard deviations.
const DEVIATION_MAX: f64 = 1e6;

/// The direction in which a metric deviated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// A metric's expectation for a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    pub value: f64,
    pub expected: f64,
    /// The robust standard deviation of the expectation; greater than zero.
    pub scale: f64,
}

impl Expectation {
    /// The deviation from the expected value in standard deviations; positive above it.
    pub fn deviation(&self) -> f64 {
        ((self.value - self.expected) / self.scale).clamp(-DEVIATION_MAX, DEVIATION_MAX)
    }

    /// `threshold` is the score above which it is an anomaly.
    pub fn reading(&self, threshold: f64) -> Reading {
        Reading {
            value: self.value,
            expected: self.expected,
            lower: self.expected - threshold * self.scale,
            upper: self.expected + threshold * self.scale,
            score: self.deviation(),
        }
    }
}

/// A metric's actual and expected value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub value: f64,
    pub expected: f64,
    /// The range within which the metric alone would not have been an anomaly.
    pub lower: f64,
    pub upper: f64,
    /// The deviation from the expected value in robust standard deviations; positive above it.
    pub score: f64,
}

/// An anomalous bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The index of the bucket in the series.
    pub index: usize,
    /// Per metric in the order given; `None` where it has no value or no expectation.
    pub readings: Vec<Option<Reading>>,
    /// The metric that deviates most.
    pub leading: usize,
    /// The direction of the leading metric.
    pub direction: Direction,
    /// The joint deviation of the metrics, expressed as the equivalent number of standard deviations of a single
    /// metric.
    pub score: f64,
    /// A second opinion by an isolation forest: how isolated the bucket is from others, between 0 and 1. Usual buckets
    /// have less than one half, and so does an unusual one that recurs; 1 where there are no others yet.
    pub isolation: f64,
}

impl Anomaly {
    /// `threshold` is the score above which a bucket is an anomaly.
    pub fn new(index: usize, expectations: &[Option<Expectation>], score: f64, isolation: f64, threshold: f64) -> Self {
        let readings: Vec<Option<Reading>> =
            expectations.iter().map(|e| e.as_ref().map(|e| e.reading(threshold))).collect();
        let scores = readings.iter().enumerate().filter_map(|(metric, r)| r.map(|reading| (metric, reading.score)));
        let (leading, deviation) =
            scores.fold((0, 0.0f64), |most, metric| if metric.1.abs() > most.1.abs() { metric } else { most });
        let direction = if deviation < 0.0 { Direction::Down } else { Direction::Up };
        Anomaly { index, readings, leading, direction, score, isolation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_that_deviates_most_leads() {
        let of = |value| Some(Expectation { value, expected: 100.0, scale: 10.0 });
        let anomaly = Anomaly::new(3, &[of(110.0), None, of(40.0)], 6.0, 0.7, 5.0);
        assert_eq!((anomaly.leading, anomaly.direction), (2, Direction::Down));
        assert_eq!(
            anomaly.readings[2],
            Some(Reading { value: 40.0, expected: 100.0, lower: 50.0, upper: 150.0, score: -6.0 })
        );
    }

    #[test]
    fn deviations_are_bounded() {
        let beyond = Expectation { value: -1e30, expected: 0.0, scale: f64::MIN_POSITIVE };
        assert_eq!(beyond.deviation(), -DEVIATION_MAX);
    }
}
