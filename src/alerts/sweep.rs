//! Evaluates rules when time alone may change them, without events.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::evaluate::evaluate_due;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::{Db, TenantId, get};
use crate::error::Result;
use crate::ledger::store::{Head, lock_head};
use crate::telemetry::metrics::METRICS;

const INTERVAL: Duration = Duration::from_secs(1);
/// Tenants evaluated concurrently.
const TOGETHER_MAX: usize = 4;

/// Runs until dropped.
pub async fn sweep(app: App) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep_once(&app).await {
            tracing::warn!(source = error.cause(), "looking for due alerts failed");
        }
    }
}

/// Evaluates everything due now. Safe to run in several processes: each tenant's head is locked.
pub async fn sweep_once(app: &App) -> Result<()> {
    let now = app.clock.now();
    let due = list_due(&app.db, now).await?;
    METRICS.set_due("alerts", due.len());
    // A tenant whose head is locked does not hold up the others.
    let each = futures_util::stream::iter(due).for_each_concurrent(TOGETHER_MAX, async |tenant| {
        if let Err(error) = evaluate(app, tenant, now).await {
            tracing::warn!(tenant = %tenant.0, source = error.cause(), "alerts not evaluated");
        }
    });
    each.await;
    Ok(())
}

/// Tenants with rules that are due.
async fn list_due(db: &Db, now: Timestamp) -> Result<Vec<TenantId>> {
    let sql = "SELECT tenant_id FROM ledger_heads WHERE alerts_due_at <= $1";
    let rows = db.query_all_tenants(sql, [now.into()]).await?;
    rows.iter().map(|row| Ok(TenantId(get(row, 0)?))).collect()
}

async fn evaluate(app: &App, tenant: TenantId, now: Timestamp) -> Result<()> {
    let tx = app.db.write(tenant).await?;
    let mut head = lock_head(&tx).await?;
    let before = head.last_alert_no;
    evaluate_due(&tx, &app.memory, &mut head, now).await?;
    tx.commit().await?;
    if head.last_alert_no > before {
        announce(app, tenant, &head).await;
    }
    Ok(())
}

/// Announces to followers of the log, in all processes, the alerts up to those in `head`, which is committed.
pub async fn announce(app: &App, tenant: TenantId, head: &Head) {
    let batch = head.batch(head.position + 1, Some(Arc::default()));
    if let Err(error) = app.stream.publish(tenant, Arc::new(batch)).await {
        tracing::warn!(tenant = %tenant.0, %error, "alerts not published");
    }
}
