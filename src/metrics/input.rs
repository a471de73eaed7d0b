//! Arguments of metrics: periods, grains and what to split and order by.

use async_graphql::{Enum, InputObject};

use super::catalog::Metric;
use super::period::{self, Preset, Span};
use crate::calendar::{Step, date_of, start_of_day};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::graphql::scalars::{DateTime, TimeZone};

/// A period: either `start` and `end`, half-open, or a `preset` that slides with the clock. In months whose entries were dropped (`salespulse retention`), all that happened within a quarter of an hour counts at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, InputObject)]
pub struct DateRange {
    /// The first moment that counts.
    pub start: Option<DateTime>,
    /// The first moment that no longer counts.
    pub end: Option<DateTime>,
    /// A period that slides with the clock.
    pub preset: Option<PeriodPreset>,
    /// The zone in which a preset's days begin; absent means the organization's.
    pub timezone: Option<TimeZone>,
}

impl DateRange {
    /// The span that is meant at `now`. Error: BAD_USER_INPUT, naming `argument`.
    pub fn resolve(&self, argument: &'static str, now: Timestamp, zone: chrono_tz::Tz) -> Result<Span> {
        match (self.start, self.end, self.preset) {
            (Some(start), Some(end), None) if start.0 < end.0 => Ok(Span { start: start.0, end: end.0 }),
            (Some(_), Some(_), None) => Err(Error::bad_input(argument, "start must be before end")),
            (None, None, Some(preset)) => Ok(Preset::from(preset).resolve(now, self.timezone.map_or(zone, |z| z.0))),
            _ => Err(Error::bad_input(argument, "give either start and end, or a preset")),
        }
    }

    /// When a preset next means another span: at the end of the running day.
    pub fn slides_at(&self, now: Timestamp, zone: chrono_tz::Tz) -> Option<Timestamp> {
        self.preset?;
        let zone = self.timezone.map_or(zone, |z| z.0);
        let tomorrow = date_of(now, zone).succ_opt()?;
        Some(start_of_day(tomorrow, zone))
    }

    /// The period before `span`, which this range was resolved to: of a month to date the whole month before, and so
    /// on; else the one of the same kind just before.
    pub fn previous(&self, span: Span, zone: chrono_tz::Tz) -> Span {
        let zone = self.timezone.map_or(zone, |z| z.0);
        match self.preset.map(Preset::from) {
            Some(preset) => preset.previous(span, zone),
            None => period::previous(span, zone),
        }
    }
}

/// Periods that slide with the clock. Days and months begin in the zone of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum PeriodPreset {
    /// The running day.
    Today,
    /// The day before the running one.
    Yesterday,
    /// The running day and the six before.
    #[graphql(name = "LAST_7_DAYS")]
    Last7Days,
    /// The running day and the 29 before.
    #[graphql(name = "LAST_30_DAYS")]
    Last30Days,
    /// The running day and the 89 before.
    #[graphql(name = "LAST_90_DAYS")]
    Last90Days,
    /// The running day and the 364 before.
    #[graphql(name = "LAST_365_DAYS")]
    Last365Days,
    /// The running week, from Monday.
    WeekToDate,
    /// The running month.
    MonthToDate,
    /// The running quarter of the year.
    QuarterToDate,
    /// The running year.
    YearToDate,
    /// The month before the running one.
    PreviousMonth,
}

impl From<PeriodPreset> for Preset {
    fn from(preset: PeriodPreset) -> Self {
        match preset {
            PeriodPreset::Today => Preset::Today,
            PeriodPreset::Yesterday => Preset::Yesterday,
            PeriodPreset::Last7Days => Preset::LastDays(7),
            PeriodPreset::Last30Days => Preset::LastDays(30),
            PeriodPreset::Last90Days => Preset::LastDays(90),
            PeriodPreset::Last365Days => Preset::LastDays(365),
            PeriodPreset::WeekToDate => Preset::WeekToDate,
            PeriodPreset::MonthToDate => Preset::MonthToDate,
            PeriodPreset::QuarterToDate => Preset::QuarterToDate,
            PeriodPreset::YearToDate => Preset::YearToDate,
            PeriodPreset::PreviousMonth => Preset::PreviousMonth,
        }
    }
}

/// How long a bucket is, by the calendar of a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Grain {
    /// 15 minutes.
    QuarterHour,
    /// An hour.
    Hour,
    /// A day; 23 or 25 hours where the clock changes.
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
    /// When the refunded order was placed; a refund of no known order counts when it was issued.
    Order,
}

/// How the rows of a breakdown are ordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, InputObject)]
pub struct BreakdownOrder {
    /// The metric; rows for which it is null come last.
    #[graphql(default_with = "Metric::TotalRevenue")]
    pub metric: Metric,
    /// A KPI by its name, instead of the metric.
    pub kpi: Option<String>,
    /// The direction.
    #[graphql(default_with = "SortDirection::Desc")]
    pub direction: SortDirection,
}

/// A direction of ordering.
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
    /// The period of the same length just before; for periods of whole days, months or years in the organization's zone, the same number of them.
    PreviousPeriod,
    /// The same dates a year earlier.
    SamePeriodLastYear,
    /// The period given.
    Custom,
}
