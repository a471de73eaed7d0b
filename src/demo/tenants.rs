//! The demo's tenants and its alert rules.

use chrono_tz::Europe;
use uuid::Uuid;

use crate::alerts::{AlertCondition, Frequency, Rule, store};
use crate::app::App;
use crate::db::TenantId;
use crate::error::Result;
use crate::ledger::store::lock_head;
use crate::metrics::catalog::Metric;
use crate::metrics::measured::Measured;
use crate::money::{Money, SCALE};
use crate::predictions::anomalies::graphql::AnomalySensitivity;
use crate::tenancy::{NewTenant, create_tenant, find_tenant};

pub const GIFTS: &str = "demo";
pub const ABROAD: &str = "demo-abroad";

const RULE_WINDOW_MINUTES: i32 = 15;
/// A rule for each. The window is the current quarter of an hour, and new sales arrive about once a second: one of the
/// rules fires within its first minute and then every two or three, and all resolve at its end.
const RULES_ORDERS: [i64; 6] = [20, 150, 300, 450, 600, 750];

#[derive(Clone, Copy)]
pub struct Tenants {
    pub gifts: TenantId,
    pub abroad: TenantId,
}

impl Tenants {
    /// Finds or creates the tenants.
    pub async fn ensure(app: &App) -> Result<Tenants> {
        let gifts = ensure_tenant(app, GIFTS, "Gifts from London").await?;
        let abroad = ensure_tenant(app, ABROAD, "Gifts to abroad").await?;
        ensure_rules(app, gifts).await?;
        Ok(Tenants { gifts, abroad })
    }
}

async fn ensure_tenant(app: &App, slug: &str, name: &str) -> Result<TenantId> {
    if let Some(tenant) = find_tenant(&app.db, slug).await? {
        return Ok(tenant);
    }
    let new = NewTenant { slug, name, timezone: Europe::London, currency: "GBP" };
    Ok(create_tenant(&app.db, &new, app.clock.now()).await?.id)
}

async fn ensure_rules(app: &App, tenant: TenantId) -> Result<()> {
    let tx = app.db.write(tenant).await?;
    if store::count(&tx).await? > 0 {
        return Ok(());
    }
    lock_head(&tx).await?;
    for orders in RULES_ORDERS {
        store::save(&tx, &rule(orders), app.clock.now()).await?;
    }
    tx.commit().await
}

/// Fires with more than so many orders in the current quarter of an hour.
fn rule(orders: i64) -> Rule {
    Rule {
        id: Uuid::now_v7(),
        name: format!("More than {orders} orders in {RULE_WINDOW_MINUTES} minutes"),
        measured: Measured::Metric(Metric::OrdersCount),
        condition: AlertCondition::Above,
        sensitivity: AnomalySensitivity::Medium,
        threshold: Money(orders * SCALE),
        clear_threshold: None,
        window_minutes: RULE_WINDOW_MINUTES,
        for_minutes: 0,
        counts_open: true,
        frequency: Frequency::EveryTime,
        filters: None,
        recipients: Vec::new(),
        is_enabled: true,
    }
}
