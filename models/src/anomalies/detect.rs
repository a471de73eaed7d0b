//! Retrospective detection over a whole history.

use super::anomaly::{Anomaly, Expectation, SCORE_MIN};
use super::company::Company;
use super::correlation::{Products, Whitened};
use super::error::{AnomalyError, Result, check_len, check_values};
use super::grouping::{Group, group};
use super::robust::{median, scale};
use super::seasonal::{self, Baseline};
use super::settings::Settings;

/// The anomalies of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Per metric, how its expected values were determined; `None` where it has too few values.
    pub baselines: Vec<Option<Baseline>>,
    /// The score above which a bucket is an anomaly.
    pub threshold: f64,
    /// In bucket order.
    pub anomalies: Vec<Anomaly>,
    pub groups: Vec<Group>,
}

/// A bucket with a score.
struct Scored {
    index: usize,
    whitened: Whitened,
}

/// Finds the anomalies in `metrics`, series over the same buckets, `None` where a value is missing.
///
/// A bucket's expected value is based on buckets on both sides of it; alerts, which cannot look ahead, come from
/// [`Detector`](super::Detector).
///
/// A metric with fewer than ten values is ignored. Errors: no metric has enough values, a series differs in length from
/// the first, or a value is not finite.
pub fn detect(metrics: &[Vec<Option<f64>>], settings: &Settings) -> Result<Detection> {
    settings.check()?;
    let buckets = metrics.first().map_or(0, Vec::len);
    let mut baselines = Vec::with_capacity(metrics.len());
    let mut by_bucket = vec![Vec::with_capacity(metrics.len()); buckets];
    for values in metrics {
        check_len(buckets, values.len())?;
        check_values(values.iter().map(|value| value.unwrap_or_default()))?;
        let (baseline, expectations) = expectations(values, settings.season_buckets).unzip();
        baselines.push(baseline);
        let expectations = expectations.unwrap_or_else(|| vec![None; buckets]);
        by_bucket.iter_mut().zip(expectations).for_each(|(bucket, expectation)| bucket.push(expectation));
    }
    if baselines.iter().all(Option::is_none) {
        let found = metrics.iter().map(|values| values.iter().flatten().count()).max().unwrap_or_default();
        return Err(AnomalyError::TooShort { needed: seasonal::VALUES_MIN, found });
    }
    let scored = score(&by_bucket, metrics.len());
    let threshold = threshold(&scored, buckets, settings);
    let points: Vec<f64> = scored.iter().flat_map(|bucket| bucket.whitened.values.iter().copied()).collect();
    let company = Company::of(&points, metrics.len())?;
    let mut anomalies = Vec::new();
    for Scored { index, whitened } in scored.iter().filter(|bucket| bucket.whitened.score > threshold) {
        let expectations = by_bucket.get(*index).map(Vec::as_slice).unwrap_or_default();
        let isolation = company.isolation(&whitened.values)?;
        anomalies.push(Anomaly::new(*index, expectations, whitened.score, isolation, threshold));
    }
    let groups = group(&anomalies);
    Ok(Detection { baselines, threshold, anomalies, groups })
}

/// The expectations of one metric; `None` if it is too short. No bucket has an expectation where the metric never
/// deviates from zero.
fn expectations(values: &[Option<f64>], season_buckets: usize) -> Option<(Baseline, Vec<Option<Expectation>>)> {
    let (baseline, expected) = seasonal::expected(values, season_buckets)?;
    let sizes: Vec<f64> = values.iter().zip(&expected).filter_map(|(value, e)| value.map(|v| (v - e).abs())).collect();
    let scale = scale(&sizes, median(expected.clone())?);
    let expectation =
        |(value, expected): (&Option<f64>, f64)| Some(Expectation { value: (*value)?, expected, scale: scale? });
    Some((baseline, values.iter().zip(expected).map(expectation).collect()))
}

/// Scores the buckets that have an expectation.
fn score(by_bucket: &[Vec<Option<Expectation>>], metrics: usize) -> Vec<Scored> {
    let deviation = |expectation: &Option<Expectation>| expectation.as_ref().map(Expectation::deviation);
    let deviations: Vec<Vec<Option<f64>>> =
        by_bucket.iter().map(|bucket| bucket.iter().map(deviation).collect()).collect();
    let mut products = Products::new(metrics);
    deviations.iter().for_each(|bucket| products.add(bucket));
    let correlation = products.correlation();
    let whitened = deviations.iter().map(|bucket| correlation.whiten(bucket));
    whitened.enumerate().filter_map(|(index, whitened)| Some(Scored { index, whitened: whitened? })).collect()
}

/// The score of the most unusual bucket of the trailing year that is not an anomaly, by the sensitivity. If it were the
/// score of the least anomaly, the normal range would contain that anomaly's value.
fn threshold(scored: &[Scored], buckets: usize, settings: &Settings) -> f64 {
    let year_start = buckets.saturating_sub(settings.year_buckets);
    let last_year = scored.iter().filter(|bucket| bucket.index >= year_start);
    let mut scores: Vec<f64> = last_year.map(|bucket| bucket.whitened.score).collect();
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    let rank = settings.sensitivity.count_of(scores.len());
    scores.get(rank).copied().unwrap_or_default().max(SCORE_MIN)
}

#[cfg(test)]
mod tests {
    use super::super::anomaly::Direction;
    use super::super::random::SplitMix64;
    use super::*;

    /// 500 steady days, no two the same, with a spike of `size` on day 400.
    fn spike(size: f64) -> Vec<Option<f64>> {
        let mut random = SplitMix64::new(5);
        (0..500).map(|day| Some(100.0 + random.unit() + if day == 400 { size } else { 0.0 })).collect()
    }

    #[test]
    fn an_anomaly_says_what_was_expected() {
        let found = detect(&[spike(-50.0)], &Settings::DAILY).expect("a history");
        let [anomaly] = found.anomalies.as_slice() else { panic!("{found:?}") };
        let reading = anomaly.readings[0].expect("a value");
        assert_eq!((anomaly.index, anomaly.direction, found.baselines[0]), (400, Direction::Down, Some(Baseline::Stl)));
        assert!((reading.expected - 100.5).abs() < 1.0 && reading.value < 52.0);
        assert!(reading.lower < 100.0 && reading.upper > 101.0 && reading.value < reading.lower);
        assert!((reading.score + anomaly.score).abs() < 1e-9, "of one metric the score is its deviation: {anomaly:?}");
        assert_eq!(found.groups, [Group { first: 400, last: 400, peak: 400, score: anomaly.score }]);
    }

    #[test]
    fn the_threshold_is_the_rank_within_the_trailing_year() {
        let bucket = |index, score| Scored { index, whitened: Whitened { values: vec![score], score } };
        // The year holds buckets 635 and later, of which four may be anomalies.
        let mut scored: Vec<Scored> = (635..1000).map(|index| bucket(index, 1.0)).collect();
        for (at, score) in [(3, 8.0), (40, 7.0), (90, 6.0), (200, 5.0), (300, 4.0)] {
            scored[at].whitened.score = score;
        }
        scored.extend((0..50).map(|index| bucket(index, 20.0)));
        assert_eq!(threshold(&scored, 1000, &Settings::DAILY), 4.0);
        assert_eq!(threshold(&[], 1000, &Settings::DAILY), SCORE_MIN);
    }

    #[test]
    fn a_metric_without_a_history_has_no_part() {
        let mut visits = vec![None; 500];
        visits[400..409].fill(Some(1.0));
        let found = detect(&[spike(-50.0), visits.clone()], &Settings::DAILY).expect("a history");
        assert_eq!(found.baselines, [Some(Baseline::Stl), None]);
        assert!(matches!(found.anomalies.as_slice(), [Anomaly { index: 400, readings, .. }] if readings[1].is_none()));
        assert_eq!(detect(&[visits], &Settings::DAILY), Err(AnomalyError::TooShort { needed: 10, found: 9 }));
    }

    #[test]
    fn nothing_is_no_history() {
        let too_short = Err(AnomalyError::TooShort { needed: 10, found: 0 });
        assert_eq!(detect(&[], &Settings::DAILY), too_short);
        assert_eq!(detect(&[vec![]], &Settings::DAILY), too_short);
        let uneven = detect(&[spike(0.0), spike(0.0)[1..].to_vec()], &Settings::DAILY);
        assert_eq!(uneven, Err(AnomalyError::Shape { expected: 500, found: 499 }));
    }
}
