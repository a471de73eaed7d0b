//! Buckets in which metrics and KPIs deviated from expectation, and what contributed to it.

pub mod graphql;

use std::collections::HashMap;
use std::sync::Arc;

use models::anomalies::{
    Anomaly, AnomalyError, Contribution, Detection, Sensitivity, Settings, contributions, detect, member_expected,
    member_history,
};

use super::kept::{FitCache, Key, WaitPolicy, bits};
use super::seasons;
use crate::clock::Timestamp;
use crate::db::{LazyTx, TenantId};
use crate::error::{Code, Error, Result};
use crate::ledger::memory::Memory;
use crate::metrics::catalog::Metric;
use crate::metrics::dimension::Dimension;
use crate::metrics::history::{History, Member, Split};
use crate::metrics::input::Grain;
use crate::metrics::labels::Name;
use crate::metrics::measured::Measured;

/// Maximum number of metrics and KPIs per detection.
pub const MEASURED_MAX: usize = 8;
/// Maximum number of cached detections.
pub const KEPT_MAX: u64 = 4_000;
/// Maximum number of cached explanations, of about 1 KB per anomaly.
pub const EXPLANATIONS_MAX: u64 = 1_000;
/// The dimensions that an anomaly is broken down by.
const DIMENSIONS: [Dimension; 3] = [Dimension::Channel, Dimension::Region, Dimension::ProductCategory];
/// Values reported per dimension: those that deviate most.
const MEMBERS_MAX: usize = 3;

/// The anomalies in a history, or why none can be determined.
pub type DetectionResult = Result<Detection, AnomalyError>;

/// The detections of this process. Cheap to clone.
pub type Detections = FitCache<DetectionResult>;

/// Explanations of anomalies, by bucket.
pub type Explained = HashMap<usize, Vec<MemberContribution>>;

/// The explanations of this process. Cheap to clone.
pub type Explanations = FitCache<Explained>;

/// The deviation of a dimension's value.
#[derive(Clone, Debug)]
pub struct MemberContribution {
    pub metric: Metric,
    pub name: Name,
    pub contribution: Contribution,
}

/// The length of the season that is learned, in buckets.
pub fn season(grain: Grain) -> usize {
    seasons(grain).first().copied().unwrap_or(1)
}

/// Detection settings for a grain.
pub fn settings(grain: Grain, sensitivity: Sensitivity) -> Settings {
    let season_buckets = season(grain);
    let (year_buckets, silence_buckets) = match grain {
        Grain::QuarterHour => (35_040, 96),
        Grain::Hour => (8_760, 24),
        Grain::Day => (365, 7),
        Grain::Week => (52, 2),
        Grain::Month => (12, 1),
        Grain::Quarter => (4, 1),
        Grain::Year => (1, 1),
    };
    Settings { season_buckets, year_buckets, silence_buckets, sensitivity }
}

/// A bucket to explain.
pub struct UnusualBucket {
    /// Its index in the history.
    pub at: usize,
    /// Its metrics, the one that deviates most first.
    pub metrics: Vec<Metric>,
}

impl UnusualBucket {
    pub fn of(measured: &[Measured], anomaly: &Anomaly) -> UnusualBucket {
        let readings = measured.iter().zip(&anomaly.readings);
        let mut readings: Vec<(Metric, f64)> =
            readings.filter_map(|(measured, reading)| Some((measured.metric()?, (*reading)?.score.abs()))).collect();
        readings.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        UnusualBucket { at: anomaly.index, metrics: readings.into_iter().map(|(metric, _)| metric).collect() }
    }

    /// Of the metrics that add up over a dimension's values, the one that deviates most.
    fn leading(&self, dimension: Dimension) -> Option<Metric> {
        self.metrics.iter().copied().find(|metric| adds_up(*metric, dimension))
    }
}

/// What to read of a bucket in order to explain it.
#[derive(Debug)]
struct Asked {
    metric: Metric,
    at: usize,
    /// The reference buckets that determine what was expected.
    before: Vec<usize>,
}

/// Detects anomalies in a tenant's history of some metrics and KPIs. Deterministic in the history. Errors:
/// PREDICTION_PENDING, ANOMALY_HISTORY_TOO_SHORT.
pub async fn find(
    detections: &Detections,
    tenant: TenantId,
    history: &History,
    measured: &[Measured],
    settings: Settings,
    patience: WaitPolicy,
) -> Result<Arc<DetectionResult>> {
    let dial = history.dial(&history.boundaries);
    let series: Vec<Vec<Option<f64>>> = measured.iter().map(|m| dial.lay(&history.series(m))).collect();
    let buckets = history.by_place(&dial);
    let definitions: Vec<_> = measured.iter().map(|measured| history.definition(measured)).collect();
    let question = format!("{settings:?} {measured:?} {definitions:?}");
    let boundaries = history.boundaries.iter().map(|at| at.0.cast_unsigned());
    let numbers = boundaries.chain(series.iter().flatten().map(|value| bits(*value)));
    let key = Key::new(tenant, &question, numbers);
    let work = move || detect(&series, &settings).map(|detection| of_buckets(detection, &buckets));
    let found = detections.get(key, patience, work).await?;
    match found.as_ref() {
        Ok(_) => Ok(found),
        Err(error @ AnomalyError::TooShort { .. }) => {
            Err(Error::new(Code::AnomalyHistoryTooShort, format!("too little history: {error}")))
        }
        Err(error) => Err(Error::internal(*error)),
    }
}

/// Maps detections from positions on the clock to existing buckets.
fn of_buckets(mut detection: Detection, buckets: &[Option<usize>]) -> Detection {
    let bucket = |place: usize| buckets.get(place).copied().flatten().unwrap_or(place);
    detection.anomalies.iter_mut().for_each(|anomaly| anomaly.index = bucket(anomaly.index));
    for group in &mut detection.groups {
        (group.first, group.last, group.peak) = (bucket(group.first), bucket(group.last), bucket(group.peak));
    }
    detection
}

/// The anomalies of buckets that begin at `start` or later.
pub fn since<'a>(detection: &'a Detection, history: &History, start: Timestamp) -> Vec<&'a Anomaly> {
    let first = history.boundaries.partition_point(|boundary| *boundary < start);
    detection.anomalies.iter().filter(|anomaly| anomaly.index >= first).collect()
}

/// The values of channel, region and category that contributed to each of some unusual buckets, by bucket, largest
/// deviation first. A few queries per dimension, however many buckets there are. Error: PREDICTION_PENDING.
pub async fn explain(
    explanations: &Explanations,
    (reads, memory, tenant): (&LazyTx<'_>, &Memory, TenantId),
    history: &History,
    season: usize,
    unusual: &[UnusualBucket],
    patience: WaitPolicy,
) -> Result<Arc<Explained>> {
    let evidence = Evidence::read(reads, memory, history, season, unusual).await?;
    let key = evidence.key(tenant, season);
    explanations.get(key, patience, move || evidence.explain()).await
}

/// The same for a single bucket, which takes no time and is not cached.
pub async fn explain_bucket(
    (reads, memory): (&LazyTx<'_>, &Memory),
    history: &History,
    season: usize,
    unusual: UnusualBucket,
) -> Result<Vec<MemberContribution>> {
    let at = unusual.at;
    let evidence = Evidence::read(reads, memory, history, season, &[unusual]).await?;
    Ok(evidence.explain().remove(&at).unwrap_or_default())
}

/// What explains some buckets: for each dimension the sums of its values.
struct Evidence(Vec<(Vec<Asked>, Split, Arc<Vec<Member>>)>);

impl Evidence {
    async fn read(
        reads: &LazyTx<'_>,
        memory: &Memory,
        history: &History,
        season: usize,
        unusual: &[UnusualBucket],
    ) -> Result<Evidence> {
        let mut splits = Vec::new();
        let dial = history.dial(&history.boundaries);
        let buckets = history.by_place(&dial);
        // The same hours, by local time.
        let before = |at: usize| -> Vec<usize> {
            let places = dial.place(at).map(|place| member_history(place, season)).unwrap_or_default();
            places.into_iter().filter_map(|place| buckets.get(place).copied().flatten()).collect()
        };
        for dimension in DIMENSIONS {
            let asked = |unusual: &UnusualBucket| {
                Some(Asked { metric: unusual.leading(dimension)?, at: unusual.at, before: before(unusual.at) })
            };
            let asked: Vec<Asked> = unusual.iter().filter_map(asked).collect();
            let told_by = |asked: &Asked| {
                let (metric, buckets) = (asked.metric, asked.before.iter().chain([&asked.at]).copied());
                buckets.map(move |bucket| (bucket, metric)).collect::<Vec<_>>()
            };
            let mut wanted: Vec<(usize, Metric)> = asked.iter().flat_map(told_by).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let split = Split { dimension, wanted };
            if let Some(members) = history.split(reads, memory, split.clone()).await? {
                splits.push((asked, split, members));
            }
        }
        Ok(Evidence(splits))
    }

    fn key(&self, tenant: TenantId, season: usize) -> Key {
        let of_split = |(asked, split, members): &(Vec<Asked>, Split, Arc<Vec<Member>>)| {
            let names: Vec<&Name> = members.iter().map(|member| &member.name).collect();
            format!("{asked:?} {split:?} {names:?}")
        };
        let question: Vec<String> = [season.to_string()].into_iter().chain(self.0.iter().map(of_split)).collect();
        let numbers = self.0.iter().flat_map(|(.., members)| members.iter().flat_map(Member::numbers));
        Key::new(tenant, &question.join(" "), numbers)
    }

    fn explain(&self) -> Explained {
        let mut parts = Explained::new();
        for (asked, split, members) in &self.0 {
            for asked in asked {
                parts.entry(asked.at).or_default().extend(of_members(members, split, asked));
            }
        }
        parts
    }
}

/// The members that deviate most in a bucket; none where their sums are not finite.
fn of_members(members: &[Member], split: &Split, asked: &Asked) -> Vec<MemberContribution> {
    let metric = asked.metric;
    let before: Vec<usize> = asked.before.iter().filter_map(|bucket| split.place(*bucket, metric)).collect();
    let now = split.place(asked.at, metric);
    let deviates = |member: &Member| {
        let expected = member_expected(before.iter().map(|place| member.sum(*place)).collect());
        (expected, now.map_or(0.0, |place| member.sum(place)))
    };
    let deviations: Vec<(f64, f64)> = members.iter().map(deviates).collect();
    let most = contributions(&deviations).unwrap_or_default().into_iter().take(MEMBERS_MAX);
    let most = most.filter(|contribution| contribution.deviation() != 0.0);
    most.map(|contribution| MemberContribution {
        metric,
        name: members[contribution.member].name.clone(),
        contribution,
    })
    .collect()
}

/// Whether a metric is the sum of its values over any of the dimensions.
pub fn explains(metric: Metric) -> bool {
    DIMENSIONS.into_iter().any(|dimension| adds_up(metric, dimension))
}

/// Whether a metric is the sum of its values over a dimension. An order may be in several categories, and a customer
/// may buy in several channels.
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
