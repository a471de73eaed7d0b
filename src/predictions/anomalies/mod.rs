//! Buckets in which metrics were not what was to be expected, and what made them so.

pub mod graphql;

use std::collections::HashMap;
use std::sync::Arc;

use models::anomalies::{
    Anomaly, AnomalyError, Contribution, Detection, Sensitivity, Settings, contributions, detect, member_expected,
};

use super::kept::{Kept, Key, Patience, bits};
use crate::clock::Timestamp;
use crate::db::{LazyTx, TenantId};
use crate::error::{Code, Error, Result};
use crate::ledger::memory::Memory;
use crate::metrics::catalog::{Metric, Needs};
use crate::metrics::history::{History, Split};
use crate::metrics::input::Grain;
use crate::metrics::labels::Name;
use crate::metrics::read::Dimension;

/// Metrics that are judged together.
pub const METRICS_MAX: usize = 8;
/// Detections that are kept.
pub const KEPT_MAX: u64 = 4_000;
/// What an anomaly is split by.
const DIMENSIONS: [Dimension; 3] = [Dimension::Channel, Dimension::Region, Dimension::ProductCategory];
/// Values of a dimension that are told, those that deviate most.
const MEMBERS_MAX: usize = 3;
/// Seasons from which is learned what a value of a dimension mostly brings.
const SEASONS: usize = 8;

/// What was found in a history, or why nothing can be.
pub type Found = Result<Detection, AnomalyError>;

/// The detections of this process. Cheap to clone.
pub type Detections = Kept<Found>;

/// How a dimension's value deviates.
#[derive(Debug)]
pub struct Part {
    pub metric: Metric,
    pub name: Name,
    pub contribution: Contribution,
}

/// What buckets of a grain are like.
pub fn settings(grain: Grain, sensitivity: Sensitivity) -> Settings {
    let (season_buckets, year_buckets, silence_buckets) = match grain {
        Grain::QuarterHour => (96, 35_040, 96),
        Grain::Hour => (168, 8_760, 24),
        Grain::Day => (7, 365, 7),
        Grain::Week => (52, 52, 2),
        Grain::Month => (12, 12, 1),
        Grain::Quarter => (4, 4, 1),
        Grain::Year => (1, 1, 1),
    };
    Settings { season_buckets, year_buckets, silence_buckets, sensitivity }
}

/// What is unusual in a tenant's history of some metrics. The same history gives the same anomalies. Errors:
/// PREDICTION_PENDING, ANOMALY_HISTORY_TOO_SHORT.
pub async fn find(
    detections: &Detections,
    tenant: TenantId,
    history: &History,
    metrics: &[Metric],
    settings: Settings,
    patience: Patience,
) -> Result<Arc<Found>> {
    let series: Vec<Vec<Option<f64>>> = metrics.iter().map(|metric| history.series(*metric)).collect();
    let key = Key::new(tenant, &format!("{settings:?} {}", metrics.len()), series.iter().flatten().map(|v| bits(*v)));
    let found = detections.get(key, patience, move || detect(&series, &settings)).await?;
    match found.as_ref() {
        Ok(_) => Ok(found),
        Err(error @ AnomalyError::TooShort { .. }) => {
            Err(Error::new(Code::AnomalyHistoryTooShort, format!("no anomalies can be told: {error}")))
        }
        Err(error) => Err(Error::internal(*error)),
    }
}

/// The anomalies of buckets that begin at `start` or later.
pub fn since<'a>(detection: &'a Detection, history: &History, start: Timestamp) -> Vec<&'a Anomaly> {
    let first = history.boundaries.partition_point(|boundary| *boundary < start);
    detection.anomalies.iter().filter(|anomaly| anomaly.index >= first).collect()
}

/// Which values of channel, region and category were behind each of some anomalies, by its bucket, those that deviate most
/// first. One question for each dimension, however many anomalies there are.
pub async fn explain(
    reads: &LazyTx<'_>,
    memory: &Memory,
    history: &History,
    metrics: &[Metric],
    season: usize,
    anomalies: &[&Anomaly],
) -> Result<HashMap<usize, Vec<Part>>> {
    let mut parts = HashMap::<usize, Vec<Part>>::new();
    let (Some(first), Some(last)) = (anomalies.first(), anomalies.last()) else { return Ok(parts) };
    let start = first.index.saturating_sub(SEASONS * season);
    for dimension in DIMENSIONS {
        let needs = Needs::of(metrics.iter().copied().filter(|metric| adds_up(*metric, dimension)));
        let split = Split { dimension, buckets: start..last.index + 1, needs };
        let members = history.split(reads, memory, split).await?;
        for anomaly in anomalies {
            let Some(metric) = leading(metrics, anomaly, dimension) else { continue };
            let at = anomaly.index - start;
            let deviates = |series: Vec<Option<f64>>| -> Result<(f64, f64)> {
                let expected = member_expected(&series[..at], season).map_err(Error::internal)?;
                Ok((expected, series[at].unwrap_or_default()))
            };
            let deviations: Vec<(f64, f64)> =
                members.iter().map(|member| deviates(member.series(metric))).collect::<Result<_>>()?;
            let most = contributions(&deviations).map_err(Error::internal)?.into_iter().take(MEMBERS_MAX);
            let most = most.filter(|contribution| contribution.deviation() != 0.0).map(|contribution| Part {
                metric,
                name: members[contribution.member].name.clone(),
                contribution,
            });
            parts.entry(anomaly.index).or_default().extend(most);
        }
    }
    Ok(parts)
}

/// The metric that deviates most of those that a dimension's values add up to.
fn leading(metrics: &[Metric], anomaly: &Anomaly, dimension: Dimension) -> Option<Metric> {
    let readings = metrics.iter().zip(&anomaly.readings).filter_map(|(metric, reading)| Some((*metric, (*reading)?)));
    let fitting = readings.filter(|(metric, _)| adds_up(*metric, dimension));
    fitting.max_by(|(_, a), (_, b)| a.score.abs().total_cmp(&b.score.abs())).map(|(metric, _)| metric)
}

/// Whether a metric is the sum of what it is by the values of a dimension. An order may be in several categories, and a
/// customer buys in several channels.
fn adds_up(metric: Metric, dimension: Dimension) -> bool {
    match metric {
        Metric::TotalRevenue | Metric::GrossRevenue | Metric::Refunds | Metric::Discounts | Metric::UnitsSold => true,
        Metric::OrdersCount | Metric::Visits | Metric::NewCustomers => dimension != Dimension::ProductCategory,
        Metric::AvgOrderValue
        | Metric::ConversionRate
        | Metric::ReturningCustomers
        | Metric::UniqueCustomers
        | Metric::RefundRate
        | Metric::OrderValueP50
        | Metric::OrderValueP95 => false,
    }
}
