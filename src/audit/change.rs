//! Audited mutations: a change cannot be committed without its audit entry, nor the entry without the change.

use std::ops::Deref;

use async_graphql::Context;
use sea_orm::{QueryResult, Value};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{By, Entry, record_by};
use crate::auth::standing;
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::Result;
use crate::graphql::context::{app, caller, client};
use crate::graphql::scalars::DateTime;
use crate::money::Money;

/// A write transaction of the caller's tenant that commits together with an audit entry, or not at all.
pub struct Change {
    tx: TenantTx,
    by: By,
    now: Timestamp,
}

/// Begins a change by the caller: locks the settings, so that concurrent changes wait, and checks that the caller still has
/// access. Error: UNAUTHENTICATED.
pub async fn change(ctx: &Context<'_>) -> Result<Change> {
    let (app, caller) = (app(ctx)?, caller(ctx)?);
    let by = By::caller(caller, client(ctx)?);
    let tx = app.db.write(caller.tenant).await?;
    tx.lock_settings().await?;
    standing::check_locked(&tx, caller).await?;
    Ok(Change { tx, by, now: app.clock.now() })
}

impl Deref for Change {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        &self.tx
    }
}

impl Change {
    /// Logs something that the change does besides.
    pub async fn log(&self, entry: Entry) -> Result<()> {
        record_by(&self.tx, &self.by, self.now, entry).await
    }

    /// Who makes it, for further entries.
    pub fn by(&self) -> &By {
        &self.by
    }

    pub async fn commit(self, entry: Entry) -> Result<()> {
        self.log(entry).await?;
        self.tx.commit().await
    }

    /// Commits an update, unless the entry says that nothing has changed: then nothing is stored.
    pub async fn commit_if_changed(self, entry: Entry) -> Result<()> {
        if entry.before == entry.after { Ok(()) } else { self.commit(entry).await }
    }

    /// The audited state of an object as it is now; `None` where it does not exist.
    pub async fn see(&self, thing: &AuditedTable, key: impl Into<Value>) -> Result<Option<Json>> {
        let key = key.into();
        let columns: Vec<&str> = thing.columns.iter().map(|(_, column, _)| *column).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE tenant_id = $1 AND {} = $2", columns.join(", "), thing.table, thing.key);
        let Some(row) = self.query_one(&sql, [key.clone()]).await? else { return Ok(None) };
        let mut told = Map::new();
        for (index, (name, _, shown)) in thing.columns.iter().enumerate() {
            told.insert((*name).to_owned(), shown.read(&row, index)?);
        }
        if let Some(sql) = thing.members {
            let (mut ids, mut memberships): (Vec<Json>, Vec<Json>) = (Vec::new(), Vec::new());
            for row in self.query(sql, [key]).await? {
                let id = get::<Uuid>(&row, 0)?.to_string();
                let (start, end) = (Shown::Time.read(&row, 1)?, Shown::Time.read(&row, 2)?);
                if end.is_null() {
                    ids.push(id.clone().into());
                }
                memberships.push(serde_json::json!({ "userId": id, "start": start, "end": end }));
            }
            told.insert("memberIds".to_owned(), ids.into());
            told.insert("memberships".to_owned(), memberships.into());
        }
        Ok(Some(told.into()))
    }
}

/// Which columns of a table are audited. Personal data and secrets are omitted, or only counted.
pub struct AuditedTable {
    pub table: &'static str,
    /// The column that, together with `tenant_id`, identifies a row.
    pub key: &'static str,
    /// The name in the log, the column (or an expression), and its representation.
    pub columns: &'static [(&'static str, &'static str, Shown)],
    /// A statement that selects who belongs, or belonged, to object `$2`: id, beginning, and end or NULL.
    pub members: Option<&'static str>,
}

/// How a column's value is represented.
#[derive(Clone, Copy)]
pub enum Shown {
    Text,
    Number,
    Flag,
    Amount,
    Time,
    Document,
    /// The length of a list.
    Count,
}

impl Shown {
    fn read(self, row: &QueryResult, index: usize) -> Result<Json> {
        Ok(match self {
            Shown::Text => get::<Option<String>>(row, index)?.into(),
            Shown::Number => get::<Option<i64>>(row, index)?.into(),
            Shown::Flag => get::<Option<bool>>(row, index)?.into(),
            Shown::Amount => get::<Option<i64>>(row, index)?.map(|amount| Money(amount).to_string()).into(),
            Shown::Time => get::<Option<i64>>(row, index)?.and_then(|at| DateTime(Timestamp(at)).to_text()).into(),
            Shown::Document => get::<Option<Json>>(row, index)?.into(),
            Shown::Count => get::<Option<Json>>(row, index)?.and_then(|list| Some(list.as_array()?.len())).into(),
        })
    }
}
