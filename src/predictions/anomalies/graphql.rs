//! Anomalies as GraphQL objects.

use async_graphql::{Enum, SimpleObject};
use models::anomalies::{self, Detection, Direction, Sensitivity};
use serde::{Deserialize, Serialize};

use super::{Explained, MemberContribution};
use crate::error::{Error, Result};
use crate::graphql::scalars::{DateTime, Decimal};
use crate::metrics::catalog::Metric;
use crate::metrics::graphql::AsOf;
use crate::metrics::history::History;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::measured::Measured;
use crate::metrics::values::DimensionValue;
use crate::predictions::forecasts::graphql::Training;
use crate::predictions::{amount, expected_amount};

/// How many buckets to report, as a share of the buckets of a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(remote = "Sensitivity")]
pub enum AnomalySensitivity {
    /// The most unusual 0.3% of buckets: about two days a year.
    Low,
    /// The most unusual 1% of buckets: about four days a year.
    Medium,
    /// The most unusual 3% of buckets: about eleven days a year.
    High,
}

/// Whether a value was above or below what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Direction")]
enum AnomalyDirection {
    /// Above what was expected.
    Up,
    /// Below what was expected.
    Down,
}

/// The anomalies of a period.
#[derive(SimpleObject)]
pub struct AnomalyReport {
    /// The anomalies in order of time, consecutive ones, or ones with a single ordinary bucket between them, as one group.
    groups: Vec<AnomalyGroup>,
    /// The score above which a bucket is an anomaly. It is set so that within a year as many buckets exceed it as the sensitivity says, and is at least 3.5.
    threshold: f64,
    /// The history that was learned from.
    training: Training,
    /// The state of the ledger that was examined. In a subscription it may be earlier than that of the answer, as anomalies are only looked for when a bucket is over.
    as_of: AsOf,
}

/// Consecutive anomalies.
#[derive(SimpleObject)]
struct AnomalyGroup {
    /// The start of the first one.
    start: DateTime,
    /// The end of the last one (exclusive).
    end: DateTime,
    /// The highest score among them.
    score: f64,
    /// Its anomalies, in order of time.
    anomalies: Vec<Anomaly>,
}

/// A bucket in which metrics were not as expected.
#[derive(SimpleObject)]
struct Anomaly {
    /// The start of the bucket.
    start: DateTime,
    /// Its end (exclusive).
    end: DateTime,
    /// The metric that deviates most; null if a KPI does.
    metric: Option<Metric>,
    /// The name of the KPI that deviates most; null if a metric does.
    kpi: Option<String>,
    /// Whether it was above or below what was expected.
    direction: AnomalyDirection,
    /// How unusual the metrics are together, taking into account which ones usually move together. It reads like the number of standard deviations of a single metric.
    score: f64,
    /// A second opinion, from an isolation forest: how isolated the bucket is, 0 to 1; ordinary ones have less than 0.5.
    isolation: f64,
    /// The actual and the expected value of each metric and KPI, except where nothing could be expected.
    readings: Vec<AnomalyReading>,
    /// Which channels, regions and categories were behind it: of each at most three, the ones that deviate most. Dimensions with more than 1000 values are left out, and there are none for KPIs.
    contributions: Vec<AnomalyContribution>,
}

/// The actual and the expected value of a metric or KPI.
#[derive(SimpleObject)]
struct AnomalyReading {
    /// The metric; null if it is a KPI.
    metric: Option<Metric>,
    /// The KPI's name; null if it is a metric.
    kpi: Option<String>,
    /// The unit of the values.
    unit: KpiUnit,
    /// The actual value.
    value: Decimal,
    /// The expected value, given the buckets on both sides.
    expected: Decimal,
    /// The lower end of the range within which it alone would not have been an anomaly.
    lower: Decimal,
    /// The upper end of that range.
    upper: Decimal,
    /// How far it is from the expected value, in robust standard deviations; negative if below.
    score: f64,
}

/// A value of a dimension and how much it contributed to an anomaly.
#[derive(SimpleObject)]
pub struct AnomalyContribution {
    /// The metric that is split: of those that are sums of their parts, the one that deviates most.
    metric: Metric,
    /// The value of the dimension.
    key: DimensionValue,
    /// The metric for this value.
    value: Decimal,
    /// The usual amount for this value: the median of the last eight comparable buckets.
    expected: Decimal,
    /// Its share of the whole deviation (0.4 is 40%); negative if it went the other way, null if the deviations cancel out.
    share: Option<f64>,
}

impl AnomalyReport {
    /// Converts the given anomalies. Error: AMOUNT_OUT_OF_RANGE.
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
    fn new(
        history: &History,
        measured: &[Measured],
        anomaly: &anomalies::Anomaly,
        parts: &[MemberContribution],
    ) -> Result<Self> {
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
        let expected = |value| expected_amount(measured, value).map(Decimal);
        Ok(AnomalyReading {
            metric: measured.metric(),
            kpi: measured.kpi().map(str::to_owned),
            unit: history.unit(measured).into(),
            value: Decimal(amount(measured, reading.value)?),
            expected: expected(reading.expected)?,
            lower: expected(reading.lower)?,
            upper: expected(reading.upper)?,
            score: reading.score,
        })
    }
}

impl AnomalyContribution {
    /// Error: AMOUNT_OUT_OF_RANGE.
    pub fn new(part: &MemberContribution) -> Result<Self> {
        let MemberContribution { metric, name, contribution } = part.clone();
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
