//! Audit log: who changed what, and from where. Written in the transaction of the change, and immutable.

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
    /// `action` (such as `dashboard.create`) was performed on `subject`.
    pub fn of(action: &'static str, subject: impl ToString) -> Self {
        Entry { action, subject: subject.to_string(), before: None, after: None }
    }

    /// The state before the change, without personal data; `None` for a creation.
    pub fn before(self, before: impl Into<Option<Json>>) -> Self {
        Entry { before: before.into(), ..self }
    }

    /// The state after the change, without personal data; `None` for a deletion.
    pub fn after(self, after: impl Into<Option<Json>>) -> Self {
        Entry { after: after.into(), ..self }
    }
}

/// The actor, and the client they used.
pub struct By<'a> {
    /// `None` for a failed sign-in, and for an operator.
    pub user_id: Option<Uuid>,
    pub through: Option<Through>,
    pub client: &'a Client,
}

impl<'a> By<'a> {
    /// A user acting through a session.
    pub fn session(user_id: Uuid, session: Uuid, client: &'a Client) -> Self {
        By { user_id: Some(user_id), through: Some(Through::Session(session)), client }
    }

    pub fn caller(caller: &Caller, client: &'a Client) -> Self {
        By { user_id: Some(caller.user_id), through: Some(caller.through), client }
    }
}

/// Logs an operator's command, or what the server does by itself.
pub async fn record_by_operator(tx: &TenantTx, now: Timestamp, entry: Entry) -> Result<()> {
    record_by(tx, &By { user_id: None, through: None, client: &Client::default() }, now, entry).await
}

/// Logs an action that does not go through [`change`].
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
        now.into(),
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
