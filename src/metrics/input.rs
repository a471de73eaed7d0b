//! Arguments of metrics: periods, grains, splits and orderings.

use async_graphql::{Enum, InputObject};

use super::catalog::Metric;
use super::period::{self, Preset, Span};
use crate::calendar::{Step, date_of, start_of_day};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::graphql::scalars::{Date, DateTime, TimeZone};

/// A period: `start` and `end`, `firstDay` and `lastDay`, or a `preset` that moves with the clock. In months whose entries were dropped (`salespulse retention`), everything within a quarter of an hour counts at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, InputObject)]
pub struct DateRange {
    /// The beginning of the period (inclusive).
    pub start: Option<DateTime>,
    /// The end of the period (exclusive).
    pub end: Option<DateTime>,
    /// The first day of the period, in `timezone`.
    pub first_day: Option<Date>,
    /// The last day of the period, in `timezone` (inclusive).
    pub last_day: Option<Date>,
    /// A period relative to now.
    pub preset: Option<PeriodPreset>,
    /// The time zone in which days begin; omit for the organization's.
    pub timezone: Option<TimeZone>,
}

impl DateRange {
    /// The span meant at `now`. Error: BAD_USER_INPUT, naming `argument`.
    pub fn resolve(&self, argument: &'static str, now: Timestamp, zone: chrono_tz::Tz) -> Result<Span> {
        let zone = self.timezone.map_or(zone, |zone| zone.0);
        match (self.start.zip(self.end), self.first_day.zip(self.last_day), self.preset) {
            _ if self.is_ambiguous() => {}
            (Some((start, end)), None, None) if start.0 < end.0 => return Ok(Span { start: start.0, end: end.0 }),
            (Some(_), None, None) => return Err(Error::bad_input(argument, "start must be before end")),
            (None, Some((first, last)), None) if first.0 <= last.0 => {
                let next = last.0.succ_opt().ok_or_else(|| Error::bad_input(argument, "lastDay is too late"))?;
                return Ok(Span { start: start_of_day(first.0, zone), end: start_of_day(next, zone) });
            }
            (None, Some(_), None) => return Err(Error::bad_input(argument, "firstDay must not be after lastDay")),
            (None, None, Some(preset)) => return Ok(Preset::from(preset).resolve(now, zone)),
            _ => {}
        }
        Err(Error::bad_input(argument, "give start and end, firstDay and lastDay, or a preset"))
    }

    /// Whether one of a pair of bounds is missing.
    fn is_ambiguous(&self) -> bool {
        self.start.is_some() != self.end.is_some() || self.first_day.is_some() != self.last_day.is_some()
    }

    /// When a preset next means another span: at the end of the current day.
    pub fn slides_at(&self, now: Timestamp, zone: chrono_tz::Tz) -> Option<Timestamp> {
        self.preset?;
        let zone = self.timezone.map_or(zone, |z| z.0);
        let tomorrow = date_of(now, zone).succ_opt()?;
        Some(start_of_day(tomorrow, zone))
    }

    /// The period before `span`, to which this range was resolved: that of its preset, otherwise the
    /// preceding one of the same kind.
    pub fn previous(&self, span: Span, zone: chrono_tz::Tz) -> Span {
        let zone = self.timezone.map_or(zone, |z| z.0);
        match self.preset.map(Preset::from) {
            Some(preset) => preset.previous(span, zone),
            None => period::previous(span, zone),
        }
    }
}

/// Periods that move with the clock. Their days, weeks and months begin in the time zone of the range. Those that include today run to the end of today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum PeriodPreset {
    /// Today.
    Today,
    /// Yesterday.
    Yesterday,
    /// Today and the 6 days before it.
    #[graphql(name = "LAST_7_DAYS")]
    Last7Days,
    /// Today and the 29 days before it.
    #[graphql(name = "LAST_30_DAYS")]
    Last30Days,
    /// Today and the 89 days before it.
    #[graphql(name = "LAST_90_DAYS")]
    Last90Days,
    /// Today and the 364 days before it.
    #[graphql(name = "LAST_365_DAYS")]
    Last365Days,
    /// The current week up to and including today, beginning on Monday.
    WeekToDate,
    /// The current month up to and including today.
    MonthToDate,
    /// The current quarter up to and including today.
    QuarterToDate,
    /// The current year up to and including today.
    YearToDate,
    /// The whole week before the current one, beginning on Monday.
    PreviousWeek,
    /// The whole month before the current one.
    PreviousMonth,
    /// The whole quarter before the current one.
    PreviousQuarter,
    /// The whole year before the current one.
    PreviousYear,
}

impl From<PeriodPreset> for Preset {
    fn from(preset: PeriodPreset) -> Self {
        let [week, month] = [Step::Week(chrono::Weekday::Mon), Step::Months(1)];
        let [quarter, year] = [3, 12].map(Step::Months);
        match preset {
            PeriodPreset::Today => Preset::LastDays(1),
            PeriodPreset::Yesterday => Preset::Previous(Step::Day),
            PeriodPreset::Last7Days => Preset::LastDays(7),
            PeriodPreset::Last30Days => Preset::LastDays(30),
            PeriodPreset::Last90Days => Preset::LastDays(90),
            PeriodPreset::Last365Days => Preset::LastDays(365),
            PeriodPreset::WeekToDate => Preset::ToDate(week),
            PeriodPreset::MonthToDate => Preset::ToDate(month),
            PeriodPreset::QuarterToDate => Preset::ToDate(quarter),
            PeriodPreset::YearToDate => Preset::ToDate(year),
            PeriodPreset::PreviousWeek => Preset::Previous(week),
            PeriodPreset::PreviousMonth => Preset::Previous(month),
            PeriodPreset::PreviousQuarter => Preset::Previous(quarter),
            PeriodPreset::PreviousYear => Preset::Previous(year),
        }
    }
}

/// The length of a bucket, by the calendar of a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Grain {
    /// 15 minutes.
    QuarterHour,
    /// An hour.
    Hour,
    /// A day; 23 or 25 hours when the clocks change.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A quarter of a year.
    Quarter,
    /// A year.
    Year,
}

impl Grain {
    pub fn step(self, week_start: Weekday) -> Step {
        match self {
            Grain::QuarterHour => Step::Minutes(15),
            Grain::Hour => Step::Minutes(60),
            Grain::Day => Step::Day,
            Grain::Week => Step::Week(week_start.into()),
            Grain::Month => Step::Months(1),
            Grain::Quarter => Step::Months(3),
            Grain::Year => Step::Months(12),
        }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl From<Weekday> for chrono::Weekday {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => chrono::Weekday::Mon,
            Weekday::Tuesday => chrono::Weekday::Tue,
            Weekday::Wednesday => chrono::Weekday::Wed,
            Weekday::Thursday => chrono::Weekday::Thu,
            Weekday::Friday => chrono::Weekday::Fri,
            Weekday::Saturday => chrono::Weekday::Sat,
            Weekday::Sunday => chrono::Weekday::Sun,
        }
    }
}

/// When a refund counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum RefundTime {
    /// When the refund was issued.
    Refund,
    /// When the refunded order was placed; a refund without a known order counts when it was issued.
    Order,
}

/// How to sort the rows of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, InputObject)]
pub struct BreakdownSort {
    /// The metric to sort by; rows in which it is null come last.
    #[graphql(default_with = "Metric::TotalRevenue")]
    pub metric: Metric,
    /// A KPI by name, to sort by instead of the metric.
    pub kpi: Option<String>,
    /// The sort direction.
    #[graphql(default_with = "SortDirection::Desc")]
    pub direction: SortDirection,
}

/// How to sort the rows of a comparison's breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, InputObject)]
pub struct ComparisonSort {
    /// The metric to sort by; rows in which it is null come last.
    #[graphql(default_with = "Metric::TotalRevenue")]
    pub metric: Metric,
    /// A KPI by name, to sort by instead of the metric.
    pub kpi: Option<String>,
    /// Which of its values to sort by.
    #[graphql(default_with = "ComparedValue::Current")]
    pub of: ComparedValue,
    /// The sort direction.
    #[graphql(default_with = "SortDirection::Desc")]
    pub direction: SortDirection,
}

/// One of the values that a comparison has of a metric or KPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum ComparedValue {
    /// That of the current period.
    Current,
    /// That of the period it is compared with.
    Previous,
    /// Current minus previous.
    AbsoluteChange,
    /// The absolute change divided by the previous value.
    RelativeChange,
}

/// A sort direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum SortDirection {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// What a period is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum ComparisonPeriod {
    /// The period of the same length immediately before. For a preset such as MONTH_TO_DATE, the whole month (week, quarter, year) before; for one such as LAST_30_DAYS, as many days before; for other periods of whole days, months or years in the time zone of the period, the same number of them.
    PreviousPeriod,
    /// The same dates a year earlier.
    SamePeriodLastYear,
    /// The period given as `period`.
    Custom,
}
