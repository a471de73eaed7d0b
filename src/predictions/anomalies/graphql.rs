//! Anomalies as GraphQL objects.

use async_graphql::{Enum, SimpleObject};
use models::anomalies::{self, Detection, Direction, Sensitivity};
use serde::{Deserialize, Serialize};

use super::{Explained, Part};
use crate::error::{Error, Result};
use crate::graphql::scalars::{DateTime, Decimal};
use crate::metrics::catalog::Metric;
use crate::metrics::graphql::AsOf;
use crate::metrics::history::History;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::measured::Measured;
use crate::metrics::values::DimensionValue;
use crate::predictions::forecasts::graphql::Training;
use crate::predictions::{amount, floor};

/// How many buckets are worth a word: the most unusual ones of a year are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(remote = "Sensitivity")]
pub enum AnomalySensitivity {
    /// 0.3 % of buckets: of days about two a year.
    Low,
    /// 1 % of buckets: of days about four a year.
    Medium,
    /// 3 % of buckets: of days about eleven a year.
    High,
}

/// Which way a metric went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Direction")]
enum AnomalyDirection {
    /// Above what was expected.
    Up,
    /// Below what was expected.
    Down,
}

/// What was unusual in a period.
#[derive(SimpleObject)]
pub struct AnomalyReport {
    /// Anomalies that follow each other are one group; in order of time.
    groups: Vec<AnomalyGroup>,
    /// The score above which a bucket is an anomaly: as many buckets of a year have more as the sensitivity says, and it is at least 3.5.
    threshold: f64,
    /// What was learned from.
    training: Training,
    /// The state of the ledger that was looked at. In a subscription it may be an earlier one than that of the answer: anomalies are looked for when a bucket is over.
    as_of: AsOf,
}

/// Anomalies that follow each other.
#[derive(SimpleObject)]
struct AnomalyGroup {
    /// The first moment of the first.
    start: DateTime,
    /// The first moment after the last.
    end: DateTime,
    /// The highest score.
    score: f64,
    /// Its anomalies in order of time.
    anomalies: Vec<Anomaly>,
}

/// A bucket in which metrics were not what was to be expected.
#[derive(SimpleObject)]
struct Anomaly {
    /// The first moment of the bucket.
    start: DateTime,
    /// The first moment after it.
    end: DateTime,
    /// The metric that deviates most; null where a KPI does.
    metric: Option<Metric>,
    /// The KPI that deviates most, by its name.
    kpi: Option<String>,
    /// Which way it went.
    direction: AnomalyDirection,
    /// How unusual the metrics are together, knowing what usually moves together: as a single one would be that many standard deviations from what was expected.
    score: f64,
    /// A second opinion, of an isolation forest: how far the bucket is from the company of others, 0 to 1; usual ones have less than one half.
    isolation: f64,
    /// What each metric and KPI was and was expected to be, those left out of which nothing was expected.
    readings: Vec<AnomalyReading>,
    /// Which channels, regions and categories were behind it: of each at most three, those that deviate most; none of a dimension with more than 1000 values, and none of KPIs.
    contributions: Vec<AnomalyContribution>,
}

/// What a metric or KPI was, and what it was expected to be.
#[derive(SimpleObject)]
struct AnomalyReading {
    /// The metric; null where it is a KPI.
    metric: Option<Metric>,
    /// The KPI, by its name.
    kpi: Option<String>,
    /// What the values are, as in a forecast.
    unit: KpiUnit,
    /// What it was.
    value: Decimal,
    /// What was expected, by the buckets on both sides.
    expected: Decimal,
    /// The lower end of the range in which it alone would have been no anomaly.
    lower: Decimal,
    /// The upper end of that range.
    upper: Decimal,
    /// How far it is from what was expected, in robust standard deviations; negative below.
    score: f64,
}

/// A value of a dimension and its part in an anomaly.
#[derive(SimpleObject)]
struct AnomalyContribution {
    /// The metric that is split: the one that deviates most of those that are the sum of their parts.
    metric: Metric,
    /// The value.
    key: DimensionValue,
    /// What it brought.
    value: Decimal,
    /// What it mostly brought in such buckets: the median of the last eight.
    expected: Decimal,
    /// Its share of the whole deviation, 0.4 being 40 %; negative where it went the other way, null where the deviations cancel out.
    share: Option<f64>,
}

impl AnomalyReport {
    /// Of the anomalies that are given. Error: AMOUNT_OUT_OF_RANGE.
    pub fn new(
        history: &History,
        measured: &[Measured],
        detection: &Detection,
        anomalies: &[&anomalies::Anomaly],
        parts: &Explained,
    ) -> Result<Self> {
        let mut groups = Vec::new();
        for group in &detection.groups {
            let within = anomalies.iter().filter(|anomaly| (group.first..=group.last).contains(&anomaly.index));
            let told = within.map(|anomaly| {
                Anomaly::new(history, measured, anomaly, parts.get(&anomaly.index).map_or(&[], Vec::as_slice))
            });
            let told: Vec<Anomaly> = told.collect::<Result<_>>()?;
            if let (Some(first), Some(last)) = (told.first(), told.last()) {
                let score = told.iter().map(|anomaly| anomaly.score).fold(0.0, f64::max);
                groups.push(AnomalyGroup { start: first.start, end: last.end, score, anomalies: told });
            }
        }
        let buckets = history.boundaries.len().saturating_sub(1);
        let series: Vec<_> = measured.iter().map(|measured| history.series(measured)).collect();
        let is_known = |bucket: &usize| series.iter().any(|values| values.get(*bucket).is_some_and(Option::is_some));
        let known = (0..buckets).filter(is_known).count();
        let first = history.span(0).ok_or_else(|| Error::internal("a detection in no history"))?;
        let last = history.boundaries.last().copied().unwrap_or(first.end);
        Ok(AnomalyReport {
            groups,
            threshold: detection.threshold,
            training: Training::new(first.start, last, buckets, known),
            as_of: AsOf::from(history.as_of),
        })
    }
}

impl Anomaly {
    fn new(history: &History, measured: &[Measured], anomaly: &anomalies::Anomaly, parts: &[Part]) -> Result<Self> {
        let span = history.span(anomaly.index).ok_or_else(|| Error::internal("an anomaly in no bucket"))?;
        let readings = measured.iter().zip(&anomaly.readings);
        let readings =
            readings.filter_map(|(measured, reading)| Some(AnomalyReading::new(history, measured, (*reading)?)));
        let leading = measured.get(anomaly.leading).ok_or_else(|| Error::internal("an anomaly of no metric"))?;
        Ok(Anomaly {
            start: DateTime(span.start),
            end: DateTime(span.end),
            metric: leading.metric(),
            kpi: leading.kpi().map(str::to_owned),
            direction: anomaly.direction.into(),
            score: anomaly.score,
            isolation: anomaly.isolation,
            readings: readings.collect::<Result<_>>()?,
            contributions: parts.iter().map(AnomalyContribution::new).collect::<Result<_>>()?,
        })
    }
}

impl AnomalyReading {
    fn new(history: &History, measured: &Measured, reading: anomalies::Reading) -> Result<Self> {
        let lower = floor(measured).map_or(reading.lower, |floor| reading.lower.max(floor));
        Ok(AnomalyReading {
            metric: measured.metric(),
            kpi: measured.kpi().map(str::to_owned),
            unit: history.unit(measured).into(),
            value: Decimal(amount(measured, reading.value)?),
            expected: Decimal(amount(measured, reading.expected)?),
            lower: Decimal(amount(measured, lower)?),
            upper: Decimal(amount(measured, reading.upper)?),
            score: reading.score,
        })
    }
}

impl AnomalyContribution {
    fn new(part: &Part) -> Result<Self> {
        let Part { metric, name, contribution } = part.clone();
        let amount = |value| amount(&Measured::Metric(metric), value).map(Decimal);
        Ok(AnomalyContribution {
            metric,
            key: name.into(),
            value: amount(contribution.actual)?,
            expected: amount(contribution.expected)?,
            share: contribution.share,
        })
    }
}
