//! Streaming detection: each bucket is judged as it closes, by those before it alone.

use std::collections::VecDeque;

use super::anomaly::{Anomaly, Expectation, SCORE_MIN};
use super::company::Company;
use super::correlation::{Correlation, Products, Whitened};
use super::error::{AnomalyError, Result, check_len, check_values};
use super::grouping::Silence;
use super::robust::Window;
use super::settings::Settings;
use super::trailing::Trailing;

/// Minimum number of past deviations to compute a scale.
const DEVIATIONS_MIN: usize = 10;

/// Judges buckets as they close. Causal: later buckets cannot change its verdicts.
pub struct Detector {
    settings: Settings,
    metrics: Vec<Metric>,
    products: Products,
    /// The deviations of the trailing year, for removing expired ones and for the forest.
    year: VecDeque<Vec<Option<f64>>>,
    /// The scores of the trailing year.
    scores: Window,
    silence: Silence,
    /// The number of buckets seen.
    buckets: usize,
}

/// The state of one metric.
struct Metric {
    trailing: Trailing,
    /// Absolute deviations of the trailing year, in the metric's unit.
    deviations: Window,
}

/// The verdict on a bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The joint deviation of the metrics, in standard deviations of a single metric; `None` without an expectation.
    pub score: Option<f64>,
    /// The score from which on the bucket would have been an anomaly.
    pub threshold: f64,
    /// The details, if it is an anomaly.
    pub anomaly: Option<Anomaly>,
    /// Whether to alert: an anomaly not covered by an earlier alert.
    pub alerts: bool,
}

/// The part of a [`Verdict`] that an alert needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Per metric; `None` where it has no value or no expectation.
    pub expectations: Vec<Option<Expectation>>,
    pub score: Option<f64>,
    pub threshold: f64,
    pub alerts: bool,
}

/// A bucket compared with its predecessors.
struct Seen {
    expectations: Vec<Option<Expectation>>,
    deviations: Vec<Option<f64>>,
    threshold: f64,
    correlation: Correlation,
    whitened: Option<Whitened>,
}

impl Detector {
    /// Starts without history, for the given number of metrics; at least one.
    pub fn new(metrics: usize, settings: Settings) -> Result<Self> {
        settings.check()?;
        if metrics == 0 {
            return Err(AnomalyError::Shape { expected: 1, found: 0 });
        }
        let metric = || Metric {
            trailing: Trailing::new(settings.season_buckets),
            deviations: Window::new(settings.year_buckets),
        };
        Ok(Detector {
            settings,
            metrics: std::iter::repeat_with(metric).take(metrics).collect(),
            products: Products::new(metrics),
            year: VecDeque::new(),
            scores: Window::new(settings.year_buckets),
            silence: Silence::new(settings.silence_buckets),
            buckets: 0,
        })
    }

    /// Judges the bucket that closed next, given the value of each metric, and learns from it.
    ///
    /// Fails, and learns nothing, if the number of values differs or a value is not finite.
    pub fn push(&mut self, values: &[Option<f64>]) -> Result<Verdict> {
        let seen = self.see(values)?;
        let anomaly = match seen.whitened.as_ref().filter(|whitened| whitened.score > seen.threshold) {
            Some(whitened) => {
                let isolation = self.isolation(whitened, &seen.correlation)?;
                Some(Anomaly::new(self.buckets, &seen.expectations, whitened.score, isolation, seen.threshold))
            }
            None => None,
        };
        let Score { score, threshold, alerts, .. } = self.learn(values, seen);
        Ok(Verdict { score, threshold, anomaly, alerts })
    }

    /// Like [`Self::push`], without the second opinion and the anomaly's details, which cost far more than the score.
    fn score(&mut self, values: &[Option<f64>]) -> Result<Score> {
        let seen = self.see(values)?;
        Ok(self.learn(values, seen))
    }

    /// Compares a bucket with its predecessors.
    fn see(&self, values: &[Option<f64>]) -> Result<Seen> {
        check_len(self.metrics.len(), values.len())?;
        check_values(values.iter().map(|value| value.unwrap_or_default()))?;
        let expectations: Vec<Option<Expectation>> =
            self.metrics.iter().zip(values).map(|(metric, value)| metric.expectation(*value)).collect();
        let deviations: Vec<Option<f64>> =
            expectations.iter().map(|e| e.as_ref().map(Expectation::deviation)).collect();
        let correlation = self.products.correlation();
        let whitened = correlation.whiten(&deviations);
        Ok(Seen { expectations, deviations, threshold: self.threshold(), correlation, whitened })
    }

    /// The smallest of the highest scores of the trailing year that may be anomalies, by the sensitivity.
    fn threshold(&self) -> f64 {
        let rank = self.settings.sensitivity.count_of(self.scores.len());
        self.scores.greatest(rank).unwrap_or_default().max(SCORE_MIN)
    }

    /// How isolated a bucket is from those of the trailing year, between 0 and 1.
    fn isolation(&self, bucket: &Whitened, correlation: &Correlation) -> Result<f64> {
        let past = self.year.iter().filter_map(|past| correlation.whiten(past)).flat_map(|past| past.values);
        let buckets: Vec<f64> = past.chain(bucket.values.iter().copied()).collect();
        Company::of(&buckets, self.metrics.len())?.isolation(&bucket.values)
    }

    fn learn(&mut self, values: &[Option<f64>], seen: Seen) -> Score {
        let Seen { expectations, deviations, threshold, whitened, .. } = seen;
        let score = whitened.map(|whitened| whitened.score);
        let alerts = score.is_some_and(|score| score > threshold && self.silence.alerts(self.buckets, score));
        self.scores.push(score);
        self.metrics.iter_mut().zip(values).for_each(|(metric, value)| metric.learn(*value));
        if self.year.len() == self.settings.year_buckets
            && let Some(oldest) = self.year.pop_front()
        {
            self.products.remove(&oldest);
        }
        self.products.add(&deviations);
        self.year.push_back(deviations);
        self.buckets += 1;
        Score { expectations, score, threshold, alerts }
    }
}

impl Metric {
    /// `None` without a value, or while there is too little history.
    fn expectation(&self, value: Option<f64>) -> Option<Expectation> {
        let value = value?;
        let expected = self.trailing.expected()?;
        let level = self.trailing.level()?;
        let scale = self.deviations.scale(level).filter(|_| self.deviations.len() >= DEVIATIONS_MIN)?;
        Some(Expectation { value, expected, scale })
    }

    fn learn(&mut self, value: Option<f64>) {
        let deviation = value.zip(self.trailing.expected()).map(|(value, expected)| (value - expected).abs());
        self.deviations.push(deviation);
        self.trailing.push(value);
    }
}

/// Judges each bucket of `metrics`, series over the same buckets, by those before it alone.
///
/// Errors as for [`Detector::push`].
pub fn replay(metrics: &[Vec<Option<f64>>], settings: Settings) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    each(metrics, settings, |detector, values| {
        verdicts.push(detector.push(values)?);
        Ok(())
    })?;
    Ok(verdicts)
}

/// Scores the last bucket of `metrics` by those before it: the result of a [`Detector`] that has seen these buckets.
///
/// Errors as for [`Detector::push`], and if there is no bucket.
pub fn score_last(metrics: &[Vec<Option<f64>>], settings: Settings) -> Result<Score> {
    let mut last = None;
    each(metrics, settings, |detector, values| {
        last = Some(detector.score(values)?);
        Ok(())
    })?;
    last.ok_or(AnomalyError::TooShort { needed: 1, found: 0 })
}

/// Feeds the buckets to a new detector in order.
fn each(
    metrics: &[Vec<Option<f64>>],
    settings: Settings,
    mut show: impl FnMut(&mut Detector, &[Option<f64>]) -> Result<()>,
) -> Result<()> {
    let buckets = metrics.first().map_or(0, Vec::len);
    metrics.iter().try_for_each(|values| check_len(buckets, values.len()))?;
    let mut detector = Detector::new(metrics.len(), settings)?;
    let bucket = |index: usize| metrics.iter().map(move |values| values.get(index).copied().flatten());
    (0..buckets).try_for_each(|index| show(&mut detector, &bucket(index).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::super::random::SplitMix64;
    use super::*;

    /// Days with a weekend, growth and noise.
    fn days(count: usize) -> Vec<Option<f64>> {
        let mut random = SplitMix64::new(11);
        let weekend = |day: usize| if day % 7 > 4 { 40.0 } else { 0.0 };
        (0..count).map(|day| Some(100.0 + day as f64 / 10.0 + weekend(day) + 10.0 * random.unit())).collect()
    }

    #[test]
    fn one_incident_alerts_once() {
        let mut values = days(200);
        values[150..155].fill(Some(0.0));
        let verdicts = replay(&[values], Settings::DAILY).expect("values");
        let indexes = |wanted: fn(&Verdict) -> bool| -> Vec<usize> {
            verdicts.iter().enumerate().filter(|(_, verdict)| wanted(verdict)).map(|(index, _)| index).collect()
        };
        // Day 152 is the sixth of its week, a weekend day, for which more was expected.
        assert_eq!(indexes(|verdict| verdict.alerts), [150, 152]);
        assert_eq!(indexes(|verdict| verdict.anomaly.is_some()), [150, 151, 152, 153]);
    }

    #[test]
    fn nothing_is_said_before_enough_is_known() {
        let verdicts = replay(&[days(40)], Settings::DAILY).expect("values");
        // Three days give a level, three more weeks a median of each weekday, and ten deviations from these a scale.
        let first = verdicts.iter().position(|verdict| verdict.score.is_some());
        assert_eq!(first, Some(34));
    }

    #[test]
    fn a_new_level_becomes_usual() {
        let mut values = days(300);
        values.iter_mut().skip(150).for_each(|value| *value = value.map(|v| v + 300.0));
        let verdicts = replay(&[values], Settings::DAILY).expect("values");
        assert!(verdicts[150].alerts);
        assert!(verdicts[180..].iter().all(|verdict| verdict.anomaly.is_none()));
    }

    #[test]
    fn correlations_are_those_of_the_trailing_year() {
        let settings = Settings { year_buckets: 100, ..Settings::DAILY };
        let mut detector = Detector::new(2, settings).expect("metrics");
        for (day, value) in days(600).into_iter().enumerate() {
            let other = value.map(|v| if day < 400 { -v } else { v });
            detector.push(&[value, other]).expect("values");
        }
        let mut year = Products::new(2);
        detector.year.iter().for_each(|deviations| year.add(deviations));
        let score =
            |products: &Products| products.correlation().whiten(&[Some(3.0), Some(-3.0)]).expect("values").score;
        assert!((score(&detector.products) - score(&year)).abs() < 1e-9);
    }

    #[test]
    fn a_refused_bucket_teaches_nothing() {
        let mut detector = Detector::new(1, Settings::DAILY).expect("a metric");
        let mut other = Detector::new(1, Settings::DAILY).expect("a metric");
        for value in days(60) {
            assert_eq!(detector.push(&[Some(f64::NAN)]), Err(AnomalyError::NotAValue { index: 0 }));
            assert_eq!(detector.push(&[]), Err(AnomalyError::Shape { expected: 1, found: 0 }));
            assert_eq!(detector.push(&[value]), other.push(&[value]));
        }
    }

    #[test]
    fn no_metrics_and_no_buckets_are_refused() {
        assert_eq!(Detector::new(0, Settings::DAILY).err(), Some(AnomalyError::Shape { expected: 1, found: 0 }));
        assert_eq!(score_last(&[vec![]], Settings::DAILY), Err(AnomalyError::TooShort { needed: 1, found: 0 }));
    }
}
