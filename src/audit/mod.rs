//! Who changed what, from where: written in the transaction of the change, and never changed itself.

mod change;
pub mod graphql;
mod store;

pub use change::{AuditedTable, Change, Shown, change};

use sea_orm::Value;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::auth::sessions::Client;
use crate::auth::{Caller, Through};
use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::Result;

/// What was done.
pub struct Entry {
    action: &'static str,
    subject: String,
    before: Option<Json>,
    after: Option<Json>,
}

impl Entry {
    /// `action` (as `dashboard.create`) was done to `subject`.
    pub fn of(action: &'static str, subject: impl ToString) -> Self {
        Entry { action, subject: subject.to_string(), before: None, after: None }
    }

    /// What it was before, without personal data; `None` where it was not.
    pub fn before(self, before: impl Into<Option<Json>>) -> Self {
        Entry { before: before.into(), ..self }
    }

    /// What it is now, without personal data; `None` where it is no more.
    pub fn after(self, after: impl Into<Option<Json>>) -> Self {
        Entry { after: after.into(), ..self }
    }
}

/// Who did it, and from where.
pub struct By<'a> {
    /// Nobody known where signing in was refused.
    pub user_id: Option<Uuid>,
    pub through: Option<Through>,
    pub client: &'a Client,
}

impl<'a> By<'a> {
    /// A user by a session.
    pub fn session(user_id: Uuid, session: Uuid, client: &'a Client) -> Self {
        By { user_id: Some(user_id), through: Some(Through::Session(session)), client }
    }

    pub fn caller(caller: &Caller, client: &'a Client) -> Self {
        By { user_id: Some(caller.user_id), through: Some(caller.through), client }
    }
}

/// Logs what an operator did by a command.
pub async fn record_by_operator(tx: &TenantTx, now: Timestamp, entry: Entry) -> Result<()> {
    record_by(tx, &By { user_id: None, through: None, client: &Client::default() }, now, entry).await
}

/// Logs what was done other than by [`change`].
pub async fn record_by(tx: &TenantTx, by: &By<'_>, now: Timestamp, entry: Entry) -> Result<()> {
    let (through, through_id) = match by.through {
        Some(Through::Session(id)) => (Some("session"), Some(id)),
        Some(Through::ApiKey(id)) => (Some("api-key"), Some(id)),
        Some(Through::Token { .. }) => (Some("token"), None),
        None => (None, None),
    };
    let values: [Value; 10] = [
        Uuid::now_v7().into(),
        by.user_id.into(),
        now.0.into(),
        entry.action.into(),
        entry.subject.into(),
        entry.before.into(),
        entry.after.into(),
        through.into(),
        through_id.into(),
        by.client.address.map(|address| address.to_string()).into(),
    ];
    let sql = "INSERT INTO audit_logs (tenant_id, id, actor_id, at, action, subject, before, after, through, through_id, address) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    tx.execute(sql, values).await?;
    Ok(())
}
