//! Whatever a series holds, there is an answer in numbers or a refusal.

use std::time::{Duration, Instant};

use models::anomalies::{
    AnomalyError, Baseline, Detection, Score, Sensitivity, Settings, Verdict, detect, replay, score_last,
};
use proptest::prelude::*;

type Metrics = Vec<Vec<Option<f64>>>;

/// Usual values, gaps, and what breaks arithmetic.
fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        6 => (-50i32..50).prop_map(|value| Some(f64::from(value))),
        2 => Just(Some(0.0)),
        2 => Just(None),
        1 => prop::sample::select(vec![1e30, -1e30, 1e-308, -5e-324, 0.1, 1e15]).prop_map(Some),
        1 => (-1e6..1e6f64).prop_map(Some),
    ]
}

fn metrics() -> impl Strategy<Value = Metrics> {
    (1usize..5, 0usize..150)
        .prop_flat_map(|(metrics, buckets)| prop::collection::vec(prop::collection::vec(value(), buckets), metrics))
}

fn settings() -> impl Strategy<Value = Settings> {
    let sensitivity = prop::sample::select(vec![Sensitivity::Low, Sensitivity::Medium, Sensitivity::High]);
    (1usize..15, 1usize..200, 0usize..20, sensitivity).prop_map(
        |(season_buckets, year_buckets, silence_buckets, sensitivity)| Settings {
            season_buckets,
            year_buckets,
            silence_buckets,
            sensitivity,
        },
    )
}

fn is_sound(anomaly: &models::anomalies::Anomaly, metrics: &Metrics, threshold: f64) -> bool {
    let readings_are = anomaly.readings.iter().zip(metrics).all(|(reading, values)| {
        reading.is_none_or(|r| {
            let numbers = [r.value, r.expected, r.lower, r.upper, r.score];
            numbers.iter().all(|number| number.is_finite())
                && r.lower <= r.expected
                && r.expected <= r.upper
                && values[anomaly.index] == Some(r.value)
        })
    });
    readings_are
        && anomaly.readings[anomaly.leading].is_some()
        && anomaly.score.is_finite()
        && anomaly.score >= threshold
        && anomaly.isolation > 0.0
        && anomaly.isolation <= 1.0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_history_is_told_in_numbers_or_refused(metrics in metrics(), settings in settings()) {
        match detect(&metrics, &settings) {
            Ok(Detection { threshold, anomalies, groups, baselines }) => {
                prop_assert_eq!(baselines.len(), metrics.len());
                prop_assert!(threshold.is_finite() && threshold >= 3.5);
                prop_assert!(anomalies.iter().all(|anomaly| is_sound(anomaly, &metrics, threshold)), "{:?}", anomalies);
                prop_assert!(anomalies.is_sorted_by(|a, b| a.index < b.index));
                for anomaly in &anomalies {
                    prop_assert_eq!(groups.iter().filter(|g| (g.first..=g.last).contains(&anomaly.index)).count(), 1);
                }
                prop_assert!(groups.iter().all(|group| (group.first..=group.last).contains(&group.peak)));
            }
            Err(error) => prop_assert!(matches!(error, AnomalyError::TooShort { needed: 10, .. }), "{error}"),
        }
    }

    #[test]
    fn a_stream_is_told_in_numbers(metrics in metrics(), settings in settings()) {
        for verdict in replay(&metrics, settings).expect("values") {
            prop_assert!(verdict.threshold.is_finite() && verdict.score.is_none_or(f64::is_finite));
            prop_assert!(verdict.anomaly.iter().all(|anomaly| is_sound(anomaly, &metrics, verdict.threshold)));
            prop_assert!(!verdict.alerts || verdict.anomaly.is_some());
        }
    }

    #[test]
    fn the_last_bucket_is_judged_as_in_a_replay_that_goes_on(metrics in metrics(), settings in settings()) {
        let all = replay(&metrics, settings).expect("values");
        for (index, verdict) in all.iter().enumerate() {
            let until: Metrics = metrics.iter().map(|values| values[..=index].to_vec()).collect();
            let Score { expectations, score, threshold, alerts } = score_last(&until, settings).expect("values");
            prop_assert_eq!((score, threshold, alerts), (verdict.score, verdict.threshold, verdict.alerts));
            if let Some(anomaly) = &verdict.anomaly {
                let readings: Vec<_> = expectations.iter().map(|e| e.map(|e| e.reading(threshold))).collect();
                prop_assert_eq!(&readings, &anomaly.readings);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused(metrics in metrics(), bad in prop::sample::select(vec![f64::NAN, f64::INFINITY, 2e30]), at in any::<prop::sample::Index>()) {
        let mut metrics = metrics;
        prop_assume!(!metrics[0].is_empty());
        let at = at.index(metrics[0].len());
        metrics[0][at] = Some(bad);
        prop_assert_eq!(detect(&metrics, &Settings::DAILY), Err(AnomalyError::NotAValue { index: at }));
        prop_assert_eq!(replay(&metrics, Settings::DAILY), Err(AnomalyError::NotAValue { index: 0 }));
    }

    #[test]
    fn the_unit_of_a_metric_does_not_matter(values in prop::collection::vec(prop::option::weighted(0.9, 0i32..1000), 30..120)) {
        // Powers of two, so that nothing is rounded.
        let in_units = |factor: f64| vec![values.iter().map(|value| value.map(|v| f64::from(v) * factor)).collect()];
        let told = |factor: f64| detect(&in_units(factor), &Settings::DAILY).map(|found| {
            found.anomalies.into_iter().map(|anomaly| (anomaly.index, anomaly.score, anomaly.direction)).collect::<Vec<_>>()
        });
        prop_assert_eq!(told(1.0), told(1024.0));
        prop_assert_eq!(told(1.0), told(1.0 / 4096.0));
    }
}

fn found(values: Vec<Option<f64>>) -> Vec<usize> {
    let detection = detect(&[values], &Settings::DAILY).expect("a history");
    detection.anomalies.iter().map(|anomaly| anomaly.index).collect()
}

fn live(values: Vec<Option<f64>>) -> Vec<usize> {
    let verdicts: Vec<Verdict> = replay(&[values], Settings::DAILY).expect("values");
    (0..verdicts.len()).filter(|bucket| verdicts[*bucket].alerts).collect()
}

#[test]
fn one_point_is_no_history() {
    let one = detect(&[vec![Some(5.0)]], &Settings::DAILY);
    assert_eq!(one, Err(AnomalyError::TooShort { needed: 10, found: 1 }));
    assert!(live(vec![Some(5.0)]).is_empty());
}

#[test]
fn what_never_changes_has_no_anomalies() {
    for always in [0.0, 250.0, -3.3, 0.1] {
        assert!(found(vec![Some(always); 400]).is_empty());
        assert!(live(vec![Some(always); 400]).is_empty());
    }
}

#[test]
fn the_one_change_is_an_anomaly() {
    for (always, once) in [(250.0, 300.0), (250.0, 0.0), (-40.0, 40.0), (0.0, 1.0)] {
        for length in [100, 100_000] {
            let mut values = vec![Some(always); length];
            values[75] = Some(once);
            assert_eq!(found(values.clone()), [75], "{always} {once}");
            // Where all was zero there is no measure yet of how much is much.
            let alerts: &[usize] = if always == 0.0 { &[] } else { &[75] };
            assert_eq!(live(values), alerts, "{always} {once}");
        }
    }
}

#[test]
fn short_histories_have_simpler_baselines() {
    let baseline = |days: usize| {
        let values = (0..days).map(|day| Some((day % 7) as f64)).collect();
        detect(&[values], &Settings::DAILY).expect("a history").baselines[0]
    };
    let simpler = [Baseline::Median, Baseline::PhaseMedian, Baseline::Stl].map(Some);
    assert_eq!([20, 27, 28].map(baseline), simpler);
}

#[test]
fn a_hundred_thousand_buckets_are_quick() {
    let day = |bucket: usize| (bucket as f64 * std::f64::consts::TAU / 96.0).sin() * 50.0;
    // A fixed mixture of frequencies for noise.
    let noise = |bucket: usize| (bucket as f64 * 0.7391).sin() + (bucket as f64 * 2.1377).cos();
    let series = |factor: f64| (0..100_000).map(|b| Some(factor * (100.0 + day(b) + noise(b)))).collect::<Vec<_>>();
    let metrics = [series(1.0), series(0.3), series(7.0)];
    let quarters = Settings { season_buckets: 672, year_buckets: 35_040, silence_buckets: 96, ..Settings::DAILY };
    for settings in [Settings::DAILY, quarters] {
        let begun = Instant::now();
        detect(&metrics, &settings).expect("a history");
        let whole = begun.elapsed();
        replay(&metrics, settings).expect("values");
        println!("{settings:?}: {whole:?} as a whole, {:?} bucket by bucket", begun.elapsed() - whole);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_bucket_is_scored_quickly() {
    let noise = |bucket: usize| (bucket as f64 * 0.7391).sin() + (bucket as f64 * 2.1377).cos();
    let hours = Settings { season_buckets: 168, year_buckets: 8_760, silence_buckets: 24, ..Settings::DAILY };
    // What a rule looks back on: of days a year and eight weeks, of hours nine weeks.
    for (name, settings, buckets) in [("days", Settings::DAILY, 365 + 56), ("hours", hours, 24 * 7 * 9)] {
        let spike = |bucket: usize| if bucket.is_multiple_of(41) { 90.0 } else { 0.0 };
        let values = |bucket| Some(100.0 + (bucket % settings.season_buckets) as f64 + noise(bucket) + spike(bucket));
        let metrics = [(0..buckets).map(values).collect()];
        let begun = Instant::now();
        for _ in 0..10 {
            score_last(&metrics, settings).expect("values");
        }
        let each = begun.elapsed() / 10;
        replay(&metrics, settings).expect("values");
        println!("{name}: {each:?}, with all that is told of anomalies {:?}", begun.elapsed() - 10 * each);
        assert!(each < Duration::from_millis(500), "{name}: {each:?}");
    }
}
