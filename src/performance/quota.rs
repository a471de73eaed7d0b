//! Prorates quotas to a period.

use chrono_tz::Tz;

use crate::calendar::{date_of, day_number, start_of_day};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::metrics::period::Span;
use crate::money::{Money, div_half_even};
use crate::people::quotas::Quota;

/// The days that begin in `span`, half-open, in days since 1970-01-01: a day cut by the boundary of two adjacent
/// periods belongs to exactly one of them.
pub fn days(span: Span, zone: Tz) -> (i32, i32) {
    let first_from = |at: Timestamp| {
        let day = date_of(at, zone);
        day_number(day) + i32::from(start_of_day(day, zone) < at)
    };
    (first_from(span.start), first_from(span.end))
}

/// Sum of the quotas, each prorated by its days in `first_day..end_day` and rounded half to even; `None` if none
/// overlaps.
pub fn share(quotas: &[Quota], first_day: i32, end_day: i32) -> Result<Option<Money>> {
    let of = |quota: &Quota| {
        let shared = quota.end_day.min(end_day) - quota.start_day.max(first_day);
        let all = quota.end_day - quota.start_day;
        (shared > 0 && all > 0).then(|| div_half_even(i128::from(quota.amount.0) * i128::from(shared), all.into()))
    };
    let shares: Vec<i128> = quotas.iter().filter_map(of).collect();
    if shares.is_empty() {
        return Ok(None);
    }
    let sum = Money::from_sum(shares.iter().sum());
    sum.map(Some).ok_or_else(Error::sum_out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::people::quotas::Holder;
    use uuid::Uuid;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into()
    }

    fn quota(start_day: i32, end_day: i32, amount: i64) -> Quota {
        Quota { id: Uuid::nil(), holder: Holder::User(Uuid::nil()), start_day, end_day, amount: Money(amount) }
    }

    #[test]
    fn a_day_belongs_to_the_period_in_which_it_begins() {
        let zone = chrono_tz::Europe::London;
        let (noon, midnight, later) =
            (at("2026-06-01T12:00:00+01:00"), at("2026-06-02T00:00:00+01:00"), at("2026-06-04T12:00:00+01:00"));
        let first = days(Span { start: noon, end: midnight }, zone);
        let second = days(Span { start: midnight, end: later }, zone);
        assert_eq!((first.1 - first.0, second.1 - second.0, first.1), (0, 3, second.0));
    }

    #[test]
    fn shares_are_rounded_half_to_even_and_summed() {
        // 10 of 30 days of 90.00; 1 of 2 days of 0.0003, i.e. 0.00015.
        let quotas = [quota(0, 30, 900_000), quota(9, 11, 3), quota(50, 60, 7)];
        assert_eq!(share(&quotas, 0, 10).expect("fits"), Some(Money(300_002)));
        assert_eq!(share(&quotas, 40, 50).expect("fits"), None);
    }
}
