//! Every difference between PostgreSQL and SQLite, apart from column types (`migration::sql`) and the binding of many
//! rows ([`super::table`]).

mod errors;
mod heads;
mod locks;
mod owner;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, NaiveDate};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

use errors::driver_code;
pub use errors::{
    is_busy, is_full, is_not_cached, is_out_of_range, is_timeout, is_unavailable, is_unwritable, lacks_month,
    message_of,
};
pub(super) use errors::{is_cut_off, is_forbidden};
pub(super) use heads::HeadsConnection;
pub(super) use locks::{block_new_tenants, for_update, lock_rollups, try_lock_rollups, wait_for_owner};
use migration::roles;
pub(super) use owner::{is_same, owns_tables};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::{Connection, PgConnection, Postgres, Sqlite};

use super::pool::{ACQUIRE_TIMEOUT, Pool};
use super::{FirstRows, TenantId};

/// How long, after a query was abandoned, connections are pinged on return to the pool, and the timeout of the ping.
const DOUBT: Duration = Duration::from_secs(60);
const DOUBT_WAIT: Duration = Duration::from_secs(5);
const SQLITE_BUSY_TIMEOUT: &str = "5000";
/// How long a write waits for those before it: the largest, folds of an import, take seconds.
const SQLITE_WRITER_WAIT: Duration = Duration::from_secs(20);
/// How long a run of migrations waits for another one on SQLite; on PostgreSQL, until it ends.
const SQLITE_MIGRATING_TIMEOUT: &str = "600000";

/// Why connecting failed. No variant contains a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("must begin with postgres:// or sqlite://")]
    UnknownScheme,
    #[error("cannot be read: {0}")]
    BadUrl(sea_orm::sqlx::Error),
    #[error("there is no role {0}")]
    NoRole(&'static str),
    #[error("this login may not act as {0}")]
    NotGranted(&'static str),
    #[error("cannot connect to the database: {}", message_of(.0))]
    Unreachable(DbErr),
}

/// All statements of a transaction see one snapshot, and none keeps running for an abandoned query.
const SNAPSHOTS: [(&str, &str); 3] = [
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "9s"),
];

/// A writer stuck within a transaction, or waiting for one that is, does not block its tenant forever.
const WRITES: [(&str, &str); 2] = [("lock_timeout", "30s"), ("idle_in_transaction_session_timeout", "60s")];

/// Plans are independent of the tenant. A plan made for a tenant missing from the statistics, next to a large one,
/// considers any index as good as another and reads all rows of the tenant for each key.
const GENERIC_PLANS: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

/// On Citus, the tenant of a transaction also reaches its shards; PostgreSQL ignores it.
const TO_SHARDS: (&str, &str) = ("citus.propagate_set_commands", "local");

/// The pools of a server.
pub(super) struct Pools {
    /// Read-only snapshot transactions of one tenant.
    pub read: Pool,
    /// Read-write transactions of one tenant.
    pub write: Pool,
    /// Single statements across all tenants.
    pub across: DatabaseConnection,
}

/// Whether the database recently failed to answer: an abandoned connection returns to its pool, which would wait for it
/// as long as the network does, while counting it against the pool's limit.
#[derive(Clone, Default)]
pub(super) struct Doubt(Arc<Mutex<Option<Instant>>>);

impl Doubt {
    pub fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_raised(&self) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < DOUBT)
    }
}

pub(super) async fn connect(url: &str, connections_max: u32, doubt: &Doubt) -> Result<Pools, ConnectError> {
    check_url(url)?;
    let across_max = (connections_max / 4).max(3);
    if is_postgres_url(url) {
        let options_of = |connections_max, role, more: &'static [(&str, &str)]| {
            let doubt = doubt.clone();
            options(url, connections_max, |o| {
                o.map_sqlx_postgres_opts(move |pg| {
                    pg.options([("role", role), ("jit", "off"), GENERIC_PLANS, TO_SHARDS]).options(more.iter().copied())
                });
                o.map_sqlx_postgres_pool_opts(move |pool| closing_what_is_not_to_be_lent(pool, doubt.clone()));
            })
        };
        let of_app = |settings| options_of(1, roles::APP, settings);
        let across = options_of(across_max, roles::RELAY, &SNAPSHOTS);
        let no_app = |error| no_role(error, roles::APP);
        Ok(Pools {
            read: open_each(of_app(&SNAPSHOTS), connections_max).await.map_err(no_app)?,
            write: open_each(of_app(&WRITES), connections_max).await.map_err(no_app)?,
            across: open(across).await.map_err(|error| no_role(error, roles::RELAY))?,
        })
    } else if url.starts_with("sqlite:") {
        let reading = |connections_max| {
            options(url, connections_max, |o| {
                o.map_sqlx_sqlite_opts(|lite| sqlite_pragmas(lite).pragma("query_only", "1"));
                o.map_sqlx_sqlite_pool_opts(closing_what_is_in_a_transaction);
            })
        };
        // A single writer: SQLite has one write lock, and queueing for a connection is fairer than polling for it.
        let write = open_each(sqlite_writing(url), 1).await?.patient(SQLITE_WRITER_WAIT);
        let read = open_each(reading(1), connections_max).await?;
        Ok(Pools { read, write, across: open(reading(across_max)).await? })
    } else {
        Err(ConnectError::UnknownScheme)
    }
}

fn sqlite_writing(url: &str) -> ConnectOptions {
    options(url, 1, |o| {
        o.map_sqlx_sqlite_opts(|lite| sqlite_pragmas(lite).create_if_missing(true));
        o.map_sqlx_sqlite_pool_opts(closing_what_is_in_a_transaction);
    })
}

/// SQLite rolls a transaction back by itself when the disk is full or fails. The driver still counts it as open, so the
/// next borrower's transaction would nest within it: its commits would be lost and its reads stale. Hence a connection
/// still in a transaction once its pending work is done is closed.
fn closing_what_is_in_a_transaction(pool: PoolOptions<Sqlite>) -> PoolOptions<Sqlite> {
    pool.after_release(|connection, _| {
        Box::pin(async move {
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    })
}

/// In doubt, closes returned connections that do not answer; always closes those still assigned to a tenant.
fn closing_what_is_not_to_be_lent(pool: PoolOptions<Postgres>, doubt: Doubt) -> PoolOptions<Postgres> {
    pool.after_release(move |connection, _| {
        let is_in_doubt = doubt.is_raised();
        Box::pin(async move {
            if is_in_doubt {
                let answered = tokio::time::timeout(DOUBT_WAIT, connection.ping()).await;
                answered.map_err(|_| sea_orm::sqlx::Error::PoolTimedOut)??;
            }
            is_nobodys(connection).await
        })
    })
}

/// A returned connection belongs to no tenant: `SET LOCAL` ended with the transaction. The check costs a round trip per
/// transaction and only [`enter`] sets a tenant, so release builds skip it.
async fn is_nobodys(connection: &mut PgConnection) -> Result<bool, sea_orm::sqlx::Error> {
    if !cfg!(debug_assertions) {
        return Ok(true);
    }
    let sql = "SELECT coalesce(current_setting('app.tenant_id', true), '') = ''";
    let is_nobodys: bool = sea_orm::sqlx::query_scalar(sql).fetch_one(connection).await?;
    if !is_nobodys {
        tracing::error!("a connection came back with a tenant");
    }
    Ok(is_nobodys)
}

/// The single connection of an owner.
pub(super) async fn connect_owner(url: &str) -> Result<DatabaseConnection, ConnectError> {
    check_url(url)?;
    let options = if is_postgres_url(url) {
        // Its locks are those of the connection, which therefore is never replaced.
        options(url, 1, |options| {
            options.idle_timeout(None).max_lifetime(None);
        })
    } else if url.starts_with("sqlite:") {
        sqlite_writing(url)
    } else {
        return Err(ConnectError::UnknownScheme);
    };
    open(options).await
}

/// The file of a SQLite database.
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    let is_file = url.starts_with("sqlite:") && !url.contains(":memory:");
    is_file.then(|| SqliteOptions::from_str(url).ok().map(|options| options.get_filename().to_owned())).flatten()
}

fn is_postgres_url(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Sets the tenant for row-level security, which limits the transaction to rows of `tenant`. No-op on SQLite, which has
/// none.
pub(super) async fn enter(
    tx: &DatabaseTransaction,
    backend: DbBackend,
    TenantId(tenant): TenantId,
) -> Result<(), DbErr> {
    if backend == DbBackend::Postgres {
        // SET takes no parameters; a UUID consists of hexadecimal digits and hyphens, so it is safe to interpolate.
        tx.execute_unprepared(&format!("SET LOCAL app.tenant_id = '{tenant}'")).await?;
    }
    Ok(())
}

/// Parses the URL like the driver will: sea-orm's own error message would contain it in full, including the password.
fn check_url(url: &str) -> Result<(), ConnectError> {
    if url.starts_with("sqlite:") {
        SqliteOptions::from_str(url).map(|_| ()).map_err(ConnectError::BadUrl)
    } else {
        sea_orm::sqlx::postgres::PgConnectOptions::from_str(url).map(|_| ()).map_err(ConnectError::BadUrl)
    }
}

fn options(url: &str, connections_max: u32, set: impl FnOnce(&mut ConnectOptions)) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .sqlx_logging(false);
    set(&mut options);
    options
}

/// A pool of connections with these options, of which the first is opened at once.
async fn open_each(options: ConnectOptions, connections_max: u32) -> Result<Pool, ConnectError> {
    let mut all = vec![open(options.clone()).await?];
    for _ in 1..connections_max {
        let mut later = options.clone();
        later.connect_lazy(true);
        all.push(open(later).await?);
    }
    Ok(Pool::new(all))
}

async fn open(options: ConnectOptions) -> Result<DatabaseConnection, ConnectError> {
    let url = options.get_url().to_owned();
    match Database::connect(options).await {
        Ok(connection) => Ok(connection),
        // The pool has tried until its time was over, and does not say what happened.
        Err(DbErr::ConnectionAcquire(_)) if is_postgres_url(&url) => {
            let again = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect(&url)).await;
            let why = match again {
                Ok(Err(error)) => error.to_string(),
                _ => format!("no answer within {} s", ACQUIRE_TIMEOUT.as_secs()),
            };
            Err(ConnectError::Unreachable(DbErr::Custom(why)))
        }
        Err(error) => Err(ConnectError::Unreachable(error)),
    }
}

/// The numbers of open and of idle connections in a pool.
pub(super) fn count_connections(pool: &DatabaseConnection) -> (usize, usize) {
    let (open, idle) = match pool.get_database_backend() {
        DbBackend::Postgres => {
            let pool = pool.get_postgres_connection_pool();
            (pool.size(), pool.num_idle())
        }
        _ => {
            let pool = pool.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle())
        }
    };
    // The driver counts a connection as idle after others can take it, so for a moment there are fewer than none.
    let idle = usize::try_from(idle.cast_signed()).unwrap_or(0);
    (usize::try_from(open).unwrap_or(usize::MAX), idle)
}

/// PostgreSQL reports a role that is missing as an invalid setting.
fn no_role(error: ConnectError, role: &'static str) -> ConnectError {
    let code = match &error {
        ConnectError::Unreachable(inner) => driver_code(inner),
        _ => None,
    };
    match code.as_deref() {
        Some("22023") => ConnectError::NoRole(role),
        Some("42501") => ConnectError::NotGranted(role),
        _ => error,
    }
}

type SqliteOptions = sea_orm::sqlx::sqlite::SqliteConnectOptions;

/// Write-ahead log with a sync at each commit: acknowledged events survive a power failure. In debug builds rows without
/// ORDER BY come in reverse, so that nothing depends on their order.
fn sqlite_pragmas(options: SqliteOptions) -> SqliteOptions {
    options
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .pragma("foreign_keys", "1")
        .pragma("busy_timeout", SQLITE_BUSY_TIMEOUT)
        .pragma("cache_size", "-16384")
        .pragma("reverse_unordered_selects", if cfg!(debug_assertions) { "1" } else { "0" })
}

/// SQLite takes its write lock up front, so that a transaction never fails halfway for lack of it.
pub(super) fn write_options(backend: DbBackend) -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: (backend == DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate),
        ..Default::default()
    }
}

/// Begins a transaction of the owner that excludes others of its kind. On SQLite, which has no rights, it excludes all
/// writers.
pub(super) async fn begin_migrating(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let backend = db.get_database_backend();
    if backend == DbBackend::Sqlite {
        db.execute_unprepared(&format!("PRAGMA busy_timeout = {SQLITE_MIGRATING_TIMEOUT}")).await?;
    }
    let tx = db.begin_with_options(write_options(backend)).await?;
    if backend == DbBackend::Postgres {
        tx.execute_unprepared("SELECT pg_advisory_xact_lock(hashtext('salespulse.migrations'))").await?;
    }
    Ok(tx)
}

/// SQLite's operator is case-insensitive for ASCII letters only; PostgreSQL's goes by the collation, which is "C" for
/// columns.
pub(super) fn like_any_case(backend: DbBackend) -> &'static str {
    if backend == DbBackend::Postgres { "COLLATE \"default\" ILIKE" } else { "LIKE" }
}

/// Replaces each `{each TABLE ALIAS: CONDITION}` by a join that looks the table up once per key, by index, whatever the
/// planner's size estimates: freshly filled tables have no statistics. Only the tenant's rows match.
pub(super) fn each(backend: DbBackend, sql: &str) -> Cow<'_, str> {
    if !sql.contains("{each ") {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len() + 64);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("{each ") {
        out.push_str(before);
        let (inside, tail) = after.split_once('}').unwrap_or((after, ""));
        let (table, condition) = inside.split_once(": ").unwrap_or((inside, "true"));
        let alias = table.rsplit(' ').next().unwrap_or(table);
        out.push_str(&if backend == DbBackend::Postgres {
            // OFFSET is an optimization fence: it keeps the planner from flattening the subquery into a join of its
            // choice.
            format!(
                "CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {alias}.tenant_id = $1 AND {condition} OFFSET 0) {alias}"
            )
        } else {
            format!("CROSS JOIN {table} ON {alias}.tenant_id = $1 AND {condition}")
        });
        rest = tail;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// PostgreSQL reads at most `rows_max` rows per key from the index; SQLite, which cannot limit a subquery per key,
/// numbers all rows.
pub(super) fn first_rows(backend: DbBackend, rows: &FirstRows<'_>) -> String {
    let FirstRows { columns, table, matching, key, order } = rows;
    if backend == DbBackend::Postgres {
        format!(
            "SELECT f.* FROM {{keys}} CROSS JOIN LATERAL (SELECT {columns} FROM {table} \
             WHERE {matching} ORDER BY {order} LIMIT k.rows_max) AS f"
        )
    } else {
        format!(
            "SELECT f.* FROM (SELECT {columns}, k.rows_max AS rows_max, \
             ROW_NUMBER() OVER (PARTITION BY {key}, k.rows_max ORDER BY {order}) AS place \
             FROM {{keys}} CROSS JOIN {table} WHERE {matching}) AS f WHERE f.place <= f.rows_max"
        )
    }
}

/// Selects the names of all tables with a tenant column, and an expression for a whole row of each, called `t`, as text.
pub(super) fn tenant_tables(backend: DbBackend) -> &'static str {
    if backend == DbBackend::Postgres {
        "SELECT c.relname::text, 't::text' FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
    } else {
        "SELECT m.name, (SELECT group_concat('quote(t.' || name || ')', ' || '','' || ') FROM pragma_table_info(m.name)) \
         FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'tenant_id' \
         WHERE m.type = 'table' ORDER BY 1"
    }
}

/// PostgreSQL: creates missing monthly partitions, through the function `ledger_month`, which alone has the rights.
/// SQLite has one table.
pub(super) async fn ensure_months(db: &DatabaseConnection, months: &BTreeSet<NaiveDate>) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for month in months {
        db.execute_unprepared(&format!("SELECT ledger_month('{month}')")).await?;
    }
    Ok(())
}

/// PostgreSQL: drops the partitions of all months before `before`, each detached first so that nobody waits for a long
/// drop, and what an interrupted run has detached but not dropped. SQLite: no-op. Returns the names of those dropped.
pub(super) async fn drop_months(db: &DatabaseConnection, before: NaiveDate) -> Result<Vec<String>, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(Vec::new());
    }
    let sql = "SELECT c.relname, i.inhdetachpending FROM pg_class c \
               LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'ledger_entries'::regclass \
               WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' \
               AND c.relname ~ '^ledger_entries_[0-9]{4}_[0-9]{2}$' ORDER BY c.relname";
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    let oldest_kept = partition_name(before);
    let mut dropped = Vec::new();
    for row in rows {
        let (name, is_detaching): (String, Option<bool>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        // Names contain year and month, so they sort chronologically.
        if name >= oldest_kept {
            continue;
        }
        let detach = match is_detaching {
            Some(false) => Some("CONCURRENTLY"),
            Some(true) => Some("FINALIZE"),
            None => None,
        };
        if let Some(how) = detach {
            db.execute_unprepared(&format!("ALTER TABLE ledger_entries DETACH PARTITION {name} {how}")).await?;
        }
        // A server that needed the month since has replaced the table; all its entries are in the rollups.
        db.execute_unprepared(&format!("DROP TABLE IF EXISTS {name}")).await?;
        dropped.push(name);
    }
    Ok(dropped)
}

/// The name of the ledger partition for the month starting at `month`.
pub(super) fn partition_name(month: NaiveDate) -> String {
    format!("ledger_entries_{:04}_{:02}", month.year(), month.month())
}

/// The first day of the month containing a time.
pub(super) fn month_of(micros: i64) -> Option<NaiveDate> {
    DateTime::from_timestamp_micros(micros)?.date_naive().with_day(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_sqlite_databases_are_found() {
        for (url, file) in [
            ("sqlite://data/a.db?mode=rwc", Some("data/a.db")),
            ("sqlite:///var/lib/a.db", Some("/var/lib/a.db")),
            ("sqlite:data/a.db", Some("data/a.db")),
            ("sqlite://my%20data/a.db", Some("my data/a.db")),
            ("sqlite::memory:", None),
            ("postgres://host/db", None),
        ] {
            assert_eq!(sqlite_file(url), file.map(PathBuf::from), "{url}");
        }
    }
}
