//! Drops the raw entries of old months. Rollups, orders, refunds and customers stay, so metrics are unchanged at the
//! granularity of whole 15-minute slots; lost are the ability to recompute them, partial slots, earlier states, and the
//! event ids, whose events are refused by their time from then on.

use chrono::{Datelike, Months, NaiveDate, NaiveTime};

use super::fold::fold_locked;
use super::store::begin_policy_epoch;
use super::tail::Tails;
use crate::clock::Timestamp;
use crate::db::{Db, TenantId};
use crate::error::{Error, Result};

/// Rows deleted per transaction, to keep writers from waiting.
const ROWS_MAX: i64 = 20_000;

/// What was, or would be, dropped of one tenant.
#[derive(Debug, Default, PartialEq)]
pub struct Dropped {
    pub entries: u64,
    pub events: u64,
}

/// The first instant kept when `months` whole months before the current one are.
pub fn cut(now: Timestamp, months: u32) -> Result<NaiveDate> {
    let today = now.to_utc().ok_or_else(|| Error::internal("a clock outside of the calendar"))?.date_naive();
    let first = today.with_day(1).and_then(|first| first.checked_sub_months(Months::new(months)));
    first.ok_or_else(|| Error::bad_input("keepMonths", "more months than the calendar has"))
}

/// Counts what [`drop_before`] would drop, which may take longer than a request.
pub async fn count_before(db: &Db, tenant: TenantId, cut: NaiveDate) -> Result<Dropped> {
    let tx = db.read_patiently(tenant).await?;
    let count = async |sql: &str| -> Result<u64> { Ok(tx.count(sql, [micros(cut).into()]).await?.unsigned_abs()) };
    Ok(Dropped {
        entries: count("SELECT COUNT(*) FROM ledger_entries WHERE tenant_id = $1 AND at < $2").await?,
        events: count("SELECT COUNT(*) FROM ledger_events WHERE tenant_id = $1 AND occurred_at < $2").await?,
    })
}

/// Closes the months before `cut` to new events. Their content is then in the rollups.
pub async fn close_before(db: &Db, tenant: TenantId, cut: NaiveDate) -> Result<()> {
    let tx = db.write(tenant).await?;
    fold_locked(&tx, &Tails::default()).await?;
    let sql = "UPDATE ledger_heads SET retained_from = $2 \
               WHERE tenant_id = $1 AND (retained_from IS NULL OR retained_from < $2)";
    if tx.execute(sql, [micros(cut).into()]).await? > 0 {
        // Invalidates answers about these months.
        begin_policy_epoch(&tx).await?;
    }
    tx.commit().await
}

/// Deletes the content of the closed months. Interruptible and resumable.
pub async fn drop_before(db: &Db, tenant: TenantId, cut: NaiveDate) -> Result<Dropped> {
    let entries = "DELETE FROM ledger_entries WHERE tenant_id = $1 AND at < $2 AND position IN \
                   (SELECT e.position FROM ledger_entries e WHERE e.tenant_id = $1 AND e.at < $2 ORDER BY e.at LIMIT $3)";
    let batches = "DELETE FROM ledger_batches WHERE tenant_id = $1 AND last_position IN \
                   (SELECT b.last_position FROM ledger_batches b WHERE b.tenant_id = $1 AND b.recorded_at < $2 LIMIT $3)";
    delete_in_parts(db, tenant, batches, cut).await?;
    Ok(Dropped {
        entries: delete_in_parts(db, tenant, entries, cut).await?,
        events: delete_events(db, tenant, cut).await?,
    })
}

/// Walks the events in id order, by keyset.
async fn delete_events(db: &Db, tenant: TenantId, cut: NaiveDate) -> Result<u64> {
    let page =
        "SELECT event_id FROM ledger_events WHERE tenant_id = $1 AND event_id > $2 ORDER BY event_id LIMIT 1 OFFSET $3";
    let sql =
        "DELETE FROM ledger_events WHERE tenant_id = $1 AND event_id > $2 AND event_id <= $3 AND occurred_at < $4";
    let rest = "DELETE FROM ledger_events WHERE tenant_id = $1 AND event_id > $2 AND occurred_at < $3";
    let (mut after, mut deleted) = (String::new(), 0);
    loop {
        let tx = db.write(tenant).await?;
        let last = tx.query_one(page, [after.clone().into(), (ROWS_MAX - 1).into()]).await?;
        let last: Option<String> = last.map(|row| crate::db::get(&row, 0)).transpose()?;
        deleted += match &last {
            Some(last) => tx.execute(sql, [after.into(), last.clone().into(), micros(cut).into()]).await?,
            None => tx.execute(rest, [after.into(), micros(cut).into()]).await?,
        };
        tx.commit().await?;
        match last {
            Some(last) => after = last,
            None => return Ok(deleted),
        }
    }
}

async fn delete_in_parts(db: &Db, tenant: TenantId, sql: &str, cut: NaiveDate) -> Result<u64> {
    let mut deleted = 0;
    loop {
        let tx = db.write(tenant).await?;
        let part = tx.execute(sql, [micros(cut).into(), ROWS_MAX.into()]).await?;
        tx.commit().await?;
        deleted += part;
        if part == 0 {
            return Ok(deleted);
        }
    }
}

fn micros(day: NaiveDate) -> i64 {
    day.and_time(NaiveTime::MIN).and_utc().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_months_before_the_running_one_are_kept() {
        let now = Timestamp(1_781_524_800 * crate::clock::SECOND); // 2026-06-15T12:00:00Z
        assert_eq!(cut(now, 0).ok(), NaiveDate::from_ymd_opt(2026, 6, 1));
        assert_eq!(cut(now, 13).ok(), NaiveDate::from_ymd_opt(2025, 5, 1));
        assert!(cut(now, u32::MAX).is_err());
    }
}
