//! Who changed what: written in the transaction of the change.

pub mod graphql;
mod store;

use async_graphql::Context;
use sea_orm::Value;
use uuid::Uuid;

use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::context::{app, caller};

/// Logs that the caller did `action` (as `dashboard.create`) to `subject`.
pub async fn record(ctx: &Context<'_>, tx: &TenantTx, action: &str, subject: impl ToString) -> Result<()> {
    let values: [Value; 5] = [
        Uuid::now_v7().into(),
        caller(ctx)?.user_id.into(),
        app(ctx)?.clock.now().0.into(),
        action.into(),
        subject.to_string().into(),
    ];
    let sql = "INSERT INTO audit_logs (tenant_id, id, actor_id, at, action, subject) VALUES ($1, $2, $3, $4, $5, $6)";
    tx.execute(sql, values).await?;
    Ok(())
}
