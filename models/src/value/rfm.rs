//! Segments by recency, frequency and monetary value (Hughes, Strategic Database Marketing, 1994): each customer gets a
//! score from 1 to 5 in each of the three, by fifths of all customers, and a segment by the scores.

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
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

/// What scores are relative to: some customers, or a sample of them.
///
/// Customers who are alike in something get the same score in it, that of the whole group's outer end: the most recent
/// buyers get 5 and the least frequent and least spending 1, however many they are. So who bought once has frequency 1
/// where others came again, and scores do not depend on the order of customers.
#[derive(Clone, Debug)]
pub struct Scale {
    silent_days: Vec<u32>,
    purchase_days: Vec<u32>,
    totals_minor: Vec<i64>,
}

impl Scale {
    pub fn of(customers: &[Purchases]) -> Scale {
        Scale {
            silent_days: sorted(customers.iter().map(Purchases::silent_days)),
            purchase_days: sorted(customers.iter().map(Purchases::purchase_days)),
            totals_minor: sorted(customers.iter().map(Purchases::total_minor)),
        }
    }

    /// The scores of a customer, by fifths of the scale's customers.
    pub fn score(&self, customer: &Purchases) -> Rfm {
        Rfm {
            recency: 6 - fifth(&self.silent_days, &customer.silent_days()),
            frequency: fifth(&self.purchase_days, &customer.purchase_days()),
            monetary: fifth(&self.totals_minor, &customer.total_minor()),
        }
    }
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values
}

/// 1 plus how many fifths of all values are smaller, 5 at most.
fn fifth<T: Ord>(sorted: &[T], value: &T) -> u8 {
    let smaller = sorted.partition_point(|other| other < value);
    u8::try_from(smaller * 5 / sorted.len().max(1)).unwrap_or(4).min(4) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The scores of all among themselves.
    fn score(customers: &[Purchases]) -> Vec<Rfm> {
        let scale = Scale::of(customers);
        customers.iter().map(|customer| scale.score(customer)).collect()
    }

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
    fn who_is_beyond_the_scale_has_the_outermost_scores() {
        let sample = [customer(5, 2, 200), customer(6, 3, 300)];
        let best = Scale::of(&sample).score(&customer(0, 9, 900));
        assert_eq!(best, Rfm { recency: 5, frequency: 5, monetary: 5 });
        let worst = Scale::of(&sample).score(&customer(90, 1, -900));
        assert_eq!(worst, Rfm { recency: 1, frequency: 1, monetary: 1 });
        assert_eq!(Scale::of(&[]).score(&sample[0]), Rfm { recency: 5, frequency: 1, monetary: 1 });
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
