//! Buckets as a zone's clock counts them, for those who compare each with others of the same hour.

use chrono_tz::Tz;

use super::{Step, local_time};
use crate::clock::{MINUTE, SECOND, Timestamp};

/// Where buckets stand on the clock. An hour that the clock leaves out has a place of its own, and of one that it shows twice
/// both have the same. Days and longer buckets follow each other.
#[derive(Debug)]
pub struct Dial {
    /// Of each boundary, counted from the first.
    places: Vec<usize>,
    /// What the clock shows where places begin, in seconds as if it were that of UTC.
    pub starts: Vec<i64>,
}

impl Dial {
    /// Of the buckets between `boundaries`.
    pub fn new(boundaries: &[Timestamp], step: Step, zone: Tz) -> Dial {
        let shown = boundaries.iter().map(|at| local_time(*at, zone).and_utc().timestamp());
        let Step::Minutes(minutes) = step else {
            return Dial { places: (0..boundaries.len()).collect(), starts: shown.collect() };
        };
        let length = minutes * MINUTE / SECOND;
        let steps: Vec<i64> = shown.map(|shown| shown.div_euclid(length)).collect();
        let first = steps.first().copied().unwrap_or_default();
        // The last place ends where one more begins.
        let end = steps.iter().max().map_or(first, |last| last + 2);
        Dial {
            places: steps.iter().map(|step| usize::try_from(step - first).unwrap_or_default()).collect(),
            starts: (first..end).map(|step| step * length).collect(),
        }
    }

    /// The place of a bucket.
    pub fn place(&self, bucket: usize) -> Option<usize> {
        self.places.get(bucket).copied()
    }

    /// What the first buckets have, by their places, up to that of the last one: of an hour that is shown twice what the later
    /// one has, of one that is left out nothing.
    pub fn lay<T: Copy>(&self, of_buckets: &[Option<T>]) -> Vec<Option<T>> {
        let Some(last) = of_buckets.len().checked_sub(1).and_then(|last| self.place(last)) else { return Vec::new() };
        let mut laid = vec![None; last + 1];
        for (of_bucket, place) in of_buckets.iter().zip(&self.places) {
            if let Some(laid) = laid.get_mut(*place) {
                *laid = *of_bucket;
            }
        }
        laid
    }
}

#[cfg(test)]
mod tests {
    use super::super::boundaries_after;
    use super::*;

    const LONDON: Tz = chrono_tz::Europe::London;

    fn dial(start: &str, count: usize, step: Step, zone: Tz) -> Dial {
        let start: Timestamp = chrono::DateTime::parse_from_rfc3339(start).expect("a time").to_utc().into();
        let boundaries: Vec<_> =
            std::iter::once(start).chain(boundaries_after(start, step, zone)).take(count).collect();
        Dial::new(&boundaries, step, zone)
    }

    #[test]
    fn an_hour_left_out_is_a_gap_and_of_one_shown_twice_the_later_counts() {
        let hours = Step::Minutes(60);
        // From midnight on: 00:00, 02:00, 03:00.
        let spring = dial("2026-03-29T00:00:00Z", 4, hours, LONDON);
        assert_eq!(spring.lay(&[Some('a'), Some('b'), Some('c')]), [Some('a'), None, Some('b'), Some('c')]);
        let midnight = spring.starts[0];
        assert_eq!(
            spring.starts.iter().map(|start| (start - midnight) / 3_600).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5]
        );
        // 00:00, 01:00, 01:00, 02:00.
        let autumn = dial("2026-10-25T00:00:00+01:00", 5, hours, LONDON);
        assert_eq!(autumn.lay(&[Some('a'), Some('b'), Some('c'), Some('d')]), [Some('a'), Some('c'), Some('d')]);
        assert_eq!(autumn.lay(&[Some('a'), Some('b')]), [Some('a'), Some('b')], "it is not known yet");
        assert_eq!(autumn.lay::<char>(&[]), []);
        // The quarters of the hour again, as far as they are over.
        let quarters = dial("2026-10-25T01:00:00+01:00", 9, Step::Minutes(15), LONDON);
        let laid = quarters.lay(&[Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)]);
        assert_eq!(laid, [Some(4), Some(5)]);
    }

    #[test]
    fn days_follow_each_other() {
        for zone in [LONDON, chrono_tz::Pacific::Apia] {
            let days = dial("2011-12-27T00:00:00Z", 6, Step::Day, zone);
            assert_eq!(days.lay(&[Some(0), Some(1), Some(2), Some(3), Some(4)]), [0, 1, 2, 3, 4].map(Some));
            assert!(days.starts.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn hours_that_the_clock_cuts_have_places() {
        // Lord Howe: from 02:00 half an hour on.
        let hours = dial("2026-10-04T00:00:00+10:30", 5, Step::Minutes(60), chrono_tz::Australia::Lord_Howe);
        assert_eq!(hours.lay(&[Some(0), Some(1), Some(2), Some(3)]), [0, 1, 2, 3].map(Some));
    }
}
