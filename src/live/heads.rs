//! Compares the heads of the tenants that have listeners here with what the stream has told them, about once a
//! second: a commit whose notice was lost (its process died, the bus was away) still arrives.

use std::collections::HashMap;
use std::time::Duration;

use crate::app::App;
use crate::db::TenantId;
use crate::ledger::store::read_head;
use crate::stream::Notice;

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub async fn watch_heads(app: App) {
    let mut seen: HashMap<TenantId, i64> = HashMap::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let tenants = app.stream.listening();
        seen.retain(|tenant, _| tenants.contains(tenant));
        for tenant in tenants {
            match head_of(&app, tenant).await {
                Ok(position) => {
                    let last = seen.insert(tenant, position);
                    if last.is_none_or(|last| last < position) {
                        app.stream.announce(tenant, Notice { first: last.unwrap_or(position) + 1, last: position });
                    }
                }
                Err(error) => tracing::warn!(tenant = %tenant.0, source = ?error.source, "head not read"),
            }
        }
    }
}

async fn head_of(app: &App, tenant: TenantId) -> crate::error::Result<i64> {
    Ok(read_head(&app.db.read(tenant).await?).await?.position)
}
