//! Resolves the earlier time a formula refers to.

use chrono_tz::Tz;
use models::kpis::{Shift, StepBack};

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
    pub fn back(&self, bucket: Span, shift: &Shift) -> Span {
        if shift.steps().is_empty() {
            return bucket;
        }
        let bucket = self.part_of.unwrap_or(bucket);
        let whole = self.step.map_or(bucket, |step| whole_bucket(bucket, step, self.zone));
        let by_periods = shift.periods() > 0;
        if by_periods && whole != bucket {
            let earlier = self.whole_back(whole, shift);
            let place = |at| elapsed_parts(whole, earlier, at, self.zone).1.end;
            let end = self.now.clamp(bucket.start, bucket.end);
            return Span { start: place(bucket.start), end: place(end) };
        }
        let earlier = self.whole_back(bucket, shift);
        if !bucket.is_open(self.now) {
            return earlier;
        }
        if by_periods {
            return elapsed_parts(bucket, earlier, self.now, self.zone).1;
        }
        let elapsed = Span { end: self.now.max(bucket.start), ..bucket };
        Span { end: self.whole_back(elapsed, shift).end.clamp(earlier.start, earlier.end), ..earlier }
    }

    fn whole_back(&self, bucket: Span, shift: &Shift) -> Span {
        // As long as nothing but periods was gone back, the request says which is the one before.
        let mut range = self.whole.filter(|(_, whole)| *whole == bucket).map(|(range, _)| range);
        let mut earlier = bucket;
        for step in shift.steps() {
            match *step {
                StepBack::Months(months) => earlier = period::dates_before(earlier, months, 0, self.zone),
                StepBack::Days(days) => earlier = period::dates_before(earlier, 0, days, self.zone),
                StepBack::Periods(count) => {
                    for _ in 0..count {
                        earlier = match range {
                            Some(range) => range.previous(earlier, self.zone),
                            None => period::previous(earlier, self.zone),
                        };
                    }
                    continue;
                }
            }
            range = None;
        }
        earlier
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
    use models::kpis::{CalendarUnit, Length};

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

    /// By so many months, days or weeks, or to the period before.
    fn shift(lengths: &[Option<(u32, CalendarUnit)>]) -> Shift {
        let lengths = lengths.iter().map(|length| length.map(|(count, unit)| Length { count, unit }));
        lengths.into_iter().try_fold(Shift::default(), |shift, length| shift.back(length)).expect("not too far")
    }

    fn months(count: u32) -> Shift {
        shift(&[Some((count, CalendarUnit::Month))])
    }

    fn before() -> Shift {
        shift(&[None])
    }

    const WEEK: Option<(u32, CalendarUnit)> = Some((1, CalendarUnit::Week));

    #[test]
    fn a_month_back_is_the_same_dates_or_the_last_one() {
        let back = |start, end| closed().back(span(start, end), &months(1));
        let february = span("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        assert_eq!(back("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"), february);
        let last = span("2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z");
        for day in ["2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z", "2026-03-31T00:00:00Z"] {
            assert_eq!(
                closed().back(Span { start: at(day), end: Timestamp(at(day).0 + crate::clock::DAY) }, &months(1)),
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
        for ((first, end), back, (then, then_end)) in [
            (("2025-02-01", "2025-03-01"), 1, ("2025-01-01", "2025-02-01")),
            (("2025-04-01", "2025-07-01"), 3, ("2025-01-01", "2025-04-01")),
            (("2025-02-01", "2025-03-01"), 12, ("2024-02-01", "2024-03-01")),
            // Not a whole month, though it ends with one; its last day does not exist in February.
            (("2025-03-02", "2025-04-01"), 1, ("2025-02-02", "2025-03-01")),
            (("2025-02-02", "2025-03-01"), 1, ("2025-01-02", "2025-01-29")),
        ] {
            assert_eq!(closed().back(days(first, end), &months(back)), days(then, then_end), "{first} to {end}");
        }
        // Months, then days: all of January, a day earlier.
        let both = shift(&[Some((1, CalendarUnit::Month)), Some((1, CalendarUnit::Day))]);
        assert_eq!(closed().back(days("2025-02-01", "2025-03-01"), &both), days("2024-12-31", "2025-01-31"));
        // Until noon of the second-to-last day.
        let running = Calendar { now: at("2025-02-27T12:00:00Z"), ..closed() };
        let january = span("2025-01-01T00:00:00Z", "2025-01-27T12:00:00Z");
        assert_eq!(running.back(days("2025-02-01", "2025-03-01"), &months(1)), january);
    }

    #[test]
    fn a_month_back_of_parts_of_days_ends_by_date_too() {
        let back = |start, end| closed().back(span(start, end), &months(1));
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
            running.back(span("2026-03-10T00:00:00Z", "2026-12-01T00:00:00Z"), &months(1)),
            span("2026-02-10T00:00:00Z", "2026-10-27T16:28:00Z")
        );
        let berlin = Calendar { zone: chrono_tz::Europe::Berlin, ..closed() };
        assert_eq!(
            berlin.back(span("2026-03-20T05:00:00Z", "2026-03-31T22:00:00Z"), &shift(&[WEEK])).end,
            at("2026-03-24T23:00:00Z"),
            "the clocks changed between"
        );
    }

    #[test]
    fn before_a_bucket_that_the_period_cuts_is_the_same_part_of_the_whole_one_before() {
        let months = Calendar { step: Some(Step::Months(1)), ..closed() };
        let days = |first: &str, end: &str| span(&format!("2026-{first}T00:00:00Z"), &format!("2026-{end}T00:00:00Z"));
        assert_eq!(months.back(days("04-15", "05-01"), &before()), days("03-15", "03-31"), "sixteen days");
        assert_eq!(months.back(days("05-01", "06-01"), &before()), days("04-01", "05-01"));
        assert_eq!(months.back(days("06-01", "06-21"), &before()), days("05-01", "05-21"));
        assert_eq!(months.back(days("03-30", "04-01"), &before()), days("03-01", "03-01"), "February has no 30th");
        // Today is the 20th, at noon.
        let now = Calendar { now: at("2026-06-20T12:00:00Z"), ..months };
        let then = span("2026-05-01T00:00:00Z", "2026-05-20T12:00:00Z");
        assert_eq!(now.back(days("06-01", "06-21"), &before()), then);
        let hours = Calendar { step: Some(Step::Minutes(60)), ..closed() };
        let quarter = span("2026-06-01T10:30:00Z", "2026-06-01T10:45:00Z");
        assert_eq!(hours.back(quarter, &before()), span("2026-06-01T09:30:00Z", "2026-06-01T09:45:00Z"));
    }

    #[test]
    fn before_a_month_to_date_is_the_part_of_the_whole_month_that_has_elapsed() {
        let now = at("2026-03-10T12:00:00Z");
        let range = DateRange { preset: Some(PeriodPreset::MonthToDate), ..DateRange::default() };
        let whole = range.resolve("period", now, chrono_tz::UTC).expect("a span");
        let calendar = Calendar { zone: chrono_tz::UTC, now, whole: Some((range, whole)), part_of: None, step: None };
        assert_eq!(calendar.back(whole, &before()), span("2026-02-01T00:00:00Z", "2026-02-10T12:00:00Z"));
        let today = span("2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z");
        assert_eq!(calendar.back(today, &before()), span("2026-03-09T00:00:00Z", "2026-03-09T12:00:00Z"));
        assert_eq!(calendar.back(today, &Shift::default()), today);
        let elapsed = Span { start: whole.start, end: now };
        let of_part = Calendar { part_of: Some(whole), ..calendar };
        assert_eq!(of_part.back(elapsed, &before()), calendar.back(whole, &before()));
    }

    #[test]
    fn before_the_year_before_is_two_years_back() {
        let year = span("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        let shift = shift(&[Some((12, CalendarUnit::Month)), None]);
        assert_eq!(closed().back(year, &shift), span("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"));
    }

    /// What a KPI that looks back itself was in the period before, is what it showed there.
    #[test]
    fn steps_are_taken_one_after_the_other() {
        let days = |first: &str, end: &str| span(&format!("2026-{first}T00:00:00Z"), &format!("2026-{end}T00:00:00Z"));
        let month_before = Some((1, CalendarUnit::Month));
        for (bucket, steps, then) in [
            (days("05-01", "06-01"), [None, WEEK], days("03-25", "04-24")),
            (days("05-01", "06-01"), [WEEK, None], days("03-24", "04-24")),
            (days("03-29", "03-30"), [month_before, month_before], days("01-28", "01-29")),
            (days("03-01", "04-01"), [WEEK, month_before], days("01-22", "02-25")),
        ] {
            let [first, second] = steps.map(|step| shift(&[step]));
            let calendar = closed();
            let one_by_one = calendar.back(calendar.back(bucket, &first), &second);
            assert_eq!((calendar.back(bucket, &shift(&steps)), one_by_one), (then, then), "{steps:?}");
        }
    }
}
