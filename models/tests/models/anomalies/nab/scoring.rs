//! The score of the benchmark (Lavin & Ahmad 2015, "Evaluating Real-time Anomaly Detection Algorithms"): the first alert in a
//! window counts, more the earlier it comes; each alert outside costs, less shortly after a window; a missed window costs.

use super::corpus::Series;

/// What alerts are worth.
pub struct Profile {
    false_positive: f64,
    missed: f64,
}

/// The standard profile, the one that charges false alerts twice, and the one that charges missed windows twice.
pub const PROFILES: [Profile; 3] = [
    Profile { false_positive: 0.11, missed: 1.0 },
    Profile { false_positive: 0.22, missed: 1.0 },
    Profile { false_positive: 0.11, missed: 2.0 },
];

/// The rows at the begin of a series in which alerts do not count: 15 %, of at most 5,000 rows.
pub fn probation(rows: usize) -> usize {
    (rows * 15 / 100).min(750)
}

/// What each alert is worth by its distance from the window's end, in windows: 1 before, -1 long after.
fn sigmoid(distance: f64) -> f64 {
    if distance > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * distance).exp()) - 1.0 }
}

/// What the alerts, given as rows of each series, score between 0, no alerts, and 100, all windows found at once.
pub fn score(corpus: &[Series], alerts: &[Vec<usize>], profile: &Profile) -> f64 {
    let windows: usize = corpus.iter().map(|series| series.windows.len()).sum();
    let null = -profile.missed * windows as f64;
    let raw: f64 = corpus.iter().zip(alerts).map(|(series, rows)| raw_score(series, rows, profile)).sum();
    100.0 * (raw - null) / (windows as f64 - null)
}

fn raw_score(series: &Series, alerts: &[usize], profile: &Profile) -> f64 {
    let counted = || alerts.iter().copied().filter(|row| *row >= probation(series.times.len()));
    let within = |row: usize| series.windows.iter().any(|(first, last)| (*first..=*last).contains(&row));
    let found = series.windows.iter().map(|(first, last)| {
        let width = (last - first + 1) as f64;
        counted()
            .find(|row| (*first..=*last).contains(row))
            .map_or(-profile.missed, |row| sigmoid(-((last - row + 1) as f64) / width) / sigmoid(-1.0))
    });
    let outside = counted().filter(|row| !within(*row)).map(|row| {
        let before = series.windows.iter().rfind(|(_, last)| *last < row);
        profile.false_positive
            * before.map_or(-1.0, |(first, last)| sigmoid((row - last) as f64 / (last - first).max(1) as f64))
    });
    found.sum::<f64>() + outside.sum::<f64>()
}

/// How many windows have an alert, and how many alerts are in none; those on probation left out.
pub fn hits(corpus: &[Series], alerts: &[Vec<usize>]) -> (usize, usize) {
    let (mut hit, mut outside) = (0, 0);
    for (series, rows) in corpus.iter().zip(alerts) {
        let counted: Vec<usize> = rows.iter().copied().filter(|row| *row >= probation(series.times.len())).collect();
        let is_in = |window: &(usize, usize), row: usize| (window.0..=window.1).contains(&row);
        hit += series.windows.iter().filter(|window| counted.iter().any(|row| is_in(window, *row))).count();
        outside += counted.iter().filter(|row| !series.windows.iter().any(|window| is_in(window, **row))).count();
    }
    (hit, outside)
}
