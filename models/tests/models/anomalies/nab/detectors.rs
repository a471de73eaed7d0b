//! What is scored: for each series a score per row, or the rows with an alert.

use std::collections::VecDeque;

use models::anomalies::{Sensitivity, Settings, Silence, Verdict, replay};

use super::corpus::{Buckets, Series};

const YEAR_SECS: i64 = 365 * 86_400;

/// The score at which an alert begins silence when none is set: the product's least.
const ARMED: f64 = 3.5;

/// The naive rule of `expected/anomaly_baseline.json`: distance from the median of the previous rows, in scaled medians of
/// these distances.
pub fn rolling(series: &Series) -> Vec<f64> {
    let (mut values, mut distances) = (Rolling::default(), Rolling::default());
    let score = |value: &f64| {
        let distance = values.median().map(|median| (value - median).abs());
        let scale = distances.median().map(|median| 1.4826 * median).filter(|scale| *scale > 0.0);
        values.push(*value);
        distance.into_iter().for_each(|distance| distances.push(distance));
        distance.zip(scale).map_or(0.0, |(distance, scale)| distance / scale)
    };
    series.values.iter().map(score).collect()
}

/// The previous 288 numbers; they have a median from 50 on.
#[derive(Default)]
struct Rolling(VecDeque<f64>);

impl Rolling {
    fn push(&mut self, value: f64) {
        if self.0.len() == 288 {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    fn median(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        (sorted.len() >= 50).then(|| sorted[(sorted.len() - 1) / 2].midpoint(sorted[middle]))
    }
}

/// The detector's score of each row, whatever the sensitivity.
pub fn seasonal(series: &Series) -> Vec<f64> {
    let buckets = series.buckets();
    let mut scores = vec![0.0; series.values.len()];
    for (row, verdict) in verdicts(&buckets, Sensitivity::Medium) {
        scores[row] = verdict.score.unwrap_or_default();
    }
    scores
}

/// The rows at which the detector alerts.
pub fn alerts(series: &Series, sensitivity: Sensitivity) -> Vec<usize> {
    let verdicts = verdicts(&series.buckets(), sensitivity);
    verdicts.into_iter().filter(|(_, verdict)| verdict.alerts).map(|(row, _)| row).collect()
}

fn verdicts(buckets: &Buckets, sensitivity: Sensitivity) -> Vec<(usize, Verdict)> {
    let settings = Settings {
        season_buckets: buckets.season_buckets,
        year_buckets: usize::try_from(YEAR_SECS / buckets.step_secs).expect("positive"),
        silence_buckets: buckets.season_buckets,
        sensitivity,
    };
    let verdicts = replay(std::slice::from_ref(&buckets.values), settings).expect("values");
    buckets.rows.iter().zip(verdicts).filter_map(|(row, verdict)| Some(((*row)?, verdict))).collect()
}

/// The rows whose score is at least `threshold`.
pub fn above(scores: &[f64], threshold: f64) -> Vec<usize> {
    scores.iter().enumerate().filter(|(_, score)| **score >= threshold).map(|(row, _)| row).collect()
}

/// The scores with nothing left of those that the rule of silence keeps quiet.
pub fn silenced(scores: &[f64], silence_buckets: usize) -> Vec<f64> {
    let mut silence = Silence::new(silence_buckets);
    let alerts =
        |(row, score): (usize, &f64)| if *score >= ARMED && silence.alerts(row, *score) { *score } else { 0.0 };
    scores.iter().enumerate().map(alerts).collect()
}
