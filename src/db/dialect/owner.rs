//! Whether the owner's connection is to the database that a server uses, and whether its login owns the tables.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value};

/// Whether the login may change the tables themselves, as their owner does. On SQLite whoever may write may.
pub async fn owns_tables(owner: &DatabaseConnection) -> Result<bool, DbErr> {
    if owner.get_database_backend() != DbBackend::Postgres {
        return Ok(true);
    }
    let sql = "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = to_regclass('ledger_entries')";
    let row = ask(owner, sql, []).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}

/// Whether both connections are to one database, whatever their URLs.
pub async fn is_same(owner: &DatabaseConnection, server: &DatabaseConnection) -> Result<bool, DbErr> {
    match (owner.get_database_backend(), server.get_database_backend()) {
        (DbBackend::Postgres, DbBackend::Postgres) => {
            // Locked by one connection, looked for by the other.
            let mark = uuid::Uuid::new_v4().as_u64_pair().0.cast_signed();
            ask(owner, "SELECT pg_advisory_lock($1)", [mark.into()]).await?;
            let found = is_marked(server, mark).await;
            ask(owner, "SELECT pg_advisory_unlock($1)", [mark.into()]).await?;
            found
        }
        (DbBackend::Sqlite, DbBackend::Sqlite) => Ok(file_of(owner).await? == file_of(server).await?),
        _ => Ok(false),
    }
}

async fn is_marked(connection: &DatabaseConnection, mark: i64) -> Result<bool, DbErr> {
    // A bigint is shown as two halves.
    let sql = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND (CAST(classid AS bigint) << 32) | CAST(objid AS bigint) = $1";
    Ok(ask(connection, sql, [mark.into()]).await?.is_some())
}

async fn file_of(connection: &DatabaseConnection) -> Result<String, DbErr> {
    let row = ask(connection, "SELECT file FROM pragma_database_list WHERE name = 'main'", []).await?;
    row.map_or(Ok(String::new()), |row| row.try_get_by_index(0))
}

async fn ask(
    connection: &DatabaseConnection,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<QueryResult>, DbErr> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    connection.query_one_raw(statement).await
}
