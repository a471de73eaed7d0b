//! Deduplication: neighbouring anomalies form one group, and an alert is followed by a silence.

use super::anomaly::Anomaly;

/// Maximum gap of normal buckets within a group.
const GAP_BUCKETS_MAX: usize = 1;

/// Factor by which a bucket must exceed the last alert to break the silence.
const WORSE: f64 = 1.02;

/// Consecutive anomalous buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The first and the last bucket.
    pub first: usize,
    pub last: usize,
    /// The bucket with the highest score, the earliest of several, and that score.
    pub peak: usize,
    pub score: f64,
}

/// Groups anomalies, given in bucket order.
pub fn group(anomalies: &[Anomaly]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for Anomaly { index, score, .. } in anomalies {
        match groups.last_mut().filter(|group| index - group.last <= GAP_BUCKETS_MAX + 1) {
            Some(group) => {
                group.last = *index;
                if *score > group.score {
                    (group.peak, group.score) = (*index, *score);
                }
            }
            None => groups.push(Group { first: *index, last: *index, peak: *index, score: *score }),
        }
    }
    groups
}

/// The refractory period of live alerts: for some buckets after an alert, only a worse one alerts again.
pub struct Silence {
    buckets: usize,
    last: Option<(usize, f64)>,
}

impl Silence {
    pub fn new(buckets: usize) -> Self {
        Silence { buckets, last: None }
    }

    /// Whether the anomaly in bucket `index` alerts; if so, the silence starts anew.
    pub fn alerts(&mut self, index: usize, score: f64) -> bool {
        let is_silent = self.last.is_some_and(|(alerted, of)| index - alerted <= self.buckets && score <= WORSE * of);
        if !is_silent {
            self.last = Some((index, score));
        }
        !is_silent
    }
}

#[cfg(test)]
mod tests {
    use super::super::anomaly::Direction;
    use super::*;

    fn anomaly((index, score): (usize, f64)) -> Anomaly {
        Anomaly { index, readings: Vec::new(), leading: 0, direction: Direction::Up, score, isolation: 0.6 }
    }

    #[test]
    fn neighbours_are_one_group() {
        let anomalies = [(3, 4.0), (4, 6.0), (6, 6.0), (9, 5.0)].map(anomaly);
        assert_eq!(
            group(&anomalies),
            [Group { first: 3, last: 6, peak: 4, score: 6.0 }, Group { first: 9, last: 9, peak: 9, score: 5.0 }]
        );
        assert_eq!(group(&[]), []);
    }

    #[test]
    fn silence_is_broken_by_time_or_by_worse() {
        let mut silence = Silence::new(7);
        // 5.1 is 1.02 times 5.0 and not more.
        let alerts = [(0, 5.0), (1, 5.0), (2, 5.1), (3, 5.2), (10, 5.2), (11, 4.0)].map(|(i, s)| silence.alerts(i, s));
        assert_eq!(alerts, [true, false, false, true, false, true]);
    }
}
