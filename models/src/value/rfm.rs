//! Segments by recency, frequency and monetary value (Hughes, Strategic Database Marketing, 1994): each customer gets a
//! score from 1 to 5 in each of the three, by quintiles of all customers, and a segment by the scores. New customers
//! are not identified by scores: where nobody has bought often, and where all have, everybody's frequency is 1.

use serde::{Deserialize, Serialize};

use super::purchases::Purchases;

/// A first purchase is recent up to this many days before the last purchase of all customers.
const NEW_DAYS: u32 = 90;
/// New customers have bought on at most this many days.
const NEW_PURCHASE_DAYS: u32 = 2;

/// Scores of 1 to 5, 5 being best, and the resulting segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rfm {
    /// How recently the customer bought.
    pub recency: u8,
    /// By number of purchase days.
    pub frequency: u8,
    /// By total spend.
    pub monetary: u8,
    pub segment: Segment,
}

/// The kind of customer, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Segment {
    /// Bought recently, often and for much.
    Champion,
    /// Buys often, and not long ago.
    Loyal,
    /// Bought recently and more than once, but no more often than others.
    PotentialLoyalist,
    /// Bought recently for the first time, on at most two days.
    New,
    /// Neither recent nor long ago, and not frequent.
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

/// When a customer's purchases were, relative to those of the others.
#[derive(Clone, Copy)]
struct When {
    purchase_days: u32,
    /// From the first purchase to the last one of all customers.
    first_days_ago: u32,
}

impl Segment {
    /// The segment of some scores: the first matching row.
    fn of([recency, frequency, monetary]: [u8; 3], when: When) -> Segment {
        let is_new = when.purchase_days <= NEW_PURCHASE_DAYS && when.first_days_ago <= NEW_DAYS;
        match recency {
            4.. if frequency >= 4 && monetary >= 4 => Segment::Champion,
            3.. if frequency >= 4 => Segment::Loyal,
            4.. if frequency == 1 && is_new => Segment::New,
            4.. if when.purchase_days > 1 => Segment::PotentialLoyalist,
            3.. => Segment::NeedsAttention,
            _ if frequency >= 4 || monetary >= 4 => Segment::AtRisk,
            2 => Segment::Hibernating,
            _ => Segment::Lost,
        }
    }
}

/// The reference distribution of scores: some customers, or a sample of them.
///
/// Ties get the same score, that of the group's outer end: the most recent buyers get 5 and the least frequent and
/// least spending 1, however many they are. So one-time buyers have frequency 1 where others came again, and scores do
/// not depend on the order of customers.
#[derive(Clone, Debug)]
pub struct Scale {
    silent_days: Vec<u32>,
    purchase_days: Vec<u32>,
    totals_minor: Vec<i64>,
}

impl Scale {
    /// Identifies the method and the version of its computation.
    pub const VERSION: &str = "RFM quintiles 1";

    pub fn of(customers: &[Purchases]) -> Scale {
        Scale {
            silent_days: sorted(customers.iter().map(Purchases::silent_days)),
            purchase_days: sorted(customers.iter().map(Purchases::purchase_days)),
            totals_minor: sorted(customers.iter().map(Purchases::total_minor)),
        }
    }

    /// The scores of a customer, by quintiles of the scale's customers.
    pub fn score(&self, customer: &Purchases) -> Rfm {
        let recency = 6 - fifth(&self.silent_days, &customer.silent_days());
        let frequency = fifth(&self.purchase_days, &customer.purchase_days());
        let monetary = fifth(&self.totals_minor, &customer.total_minor());
        let least_silent = self.silent_days.first().copied().unwrap_or_default();
        let first_days_ago = customer.age_days().saturating_sub(least_silent);
        let when = When { purchase_days: customer.purchase_days(), first_days_ago };
        Rfm { recency, frequency, monetary, segment: Segment::of([recency, frequency, monetary], when) }
    }
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values
}

/// 1 plus the number of fifths of all values that are smaller, at most 5.
fn fifth<T: Ord>(sorted: &[T], value: &T) -> u8 {
    let smaller = sorted.partition_point(|other| other < value);
    u8::try_from(smaller * 5 / sorted.len().max(1)).unwrap_or(4).min(4) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The scores of all customers relative to each other.
    fn score(customers: &[Purchases]) -> Vec<Rfm> {
        let scale = Scale::of(customers);
        customers.iter().map(|customer| scale.score(customer)).collect()
    }

    /// Once and often, first not long ago.
    const BOUGHT: [When; 2] =
        [When { purchase_days: 1, first_days_ago: 30 }, When { purchase_days: 5, first_days_ago: 30 }];

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
        let segment = |recency, frequency, monetary| {
            Segment::of([recency, frequency, monetary], BOUGHT[usize::from(frequency > 1)])
        };
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
    fn who_is_new_bought_first_not_long_ago_and_twice_at_most() {
        let segments = |customers: &[Purchases]| {
            score(customers).iter().map(|rfm| (rfm.frequency, rfm.segment)).collect::<Vec<_>>()
        };
        // Bought on each of so many days, the last of them five days ago; all alike.
        let alike = |days: u32| segments(&[customer(5, days, 100); 3])[0];
        assert_eq!([1, 2].map(alike), [(1, Segment::New); 2]);
        assert_eq!([3, 8].map(alike), [(1, Segment::PotentialLoyalist); 2]);
        // Bought once; of five the last two score 5 and 4. 90 days before the last purchase of all is still recent.
        let bought_once = |silent: [u32; 5]| segments(&silent.map(|days| customer(days, 1, 100)));
        assert_eq!(bought_once([500, 590, 1000, 1000, 1000])[..2], [(1, Segment::New); 2]);
        let expected = [(1, Segment::New), (1, Segment::NeedsAttention)];
        assert_eq!(bought_once([500, 591, 1000, 1000, 1000])[..2], expected);
        // Twice, the first time long before.
        let twice = Purchases::new(1, 200, 205, 50, 100).expect("a history");
        assert_eq!(segments(&[twice; 3])[0], (1, Segment::PotentialLoyalist));
    }

    #[test]
    fn every_segment_is_reached() {
        let mut reached: Vec<Segment> = (0..125)
            .map(|i| Segment::of([1 + i / 25, 1 + i / 5 % 5, 1 + i % 5], BOUGHT[usize::from(i / 5 % 5 > 0)]))
            .collect();
        reached.sort_unstable();
        reached.dedup();
        assert_eq!(reached, Segment::ALL);
    }

    #[test]
    fn who_is_beyond_the_scale_has_the_outermost_scores() {
        let sample = [customer(5, 2, 200), customer(6, 3, 300)];
        let scores = |rfm: Rfm| ([rfm.recency, rfm.frequency, rfm.monetary], rfm.segment);
        let best = Scale::of(&sample).score(&customer(0, 9, 900));
        assert_eq!(scores(best), ([5, 5, 5], Segment::Champion));
        let worst = Scale::of(&sample).score(&customer(90, 1, -900));
        assert_eq!(scores(worst), ([1, 1, 1], Segment::Lost));
        assert_eq!(scores(Scale::of(&[]).score(&sample[0])), ([5, 1, 1], Segment::New));
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
