//! The isolation forest on two of the sets of Liu, Ting and Zhou, "Isolation Forest" (2008). See `tests/data/NOTICE`.

use models::anomalies::IsolationForest;

const SEEDS: u64 = 10;

/// Points with their labels: whether they are anomalies.
fn points(text: &str) -> Vec<(Vec<f64>, bool)> {
    let point = |line: &str| {
        let mut values: Vec<f64> = line.split(',').map(|cell| cell.parse().expect("a number")).collect();
        let label = values.pop().expect("a label");
        (values, label == 1.0)
    };
    text.lines().map(point).collect()
}

/// The share of pairs of an anomaly and another point in which the anomaly has the higher score.
fn area_under_curve(scores: &[(f64, bool)]) -> f64 {
    let of = |label: bool| scores.iter().filter(move |(_, is)| *is == label).map(|(score, _)| *score);
    let wins =
        |score: f64| of(false).map(|other| if score == other { 0.5 } else { f64::from(score > other) }).sum::<f64>();
    of(true).map(wins).sum::<f64>() / (of(true).count() * of(false).count()) as f64
}

fn mean_area(points: &[(Vec<f64>, bool)]) -> f64 {
    let all: Vec<f64> = points.iter().flat_map(|(values, _)| values.iter().copied()).collect();
    let area = |seed| {
        let forest = IsolationForest::fit(&all, points[0].0.len(), seed).expect("a forest");
        let score = |(values, label): &(Vec<f64>, bool)| (forest.score(values).expect("a score"), *label);
        area_under_curve(&points.iter().map(score).collect::<Vec<_>>())
    };
    (0..SEEDS).map(area).sum::<f64>() / SEEDS as f64
}

/// scikit-learn 1.9.1 with 100 trees: the mean of 30 seeds, and their deviation (`make bench-python`).
#[test]
fn anomalies_are_found_as_well_as_by_scikit_learn() {
    let wisconsin = points(include_str!("../../data/wisconsin.csv"));
    let ionosphere = points(include_str!("../../data/ionosphere.csv"));
    for (name, points, mean, deviation) in
        [("wisconsin", wisconsin, 0.9866, 0.0018), ("ionosphere", ionosphere, 0.8551, 0.0059)]
    {
        let found = mean_area(&points);
        assert!((found - mean).abs() < deviation, "{name}: {found}");
    }
}
