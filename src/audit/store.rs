//! Storage of the audit log.

use sea_orm::{FromQueryResult, QueryResult};
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
    fn matching(&self) -> Matching {
        let mut matching = Matching::of("audit_logs WHERE tenant_id = $1");
        if let Some(id) = self.actor_id {
            matching.and("actor_id =", id);
        }
        if let Some(action) = &self.action {
            match action.strip_suffix('.') {
                // The character after the dot is the exclusive upper bound of the prefix.
                Some(start) => {
                    matching.and("action >=", action.as_str());
                    matching.and("action <", format!("{start}/"));
                }
                None => matching.and("action =", action.as_str()),
            }
        }
        if let Some(subject) = &self.subject {
            matching.and("subject =", subject.as_str());
        }
        if let Some(since) = self.since {
            matching.and("at >=", since);
        }
        if let Some(until) = self.until {
            matching.and("at <", until);
        }
        matching
    }
}

/// A page of the log, newest first: ids are time-ordered.
pub async fn list(tx: &TenantTx, page: &Page, filter: &Filter) -> Result<Listed<Model>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "auditLog", keys: &[SortKey::descending("id", KeyKind::Uuid)] };
    const COLUMNS: &str = "tenant_id, id, actor_id, at, action, subject, before, after, through, through_id, address";
    let item = |row: &QueryResult| {
        let entry = Model::from_query_result(row, "")?;
        Ok((vec![entry.id.to_string()], entry))
    };
    filter.matching().page(tx, page, &ORDER, COLUMNS, item).await
}
