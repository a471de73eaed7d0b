//! Audit log: who changed what, and from where. Written in the transaction of the change, and immutable.

mod change;
pub mod graphql;
mod store;

pub use change::{AuditedTable, Change, Shown, change};

use std::net::IpAddr;

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

/// Who does something, through what, and from where. By default nobody: an operator, or the server by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// `None` where nobody is signed in.
    pub user_id: Option<Uuid>,
    pub through: Option<Means>,
    pub address: Option<IpAddr>,
}

impl By {
    /// A user acting through a session.
    pub fn session(user_id: Uuid, session: Uuid, client: &Client) -> Self {
        By { user_id: Some(user_id), through: Some(Means::Session(session)), address: client.address }
    }

    pub fn caller(caller: &Caller, client: &Client) -> Self {
        By { user_id: Some(caller.user_id), through: Some(caller.through.into()), address: client.address }
    }

    /// What acts without a user.
    pub fn means(through: Means, address: Option<IpAddr>) -> Self {
        By { user_id: None, through: Some(through), address }
    }

    /// The word and the id of the means, as they are stored.
    pub fn through(&self) -> (Option<&'static str>, Option<Uuid>) {
        (self.through.map(Means::word), self.through.and_then(Means::id))
    }
}

/// What somebody acts through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Session(Uuid),
    /// A token issued by an operator.
    Token,
    ApiKey(Uuid),
    /// A webhook of an integration.
    Integration(Uuid),
    /// `salespulse import`.
    Import,
    /// `salespulse demo`.
    Demo,
}

impl From<Through> for Means {
    fn from(through: Through) -> Self {
        match through {
            Through::Session(id) => Means::Session(id),
            Through::Token { .. } => Means::Token,
            Through::ApiKey(id) => Means::ApiKey(id),
        }
    }
}

impl Means {
    fn word(self) -> &'static str {
        match self {
            Means::Session(_) => "session",
            Means::Token => "token",
            Means::ApiKey(_) => "api-key",
            Means::Integration(_) => "integration",
            Means::Import => "import",
            Means::Demo => "demo",
        }
    }

    fn id(self) -> Option<Uuid> {
        match self {
            Means::Session(id) | Means::ApiKey(id) | Means::Integration(id) => Some(id),
            Means::Token | Means::Import | Means::Demo => None,
        }
    }
}

/// Logs an operator's command, or what the server does by itself.
pub async fn record_by_operator(tx: &TenantTx, now: Timestamp, entry: Entry) -> Result<()> {
    record_by(tx, &By::default(), now, entry).await
}

/// Logs an action that does not go through [`change`].
pub async fn record_by(tx: &TenantTx, by: &By, now: Timestamp, entry: Entry) -> Result<()> {
    let (through, through_id) = by.through();
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
        by.address.map(|address| address.to_string()).into(),
    ];
    let sql = "INSERT INTO audit_logs (tenant_id, id, actor_id, at, action, subject, before, after, through, through_id, address) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    tx.execute(sql, values).await?;
    Ok(())
}
