//! The audit log in the database.

use sea_orm::FromQueryResult;

use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::page::{Cursor, KeyKind, Page, SortKey};
use entity::audit_logs::Model;

/// A page of the log, newest first: ids are made in the order of time.
pub async fn list(tx: &TenantTx, page: &Page) -> Result<Vec<(Cursor, Model)>> {
    const KEYS: [SortKey; 1] = [SortKey::descending("id", KeyKind::Uuid)];
    let clauses = page.clauses(&KEYS, 2)?;
    let sql = format!(
        "SELECT tenant_id, id, actor_id, at, action, subject FROM audit_logs WHERE tenant_id = $1{}{}",
        clauses.filter, clauses.order
    );
    let rows = tx.query(&sql, clauses.values).await?;
    rows.iter()
        .map(|row| {
            let entry = Model::from_query_result(row, "")?;
            Ok((Cursor(vec![entry.id.to_string()]), entry))
        })
        .collect()
}
