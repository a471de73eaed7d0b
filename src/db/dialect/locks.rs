//! Locks, most of which only PostgreSQL needs: SQLite has one writer at a time.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr};

/// Rows that reference the locked one can still be written: they only lock its key.
pub fn for_update(backend: DbBackend) -> &'static str {
    if backend == DbBackend::Postgres { "FOR NO KEY UPDATE" } else { "" }
}

/// Waits for the lock of the tenant's rollups; SQLite has only one writer anyway.
pub fn lock_rollups(backend: DbBackend) -> Option<&'static str> {
    let sql = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended('salespulse.rollups', hashtextextended($1::text, 0)))) l";
    (backend == DbBackend::Postgres).then_some(sql)
}

/// Whether the lock of [`lock_rollups`] could be taken at once.
pub fn try_lock_rollups(backend: DbBackend) -> Option<&'static str> {
    let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('salespulse.rollups', hashtextextended($1::text, 0)))";
    (backend == DbBackend::Postgres).then_some(sql)
}

/// PostgreSQL: keeps [`wait_for_owner`] waiting as long as the connection lives.
pub async fn block_new_tenants(db: &DatabaseConnection) -> Result<(), DbErr> {
    if db.get_database_backend() == DbBackend::Postgres {
        db.execute_unprepared("SELECT pg_advisory_lock(hashtext('salespulse.tenants'))").await?;
    }
    Ok(())
}

/// PostgreSQL: waits for [`block_new_tenants`] to end, and keeps it from beginning until `tx` ends.
pub async fn wait_for_owner(tx: &DatabaseTransaction, backend: DbBackend) -> Result<(), DbErr> {
    if backend == DbBackend::Postgres {
        tx.execute_unprepared("SELECT pg_advisory_xact_lock_shared(hashtext('salespulse.tenants'))").await?;
    }
    Ok(())
}
