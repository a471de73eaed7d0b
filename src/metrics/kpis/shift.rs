//! Resolves the earlier time a formula refers to.

use chrono_tz::Tz;
use models::kpis::Shift;

use crate::calendar::{Step, boundaries_after, buckets_before};
use crate::clock::Timestamp;
use crate::metrics::input::DateRange;
use crate::metrics::period::{self, Span, elapsed_parts};

/// How time is divided where a KPI is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// Time zone of days.
    pub zone: Tz,
    /// An open bucket is compared with only the part before this.
    pub now: Timestamp,
    /// The whole requested period and the range it was resolved from, which determines the period before it.
    pub whole: Option<(DateRange, Span)>,
    /// The whole of which the only bucket is the elapsed part.
    pub part_of: Option<Span>,
    /// The grid of buckets, the first and last of which the period may cut; `None` for a single bucket.
    pub step: Option<Step>,
}

impl Calendar {
    /// `bucket` shifted back. For an open bucket, the equally long part of the earlier one; for one cut by the period,
    /// the same part of the whole earlier one.
    pub fn back(&self, bucket: Span, shift: Shift) -> Span {
        if shift == Shift::default() {
            return bucket;
        }
        let bucket = self.part_of.unwrap_or(bucket);
        let whole = self.step.map_or(bucket, |step| whole_bucket(bucket, step, self.zone));
        if shift.periods > 0 && whole != bucket {
            let earlier = self.whole_back(whole, shift);
            let place = |at| elapsed_parts(whole, earlier, at, self.zone).1.end;
            let end = self.now.clamp(bucket.start, bucket.end);
            return Span { start: place(bucket.start), end: place(end) };
        }
        let earlier = self.whole_back(bucket, shift);
        if !bucket.is_open(self.now) {
            return earlier;
        }
        if shift.periods > 0 {
            return elapsed_parts(bucket, earlier, self.now, self.zone).1;
        }
        let elapsed = Span { end: self.now.max(bucket.start), ..bucket };
        Span { end: self.dates_back(elapsed, shift).end.clamp(earlier.start, earlier.end), ..earlier }
    }

    fn whole_back(&self, bucket: Span, shift: Shift) -> Span {
        let mut earlier = self.dates_back(bucket, shift);
        let range = self.whole.filter(|(_, whole)| *whole == bucket && shift.months == 0 && shift.days == 0);
        for _ in 0..shift.periods {
            earlier = match range {
                Some((range, _)) => range.previous(earlier, self.zone),
                None => period::previous(earlier, self.zone),
            };
        }
        earlier
    }

    /// The same dates, months and days earlier.
    fn dates_back(&self, span: Span, shift: Shift) -> Span {
        if shift.months == 0 && shift.days == 0 {
            return span;
        }
        period::dates_before(span, shift.months, shift.days, self.zone)
    }
}

/// The whole bucket that the period cuts down to `bucket`.
fn whole_bucket(bucket: Span, step: Step, zone: Tz) -> Span {
    let next = |at| boundaries_after(at, step, zone).next();
    let end = next(bucket.start).map_or(bucket.end, |end| end.max(bucket.end));
    if next(Timestamp(bucket.start.0 - 1)) == Some(bucket.start) {
        return Span { start: bucket.start, end };
    }
    let before = buckets_before(bucket.start, 0, step, zone).min(bucket.start);
    let start = boundaries_after(before, step, zone).take_while(|at| *at <= bucket.start).last().unwrap_or(before);
    Span { start, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::input::PeriodPreset;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into()
    }

    fn span(start: &str, end: &str) -> Span {
        Span { start: at(start), end: at(end) }
    }

    fn closed() -> Calendar {
        Calendar { zone: chrono_tz::UTC, now: at("2030-01-01T00:00:00Z"), whole: None, part_of: None, step: None }
    }

    const MONTH: Shift = Shift { months: 1, days: 0, periods: 0 };
    const BEFORE: Shift = Shift { months: 0, days: 0, periods: 1 };

    #[test]
    fn a_month_back_is_the_same_dates_or_the_last_one() {
        let back = |start, end| closed().back(span(start, end), MONTH);
        let february = span("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        assert_eq!(back("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"), february);
        let last = span("2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z");
        for day in ["2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z", "2026-03-31T00:00:00Z"] {
            assert_eq!(
                closed().back(Span { start: at(day), end: Timestamp(at(day).0 + crate::clock::DAY) }, MONTH),
                last
            );
        }
        // The last hour of a day that February lacks.
        assert_eq!(
            back("2026-03-30T23:00:00Z", "2026-03-31T00:00:00Z"),
            span("2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z")
        );
    }

    #[test]
    fn whole_months_go_back_to_whole_months() {
        let days = |first: &str, end: &str| span(&format!("{first}T00:00:00Z"), &format!("{end}T00:00:00Z"));
        let months = |months| Shift { months, days: 0, periods: 0 };
        for ((first, end), back, (then, then_end)) in [
            (("2025-02-01", "2025-03-01"), 1, ("2025-01-01", "2025-02-01")),
            (("2025-04-01", "2025-07-01"), 3, ("2025-01-01", "2025-04-01")),
            (("2025-02-01", "2025-03-01"), 12, ("2024-02-01", "2024-03-01")),
            // Not a whole month, though it ends with one; its last day does not exist in February.
            (("2025-03-02", "2025-04-01"), 1, ("2025-02-02", "2025-03-01")),
            (("2025-02-02", "2025-03-01"), 1, ("2025-01-02", "2025-01-29")),
        ] {
            assert_eq!(closed().back(days(first, end), months(back)), days(then, then_end), "{first} to {end}");
        }
        // Months and days: the same dates, then that many days earlier.
        let both = Shift { months: 1, days: 1, periods: 0 };
        assert_eq!(closed().back(days("2025-02-01", "2025-03-01"), both), days("2024-12-31", "2025-01-28"));
        // Until noon of the second-to-last day.
        let running = Calendar { now: at("2025-02-27T12:00:00Z"), ..closed() };
        let january = span("2025-01-01T00:00:00Z", "2025-01-27T12:00:00Z");
        assert_eq!(running.back(days("2025-02-01", "2025-03-01"), MONTH), january);
    }

    #[test]
    fn a_month_back_of_parts_of_days_ends_by_date_too() {
        let back = |start, end| closed().back(span(start, end), MONTH);
        assert_eq!(
            back("2026-03-01T00:00:00Z", "2026-03-31T22:00:00Z"),
            span("2026-02-01T00:00:00Z", "2026-02-28T22:00:00Z")
        );
        assert_eq!(
            back("2026-06-01T04:00:00Z", "2026-07-01T04:00:00Z"),
            span("2026-05-01T04:00:00Z", "2026-06-01T04:00:00Z")
        );
        // The next month starts where this one ends.
        assert_eq!(back("2026-05-03T05:00:00Z", "2026-06-01T00:00:00Z").end, at("2026-05-01T00:00:00Z"));
        // For an open period, up to the same date and time.
        let running = Calendar { now: at("2026-11-27T16:28:00Z"), ..closed() };
        assert_eq!(
            running.back(span("2026-03-10T00:00:00Z", "2026-12-01T00:00:00Z"), MONTH),
            span("2026-02-10T00:00:00Z", "2026-10-27T16:28:00Z")
        );
        let berlin = Calendar { zone: chrono_tz::Europe::Berlin, ..closed() };
        let week = Shift { months: 0, days: 7, periods: 0 };
        assert_eq!(
            berlin.back(span("2026-03-20T05:00:00Z", "2026-03-31T22:00:00Z"), week).end,
            at("2026-03-24T23:00:00Z"),
            "the clocks changed between"
        );
    }

    #[test]
    fn before_a_bucket_that_the_period_cuts_is_the_same_part_of_the_whole_one_before() {
        let months = Calendar { step: Some(Step::Months(1)), ..closed() };
        let days = |first: &str, end: &str| span(&format!("2026-{first}T00:00:00Z"), &format!("2026-{end}T00:00:00Z"));
        assert_eq!(months.back(days("04-15", "05-01"), BEFORE), days("03-15", "03-31"), "sixteen days");
        assert_eq!(months.back(days("05-01", "06-01"), BEFORE), days("04-01", "05-01"));
        assert_eq!(months.back(days("06-01", "06-21"), BEFORE), days("05-01", "05-21"));
        assert_eq!(months.back(days("03-30", "04-01"), BEFORE), days("03-01", "03-01"), "February has no 30th");
        // Today is the 20th, at noon.
        let now = Calendar { now: at("2026-06-20T12:00:00Z"), ..months };
        let then = span("2026-05-01T00:00:00Z", "2026-05-20T12:00:00Z");
        assert_eq!(now.back(days("06-01", "06-21"), BEFORE), then);
        let hours = Calendar { step: Some(Step::Minutes(60)), ..closed() };
        let quarter = span("2026-06-01T10:30:00Z", "2026-06-01T10:45:00Z");
        assert_eq!(hours.back(quarter, BEFORE), span("2026-06-01T09:30:00Z", "2026-06-01T09:45:00Z"));
    }

    #[test]
    fn before_a_month_to_date_is_the_part_of_the_whole_month_that_has_elapsed() {
        let now = at("2026-03-10T12:00:00Z");
        let range = DateRange { preset: Some(PeriodPreset::MonthToDate), ..DateRange::default() };
        let whole = range.resolve("period", now, chrono_tz::UTC).expect("a span");
        let calendar = Calendar { zone: chrono_tz::UTC, now, whole: Some((range, whole)), part_of: None, step: None };
        assert_eq!(calendar.back(whole, BEFORE), span("2026-02-01T00:00:00Z", "2026-02-10T12:00:00Z"));
        let today = span("2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z");
        assert_eq!(calendar.back(today, BEFORE), span("2026-03-09T00:00:00Z", "2026-03-09T12:00:00Z"));
        assert_eq!(calendar.back(today, Shift::default()), today);
        let elapsed = Span { start: whole.start, end: now };
        let of_part = Calendar { part_of: Some(whole), ..calendar };
        assert_eq!(of_part.back(elapsed, BEFORE), calendar.back(whole, BEFORE));
    }

    #[test]
    fn before_the_year_before_is_two_years_back() {
        let year = span("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        let shift = Shift { months: 12, days: 0, periods: 1 };
        assert_eq!(closed().back(year, shift), span("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"));
    }
}
