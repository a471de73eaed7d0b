//! Days, weeks and months of a time zone as instants.
//!
//! A day begins at the first instant at which the zone's clock shows midnight or later, so days are contiguous and
//! disjoint whatever the clock does: a day may have 23 or 25 hours, and one that the zone skipped (Samoa, 2011-12-30)
//! is empty.

pub mod dial;

use chrono::{Datelike, Days, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Weekday};
use chrono_tz::Tz;

use crate::clock::{SECOND, Timestamp};

/// 1970-01-01, day zero of day numbers.
const EPOCH: NaiveDate = match NaiveDate::from_ymd_opt(1970, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

/// Bucket length, by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Length in minutes of wall-clock time, stepped along the UTC line so that both instances of a repeated hour
    /// exist.
    Minutes(i64),
    Day,
    Week(Weekday),
    Months(u32),
}

impl Step {
    /// Whether a bucket is complete: a clock that shifts by half an hour cuts one short. Days and longer buckets always
    /// are.
    pub fn is_whole(self, start: Timestamp, end: Timestamp) -> bool {
        match self {
            Step::Minutes(minutes) => end.0 - start.0 == minutes * crate::clock::MINUTE,
            Step::Day | Step::Week(_) | Step::Months(_) => true,
        }
    }
}

/// The day containing `at` in `zone`, in days since 1970-01-01.
pub fn day_of(at: Timestamp, zone: Tz) -> i32 {
    let local = local_time(at, zone).date();
    let day = day_number(local);
    // After a clock is set back across midnight, the old date shows again within the new day.
    let next = local.succ_opt().map(|next| start_of_day(next, zone));
    if next.is_some_and(|next| at >= next) { day + 1 } else { day }
}

pub fn day_number(day: NaiveDate) -> i32 {
    i32::try_from(day.signed_duration_since(EPOCH).num_days()).unwrap_or(i32::MAX)
}

pub fn day_from_number(number: i32) -> NaiveDate {
    let days = Days::new(u64::from(number.unsigned_abs()));
    let day = if number < 0 { EPOCH.checked_sub_days(days) } else { EPOCH.checked_add_days(days) };
    day.unwrap_or(EPOCH)
}

pub fn start_of_day(day: NaiveDate, zone: Tz) -> Timestamp {
    instant(day.and_time(NaiveTime::MIN), zone)
}

/// The instant at which the zone's clock first shows `local` or, if it is skipped, jumps over it.
pub fn instant(local: NaiveDateTime, zone: Tz) -> Timestamp {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at.to_utc().into(),
        MappedLocalTime::None => end_of_gap(local, zone),
    }
}

/// The instant at which the clock jumped over `local`.
fn end_of_gap(local: NaiveDateTime, zone: Tz) -> Timestamp {
    // No zone is further than this from UTC, and no jump exceeds a day.
    const REACH_SECS: i64 = 40 * 3600;
    let guess = local.and_utc().timestamp();
    let (mut before, mut after) = (guess - REACH_SECS, guess + REACH_SECS);
    while before + 1 < after {
        let middle = before.midpoint(after);
        if local_time(Timestamp(middle * SECOND), zone) >= local { after = middle } else { before = middle }
    }
    Timestamp(after * SECOND)
}

/// Wall-clock time in the zone.
pub fn local_time(at: Timestamp, zone: Tz) -> NaiveDateTime {
    let utc = at.to_utc().unwrap_or_default().naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    utc + offset
}

/// The date of `at`, with days as defined in this module.
pub fn date_of(at: Timestamp, zone: Tz) -> NaiveDate {
    day_from_number(day_of(at, zone))
}

/// The first day of the week, month, quarter or year containing `day`.
pub fn first_day(day: NaiveDate, step: Step) -> NaiveDate {
    match step {
        Step::Minutes(_) | Step::Day => day,
        Step::Week(start) => {
            let since = (7 + day.weekday().num_days_from_monday() - start.num_days_from_monday()) % 7;
            day.checked_sub_days(Days::new(since.into())).unwrap_or(day)
        }
        Step::Months(n) => {
            let month0 = day.month0() - day.month0() % n;
            NaiveDate::from_ymd_opt(day.year(), month0 + 1, 1).unwrap_or(day)
        }
    }
}

/// The first day of the unit after the one that begins at `first`.
pub fn next_first_day(first: NaiveDate, step: Step) -> NaiveDate {
    let next = match step {
        Step::Minutes(_) | Step::Day => first.succ_opt(),
        Step::Week(_) => first.checked_add_days(Days::new(7)),
        Step::Months(n) => first.checked_add_months(Months::new(n)),
    };
    next.unwrap_or(NaiveDate::MAX)
}

/// The boundaries of the buckets that partition `start..end`: `start`, those in between, `end`. `None` if there are
/// more than `buckets_max` buckets.
pub fn boundaries(
    start: Timestamp,
    end: Timestamp,
    step: Step,
    zone: Tz,
    buckets_max: usize,
) -> Option<Vec<Timestamp>> {
    let mut all = vec![start];
    all.extend(boundaries_after(start, step, zone).take_while(|next| *next < end).take(buckets_max));
    if all.len() > buckets_max {
        return None;
    }
    all.push(end);
    Some(all)
}

/// The bucket boundaries after `at`, ascending.
pub fn boundaries_after(at: Timestamp, step: Step, zone: Tz) -> impl Iterator<Item = Timestamp> {
    std::iter::successors(boundary_after(at, step, zone), move |at| boundary_after(*at, step, zone))
}

/// The next boundary; `None` at the end of the calendar.
fn boundary_after(at: Timestamp, step: Step, zone: Tz) -> Option<Timestamp> {
    if let Step::Minutes(minutes) = step {
        let length = minutes * crate::clock::MINUTE;
        // Steps follow the zone's own clock: offsets with half or quarter hours shift whole hours.
        let offset = offset_secs(at, zone) * SECOND;
        let into = (at.0 + offset).rem_euclid(length);
        let next = Timestamp(at.0 + length - into);
        // A clock change within the step ends it.
        let is_one_step = offset_secs(next, zone) * SECOND == offset;
        return Some(if is_one_step { next } else { transition(at, next, zone) });
    }
    let mut day = first_day(date_of(at, zone), step);
    loop {
        day = next_first_day(day, step);
        let next = start_of_day(day, zone);
        // A day skipped by the zone has no bucket.
        if day == NaiveDate::MAX || next > at {
            return (day != NaiveDate::MAX).then_some(next);
        }
    }
}

/// The start of the bucket at least `count` buckets, possibly a few more, before the one containing `at`; never before
/// 1970.
pub fn buckets_before(at: Timestamp, count: u32, step: Step, zone: Tz) -> Timestamp {
    let day = date_of(at, zone);
    let first = match step {
        Step::Minutes(minutes) => {
            Some(date_of(Timestamp(at.0 - i64::from(count) * minutes * crate::clock::MINUTE), zone))
        }
        Step::Day => day.checked_sub_days(Days::new(count.into())),
        Step::Week(_) => day.checked_sub_days(Days::new(7 * u64::from(count))),
        Step::Months(months) => day.checked_sub_months(Months::new(months * count)),
    };
    start_of_day(first_day(first.unwrap_or(EPOCH).max(EPOCH), step), zone)
}

fn offset_secs(at: Timestamp, zone: Tz) -> i64 {
    let utc = at.to_utc().unwrap_or_default().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

/// The instant after `from`, up to and including `to`, at which the zone's offset changes.
fn transition(from: Timestamp, to: Timestamp, zone: Tz) -> Timestamp {
    let offset = offset_secs(from, zone);
    let (mut before, mut after) = (from.0.div_euclid(SECOND), to.0.div_euclid(SECOND));
    while before + 1 < after {
        let middle = before.midpoint(after);
        if offset_secs(Timestamp(middle * SECOND), zone) == offset { before = middle } else { after = middle }
    }
    Timestamp(after * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{DAY, MINUTE};

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into()
    }

    #[test]
    fn days_have_23_24_or_25_hours() {
        let zone = chrono_tz::Europe::London;
        let hours = |day: &str| {
            let day: NaiveDate = day.parse().expect("a day");
            (start_of_day(day.succ_opt().expect("a next day"), zone).0 - start_of_day(day, zone).0) / (60 * MINUTE)
        };
        assert_eq!([hours("2026-03-29"), hours("2026-06-01"), hours("2026-10-25")], [23, 24, 25]);
    }

    #[test]
    fn a_day_left_out_is_empty() {
        let zone = chrono_tz::Pacific::Apia;
        let day: NaiveDate = "2011-12-30".parse().expect("a day");
        assert_eq!(start_of_day(day, zone), start_of_day(day.succ_opt().expect("next"), zone));
        let cut =
            boundaries(at("2011-12-28T10:00:00Z"), at("2012-01-02T10:00:00Z"), Step::Day, zone, 100).expect("few");
        assert!(cut.windows(2).all(|pair| pair[0] < pair[1]), "{cut:?}");
    }

    #[test]
    fn a_clock_set_back_over_midnight_does_not_reopen_the_day() {
        // St. John's until 2011: at 00:01 back to 23:01.
        let zone = chrono_tz::America::St_Johns;
        let start = start_of_day("2010-11-07".parse().expect("a day"), zone);
        let day = day_of(start, zone);
        for minute in 0..180 {
            assert_eq!(day_of(Timestamp(start.0 + minute * MINUTE), zone), day);
        }
        assert_eq!(day_of(Timestamp(start.0 - 1), zone), day - 1);
    }

    #[test]
    fn every_instant_is_in_the_day_that_began_last() {
        for zone in chrono_tz::TZ_VARIANTS {
            let mut day = day_from_number(day_of(at("2024-12-30T00:00:00Z"), zone));
            for _ in 0..370 {
                let (start, next) = (start_of_day(day, zone), start_of_day(day.succ_opt().expect("next"), zone));
                let number = day_number(day);
                assert!(start.0 % (15 * MINUTE) == 0, "{zone} {day}");
                assert_eq!(day_of(start, zone), number, "{zone} {day}");
                assert_eq!(day_of(Timestamp(next.0 - 1), zone), number, "{zone} {day}");
                day = day.succ_opt().expect("next");
            }
        }
    }

    #[test]
    fn at_every_change_of_a_clock_buckets_follow_it() {
        let (start, end) = (at("2024-01-01T00:00:00Z").0, at("2027-01-01T00:00:00Z").0);
        for zone in chrono_tz::TZ_VARIANTS {
            for from in (start..end).step_by(usize::try_from(DAY).expect("fits")) {
                let (from, to) = (Timestamp(from), Timestamp(from + DAY));
                if offset_secs(from, zone) == offset_secs(to, zone) {
                    continue;
                }
                let changed = transition(from, to, zone);
                for minutes in [15, 60] {
                    let cut = boundaries(from, to, Step::Minutes(minutes), zone, 200).expect("few");
                    assert!(cut.contains(&changed), "{zone} changes at {changed:?}");
                    for pair in cut.windows(2) {
                        let (first, last) = (local_time(pair[0], zone), local_time(Timestamp(pair[1].0 - 1), zone));
                        let step = |local: NaiveDateTime| local.and_utc().timestamp().div_euclid(minutes * 60);
                        assert!(pair[0].0 % (15 * MINUTE) == 0 && pair[0] < pair[1], "{zone} {pair:?}");
                        assert_eq!(step(first), step(last), "{zone}: a bucket is one step of the clock");
                    }
                }
            }
        }
    }

    #[test]
    fn buckets_are_counted_back_by_the_calendar() {
        let (zone, now) = (chrono_tz::Europe::London, at("2026-04-01T10:20:00Z"));
        let back = |count, step| buckets_before(now, count, step, zone);
        // The clock was set forward on 29 March.
        assert_eq!(back(3, Step::Day), at("2026-03-29T00:00:00Z"));
        assert_eq!(back(1, Step::Week(Weekday::Mon)), at("2026-03-23T00:00:00Z"));
        assert_eq!(back(5, Step::Months(3)), at("2025-01-01T00:00:00Z"));
        assert_eq!(back(12, Step::Minutes(60)), at("2026-03-30T23:00:00Z"));
        assert_eq!(back(1_000, Step::Months(12)), at("1970-01-01T00:00:00+01:00"));
        let next: Vec<Timestamp> = boundaries_after(back(5, Step::Day), Step::Day, zone).take(3).collect();
        assert_eq!(next, ["2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z"].map(at));
    }

    #[test]
    fn hours_of_half_hour_zones_begin_at_their_own_full_hour() {
        let zone = chrono_tz::Asia::Kolkata;
        let cut = boundaries(at("2026-01-01T00:00:00Z"), at("2026-01-01T03:00:00Z"), Step::Minutes(60), zone, 100)
            .expect("few");
        assert_eq!(cut[1], at("2026-01-01T00:30:00Z"));
        assert!(boundaries(Timestamp(0), Timestamp(400 * DAY), Step::Minutes(15), zone, 10_000).is_none());
    }
}
