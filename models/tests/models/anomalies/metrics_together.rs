//! What several metrics tell together: days of synthetic sales whose metrics follow a common demand.

use std::f64::consts::TAU;

use models::anomalies::{Detection, Sensitivity, Settings, detect, replay};

const DAYS: usize = 730;

/// Days at which two metrics that follow each other part by three standard deviations each.
const BREAKS: [usize; 8] = [390, 430, 471, 512, 555, 601, 650, 700];

const SETTINGS: Settings = Settings { sensitivity: Sensitivity::High, ..Settings::DAILY };

/// Numbers of the standard normal distribution (Box & Muller 1958) from a linear congruential generator (Knuth's MMIX).
struct Normal(u64);

impl Normal {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (TAU * self.unit()).cos()
    }
}

/// Orders, units and visits, each with nine tenths of its variance from demand, and a weekend. `shift` moves each by so many
/// standard deviations.
fn sales(seed: u64, shift: impl Fn(usize) -> [f64; 3]) -> Vec<Vec<Option<f64>>> {
    let mut normal = Normal(seed);
    let mut metrics = vec![Vec::new(); 3];
    for day in 0..DAYS {
        let demand = normal.next();
        let weekend = if day % 7 > 4 { 1.5 } else { 1.0 };
        for ((values, shift), usual) in metrics.iter_mut().zip(shift(day)).zip([200.0, 500.0, 4_000.0]) {
            let deviation = 0.9f64.sqrt() * demand + 0.1f64.sqrt() * normal.next() + shift;
            values.push(Some(usual * (weekend + 0.1 * deviation)));
        }
    }
    metrics
}

fn breaks(day: usize) -> [f64; 3] {
    if BREAKS.contains(&day) { [3.0, -3.0, 0.0] } else { [0.0; 3] }
}

fn indexes(found: &Detection) -> Vec<usize> {
    found.anomalies.iter().map(|anomaly| anomaly.index).collect()
}

/// The score of a bucket, and the largest of its metrics alone.
fn scores(found: &Detection, index: usize) -> (f64, f64) {
    let anomaly = found.anomalies.iter().find(|anomaly| anomaly.index == index).expect("found");
    (anomaly.score, anomaly.readings.iter().flatten().map(|reading| reading.score.abs()).fold(0.0, f64::max))
}

#[test]
fn metrics_that_part_are_more_of_a_surprise_than_each_alone() {
    let found = detect(&sales(1, breaks), &SETTINGS).expect("a history");
    for day in BREAKS {
        let (together, alone) = scores(&found, day);
        assert!(together > 1.2 * alone, "day {day}: {together} and {alone}");
    }
}

#[test]
fn what_parts_them_is_found_as_it_happens() {
    let verdicts = replay(&sales(1, breaks), SETTINGS).expect("values");
    let found = BREAKS.iter().filter(|day| verdicts[**day].anomaly.is_some()).count();
    let anomalies = verdicts.iter().filter(|verdict| verdict.anomaly.is_some()).count();
    assert!(found >= 7 && anomalies <= 3 * BREAKS.len(), "{found} found of {anomalies}");
}

#[test]
fn a_rise_of_all_is_one_surprise() {
    let rise = |day| if day == 600 { [5.0; 3] } else { [0.0; 3] };
    let found = detect(&sales(2, rise), &SETTINGS).expect("a history");
    let (together, alone) = scores(&found, 600);
    assert!(together < 1.2 * alone, "{together} and {alone}");
}

#[test]
fn a_metric_that_begins_later_is_no_surprise() {
    let mut metrics = sales(4, breaks);
    metrics[2][..500].fill(None);
    metrics.push((0..DAYS).map(|day| (day >= 720).then(|| (100 + day % 3) as f64)).collect());
    let found = detect(&metrics, &SETTINGS).expect("a history");
    assert!(BREAKS.iter().all(|day| indexes(&found).contains(day)), "{:?}", indexes(&found));
    let early = found.anomalies.iter().find(|anomaly| anomaly.index == 390).expect("found");
    assert!(early.readings[2].is_none() && early.readings[3].is_none());
}

/// The days without a sale, and with three and a half times as many as usual, of [`shop`].
const OUTAGE: usize = 525;
const RUSH: usize = 588;

/// Revenue, orders and refunds of a shop that refunds something on `share` of its days.
fn shop(seed: u64, share: f64) -> Vec<Vec<Option<f64>>> {
    let mut normal = Normal(seed);
    let mut metrics = vec![Vec::new(); 3];
    for day in 0..690 {
        let usual = if day % 7 > 4 { 12.0 } else { 20.0 };
        let orders = match day {
            OUTAGE => 0.0,
            RUSH => 70.0,
            _ => (usual + 3.0 * normal.next()).round().max(1.0),
        };
        let revenue = orders * 50.0 + orders.sqrt() * 10.0 * normal.next();
        let refunds = if normal.unit() < share { (50.0 + 15.0 * normal.next()).max(0.0) } else { 0.0 };
        metrics.iter_mut().zip([revenue, orders, refunds]).for_each(|(values, value)| values.push(Some(value)));
    }
    metrics
}

#[test]
fn usual_refunds_on_few_days_hide_nothing() {
    for share in [0.02, 0.05, 0.15, 0.3, 0.45] {
        for seed in 1..4 {
            let found = detect(&shop(seed, share), &Settings::DAILY).expect("a history");
            assert!([OUTAGE, RUSH].iter().all(|day| indexes(&found).contains(day)), "{share} {seed}: {found:?}");
            assert!(scores(&found, RUSH).0 > 20.0);
            let refund_days = found.anomalies.iter().filter(|anomaly| anomaly.leading == 2);
            assert!(refund_days.map(|anomaly| anomaly.score).fold(0.0, f64::max) < 15.0, "{share} {seed}: {found:?}");
        }
    }
}

#[test]
fn an_unusual_refund_on_one_of_few_days_is_found() {
    let mut metrics = shop(1, 0.15);
    metrics[2][600] = Some(2_000.0);
    let found = detect(&metrics, &Settings::DAILY).expect("a history");
    let leading = found.anomalies.iter().find(|anomaly| anomaly.index == 600).map(|anomaly| anomaly.leading);
    assert_eq!(leading, Some(2), "{found:?}");
}
