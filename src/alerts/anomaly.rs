//! The ANOMALY condition: compares an hour or day with those before it once it has closed. The expectation derives from
//! the past alone, by medians, which needs no model fit; nothing is evaluated between bucket ends.

use chrono_tz::Tz;
use models::anomalies::{self, SCORE_MIN, Sensitivity, score_last};

use super::progress::Measure;
use super::rule::{AlertCondition, Judgement, Reading, Rule};
use crate::calendar::dial::Dial;
use crate::calendar::{boundaries_after, buckets_before};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ledger::organization::{Organization, find_organization};
use crate::metrics::cell::Values;
use crate::metrics::history::learned;
use crate::metrics::input::{Grain, Weekday};
use crate::metrics::kpis::definitions::Definitions;
use crate::metrics::measured::Measured;
use crate::metrics::period::Span;
use crate::metrics::plan::{Plan, SeriesArgs, SeriesPlan};
use crate::money::{Money, SCALE};
use crate::predictions::anomalies::settings;
use crate::predictions::expected_amount;

pub const HOUR_MINUTES: i32 = 60;
pub const DAY_MINUTES: i32 = 1_440;

/// Maximum filters and shifts in the formula of a KPI watched hourly. Each adds nine weeks of hours read in a batch's
/// transaction.
pub const HOURLY_VIEWS_MAX: usize = 4;

/// Bucket length of an ANOMALY with such a window.
pub fn grain_of(window_minutes: i32) -> Grain {
    if window_minutes == HOUR_MINUTES { Grain::Hour } else { Grain::Day }
}

impl Rule {
    /// Bucket length of an ANOMALY; `None` for other conditions.
    pub fn bucket_grain(&self) -> Option<Grain> {
        (self.condition == AlertCondition::Anomaly).then(|| grain_of(self.window_minutes))
    }

    /// Error: BAD_USER_INPUT if it would read too much each hour.
    pub fn check_views(&self, watched: &Definitions) -> Result<()> {
        let is_hourly = self.bucket_grain() == Some(Grain::Hour);
        if !is_hourly || watched.values().all(|kpi| kpi.views().len() <= HOURLY_VIEWS_MAX) {
            return Ok(());
        }
        let message = format!(
            "an hourly ANOMALY takes a KPI of at most {HOURLY_VIEWS_MAX} different filters and times; look at days instead"
        );
        Err(Error { details: vec![("formulaCode", "TOO_MANY_VIEWS".into())], ..Error::bad_input("kpi", message) })
    }

    /// The plan whose answer contains its buckets.
    pub fn buckets_plan(&self, span: Span) -> Option<Plan> {
        let args = SeriesArgs { grain: self.bucket_grain()?, timezone: None, week_start: Weekday::Monday, by: None };
        let series = vec![SeriesPlan {
            field: "series".to_owned(),
            args,
            needs: self.needs(),
            kpis: self.measured.kpis(),
            fields: 1,
        }];
        Some(Plan { totals: None, series, ..self.plan(span) })
    }

    /// The zone its buckets are aligned to: that of the organization whose facts count, otherwise of the default one.
    pub fn zone(&self, organizations: &[Organization]) -> Option<Tz> {
        let named = self.filters.as_ref().and_then(|filters| filters.organization_id.as_ref());
        let found = match (named, organizations) {
            (None, [only]) => Some(only),
            (name, all) => find_organization(all, name.map(|id| id.as_str())),
        };
        found.map(|organization| organization.timezone)
    }
}

/// Number of past buckets read: a year of days or eight weeks of hours, plus what the first of them are compared with.
fn lookback(grain: Grain) -> u32 {
    match grain {
        Grain::Hour => 24 * 7 * 9,
        _ => 365 + 7 * 8,
    }
}

/// Start of the buckets read back from `end`.
pub fn looks_back_to(grain: Grain, end: Timestamp, zone: Tz) -> Timestamp {
    buckets_before(end, lookback(grain), grain.step(Weekday::Monday), zone)
}

/// Boundaries of `count` buckets ending at `end`; empty if no bucket ends there.
fn boundaries(grain: Grain, count: u32, end: Timestamp, zone: Tz) -> Vec<Timestamp> {
    let step = grain.step(Weekday::Monday);
    let start = buckets_before(end, count, step, zone);
    let mut boundaries = vec![start];
    boundaries.extend(boundaries_after(start, step, zone).take_while(|next| *next <= end));
    if boundaries.last() == Some(&end) { boundaries } else { Vec::new() }
}

/// The bucket ending at `now`; `None` if there is none, or if a clock change cut it short, which makes it incomparable.
pub async fn ending(rule: &Rule, grain: Grain, now: Timestamp, measure: &mut impl Measure) -> Result<Option<Span>> {
    let Some(zone) = measure.zone(rule).await? else { return Ok(None) };
    Ok(match boundaries(grain, 1, now, zone).as_slice() {
        [.., start, end] if grain.step(Weekday::Monday).is_whole(*start, *end) => {
            Some(Span { start: *start, end: *end })
        }
        _ => None,
    })
}

/// Scores the bucket ending at `end` against those before it; `None` if they are no longer available.
pub async fn read(rule: &Rule, grain: Grain, end: Timestamp, measure: &mut impl Measure) -> Result<Option<Reading>> {
    let Some(zone) = measure.zone(rule).await? else { return Ok(None) };
    let boundaries = boundaries(grain, lookback(grain), end, zone);
    let Some(values) = measure.buckets(rule, &boundaries).await? else { return Ok(None) };
    let measured = &rule.measured;
    let value = values.last().and_then(|last| measured.value(last));
    let first = values.iter().take_while(|values| is_nothing(values)).count();
    let series = learned(values.get(first..).unwrap_or_default(), measured);
    if series.is_empty() {
        return Ok(Some(Reading { value, ..Reading::default() }));
    }
    let settings = settings(grain, Sensitivity::from(rule.sensitivity));
    let dial = Dial::new(boundaries.get(first..).unwrap_or_default(), grain.step(Weekday::Monday), zone);
    let scored = score_last(&[dial.lay(&series)], settings).map_err(Error::internal)?;
    let least = rule.threshold.0 as f64 / SCALE as f64;
    let score = scored.score.unwrap_or_default();
    let expectation = scored.expectations.first().copied().flatten();
    let judgement = expectation.and_then(|e| judgement(measured, &e.reading(scored.threshold.max(least))));
    // By its second day an incident no longer ranks among the most unusual buckets, but is just as unexpected.
    let (fires, stays) = (scored.alerts && score >= least, score >= least.max(SCORE_MIN));
    Ok(Some(Reading { value, judgement, fires, stays }))
}

/// `None` on overflow of the money range.
fn judgement(measured: &Measured, reading: &anomalies::Reading) -> Option<Judgement> {
    let expected = |value| expected_amount(measured, value).ok();
    Some(Judgement {
        expected: expected(reading.expected)?,
        lower: expected(reading.lower)?,
        upper: expected(reading.upper)?,
        // Cannot overflow: scores are bounded.
        score: Money((reading.score * 100.0).round_ties_even() as i64 * (SCALE / 100)),
    })
}

/// Whether the bucket has no activity.
fn is_nothing(values: &Values) -> bool {
    values.orders == 0 && values.refunds.0 == 0 && values.refunds_by_order.0 == 0 && values.visits.unwrap_or(0) == 0
}
