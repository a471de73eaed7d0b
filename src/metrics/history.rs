//! What metrics were, bucket by bucket, as far as it is over: for those who learn from it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use chrono_tz::Tz;
use models::forecasts::WINDOW_MAX;
use sea_orm::Value;
use tokio::sync::Mutex;

use super::answer::AsOf;
use super::catalog::{Metric, Needs};
use super::cell::Values;
use super::input::{Grain, Weekday};
use super::labels::{Labels, Name};
use super::part::{Scope, too_many_buckets};
use super::period::Span;
use super::plan::BUCKETS_MAX;
use super::read::{Dimension, Facts};
use crate::calendar::{Step, boundaries_after, buckets_before};
use crate::clock::Timestamp;
use crate::db::{Head, LazyTx, TenantTx, get};
use crate::error::Result;
use crate::ledger::memory::Memory;
use crate::ledger::store::read_head;
use crate::money::SCALE;

/// Which buckets a history has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryArgs {
    pub grain: Grain,
    pub timezone: Option<Tz>,
    pub week_start: Weekday,
}

/// A history that is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryPlan {
    pub args: HistoryArgs,
    pub needs: Needs,
    /// Whether it reaches back to the start of the period, however long ago that was.
    pub covers_period: bool,
}

/// The last buckets that were over by the end of a period, each with its metrics. It begins with the first one that has any
/// facts.
#[derive(Debug)]
pub struct History {
    scope: Arc<Scope>,
    step: Step,
    pub zone: Tz,
    pub as_of: AsOf,
    /// The head of the snapshot that it was read from.
    pub head: Head,
    /// Buckets lie between these.
    pub boundaries: Vec<Timestamp>,
    values: Vec<Values>,
    /// When one more bucket will be over.
    pub next_end: Option<Timestamp>,
    splits: Mutex<Vec<(Split, Arc<Vec<Member>>)>>,
}

impl History {
    /// Reads what `plan` asks for of the buckets that end by `until` and, if it is to cover it, in `span`.
    pub(super) async fn read(
        tx: &TenantTx,
        at: &At<'_>,
        facts: &Facts,
        plan: &HistoryPlan,
        span: Span,
    ) -> Result<History> {
        let (step, zone) = (plan.args.grain.step(plan.args.week_start), plan.args.timezone.unwrap_or(at.zone));
        let until = at.over_by.min(span.end);
        let window = u32::try_from(WINDOW_MAX).unwrap_or(u32::MAX);
        let mut start = buckets_before(until, window, step, zone);
        if plan.covers_period {
            start = start.min(buckets_before(span.start, 0, step, zone));
        }
        if let Some(kept_from) = at.kept_from.filter(|kept_from| start < *kept_from) {
            let first_kept = boundaries_after(Timestamp(kept_from.0 - 1), step, zone).next();
            start = first_kept.unwrap_or(kept_from);
        }
        let mut boundaries = vec![start];
        let mut later = boundaries_after(start, step, zone).peekable();
        while let Some(next) = later.next_if(|next| *next <= until) {
            boundaries.push(next);
            if boundaries.len() > BUCKETS_MAX + 1 {
                return Err(too_many_buckets());
            }
        }
        let next_end = later.next().filter(|next| *next <= span.end && at.is_newest);
        let cells = at.scope.question(&boundaries, &[], plan.needs).cells(tx, facts).await?;
        let buckets = boundaries.len() - 1;
        let first = cells.cells.keys().map(|(bucket, _)| *bucket).min().unwrap_or(buckets);
        Ok(History {
            scope: Arc::clone(at.scope),
            step,
            zone,
            as_of: at.as_of,
            head: at.head,
            values: cells.values_by_bucket(first..buckets)?,
            boundaries: boundaries.split_off(first),
            next_end,
            splits: Mutex::default(),
        })
    }

    /// A metric by bucket.
    pub fn series(&self, metric: Metric) -> Vec<Option<f64>> {
        self.values.iter().map(|values| number(metric, values)).collect()
    }

    pub fn span(&self, bucket: usize) -> Option<Span> {
        Some(Span { start: *self.boundaries.get(bucket)?, end: *self.boundaries.get(bucket + 1)? })
    }

    /// The ends of the buckets that come next.
    pub fn ends_to_come(&self) -> impl Iterator<Item = Timestamp> {
        self.boundaries.last().into_iter().flat_map(|last| boundaries_after(*last, self.step, self.zone))
    }

    /// Some buckets by the values of a dimension, as of the same position. What was read once is not read again.
    pub async fn split(&self, reads: &LazyTx<'_>, memory: &Memory, split: Split) -> Result<Arc<Vec<Member>>> {
        let mut splits = self.splits.lock().await;
        if let Some((_, members)) = splits.iter().find(|(other, _)| *other == split) {
            return Ok(Arc::clone(members));
        }
        let members = Arc::new(self.read_split(reads.get().await?, memory, &split).await?);
        splits.push((split, Arc::clone(&members)));
        Ok(members)
    }

    async fn read_split(&self, tx: &TenantTx, memory: &Memory, split: &Split) -> Result<Vec<Member>> {
        let Some(boundaries) = self.boundaries.get(split.buckets.start..=split.buckets.end) else {
            return Ok(Vec::new());
        };
        let head = read_head(tx).await?;
        let facts = Facts::at(tx, memory, &head, self.as_of.position).await?;
        let group = [split.dimension];
        let cells = self.scope.question(boundaries, &group, split.needs).cells(tx, &facts).await?;
        let (mut labels, keys) = (Labels::default(), cells.cells.keys().map(|(_, key)| key));
        labels.complete(&LazyTx::Begun(tx), &memory.names, &group, keys, &self.scope.organizations).await?;
        let mut members = BTreeMap::<i64, Vec<Values>>::new();
        for ((bucket, key), cell) in &cells.cells {
            let nothing = || vec![Values::default(); boundaries.len() - 1];
            let values = cell.values(cells.view, cells.first_customers(*bucket))?;
            members.entry(key[0]).or_insert_with(nothing)[*bucket] = values;
        }
        let member = |(no, values)| Member { name: labels.name(split.dimension, no), values };
        let mut members: Vec<Member> = members.into_iter().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }
}

/// Which buckets of a history are split by what.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub dimension: Dimension,
    pub buckets: Range<usize>,
    pub needs: Needs,
}

/// One value of a dimension.
#[derive(Debug)]
pub struct Member {
    pub name: Name,
    values: Vec<Values>,
}

impl Member {
    /// A metric by bucket.
    pub fn series(&self, metric: Metric) -> Vec<Option<f64>> {
        self.values.iter().map(|values| number(metric, values)).collect()
    }
}

/// Of the same numbers.
impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        (self.as_of, &self.boundaries, &self.values) == (other.as_of, &other.boundaries, &other.values)
    }
}

/// From where and when a history is read.
pub(super) struct At<'a> {
    pub scope: &'a Arc<Scope>,
    pub zone: Tz,
    pub as_of: AsOf,
    pub head: Head,
    /// Whether nothing newer is known.
    pub is_newest: bool,
    /// What lies before cannot be told any more.
    pub kept_from: Option<Timestamp>,
    /// What ends later was not over yet at that position.
    pub over_by: Timestamp,
}

/// When a position had been the newest for the last time: the ledger did not know then what came later.
pub(super) async fn left_at(tx: &TenantTx, position: i64) -> Result<Option<Timestamp>> {
    let sql = "SELECT MIN(recorded_at) FROM ledger_batches WHERE tenant_id = $1 AND last_position > $2";
    let row = tx.query_one(sql, [Value::from(position)]).await?;
    Ok(row.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten().map(Timestamp))
}

/// A metric as models take it: in units of currency, pieces, or shares of one.
pub fn number(metric: Metric, values: &Values) -> Option<f64> {
    match metric {
        Metric::ConversionRate => values.conversion_rate(),
        Metric::RefundRate => values.refund_rate(),
        _ => metric.value(values).map(|value| value.0 as f64 / SCALE as f64),
    }
}
