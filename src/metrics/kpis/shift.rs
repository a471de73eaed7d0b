//! Which earlier time a formula means.

use chrono::{Days, Months, NaiveDate};
use chrono_tz::Tz;
use models::kpis::Shift;

use crate::calendar::{date_of, instant, local_time, start_of_day};
use crate::clock::Timestamp;
use crate::metrics::input::DateRange;
use crate::metrics::period::{self, Span, elapsed_parts, whole_days};

/// How times are counted where a KPI is asked.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// The zone of days.
    pub zone: Tz,
    /// Of what is open only the part until now is looked at earlier.
    pub now: Timestamp,
    /// The whole period asked for and its words, which say what is before it.
    pub whole: Option<(DateRange, Span)>,
    /// Of what the only bucket is the part that has elapsed.
    pub part_of: Option<Span>,
}

impl Calendar {
    /// `bucket` so far back; of an open bucket the part as long as has elapsed of it.
    pub fn back(&self, bucket: Span, shift: Shift) -> Span {
        if shift == Shift::default() {
            return bucket;
        }
        let bucket = self.part_of.unwrap_or(bucket);
        let mut earlier = self.dates_back(bucket, shift);
        for step in 0..shift.periods {
            let is_whole = step == 0 && shift.months == 0 && shift.days == 0;
            earlier = match self.whole {
                Some((range, whole)) if is_whole && whole == bucket => range.previous(earlier, self.zone),
                _ => period::previous(earlier, self.zone),
            };
        }
        if bucket.is_open(self.now) { elapsed_parts(bucket, earlier, self.now, self.zone).1 } else { earlier }
    }

    /// The same dates, months and days before: of whole days their dates, else the first moment and what follows.
    fn dates_back(&self, span: Span, shift: Shift) -> Span {
        if shift.months == 0 && shift.days == 0 {
            return span;
        }
        let earlier = |day: NaiveDate| {
            let month = day.checked_sub_months(Months::new(shift.months));
            month.and_then(|month| month.checked_sub_days(Days::new(shift.days.into()))).unwrap_or(day)
        };
        if let Some((first, end)) = whole_days(span, self.zone)
            && let Some(last) = end.pred_opt()
        {
            let (first, last) = (earlier(first), earlier(last));
            let end = last.succ_opt().unwrap_or(last);
            return Span { start: start_of_day(first, self.zone), end: start_of_day(end, self.zone) };
        }
        let start = earlier(date_of(span.start, self.zone)).and_time(local_time(span.start, self.zone).time());
        let start = instant(start, self.zone);
        Span { start, end: Timestamp(start.0 + (span.end.0 - span.start.0)) }
    }
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
        Calendar { zone: chrono_tz::UTC, now: at("2030-01-01T00:00:00Z"), whole: None, part_of: None }
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
        // The last hour of a day that February does not have.
        assert_eq!(
            back("2026-03-30T23:00:00Z", "2026-03-31T00:00:00Z"),
            span("2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z")
        );
    }

    #[test]
    fn before_a_month_to_date_is_the_part_of_the_whole_month_that_has_elapsed() {
        let now = at("2026-03-10T12:00:00Z");
        let range = DateRange { preset: Some(PeriodPreset::MonthToDate), ..DateRange::default() };
        let whole = range.resolve("period", now, chrono_tz::UTC).expect("a span");
        let calendar = Calendar { zone: chrono_tz::UTC, now, whole: Some((range, whole)), part_of: None };
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
