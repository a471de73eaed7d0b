//! Storage of the audit log.

use sea_orm::{FromQueryResult, QueryResult, Value};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use entity::audit_logs::Model;

/// Which entries.
#[derive(Default)]
pub struct Filter {
    pub actor_id: Option<Uuid>,
    /// An action, or, ending in a dot, the prefix of several.
    pub action: Option<String>,
    pub subject: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Conditions on values, bound from `$2`.
    fn clauses(&self) -> (String, Vec<Value>) {
        let (mut sql, mut values) = (String::new(), Vec::new());
        let mut add = |condition: &str, value: Value| {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ${}", values.len() + 1));
        };
        if let Some(id) = self.actor_id {
            add("actor_id =", id.into());
        }
        if let Some(action) = &self.action {
            match action.strip_suffix('.') {
                // The character after the dot is the exclusive upper bound of the prefix.
                Some(start) => {
                    add("action >=", action.as_str().into());
                    add("action <", format!("{start}/").into());
                }
                None => add("action =", action.as_str().into()),
            }
        }
        if let Some(subject) = &self.subject {
            add("subject =", subject.as_str().into());
        }
        if let Some(since) = self.since {
            add("at >=", since.into());
        }
        if let Some(until) = self.until {
            add("at <", until.into());
        }
        (sql, values)
    }
}

/// A page of the log, newest first: ids are time-ordered.
pub async fn list(tx: &TenantTx, page: &Page, filter: &Filter) -> Result<Listed<Model>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "auditLog", keys: &[SortKey::descending("id", KeyKind::Uuid)] };
    const COLUMNS: &str = "tenant_id, id, actor_id, at, action, subject, before, after, through, through_id, address";
    let (condition, values) = filter.clauses();
    let matching = Matching { from: format!("audit_logs WHERE tenant_id = $1{condition}"), values };
    let item = |row: &QueryResult| {
        let entry = Model::from_query_result(row, "")?;
        Ok((vec![entry.id.to_string()], entry))
    };
    matching.page(tx, page, &ORDER, COLUMNS, item).await
}
