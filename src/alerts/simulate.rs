//! Tries a rule on history: the same steps at the same moments as if it had been there.

use chrono_tz::Tz;
use sea_orm::Value;
use tokio::sync::Semaphore;

use super::anomaly;
use super::progress::{Change, Measure, Progress};
use super::rule::Rule;
use crate::clock::{DAY, MINUTE, Timestamp};
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::entry::Entry;
use crate::ledger::memory::Memory;
use crate::ledger::organization::Organization;
use crate::ledger::store::{ENTRY_COLUMNS, entry_from, read_head};
use crate::metrics::cell::Values;
use crate::metrics::filter::Filter;
use crate::metrics::period::Span;
use crate::metrics::read::{Cells, Question};

/// The longest period that is tried.
const PERIOD_MAX: i64 = 31 * DAY;
/// Entries and batches of the period.
const ROWS_MAX: usize = 200_000;
/// Entries looked at in all: each evaluation looks at those of its window.
const LOOKS_MAX: usize = 50_000_000;
/// Looks after which others have their turn.
const LOOKS_AT_ONCE: usize = 200_000;
/// Trials at the same time; others wait.
static TRIALS: Semaphore = Semaphore::const_new(1);

/// What the rule would have reported from `from` to `to`, each with the position that causes it. Errors: BAD_USER_INPUT (the
/// period), NOT_FOUND (organization), MIXED_CURRENCIES, AS_OF_NOT_AVAILABLE (its months were dropped).
pub async fn simulate(tx: &TenantTx, memory: &Memory, rule: &Rule, period: Span) -> Result<Vec<(Change, i64)>> {
    if period.end.0 - period.start.0 > PERIOD_MAX {
        return Err(Error::bad_input("to", "at most 31 days after from"));
    }
    let _turn = TRIALS.acquire().await.map_err(Error::internal)?;
    let head = read_head(tx).await?;
    let organizations = memory.organizations.get(tx, &head).await?;
    let filter = Filter::find(tx, &organizations, &rule.filters.clone().unwrap_or_default()).await?;
    // A cause may lie some windows back.
    let first = match (rule.bucket_grain(), rule.zone(&organizations)) {
        (Some(grain), Some(zone)) => anomaly::looks_back_to(grain, period.start, zone),
        _ => Timestamp(period.start.0 - 2 * i64::from(rule.window_minutes) * MINUTE),
    };
    if head.retained_from.is_some_and(|from| first.0 < from) {
        return Err(Error::new(Code::AsOfNotAvailable, "the period reaches into months whose entries were dropped"));
    }
    let entries = read_entries(tx, first, period.end).await?;
    let mut arrivals: Vec<&(i64, Entry)> = entries.iter().collect();
    arrivals.sort_by_key(|(position, _)| *position);
    let arrived = |position: i64| arrivals.partition_point(|(other, _)| *other <= position);
    let sql = "SELECT last_position, recorded_at, is_backfill FROM ledger_batches WHERE tenant_id = $1 \
               AND recorded_at >= $2 AND recorded_at <= $3 ORDER BY last_position LIMIT $4";
    let batches = tx.query(sql, [period.start.0.into(), period.end.0.into(), limit()]).await?;
    if batches.len() > ROWS_MAX {
        return Err(too_much());
    }
    let mut history =
        History { entries: &entries, filter: &filter, organizations: &organizations, position: i64::MAX, looks: 0 };
    history.position = position_before(tx, period.start).await?;
    let mut trial = Trial { rule, progress: Progress::begin(period.start), history, changes: Vec::new() };
    for batch in batches {
        let recorded_at = Timestamp(get(&batch, 1)?);
        trial.until(recorded_at).await?;
        let (before, position) = (trial.history.position, get(&batch, 0)?);
        trial.history.position = position;
        let is_backfill: bool = get(&batch, 2)?;
        if !is_backfill {
            let news = &arrivals[arrived(before)..arrived(position)];
            trial.step(recorded_at, news.iter().map(|(_, entry)| entry)).await?;
        }
    }
    trial.until(period.end).await?;
    Ok(trial.changes)
}

async fn read_entries(tx: &TenantTx, first: Timestamp, end: Timestamp) -> Result<Vec<(i64, Entry)>> {
    // Windows may reach into the running 15 minutes; nothing lies more than a day ahead.
    let sql = format!(
        "SELECT {ENTRY_COLUMNS} FROM ledger_entries e WHERE e.tenant_id = $1 AND e.at >= $2 AND e.at < $3 \
         ORDER BY e.at, e.position, e.entry_no LIMIT $4"
    );
    let rows = tx.query(&sql, [first.0.into(), (end.0 + DAY).into(), limit()]).await?;
    if rows.len() > ROWS_MAX { Err(too_much()) } else { rows.iter().map(entry_from).collect() }
}

/// One row more than is taken.
fn limit() -> Value {
    i64::try_from(ROWS_MAX + 1).unwrap_or(i64::MAX).into()
}

fn too_much() -> Error {
    Error::bad_input("to", "there is too much in this period; take a shorter one")
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
        if let Some(change) = self.progress.step(self.rule, now, news, &mut self.history).await? {
            self.changes.push((change, self.history.position));
        }
        Ok(())
    }
}

/// The ledger as it stood at `position`.
struct History<'a> {
    /// In order of time.
    entries: &'a [(i64, Entry)],
    filter: &'a Filter,
    organizations: &'a [Organization],
    position: i64,
    looks: usize,
}

impl History<'_> {
    /// The cells between boundaries, of what the ledger knew then.
    async fn cells(&mut self, rule: &Rule, boundaries: &[Timestamp]) -> Result<Option<Cells>> {
        let (Some(start), Some(end)) = (boundaries.first(), boundaries.last()) else { return Ok(None) };
        if start >= end {
            return Ok(None);
        }
        let place = |at: Timestamp| self.entries.partition_point(|(_, entry)| entry.at < at);
        let within = &self.entries[place(*start)..place(*end)];
        let before = self.looks;
        self.looks += within.len() + 1;
        if self.looks > LOOKS_MAX {
            return Err(too_much());
        }
        if before / LOOKS_AT_ONCE < self.looks / LOOKS_AT_ONCE {
            tokio::task::yield_now().await;
        }
        let then = within.iter().filter(|(position, _)| *position <= self.position).map(|(_, entry)| entry);
        let (filter, organizations) = (self.filter, self.organizations);
        let question = Question { boundaries, filter, organizations, group: &[], needs: rule.needs() };
        Ok(Some(question.cells_of(then)?))
    }
}

impl Measure for History<'_> {
    async fn values(&mut self, rule: &Rule, span: Span) -> Result<Option<Values>> {
        self.cells(rule, &[span.start, span.end]).await?.map(|cells| cells.whole_values()).transpose()
    }

    async fn buckets(&mut self, rule: &Rule, boundaries: &[Timestamp]) -> Result<Option<Vec<Values>>> {
        let cells = self.cells(rule, boundaries).await?;
        cells.map(|cells| cells.values_by_bucket(0..boundaries.len() - 1)).transpose()
    }

    async fn zone(&mut self, rule: &Rule) -> Result<Option<Tz>> {
        Ok(rule.zone(self.organizations))
    }
}
