//! The live detector on the public series of the Numenta Anomaly Benchmark.

mod corpus;
mod detectors;
mod scoring;

use crate::data;
use corpus::Series;
use models::anomalies::Sensitivity;
use scoring::{PROFILES, hits, score};

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn the_naive_rule_flags_what_the_baseline_says() {
    let data = data();
    let text = std::fs::read_to_string(data.join("expected/anomaly_baseline.json")).expect("the baseline");
    let baseline: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for series in corpus::load(&data.join("anomaly_nab")) {
        let flagged: Vec<usize> =
            detectors::rolling(&series).iter().enumerate().filter(|(_, s)| **s > 6.0).map(|(row, _)| row).collect();
        let is_inside = |row: &&usize| series.windows.iter().any(|(first, last)| (first..=last).contains(row));
        let inside = flagged.iter().filter(is_inside).count();
        let expected = &baseline["files"][&series.name];
        assert_eq!(inside, expected["flagged_inside"], "{}", series.name);
        assert_eq!(flagged.len() - inside, expected["flagged_outside"], "{}", series.name);
    }
}

/// The rows with an alert, by series.
type Alerts = Vec<Vec<usize>>;

/// Windows with an alert, alerts in none, and the score by each profile.
fn judge(corpus: &[Series], alerts: &Alerts) -> (usize, usize, [f64; 3]) {
    let (hit, outside) = hits(corpus, alerts);
    (hit, outside, PROFILES.each_ref().map(|profile| score(corpus, alerts, profile)))
}

/// The same with the threshold that scores best by the standard profile, as the benchmark's own detectors have it.
fn best(corpus: &[Series], scores: &[Vec<f64>]) -> (usize, usize, [f64; 3]) {
    let at = |threshold: f64| -> Alerts { scores.iter().map(|scores| detectors::above(scores, threshold)).collect() };
    let thresholds = (14..400).map(|quarters| f64::from(quarters) / 4.0);
    let judged = thresholds.map(|threshold| judge(corpus, &at(threshold)));
    judged.max_by(|a, b| a.2[0].total_cmp(&b.2[0])).expect("thresholds")
}

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn the_detector_finds_more_windows_with_fewer_alerts() {
    let data = data();
    let corpus = corpus::load(&data.join("anomaly_nab"));
    let [low, medium, high] = [Sensitivity::Low, Sensitivity::Medium, Sensitivity::High].map(|sensitivity| {
        let alerts: Alerts = corpus.iter().map(|series| detectors::alerts(series, sensitivity)).collect();
        println!("{sensitivity:?}: {:.1?}", judge(&corpus, &alerts));
        alerts
    });
    for (name, scores) in
        [("the naive rule", detectors::rolling as fn(&Series) -> Vec<f64>), ("ours", detectors::seasonal)]
    {
        let plain: Vec<Vec<f64>> = corpus.iter().map(scores).collect();
        let silenced =
            |(series, scores): (&Series, &Vec<f64>)| detectors::silenced(scores, series.buckets().season_buckets);
        let silent: Vec<Vec<f64>> = corpus.iter().zip(&plain).map(silenced).collect();
        println!(
            "{name} at its best threshold: {:.1?}, with silence {:.1?}",
            best(&corpus, &plain),
            best(&corpus, &silent)
        );
    }
    let (hit, outside, scores) = judge(&corpus, &low);
    // The naive rule: 17 windows and 8,113 false points. See docs/performance.md.
    assert!(hit >= 20 && outside <= 90);
    assert!(scores.iter().zip([52.5, 35.5, 59.5]).all(|(score, least)| *score > least), "{scores:?}");
    assert!(hits(&corpus, &medium).0 >= hit && hits(&corpus, &high).0 >= hits(&corpus, &medium).0);
    let is_taxi = |series: &&Series| series.name.ends_with("nyc_taxi.csv");
    let taxi = corpus.iter().position(|series| is_taxi(&series)).expect("in the corpus");
    assert_eq!(hits(&corpus[taxi..=taxi], &low[taxi..=taxi]).0, 5, "holidays, a marathon and a storm");
}

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn scores_are_between_none_and_all_found_at_once() {
    let data = data();
    let corpus = corpus::load(&data.join("anomaly_nab"));
    let first_rows = |series: &Series| series.windows.iter().map(|window| window.0).collect();
    let perfect: Vec<Vec<usize>> = corpus.iter().map(first_rows).collect();
    for profile in &PROFILES {
        assert!((score(&corpus, &perfect, profile) - 100.0).abs() < 1e-9);
        assert_eq!(score(&corpus, &vec![Vec::new(); corpus.len()], profile), 0.0);
    }
}
