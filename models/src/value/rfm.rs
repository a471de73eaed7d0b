//! Segments by recency, frequency and monetary value (Hughes, Strategic Database Marketing, 1994): each customer gets a
//! score from 1 to 5 in each of the three, by fifths of all customers, and a segment by the scores.

use super::purchases::Purchases;

/// Scores of 1 to 5, 5 being best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rfm {
    /// How recently the customer bought.
    pub recency: u8,
    /// On how many days.
    pub frequency: u8,
    /// For how much in all.
    pub monetary: u8,
}

/// What kind of customer one is, compared with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Bought recently, often and for much.
    Champion,
    /// Buys often and is not away long.
    Loyal,
    /// Bought recently and more than once, not yet often.
    PotentialLoyalist,
    /// Bought recently for the first time or nearly so.
    New,
    /// Neither recent nor long away, and not frequent.
    NeedsAttention,
    /// Bought often or for much, but long ago.
    AtRisk,
    /// Bought little, long ago.
    Hibernating,
    /// Bought little, longest ago.
    Lost,
}

impl Segment {
    pub const ALL: [Segment; 8] = [
        Segment::Champion,
        Segment::Loyal,
        Segment::PotentialLoyalist,
        Segment::New,
        Segment::NeedsAttention,
        Segment::AtRisk,
        Segment::Hibernating,
        Segment::Lost,
    ];
}

impl Rfm {
    /// The segment of the scores: the first line that holds.
    pub fn segment(self) -> Segment {
        let Rfm { recency, frequency, monetary } = self;
        match recency {
            4.. if frequency >= 4 && monetary >= 4 => Segment::Champion,
            3.. if frequency >= 4 => Segment::Loyal,
            4.. if frequency >= 2 => Segment::PotentialLoyalist,
            4.. => Segment::New,
            3 => Segment::NeedsAttention,
            _ if frequency >= 4 || monetary >= 4 => Segment::AtRisk,
            2 => Segment::Hibernating,
            _ => Segment::Lost,
        }
    }
}

/// The scores of each customer, in the order given.
///
/// Customers who are alike in something get the same score in it, that of the whole group's outer end: the most recent
/// buyers get 5 and the least frequent and least spending 1, however many they are. So who bought once has frequency 1
/// where others came again, and scores do not depend on the order of customers.
pub fn score(customers: &[Purchases]) -> Vec<Rfm> {
    let silence = fifths(customers.iter().map(Purchases::silent_days));
    let frequency = fifths(customers.iter().map(Purchases::purchase_days));
    let monetary = fifths(customers.iter().map(Purchases::total_minor));
    let scores = silence.into_iter().zip(frequency).zip(monetary);
    scores.map(|((silence, frequency), monetary)| Rfm { recency: 6 - silence, frequency, monetary }).collect()
}

/// 1 plus how many fifths of all values are smaller.
fn fifths<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Vec<u8> {
    let values: Vec<T> = values.collect();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let fifth = |value: &T| {
        let smaller = sorted.partition_point(|other| other < value);
        // Smaller than all, so that this is 4 at most.
        1 + u8::try_from(smaller * 5 / sorted.len()).unwrap_or(4)
    };
    values.iter().map(fifth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A customer who bought on `days` days, the last of them `silent` days ago, for `total` in all.
    fn customer(silent: u32, days: u32, total: i64) -> Purchases {
        Purchases::new(days - 1, days - 1, days - 1 + silent, 0, total).expect("a history")
    }

    #[test]
    fn scores_are_fifths() {
        let customers: Vec<_> = (0..10).map(|i| customer(i, 1 + i, i64::from(i) * 100)).collect();
        let scores = score(&customers);
        assert_eq!(scores.iter().map(|rfm| rfm.recency).collect::<Vec<_>>(), [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]);
        assert_eq!(scores.iter().map(|rfm| rfm.frequency).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(scores.iter().map(|rfm| rfm.monetary).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn who_is_alike_scores_alike() {
        // Six of ten bought once: 1. Above six tenths, 6 · 5 / 10 = 3 fifths are below: 4.
        let customers: Vec<_> = [1, 1, 2, 1, 2, 1, 2, 1, 2, 1].map(|days| customer(7, days, 100)).to_vec();
        let frequencies: Vec<u8> = score(&customers).iter().map(|rfm| rfm.frequency).collect();
        assert_eq!(frequencies, [1, 1, 4, 1, 4, 1, 4, 1, 4, 1]);
        assert!(score(&customers).iter().all(|rfm| rfm.recency == 5 && rfm.monetary == 1));
    }

    #[test]
    fn segments_are_named_by_the_scores() {
        let segment = |recency, frequency, monetary| Rfm { recency, frequency, monetary }.segment();
        assert_eq!(segment(5, 5, 5), Segment::Champion);
        assert_eq!(segment(3, 5, 5), Segment::Loyal);
        assert_eq!(segment(5, 4, 3), Segment::Loyal);
        assert_eq!(segment(4, 3, 5), Segment::PotentialLoyalist);
        assert_eq!(segment(5, 1, 5), Segment::New);
        assert_eq!(segment(3, 3, 5), Segment::NeedsAttention);
        assert_eq!(segment(2, 4, 1), Segment::AtRisk);
        assert_eq!(segment(1, 1, 4), Segment::AtRisk);
        assert_eq!(segment(2, 3, 3), Segment::Hibernating);
        assert_eq!(segment(1, 3, 3), Segment::Lost);
    }

    #[test]
    fn every_segment_is_reached() {
        let mut reached: Vec<Segment> = (0..125)
            .map(|i| Rfm { recency: 1 + i / 25, frequency: 1 + i / 5 % 5, monetary: 1 + i % 5 }.segment())
            .collect();
        reached.sort_unstable();
        reached.dedup();
        assert_eq!(reached, Segment::ALL);
    }

    #[test]
    fn nobody_has_no_score() {
        assert_eq!(score(&[]), []);
    }

    proptest! {
        #[test]
        fn better_never_scores_less(customers in prop::collection::vec((0u32..90, 1u32..9, -500i64..500), 1..60)) {
            let customers: Vec<_> = customers.into_iter().map(|(silent, days, total)| customer(silent, days, total)).collect();
            let scores = score(&customers);
            for (a, rfm) in customers.iter().zip(&scores) {
                prop_assert!([rfm.recency, rfm.frequency, rfm.monetary].iter().all(|score| (1..=5).contains(score)));
                for (b, other) in customers.iter().zip(&scores) {
                    prop_assert!(a.silent_days() < b.silent_days() || rfm.recency <= other.recency);
                    prop_assert!(a.purchase_days() > b.purchase_days() || rfm.frequency <= other.frequency);
                    prop_assert!(a.total_minor() > b.total_minor() || rfm.monetary <= other.monetary);
                }
            }
        }
    }
}
