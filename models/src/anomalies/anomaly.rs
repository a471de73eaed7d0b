//! What is told about an anomalous bucket.

/// The least score of an anomaly, however few there are: the usual cut for outliers (Iglewicz & Hoaglin 1993).
pub const SCORE_MIN: f64 = 3.5;

/// Deviations beyond this many standard deviations are told as this many.
const DEVIATION_MAX: f64 = 1e6;

/// Which way a metric went.
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
    /// The standard deviation of what was expected, robustly measured; greater than zero.
    pub scale: f64,
}

impl Expectation {
    /// How far the value is from the expected one, in standard deviations; positive above it.
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

/// What a metric was, and what it was expected to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub value: f64,
    pub expected: f64,
    /// The range within which the metric alone would have been no anomaly.
    pub lower: f64,
    pub upper: f64,
    /// How far the value is from the expected one, in robust standard deviations; positive above it.
    pub score: f64,
}

/// An anomalous bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The place of the bucket in the series.
    pub index: usize,
    /// Per metric in the order given; `None` where it has no value or nothing was expected.
    pub readings: Vec<Option<Reading>>,
    /// The metric that deviates most.
    pub leading: usize,
    /// The direction of the leading metric.
    pub direction: Direction,
    /// How unusual the metrics are together: as a single metric would be that many standard deviations from what was expected.
    pub score: f64,
    /// A second opinion, of an isolation forest: how far from the company of other buckets it is, between 0 and 1. Usual ones
    /// have less than one half, and so has one that is unusual but returns; 1 where there are no others yet.
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
