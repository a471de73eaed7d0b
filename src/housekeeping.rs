//! Deletes expired records, tenant by tenant and in batches: long-ended sessions with their refresh tokens, mailed
//! links, old deliveries and alerts. The audit log stays: the server has no right to delete from it.

use std::time::Duration;

use sea_orm::Value;
use uuid::Uuid;

use crate::app::App;
use crate::clock::{DAY, Timestamp};
use crate::db::TenantId;
use crate::error::Result;
use crate::tenancy::list_tenants;

const FIRST_WAIT: Duration = Duration::from_secs(5 * 60);
const INTERVAL: Duration = Duration::from_secs(3600);
/// A session ends at most 30 days after its sign-in; its record is kept for as long again.
const SESSION_DAYS: i64 = 60;
/// After the expiry of a mailed link, whose lifetime is at most 7 days.
const MAILED_DAYS: i64 = 7;
/// Rows of a tenant deleted per batch; sessions have up to a few thousand refresh tokens each.
const ROWS_AT_ONCE: i64 = 500;
const SESSIONS_AT_ONCE: i64 = 10;
/// Per kind and tenant; the next run continues.
const ROUNDS_MAX: usize = 200;

/// Configurable retention periods.
#[derive(Clone, Copy, Debug)]
pub struct RetentionDays {
    pub alert_days: i64,
    pub delivery_days: i64,
}

impl Default for RetentionDays {
    fn default() -> Self {
        RetentionDays { alert_days: 365, delivery_days: 90 }
    }
}

/// Runs once an hour, until dropped.
pub async fn run(app: App, keep: RetentionDays) {
    tokio::time::sleep(FIRST_WAIT).await;
    loop {
        match tidy(&app, keep).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "expired rows removed"),
            Err(error) => tracing::warn!(source = error.cause(), "looking for expired rows failed"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Deletes expired records of all tenants; returns the number of rows, without refresh tokens. Safe to run in several
/// processes.
pub async fn tidy(app: &App, keep: RetentionDays) -> Result<u64> {
    let now = app.clock.now();
    let mut removed = 0;
    for (_, tenant) in list_tenants(&app.db).await? {
        match tidy_tenant(app, tenant, now, keep).await {
            Ok(rows) => removed += rows,
            Err(error) => {
                tracing::warn!(tenant = %tenant.0, source = error.cause(), "removing expired rows failed")
            }
        }
    }
    Ok(removed)
}

async fn tidy_tenant(app: &App, tenant: TenantId, now: Timestamp, keep: RetentionDays) -> Result<u64> {
    let before = |days: i64| Timestamp(now.0 - days * DAY);
    // Ids are time-ordered, and the tables are ordered by them.
    let id_before = |days| -> Value { first_id(before(days)).into() };
    let mut removed = 0;
    for (table, key, which, limit, at_once) in [
        ("sessions", "id", "id < $2", id_before(SESSION_DAYS), SESSIONS_AT_ONCE),
        ("mailed_tokens", "hash", "ends_at < $2", before(MAILED_DAYS).0.into(), ROWS_AT_ONCE),
        ("deliveries", "id", "id < $2 AND state <> 'PENDING'", id_before(keep.delivery_days), ROWS_AT_ONCE),
        ("quarantine", "id", "id < $2", id_before(keep.delivery_days), ROWS_AT_ONCE),
        ("alert_events", "id", "id < $2", id_before(keep.alert_days), ROWS_AT_ONCE),
    ] {
        removed += remove(app, tenant, (table, key, which), &limit, at_once).await?;
    }
    Ok(removed)
}

async fn remove(
    app: &App,
    tenant: TenantId,
    (table, key, which): (&str, &str, &str),
    limit: &Value,
    at_once: i64,
) -> Result<u64> {
    let sql = format!(
        "DELETE FROM {table} WHERE tenant_id = $1 AND {key} IN \
         (SELECT {key} FROM {table} WHERE tenant_id = $1 AND {which} ORDER BY {key} LIMIT {at_once})"
    );
    let mut removed = 0;
    for _ in 0..ROUNDS_MAX {
        let tx = app.db.write(tenant).await?;
        let rows = tx.execute(&sql, [limit.clone()]).await?;
        tx.commit().await?;
        removed += rows;
        if rows < at_once.unsigned_abs() {
            break;
        }
    }
    Ok(removed)
}

/// A lower bound of the ids generated from `at` on (RFC 9562, 5.7).
fn first_id(at: Timestamp) -> Uuid {
    let millis = u128::try_from(at.0.div_euclid(1000)).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}
