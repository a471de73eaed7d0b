//! Aligns buckets with a zone's clock, to compare each with others at the same hour.

use chrono_tz::Tz;

use super::{Step, local_time};
use crate::clock::{MINUTE, SECOND, Timestamp};

/// Clock positions of buckets. A skipped hour has a place of its own; the two instances of a repeated hour share one.
/// Days and longer buckets are consecutive.
///
/// An hour cut short by the clock (Lord Howe shifts by half an hour) says nothing about a whole one: sums are about
/// halved, but for rates and distinct counts there is no factor to scale by. It is left out, like a skipped hour.
#[derive(Debug)]
pub struct Dial {
    /// For each boundary, its place, counted from the first.
    places: Vec<usize>,
    /// For each bucket, whether the clock left it whole.
    wholes: Vec<bool>,
    /// Wall-clock time at the start of each place, in seconds as if it were UTC.
    pub starts: Vec<i64>,
}

impl Dial {
    /// The dial of the buckets between `boundaries`.
    pub fn new(boundaries: &[Timestamp], step: Step, zone: Tz) -> Dial {
        let shown = boundaries.iter().map(|at| local_time(*at, zone).and_utc().timestamp());
        let wholes = boundaries.windows(2).map(|pair| step.is_whole(pair[0], pair[1])).collect();
        let Step::Minutes(minutes) = step else {
            return Dial { places: (0..boundaries.len()).collect(), wholes, starts: shown.collect() };
        };
        let length = minutes * MINUTE / SECOND;
        let steps: Vec<i64> = shown.map(|shown| shown.div_euclid(length)).collect();
        let first = steps.first().copied().unwrap_or_default();
        // The last place ends where the next begins.
        let end = steps.iter().max().map_or(first, |last| last + 2);
        Dial {
            places: steps.iter().map(|step| usize::try_from(step - first).unwrap_or_default()).collect(),
            wholes,
            starts: (first..end).map(|step| step * length).collect(),
        }
    }

    /// The place of a bucket.
    pub fn place(&self, bucket: usize) -> Option<usize> {
        self.places.get(bucket).copied()
    }

    /// Lays the values of the first buckets out by place, up to the place of the last: for a repeated hour, that of the
    /// later whole one; `None` for an hour skipped or cut short.
    pub fn lay<T: Copy>(&self, of_buckets: &[Option<T>]) -> Vec<Option<T>> {
        let Some(last) = of_buckets.len().checked_sub(1).and_then(|last| self.place(last)) else { return Vec::new() };
        let mut laid = vec![None; last + 1];
        let places = self.places.iter().zip(&self.wholes);
        for (of_bucket, (place, _)) in of_buckets.iter().zip(places).filter(|(_, (_, is_whole))| **is_whole) {
            if let Some(laid) = laid.get_mut(*place) {
                *laid = *of_bucket;
            }
        }
        laid
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Days, NaiveDate, NaiveTime};

    use super::super::{boundaries_after, offset_secs, start_of_day};
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
        // The quarters of the repeated hour, as far as they have closed.
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
    fn half_an_hour_does_not_stand_for_one() {
        const LORD_HOWE: Tz = chrono_tz::Australia::Lord_Howe;
        // From 02:00 to 02:30: 00:00, 01:00, 02:30, 03:00.
        let spring = dial("2026-10-04T00:00:00+10:30", 5, Step::Minutes(60), LORD_HOWE);
        assert_eq!(spring.lay(&[Some(0), Some(1), Some(2), Some(3)]), [Some(0), Some(1), None, Some(3)]);
        // From 02:00 back to 01:30: 00:00, 01:00, 01:30, 02:00.
        let autumn = dial("2026-04-05T00:00:00+11:00", 5, Step::Minutes(60), LORD_HOWE);
        assert_eq!(autumn.lay(&[Some(0), Some(1), Some(2), Some(3)]), [Some(0), Some(1), Some(3)]);
        // Two quarters are skipped, or repeated.
        let quarters = dial("2026-10-04T01:45:00+10:30", 3, Step::Minutes(15), LORD_HOWE);
        assert_eq!(quarters.lay(&[Some(0), Some(1)]), [Some(0), None, None, Some(1)]);
        let quarters = dial("2026-04-05T01:30:00+11:00", 6, Step::Minutes(15), LORD_HOWE);
        assert_eq!(quarters.lay(&[0, 1, 2, 3, 4].map(Some)), [2, 3, 4].map(Some));
    }

    /// The years include those in which St. John's changed its clock at a minute past midnight, Samoa skipped a day,
    /// and Caracas and Pyongyang shifted by half an hour.
    #[test]
    fn in_every_zone_no_bucket_is_lost_and_none_counts_twice() {
        let first = |year| NaiveDate::from_yo_opt(year, 1).expect("a day");
        let days = || [2007, 2010, 2011, 2015, 2016, 2018, 2026].map(|year| first(year).iter_days().take(368));
        let mut changes = 0;
        for zone in chrono_tz::TZ_VARIANTS {
            for days in days() {
                let mut before = None;
                for day in days {
                    let now = offset_secs(day.and_time(NaiveTime::MIN).and_utc().into(), zone);
                    if before.replace(now).is_some_and(|before| before != now) {
                        let [start, end] = [day - Days::new(2), day + Days::new(1)].map(|day| start_of_day(day, zone));
                        for step in [Step::Minutes(15), Step::Minutes(60), Step::Day] {
                            let later = boundaries_after(start, step, zone).take_while(|next| *next <= end);
                            check(&std::iter::once(start).chain(later).collect::<Vec<_>>(), step, zone);
                        }
                        changes += 1;
                    }
                }
            }
        }
        assert!(changes > 2_000, "{changes}");
    }

    fn check(boundaries: &[Timestamp], step: Step, zone: Tz) {
        let dial = Dial::new(boundaries, step, zone);
        let buckets: Vec<Option<usize>> = (0..boundaries.len() - 1).map(Some).collect();
        let laid = dial.lay(&buckets);
        assert!(dial.starts.windows(2).all(|pair| pair[0] < pair[1]), "{zone}: places follow each other");
        let mut times_found = vec![0; buckets.len()];
        laid.iter().flatten().for_each(|bucket| times_found[*bucket] += 1);
        // The last whole bucket at each place.
        let mut last = std::collections::HashMap::new();
        for (bucket, pair) in boundaries.windows(2).enumerate() {
            let place = dial.place(bucket).expect("a place");
            let shown = local_time(pair[0], zone).and_utc().timestamp();
            let begins = dial.starts[place];
            if let Step::Minutes(minutes) = step {
                assert!((begins..begins + minutes * 60).contains(&shown), "{zone} {shown}: at its place of the clock");
                assert!(shown == begins || pair[1].0 - pair[0].0 < minutes * MINUTE, "{zone} {shown}");
                if pair[1].0 - pair[0].0 < minutes * MINUTE {
                    continue;
                }
            }
            last.insert(place, bucket);
        }
        for (bucket, times) in times_found.into_iter().enumerate() {
            let place = dial.place(bucket).expect("a place");
            let is_meant = last.get(&place) == Some(&bucket);
            assert_eq!(times, usize::from(is_meant), "{zone}: bucket {bucket} at {:?}", boundaries[bucket]);
            assert_eq!(laid.get(place).copied().flatten(), last.get(&place).copied(), "{zone}");
        }
    }
}
