//! Periods and presets.

use chrono::{Days, Months, NaiveDate};
use chrono_tz::Tz;

use crate::calendar::{Step, date_of, first_day, instant, local_time, next_first_day, start_of_day};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// A half-open time interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Span {
    /// Error: BAD_USER_INPUT unless `start` is before `end`.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Span> {
        if start < end { Ok(Span { start, end }) } else { Err(Error::bad_input("period", "start must be before end")) }
    }

    pub fn holds(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// The union as disjoint spans, in order.
    pub fn united(mut spans: Vec<Span>) -> Vec<Span> {
        spans.sort_by_key(|span| span.start);
        spans.dedup_by(|next, kept| {
            let overlaps = next.start <= kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
        spans
    }

    /// Whether it ends after `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.end > now
    }
}

/// Periods that slide with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// The current day and those before it, this many in total.
    LastDays(u64),
    /// The current unit, up to and including the current day.
    ToDate(Step),
    /// The whole unit before the current one.
    Previous(Step),
}

impl Preset {
    /// The span of days the preset means at `now`.
    pub fn resolve(self, now: Timestamp, zone: Tz) -> Span {
        let today = date_of(now, zone);
        let tomorrow = today.succ_opt().unwrap_or(today);
        let (first, end) = match self {
            Preset::LastDays(days) => (days_before(tomorrow, days), tomorrow),
            Preset::ToDate(unit) => (first_day(today, unit), tomorrow),
            Preset::Previous(unit) => {
                let this = first_day(today, unit);
                (first_day(days_before(this, 1), unit), this)
            }
        };
        Span { start: start_of_day(first, zone), end: start_of_day(end, zone) }
    }

    /// What a span of this preset is compared with: as many days before, or the whole unit before.
    pub fn previous(self, span: Span, zone: Tz) -> Span {
        let first = date_of(span.start, zone);
        let before = match self {
            Preset::LastDays(days) => days_before(first, days),
            Preset::ToDate(unit) | Preset::Previous(unit) => first_day(days_before(first, 1), unit),
        };
        Span { start: start_of_day(before, zone), end: span.start }
    }
}

fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(day)
}

/// The part of `current` elapsed at `now` and the equally long part of `previous`: where both start with a day in
/// `zone`, by days and wall-clock time, so that noon is compared with noon; otherwise by elapsed time.
pub fn elapsed_parts(current: Span, previous: Span, now: Timestamp, zone: Tz) -> (Span, Span) {
    let now = now.clamp(current.start, current.end);
    let begins_a_day = |span: Span| start_of_day(date_of(span.start, zone), zone) == span.start;
    let end = if begins_a_day(current) && begins_a_day(previous) {
        let today = date_of(now, zone);
        let days = today.signed_duration_since(date_of(current.start, zone)).num_days().unsigned_abs();
        let then = date_of(previous.start, zone).checked_add_days(Days::new(days)).unwrap_or(today);
        instant(then.and_time(local_time(now, zone).time()), zone)
    } else {
        Timestamp(previous.start.0 + (now.0 - current.start.0))
    };
    let previous_end = end.clamp(previous.start, previous.end);
    (Span { start: current.start, end: now }, Span { start: previous.start, end: previous_end })
}

/// The preceding period of the same kind: whole months before whole months, whole days before whole days in `zone`,
/// otherwise the same duration.
pub fn previous(span: Span, zone: Tz) -> Span {
    let Some((first, end)) = whole_days(span, zone) else {
        return Span { start: Timestamp(span.start.0 - (span.end.0 - span.start.0)), end: span.start };
    };
    let months = whole_months(first, end);
    let before = match months {
        Some(months) => first.checked_sub_months(chrono::Months::new(months)),
        None => first.checked_sub_days(Days::new(end.signed_duration_since(first).num_days().unsigned_abs())),
    };
    Span { start: start_of_day(before.unwrap_or(first), zone), end: span.start }
}

/// The same dates, months and days earlier. Whole months map to whole months if only months are subtracted; otherwise
/// each day is mapped, clamped to the end of its month. Times within a day keep their wall-clock time; a span in which
/// the clock is set back so far that it shows no progress keeps its length instead.
pub fn dates_before(span: Span, months: u32, days: u32, zone: Tz) -> Span {
    let earlier = |day: NaiveDate| {
        let month = day.checked_sub_months(Months::new(months));
        month.and_then(|month| month.checked_sub_days(Days::new(days.into()))).unwrap_or(day)
    };
    if let Some((first, end)) = whole_days(span, zone)
        && days == 0
        && whole_months(first, end).is_some()
    {
        let [start, end] = [first, end].map(|day| start_of_day(earlier(day), zone));
        return Span { start, end };
    }
    // At the start of a day the date is meant, whatever the clock shows there.
    let day_that_begins = |at| Some(date_of(at, zone)).filter(|day| start_of_day(*day, zone) == at);
    let within_a_day = |at| instant(earlier(date_of(at, zone)).and_time(local_time(at, zone).time()), zone);
    let start =
        day_that_begins(span.start).map_or_else(|| within_a_day(span.start), |day| start_of_day(earlier(day), zone));
    let end = match day_that_begins(span.end).and_then(|day| day.pred_opt()) {
        Some(last) => start_of_day(earlier(last).succ_opt().unwrap_or(last), zone),
        None => within_a_day(span.end),
    };
    if local_time(span.end, zone) <= local_time(span.start, zone) && span.start < span.end {
        return Span { start, end: Timestamp(start.0 + (span.end.0 - span.start.0)) };
    }
    Span { start, end: end.max(start) }
}

/// The same dates a year earlier.
pub fn year_before(span: Span, zone: Tz) -> Span {
    dates_before(span, 12, 0, zone)
}

/// The part of `current` elapsed at `now`, and the same dates a year earlier.
pub fn elapsed_and_year_before(current: Span, now: Timestamp, zone: Tz) -> (Span, Span) {
    let (whole, elapsed) = (year_before(current, zone), Span { end: now.clamp(current.start, current.end), ..current });
    let end = year_before(elapsed, zone).end.clamp(whole.start, whole.end);
    (elapsed, Span { end, ..whole })
}

/// The days of a span that begins and ends on day boundaries.
pub fn whole_days(span: Span, zone: Tz) -> Option<(NaiveDate, NaiveDate)> {
    let (first, end) = (date_of(span.start, zone), date_of(span.end, zone));
    let is_start = |day, at| start_of_day(day, zone) == at;
    (is_start(first, span.start) && is_start(end, span.end)).then_some((first, end))
}

/// The number of months between two days, if both are the first of a month.
fn whole_months(first: NaiveDate, end: NaiveDate) -> Option<u32> {
    let month = Step::Months(1);
    if first_day(first, month) != first || first_day(end, month) != end {
        return None;
    }
    let mut months = 0;
    let mut day = first;
    while day < end {
        day = next_first_day(day, month);
        months += 1;
    }
    Some(months)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &str, end: &str) -> Span {
        let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into();
        Span { start: at(start), end: at(end) }
    }

    #[test]
    fn a_month_is_compared_with_the_month_before() {
        let march = span("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z");
        assert_eq!(previous(march, chrono_tz::UTC), span("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"));
        let week = span("2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z");
        assert_eq!(previous(week, chrono_tz::UTC), span("2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"));
        let hour = span("2026-03-02T10:00:00Z", "2026-03-02T11:30:00Z");
        assert_eq!(previous(hour, chrono_tz::UTC), span("2026-03-02T08:30:00Z", "2026-03-02T10:00:00Z"));
    }

    #[test]
    fn days_before_a_clock_change_are_whole_days() {
        // The last Sunday of March has 23 hours in London; the week before it starts at local midnight.
        let zone = chrono_tz::Europe::London;
        let week = span("2026-03-30T23:00:00Z", "2026-04-06T23:00:00Z");
        assert_eq!(previous(week, zone), span("2026-03-24T00:00:00Z", "2026-03-30T23:00:00Z"));
    }

    #[test]
    fn presets_are_days_of_the_zone() {
        let now = span("2026-06-15T03:00:00Z", "2026-06-15T03:00:01Z").start;
        let zone = chrono_tz::America::New_York;
        assert_eq!(Preset::LastDays(1).resolve(now, zone), span("2026-06-14T04:00:00Z", "2026-06-15T04:00:00Z"));
        assert_eq!(Preset::LastDays(7).resolve(now, zone), span("2026-06-08T04:00:00Z", "2026-06-15T04:00:00Z"));
        assert_eq!(
            Preset::Previous(Step::Months(1)).resolve(now, zone),
            span("2026-05-01T04:00:00Z", "2026-06-01T04:00:00Z")
        );
        assert_eq!(
            Preset::Previous(Step::Day).resolve(now, zone),
            span("2026-06-13T04:00:00Z", "2026-06-14T04:00:00Z")
        );
    }

    #[test]
    fn the_last_days_are_compared_with_as_many_before_them() {
        let days = |first: &str, end: &str| span(&format!("{first}T00:00:00Z"), &format!("{end}T00:00:00Z"));
        for (today, days_count, current, before) in [
            ("2026-11-29", 30, days("2026-10-31", "2026-11-30"), days("2026-10-01", "2026-10-31")),
            // A whole month, quarter and year.
            ("2026-11-30", 30, days("2026-11-01", "2026-12-01"), days("2026-10-02", "2026-11-01")),
            ("2026-03-31", 90, days("2026-01-01", "2026-04-01"), days("2025-10-03", "2026-01-01")),
            ("2025-12-31", 365, days("2025-01-01", "2026-01-01"), days("2024-01-02", "2025-01-01")),
            ("2026-03-01", 1, days("2026-03-01", "2026-03-02"), days("2026-02-28", "2026-03-01")),
        ] {
            let now = span(&format!("{today}T12:00:00Z"), &format!("{today}T13:00:00Z")).start;
            let preset = Preset::LastDays(days_count);
            assert_eq!(preset.resolve(now, chrono_tz::UTC), current, "{today}");
            assert_eq!(preset.previous(current, chrono_tz::UTC), before, "{today}");
        }
    }

    #[test]
    fn a_unit_is_compared_with_the_whole_one_before() {
        let days = |first: &str, end: &str| span(&format!("{first}T00:00:00Z"), &format!("{end}T00:00:00Z"));
        let now = days("2026-05-13", "2026-05-14").start;
        for (unit, to_date, before, earlier) in [
            (Step::Day, "2026-05-13", "2026-05-12", "2026-05-11"),
            (Step::Week(chrono::Weekday::Mon), "2026-05-11", "2026-05-04", "2026-04-27"),
            (Step::Months(1), "2026-05-01", "2026-04-01", "2026-03-01"),
            (Step::Months(3), "2026-04-01", "2026-01-01", "2025-10-01"),
            (Step::Months(12), "2026-01-01", "2025-01-01", "2024-01-01"),
        ] {
            for (preset, current, previous) in [
                (Preset::ToDate(unit), days(to_date, "2026-05-14"), days(before, to_date)),
                (Preset::Previous(unit), days(before, to_date), days(earlier, before)),
            ] {
                assert_eq!(preset.resolve(now, chrono_tz::UTC), current, "{preset:?}");
                assert_eq!(preset.previous(current, chrono_tz::UTC), previous, "{preset:?}");
            }
        }
    }

    #[test]
    fn noon_is_compared_with_noon_whatever_the_clock_did_between() {
        let zone = chrono_tz::Europe::London;
        let now = span("2026-11-25T12:00:00Z", "2026-11-25T12:00:01Z").start;
        let to_date = Preset::ToDate(Step::Months(1));
        let (month, before) = (to_date.resolve(now, zone), "2026-09-30T23:00:00Z");
        let previous = to_date.previous(month, zone);
        let (_, elapsed) = elapsed_parts(month, previous, now, zone);
        // On 25 October the clock was set back at 1:00 UTC.
        assert_eq!(elapsed, span(before, "2026-10-25T12:00:00Z"));
        let march = span("2026-03-31T11:00:00Z", "2026-03-31T11:00:01Z").start;
        let month = to_date.resolve(march, zone);
        let (_, elapsed) = elapsed_parts(month, to_date.previous(month, zone), march, zone);
        assert_eq!(elapsed, span("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"), "February has no 31st");
    }

    #[test]
    fn a_year_before_are_the_same_dates() {
        let days = |first: &str, end: &str| span(&format!("{first}T00:00:00Z"), &format!("{end}T00:00:00Z"));
        for ((first, end), (then, then_end)) in [
            (("2024-02-29", "2024-03-01"), ("2023-02-28", "2023-03-01")),
            (("2024-02-28", "2024-02-29"), ("2023-02-28", "2023-03-01")),
            (("2024-02-22", "2024-02-29"), ("2023-02-22", "2023-03-01")),
            (("2025-02-28", "2025-03-01"), ("2024-02-28", "2024-02-29")),
            (("2025-02-22", "2025-03-01"), ("2024-02-22", "2024-02-29")),
            (("2025-02-01", "2025-03-01"), ("2024-02-01", "2024-03-01")),
        ] {
            assert_eq!(year_before(days(first, end), chrono_tz::UTC), days(then, then_end), "{first} to {end}");
        }
        // Days whose first hour the clock skips, as in Beirut on 30 March 2025.
        let (day, then) = (
            span("2025-03-29T22:00:00Z", "2025-03-30T21:00:00Z"),
            span("2024-03-29T22:00:00Z", "2024-03-30T22:00:00Z"),
        );
        let beirut = chrono_tz::Asia::Beirut;
        assert_eq!(start_of_day(date_of(then.start, beirut), beirut), then.start);
        assert_eq!(year_before(day, beirut), Span { end: start_of_day(date_of(then.end, beirut), beirut), ..then });
    }

    #[test]
    fn the_hour_that_comes_twice_is_compared_with_the_hour() {
        let berlin = chrono_tz::Europe::Berlin;
        for (hour, before) in [
            (
                span("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
                span("2025-10-25T00:00:00Z", "2025-10-25T01:00:00Z"),
            ),
            (
                span("2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
                span("2025-10-25T00:00:00Z", "2025-10-25T01:00:00Z"),
            ),
            (
                span("2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z"),
                span("2025-10-25T00:45:00Z", "2025-10-25T01:15:00Z"),
            ),
            // The clock had skipped it.
            (
                span("2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z"),
                span("2025-03-30T01:00:00Z", "2025-03-30T01:00:00Z"),
            ),
        ] {
            assert_eq!(year_before(hour, berlin), before);
        }
    }

    #[test]
    fn a_year_before_what_has_elapsed_ends_at_the_same_date_and_time() {
        let year = span("2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z");
        let now = span("2028-11-27T16:28:00Z", "2028-11-27T16:28:01Z").start;
        let (elapsed, before) = elapsed_and_year_before(year, now, chrono_tz::UTC);
        assert_eq!(elapsed, Span { end: now, ..year });
        assert_eq!(before, span("2027-01-01T00:00:00Z", "2027-11-27T16:28:00Z"));
    }
}
