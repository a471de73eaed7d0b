//! Simulates a rule on history: the same steps at the same moments as if it had existed.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use chrono_tz::Tz;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::anomaly;
use super::progress::{Change, Measure, Progress};
use super::rule::Rule;
use crate::clock::{DAY, MINUTE, Timestamp};
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::scalars::DateTime;
use crate::ledger::entry::Entry;
use crate::ledger::memory::Memory;
use crate::ledger::organization::Organization;
use crate::ledger::store::read_head;
use crate::metrics::cell::Values;
use crate::metrics::facts::read_entries;
use crate::metrics::filter::Filter;
use crate::metrics::grid::CellGrid;
use crate::metrics::group::UNGROUPED;
use crate::metrics::kpis::part::Views;
use crate::metrics::kpis::{Calendar, definitions};
use crate::metrics::period::Span;
use crate::metrics::ranges::round_down;
use crate::metrics::read::Question;
use crate::metrics::state::default_zone;

/// Maximum simulated period.
const PERIOD_MAX: i64 = 31 * DAY;
/// Maximum entries, and batches, of the period.
const ROWS_MAX: usize = 200_000;
/// Limit on entries visited in total: each evaluation visits those in its window.
const LOOKS_MAX: usize = 50_000_000;
/// Maximum difference in length between months, plus a day.
const MARGIN: i64 = 4 * DAY;
/// Entries visited before yielding.
const LOOKS_AT_ONCE: usize = 200_000;
/// Concurrent simulations; further ones wait, of each tenant one together with those of others.
static TRIALS: Semaphore = Semaphore::const_new(1);
static TENANTS: LazyLock<Mutex<HashMap<TenantId, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);

/// A permit to simulate.
pub struct Turn {
    _of_all: SemaphorePermit<'static>,
    _of_tenant: OwnedSemaphorePermit,
}

/// Waits for a permit. Before the snapshot, whose connection would otherwise be held while waiting.
pub async fn turn(tenant: TenantId) -> Result<Turn> {
    let of_tenant = {
        let mut tenants = TENANTS.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, semaphore| semaphore.strong_count() > 0);
        let known = tenants.get(&tenant).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(1));
            tenants.insert(tenant, Arc::downgrade(&new));
            new
        })
    };
    let of_tenant = of_tenant.acquire_owned().await.map_err(Error::internal)?;
    let of_all = TRIALS.acquire().await.map_err(Error::internal)?;
    Ok(Turn { _of_all: of_all, _of_tenant: of_tenant })
}

/// What the rule would have reported between `from` and `to`, with the causing positions. Errors: BAD_USER_INPUT (the
/// period, including one that ends before anything was recorded), NOT_FOUND (organization), MIXED_CURRENCIES,
/// AS_OF_NOT_AVAILABLE (its months were dropped).
pub async fn simulate(tx: &TenantTx, memory: &Memory, rule: &Rule, period: Span) -> Result<Vec<(Change, i64)>> {
    if period.end.0 - period.start.0 > PERIOD_MAX {
        return Err(Error::bad_input("to", "at most 31 days after from"));
    }
    let head = read_head(tx).await?;
    let organizations = memory.organizations.get(tx, head.policy_epoch).await?;
    let names = rule.filters.clone().unwrap_or_default();
    let last = position_before(tx, Timestamp(period.end.0 + 1)).await?;
    let earlier = Some(last).filter(|last| *last < head.position);
    let filter = Filter::find(tx, &organizations, &names, rule.measured.adds_amounts(), earlier).await?;
    let zone = default_zone(&filter, &organizations);
    // A cause may lie a few windows back; windows may reach into the current 15 minutes, and nothing lies more than a
    // day ahead.
    let first = match rule.bucket_grain() {
        Some(grain) => anomaly::looks_back_to(grain, period.start, zone),
        // The first window ends with the last complete 15 minutes.
        None => Timestamp(round_down(period.start).0 - 2 * i64::from(rule.window_minutes) * MINUTE),
    };
    let looked_at = Span { start: first, end: Timestamp(period.end.0 + DAY) };
    let definitions = definitions::find(tx, &rule.measured.kpis()).await.map_err(|error| error.about("kpi"))?;
    rule.check_views(&definitions)?;
    let views = Views::find(tx, &filter, definitions.values()).await?;
    let spans = spans_of(&views, rule, looked_at, zone);
    if head.retained_from.is_some_and(|from| spans.iter().any(|span| span.start.0 < from)) {
        return Err(Error::new(Code::AsOfNotAvailable, "the period reaches into months whose entries were dropped"));
    }
    let entries = read_entries(tx, &spans, head.position, ROWS_MAX).await?.ok_or_else(too_much)?;
    let mut arrivals: Vec<&(i64, Entry)> = entries.iter().collect();
    arrivals.sort_by_key(|(position, _)| *position);
    let arrived = |position: i64| arrivals.partition_point(|(other, _)| *other <= position);
    let sql = "SELECT last_position, recorded_at, is_backfill FROM ledger_batches WHERE tenant_id = $1 \
               AND recorded_at >= $2 AND recorded_at <= $3 ORDER BY last_position LIMIT $4";
    // One more than allowed, to detect excess.
    let limit = i64::try_from(ROWS_MAX + 1).unwrap_or(i64::MAX);
    let batches = tx.query(sql, [period.start.into(), period.end.into(), limit.into()]).await?;
    if batches.len() > ROWS_MAX {
        return Err(too_much());
    }
    let before = position_before(tx, period.start).await?;
    if batches.is_empty() && before == 0 && head.position > 0 && head.retained_from.is_none() {
        return Err(not_yet(tx).await?);
    }
    let history = History {
        entries: &entries,
        filter: &filter,
        organizations: &organizations,
        views,
        zone,
        now: period.start,
        position: before,
        looks: 0,
    };
    let mut trial = Trial { rule, progress: Progress::begin(period.start), history, changes: Vec::new() };
    for batch in batches {
        let (before, position) = (trial.history.position, get(&batch, 0)?);
        if position <= before {
            // Another server's clock was ahead: a later batch was recorded before the period.
            continue;
        }
        let recorded_at: Timestamp = get(&batch, 1)?;
        trial.until(recorded_at).await?;
        trial.history.position = position;
        let is_backfill: bool = get(&batch, 2)?;
        if !is_backfill {
            let news = arrivals[arrived(before)..arrived(position)].iter().map(|(_, entry)| entry);
            if trial.progress.is_concerned_by(rule, recorded_at, news.clone()) {
                trial.step(recorded_at, news).await?;
            }
        }
    }
    trial.until(period.end).await?;
    Ok(trial.changes)
}

/// The spans whose entries are visited, disjoint and in order: `looked_at`, extended as far back as the views look.
fn spans_of(views: &Views, rule: &Rule, looked_at: Span, zone: Tz) -> Vec<Span> {
    let window = i64::from(rule.window_minutes) * MINUTE;
    // With `now` at the end of time, no bucket is open and none is cut.
    let calendar = Calendar { zone, now: Timestamp(i64::MAX), whole: None, part_of: None, step: None };
    let first = Span { start: looked_at.start, end: Timestamp(looked_at.start.0 + window) };
    let last = Span { start: Timestamp(looked_at.end.0 - window), end: looked_at.end };
    let back = views.spans(first, &calendar).zip(views.spans(last, &calendar));
    let earlier = back.map(|((first, shift), (last, _))| {
        // Windows in between may be whole days or months, whose lengths vary with each step.
        let steps = i64::try_from(shift.steps().len()).unwrap_or(i64::MAX) + i64::from(shift.periods());
        let margin = MARGIN.saturating_mul(steps + 1);
        Span { start: Timestamp(first.start.0 - margin), end: Timestamp(last.end.0 + margin) }
    });
    Span::united(earlier.chain([looked_at]).collect())
}

fn too_much() -> Error {
    Error::bad_input("to", "there is too much in this period; choose a shorter one")
}

/// The error for a period that ends before anything was recorded.
async fn not_yet(tx: &TenantTx) -> Result<Error> {
    let sql = "SELECT MIN(recorded_at) FROM ledger_batches WHERE tenant_id = $1";
    let row = tx.query_one(sql, []).await?;
    let first: Option<i64> = row.map_or(Ok(None), |row| get(&row, 0))?;
    let first = first.and_then(|first| DateTime(Timestamp(first)).to_text()).unwrap_or_else(|| "the end".to_owned());
    let message = format!("nothing was recorded before {first}; rules are replayed as events were recorded");
    Ok(Error::bad_input("to", message))
}

async fn position_before(tx: &TenantTx, at: Timestamp) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(last_position), 0) FROM ledger_batches WHERE tenant_id = $1 AND recorded_at < $2";
    let row = tx.query_one(sql, [at.0.into()]).await?;
    Ok(row.map(|row| get(&row, 0)).transpose()?.unwrap_or(0))
}

struct Trial<'a> {
    rule: &'a Rule,
    progress: Progress,
    history: History<'a>,
    changes: Vec<(Change, i64)>,
}

impl Trial<'_> {
    /// Evaluates what was due up to `now`.
    async fn until(&mut self, now: Timestamp) -> Result<()> {
        loop {
            let due = self.progress.due_at(self.rule);
            if due > now {
                return Ok(());
            }
            self.step(due, std::iter::empty()).await?;
            self.progress.evaluated_to = due;
        }
    }

    async fn step<'e>(&mut self, now: Timestamp, news: impl Iterator<Item = &'e Entry>) -> Result<()> {
        let now = now.max(self.progress.evaluated_to);
        self.history.now = now;
        if let Some(change) = self.progress.step(self.rule, now, news, &mut self.history).await? {
            self.changes.push((change, self.history.position));
        }
        Ok(())
    }
}

/// The ledger as it stood at `position`.
struct History<'a> {
    /// In time order.
    entries: &'a [(i64, Entry)],
    filter: &'a Filter,
    organizations: &'a [Organization],
    /// Of the KPI, if the rule watches one.
    views: Views,
    zone: Tz,
    now: Timestamp,
    position: i64,
    looks: usize,
}

impl<'a> History<'a> {
    /// The entries of a span known at the position.
    fn then(&mut self, span: Span) -> impl Iterator<Item = &'a Entry> + Clone + use<'a> {
        let place = |at: Timestamp| self.entries.partition_point(|(_, entry)| entry.at < at);
        let within = &self.entries[place(span.start)..place(span.end)];
        self.looks += within.len() + 1;
        let position = self.position;
        within.iter().filter(move |(then, _)| *then <= position).map(|(_, entry)| entry)
    }

    /// Cells between boundaries, from what the ledger knew then.
    fn grid(&mut self, rule: &Rule, boundaries: &[Timestamp]) -> Result<Option<CellGrid>> {
        let (Some(start), Some(end)) = (boundaries.first(), boundaries.last()) else { return Ok(None) };
        if start >= end {
            return Ok(None);
        }
        let then = self.then(Span { start: *start, end: *end });
        let needs = rule.needs().and(self.views.own_needs());
        let (filter, organizations) = (self.filter, self.organizations);
        let cells = Question { boundaries, filter, organizations, group: &UNGROUPED, needs }.cells_of(then)?;
        let calendar = Calendar { zone: self.zone, now: self.now, whole: None, part_of: None, step: None };
        let views = self.views.clone();
        let kpis = views.of_entries((organizations, boundaries), &calendar, |span| self.then(span))?;
        Ok(Some(CellGrid { boundaries: boundaries.to_vec(), group: UNGROUPED.clone(), needs, cells, kpis }))
    }

    /// Aborts simulations that visit too many entries.
    fn check_looks(&self) -> Result<()> {
        if self.looks > LOOKS_MAX { Err(too_much()) } else { Ok(()) }
    }

    /// The same, and yields; `before` is the count at the start of the time slice.
    async fn pause(&self, before: usize) -> Result<()> {
        self.check_looks()?;
        if before / LOOKS_AT_ONCE < self.looks / LOOKS_AT_ONCE {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl Measure for History<'_> {
    async fn values(&mut self, rule: &Rule, span: Span) -> Result<Option<Values>> {
        let before = self.looks;
        let grid = self.grid(rule, &[span.start, span.end])?;
        self.pause(before).await?;
        let Some(grid) = grid else { return Ok(None) };
        grid.values().await.map(Some)
    }

    async fn buckets(&mut self, rule: &Rule, boundaries: &[Timestamp]) -> Result<Option<Vec<Values>>> {
        let grid = self.grid(rule, boundaries)?;
        // Scoring each bucket takes long enough to yield after each evaluation.
        self.looks += boundaries.len();
        self.check_looks()?;
        tokio::task::yield_now().await;
        let Some(grid) = grid else { return Ok(None) };
        grid.values_by_bucket(0..boundaries.len() - 1).await.map(Some)
    }

    async fn zone(&mut self, _: &Rule) -> Result<Option<Tz>> {
        Ok(Some(self.zone))
    }
}
