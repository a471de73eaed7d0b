//! Verifies row-level security before a server on PostgreSQL serves requests. It is set up by the migration
//! `row_security`.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::{Db, TenantId, TenantTx, get};
use crate::error::Result;

/// Holes in the wall between tenants; none on SQLite, which has no wall.
pub async fn list_holes(db: &Db) -> Result<Vec<String>> {
    if !db.is_postgres() {
        return Ok(Vec::new());
    }
    let mut holes = Vec::new();
    let lent = db.read.lend().await?;
    let read = lent.connection();
    for (connection, sql, hole) in
        [(read, ROLES, "the role"), (&db.across, ROLES, "the role"), (read, TABLES, "the table")]
    {
        for row in connection.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
            let found = format!("{hole} {} {}", get::<String>(&row, 0)?, get::<String>(&row, 1)?);
            if !holes.contains(&found) {
                holes.push(found);
            }
        }
    }
    if holes.is_empty() {
        holes = list_visible(read).await?;
    }
    Ok(holes)
}

/// How many rows of a tenant the transaction of this or of another one sees, as far as the database alone keeps them
/// apart.
pub async fn count_visible(tx: &TenantTx, table: &str, of: TenantId) -> Result<i64> {
    let sql = format!("SELECT COUNT(*) FROM {table} WHERE tenant_id = $1");
    let counted = tx.tx()?.query_one_raw(Statement::from_sql_and_values(tx.backend, sql, [of.0.into()])).await?;
    counted.map_or(Ok(0), |row| get(&row, 0))
}

/// The login role and the role it serves as: neither may bypass the policies, or become able to.
const ROLES: &str = "SELECT r.rolname::text, 'is above row-level security, or a member of ' || min(above.rolname::text) FROM pg_roles r JOIN pg_roles above \
     ON above.rolsuper OR above.rolbypassrls OR above.oid = (SELECT relowner FROM pg_class WHERE oid = 'tenants'::regclass) \
     WHERE r.rolname IN (session_user, current_user) AND pg_has_role(r.oid, above.oid, 'MEMBER') GROUP BY 1";

/// Tables with a tenant column but no forced row-level security.
const TABLES: &str = "SELECT c.relname::text, 'has no forced row-level security' FROM pg_class c \
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity) \
     AND (c.relname = 'tenants' OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')) \
     ORDER BY 1";

/// Tables that expose a row without a tenant being set.
async fn list_visible(read: &DatabaseConnection) -> Result<Vec<String>> {
    let sql = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity \
               AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1";
    let mut visible = Vec::new();
    for row in read.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
        let table: String = get(&row, 0)?;
        let sql = format!("SELECT 1 FROM {table} LIMIT 1");
        if read.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?.is_some() {
            visible.push(format!("the table {table} is readable without a tenant"));
        }
    }
    Ok(visible)
}
