//! The answer to a [`Plan`]: numbers as of one ledger position.

use std::sync::Arc;

use chrono_tz::Tz;
use models::kpis::Number;
use sea_orm::Value;

use super::cell::Values;
use super::history::{HistoryArgs, HistoryResult};
use super::input::ComparedValue;
use super::labels::Name;
use super::measured::Measured;
use super::period::Span;
use super::plan::{BreakdownArgs, ComparisonArgs, Plan, SeriesArgs};
use super::state::State;
use crate::auth::cursor::Mark;
use crate::clock::Timestamp;
use crate::db::{Db, HEAD_WAIT, LazyTx, Standing, TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::response_cache::Freshness;
use crate::graphql::size::Size;
use crate::ledger::memory::Memory;
use crate::money::Money;

/// The numbers of one plan, all as of the same position.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub span: Span,
    /// The zone in which the period was resolved.
    pub zone: Tz,
    /// Time of computation: buckets ending later are open.
    pub now: Timestamp,
    pub as_of: AsOf,
    /// The head of the snapshot.
    pub head: crate::db::Head,
    /// When a preset next means another span.
    pub slides_at: Option<Timestamp>,
    pub currency: Arc<str>,
    pub totals: Values,
    pub series: Vec<(SeriesArgs, Vec<Bucket>)>,
    pub breakdowns: Vec<(BreakdownArgs, Breakdown)>,
    pub comparisons: Vec<(ComparisonArgs, Comparison)>,
    pub histories: Vec<(HistoryArgs, HistoryResult)>,
    /// Open periods are compared with equally long parts of earlier ones, so the answer changes continuously.
    pub is_running: bool,
}

impl Answer {
    /// How long this answer is valid; `None` if it changes continuously.
    pub fn freshness(&self) -> Option<Freshness> {
        (!self.is_running).then(|| Freshness { head: self.head, until: self.next_end(), is_personal: false })
    }

    /// Resume mark for returning clients.
    pub fn mark(&self) -> Mark {
        Mark { position: self.as_of.position, part: self.head.policy_epoch, until: self.next_end() }
    }

    /// When the answer next changes even though the ledger does not: a bucket begins or ends, the period or one that it is
    /// compared with ends, a history gains a bucket, or a preset slides on. Comparisons of open periods change continuously and are not considered.
    pub fn next_end(&self) -> Option<Timestamp> {
        let buckets =
            self.series.iter().flat_map(|(_, buckets)| buckets).flat_map(|bucket| [bucket.span.start, bucket.span.end]);
        let histories = self.histories.iter().filter_map(|(_, history)| history.next_end());
        let compared = self.comparisons.iter().map(|(_, comparison)| comparison.previous_span.end);
        buckets
            .chain([self.span.end])
            .chain(compared)
            .chain(self.slides_at)
            .chain(histories)
            .filter(|end| *end > self.now)
            .min()
    }
}

/// A state of the ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AsOf {
    pub position: i64,
    pub watermark: Option<Timestamp>,
}

impl AsOf {
    /// The state at a position or, for `None`, the newest; `standing` must be what `tx` sees. Error:
    /// AS_OF_NOT_AVAILABLE.
    pub async fn find(tx: &TenantTx, position: Option<i64>, standing: &Standing) -> Result<AsOf> {
        let newest = standing.head.position;
        match position.unwrap_or(newest) {
            position if position == newest => Ok(AsOf { position, watermark: standing.watermark.map(Timestamp) }),
            position if position > newest => {
                Err(Error::new(Code::AsOfNotAvailable, "the ledger has not reached this position"))
            }
            position => Ok(AsOf { position, watermark: find_watermark(tx, position).await?.map(Timestamp) }),
        }
    }
}

/// The watermark at a position: that noted by the last batch before it, combined with the events of the batch it cuts.
/// If none was noted, that of all events.
async fn find_watermark(tx: &TenantTx, position: i64) -> Result<Option<i64>> {
    let sql = "SELECT last_position, watermark FROM ledger_batches WHERE tenant_id = $1 AND last_position <= $2 \
               ORDER BY last_position DESC LIMIT 1";
    let (after, noted) = match tx.query_one(sql, [Value::from(position)]).await? {
        Some(row) => (get::<i64>(&row, 0)?, get::<Option<i64>>(&row, 1)?),
        None => (0, None),
    };
    if noted.is_some() && after == position {
        return Ok(noted);
    }
    let after = if noted.is_some() { after } else { 0 };
    let sql = "SELECT MAX(occurred_at) FROM ledger_events \
               WHERE tenant_id = $1 AND position > $2 AND position <= $3 AND NOT is_superseded";
    let row = tx.query_one(sql, [after.into(), position.into()]).await?;
    let newest = row.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten();
    Ok(noted.max(newest))
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    pub span: Span,
    pub is_open: bool,
    pub has_begun: bool,
    pub key: Option<Name>,
    pub values: Values,
}

/// Rows of values of one period, or of two that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Breakdown<V = Values> {
    pub rows: Vec<(Vec<Name>, V)>,
    /// Aggregate of the remaining rows.
    pub other: Option<V>,
    pub rows_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub current_span: Span,
    pub previous_span: Span,
    pub whole: ComparedValues,
    pub breakdowns: Vec<(BreakdownArgs, Breakdown<ComparedValues>)>,
    /// Whether the current period is still running, so that the compared part grows with time.
    pub is_open: bool,
}

/// Values of two periods.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedValues {
    pub current: Values,
    pub previous: Values,
}

impl ComparedValues {
    /// Of changes from exact values: rates are not rounded first.
    pub fn exact(&self, measured: &Measured, of: ComparedValue) -> Option<Number> {
        let (current, previous) = (measured.exact(&self.current), measured.exact(&self.previous));
        match of {
            ComparedValue::Current => current,
            ComparedValue::Previous => previous,
            ComparedValue::AbsoluteChange => current?.less(previous?),
            ComparedValue::RelativeChange => current?.change_since(previous?),
        }
    }

    /// Current minus previous, in ten-thousandths.
    pub fn absolute_change(&self, measured: &Measured) -> Option<Money> {
        self.exact(measured, ComparedValue::AbsoluteChange)?.ten_thousandths().map(Money)
    }

    pub fn relative_change(&self, measured: &Measured) -> Option<f64> {
        self.exact(measured, ComparedValue::RelativeChange).map(Number::to_f64)
    }
}

/// Answers `plan` in the snapshot of `tx` at time `now` and charges the answer to `size`. Errors: BAD_USER_INPUT,
/// NOT_FOUND (organization), MIXED_CURRENCIES, AS_OF_NOT_AVAILABLE, AMOUNT_OUT_OF_RANGE.
pub async fn answer(tx: &TenantTx, memory: &Memory, plan: &Plan, now: Timestamp, size: &Size) -> Result<Answer> {
    State::read(tx, memory, plan, now, size).await?.answer(&LazyTx::Begun(tx), memory, now).await
}

/// The same as of now, from what this process has in memory alone; `None` if that does not suffice.
pub async fn remembered_answer(
    (db, tenant): (&Db, TenantId),
    memory: &Memory,
    plan: &Plan,
    now: Timestamp,
    size: &Arc<Size>,
) -> Result<Option<Answer>> {
    if !plan.may_be_remembered() {
        return Ok(None);
    }
    // Why there is no head is left to the transaction to report.
    let standing = tokio::time::timeout(HEAD_WAIT, db.standing(tenant)).await;
    let Ok(Ok(Some(standing))) = standing else { return Ok(None) };
    let (tx, part) = (db.caches_only(tenant), Size::part(size));
    let answered = async {
        let mut state = State::read_at(&tx, standing, memory, plan, now, &part).await?;
        state.answer(&LazyTx::Begun(&tx), memory, now).await
    };
    match answered.await {
        Err(error) if error.is_not_cached() => {
            size.take_back(&part);
            Ok(None)
        }
        answered => answered.map(Some),
    }
}
