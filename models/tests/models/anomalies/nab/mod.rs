//! The live detector on the public series of the Numenta Anomaly Benchmark.

mod corpus;
#[expect(dead_code, reason = "what the detectors are compared with is not asserted here")]
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

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn the_detector_finds_more_windows_with_fewer_alerts() {
    let data = data();
    let corpus = corpus::load(&data.join("anomaly_nab"));
    let alerts: Vec<Vec<usize>> = corpus.iter().map(|series| detectors::alerts(series, Sensitivity::Low)).collect();
    let (hit, outside) = hits(&corpus, &alerts);
    let scores = PROFILES.each_ref().map(|profile| score(&corpus, &alerts, profile));
    println!("{hit} of 27 windows, {outside} false alerts, scores {scores:.2?}");
    // The naive rule: 17 windows and 8,113 false points; with silence and its best threshold it scores 23.
    // When it was last looked at 20 windows, 84 false alerts, and 53.6, 37.0, 60.4: the standard profile, and those that charge
    // false alerts or missed windows twice.
    assert!(hit >= 20 && outside <= 90);
    assert!(scores.iter().zip([52.5, 35.5, 59.5]).all(|(score, least)| *score > least), "{scores:?}");
    let is_taxi = |series: &&Series| series.name.ends_with("nyc_taxi.csv");
    let taxi = corpus.iter().position(|series| is_taxi(&series)).expect("in the corpus");
    assert_eq!(hits(&corpus[taxi..=taxi], &alerts[taxi..=taxi]).0, 5, "holidays, a marathon and a storm");
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
