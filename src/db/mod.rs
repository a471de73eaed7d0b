//! The only access path to rows. Everything a tenant owns is reached through [`TenantTx`], whose statements all take
//! the tenant id as `$1`.
//!
//! On PostgreSQL row-level security backs this up; [`wall`] verifies it.
//!
//! Differences between PostgreSQL and SQLite live in [`dialect`].

mod count;
mod dialect;
mod entities;
mod gate;
mod heads;
pub mod migrations;
mod pool;
mod scoping;
mod table;
mod tx;
mod values;
pub mod wall;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::NaiveDate;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement,
    TransactionOptions, Value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use self::gate::Gate;
use self::heads::Heads;
use self::pool::{Lent, Pool, past_dead};
pub use count::Statements;
pub use dialect::{
    ConnectError, is_busy, is_full, is_not_cached, is_out_of_range, is_timeout, is_unavailable, is_unwritable,
    lacks_month, message_of, sqlite_file,
};
pub use table::{Column, Inserts, OnConflict, Table};
use tx::Begun;
pub use tx::{FirstRows, LazyTx, TenantEntity, TenantTx};

use crate::error::{Code, Error, Result};
use crate::guard::Guard;

/// Owner of rows. Created from a verified token, or by a command that names the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

impl TenantId {
    /// The id that distinguishes it from other tenants at a guard.
    pub fn at(self, guard: Guard) -> TenantId {
        TenantId(guard.of(self.0))
    }
}

/// Version of a tenant's data: the ledger's position, the count of changes outside the ledger (organizations,
/// products), and the number of alerts logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub position: i64,
    pub policy_epoch: i64,
    pub last_alert_no: i64,
}

/// What there is to read of a tenant's ledger, in one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub head: Head,
    /// Rollups are the sums of the entries up to this position; later entries are the tail.
    pub folded: i64,
    pub watermark: Option<i64>,
    /// Months before this were dropped by retention.
    pub retained_from: Option<i64>,
    pub last_product_no: i64,
    pub last_dimension_no: i64,
}

/// How long to wait for a head that one can do without.
pub const HEAD_WAIT: Duration = Duration::from_secs(2);

/// The database connections.
#[derive(Clone)]
pub struct Db {
    /// Read-only snapshot transactions.
    read: Pool,
    write: Pool,
    /// Single statements across all tenants.
    across: DatabaseConnection,
    heads: Heads,
    doubt: dialect::Doubt,
    backend: DbBackend,
    gate: Arc<Gate>,
    /// First days of months whose partitions are known to exist.
    months: Arc<Mutex<BTreeSet<NaiveDate>>>,
}

impl Db {
    /// Connects by URL: `postgres://…` or `sqlite://…`. Errors contain the location without the password.
    pub async fn connect(url: &str, connections_max: u32) -> Result<Db, ConnectError> {
        let doubt = dialect::Doubt::default();
        let dialect::Pools { read, write, across } = dialect::connect(url, connections_max, &doubt).await?;
        let backend = across.get_database_backend();
        Ok(Db {
            read,
            write,
            heads: Heads::new(across.clone()),
            across,
            doubt,
            backend,
            gate: Arc::new(Gate::new(backend)),
            months: Arc::default(),
        })
    }

    /// Replaces a tenant's statement by the result of `mutate`, if any: for the mutation test that the absence of a
    /// guard is detected. Not in release builds.
    #[cfg(debug_assertions)]
    pub fn mutate(&mut self, mutate: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        Arc::make_mut(&mut self.gate).mutate = Some(Arc::new(mutate));
    }

    /// Sends statements whether or not they are narrowed to their tenant, for the same test.
    #[cfg(debug_assertions)]
    pub fn give_up_scoping(&mut self) {
        Arc::make_mut(&mut self.gate).scoping = None;
    }

    /// Whether a statement is narrowed to one tenant, whichever, as all that are sent for tenants must be.
    #[cfg(debug_assertions)]
    pub fn is_narrowed(&self, sql: &str) -> bool {
        scoping::is_narrowed(self.backend, sql)
    }

    /// Calls `callback` with each statement sent and its duration, for measurements.
    pub fn on_statement(&mut self, callback: impl Fn(&Statement, Duration) + Clone + Send + Sync + 'static) {
        self.read.on_statement(callback.clone());
        self.write.on_statement(callback);
    }

    pub fn is_postgres(&self) -> bool {
        self.backend == DbBackend::Postgres
    }

    /// A read-only transaction on one snapshot of the tenant's rows.
    pub async fn read(&self, tenant: TenantId) -> Result<TenantTx> {
        let begun = self.read.begin(TransactionOptions::default()).await?;
        self.tenant_tx(begun, tenant, false).await
    }

    /// The same without a time limit, for commands that read everything.
    pub async fn read_patiently(&self, tenant: TenantId) -> Result<TenantTx> {
        let tx = self.read(tenant).await?;
        if self.is_postgres() {
            tx.without_time_limit().await?;
        }
        Ok(tx)
    }

    /// A transaction that may write the tenant's rows; rolled back unless [`TenantTx::commit`] is called.
    pub async fn write(&self, tenant: TenantId) -> Result<TenantTx> {
        let begun = self.write.begin(dialect::write_options(self.backend)).await?;
        self.tenant_tx(begun, tenant, true).await
    }

    /// Runs `work` with the timeout `wait`, after which it and its transaction are abandoned: a lost network would take
    /// many minutes to be noticed. Error: SERVICE_UNAVAILABLE.
    pub async fn within<T>(&self, wait: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        match tokio::time::timeout(wait, work.as_mut()).await {
            Ok(done) => done,
            Err(elapsed) => {
                // Before its connection returns to the pool.
                self.doubt.begin();
                let error = Error::new(Code::ServiceUnavailable, "the database does not answer; try again");
                Err(error.with_source(elapsed))
            }
        }
    }

    async fn tenant_tx(
        &self,
        (tx, lent): (DatabaseTransaction, Lent),
        tenant: TenantId,
        may_write: bool,
    ) -> Result<TenantTx> {
        dialect::enter(&tx, self.backend, tenant).await?;
        self.gate.counter.transaction();
        let begun = Some(Begun { tx, _lent: lent });
        Ok(TenantTx { begun, tenant, may_write, backend: self.backend, gate: Arc::clone(&self.gate) })
    }

    /// The tables whose rows belong to tenants, each with an expression for a whole row, called `t`, as text.
    pub async fn list_tenant_tables(&self) -> Result<Vec<(String, String)>> {
        let statement = Statement::from_string(self.backend, dialect::tenant_tables(self.backend));
        let rows = self.read.lend().await?.connection().query_all_raw(statement).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    }

    /// Statements executed for tenants since connecting.
    pub fn statements(&self) -> Statements {
        self.gate.counter.read()
    }

    /// The tenant's head as of this call or later; `None` if there is no such tenant. Concurrent calls share a statement.
    /// Error: SERVICE_UNAVAILABLE, whose cause is logged.
    pub async fn head(&self, tenant: TenantId) -> Result<Option<Head>> {
        Ok(self.standing(tenant).await?.map(|standing| standing.head))
    }

    /// Like [`Db::head`], with what else is needed to read from caches.
    pub async fn standing(&self, tenant: TenantId) -> Result<Option<Standing>> {
        self.heads.get(tenant).await
    }

    /// A handle to the tenant's rows that refuses all statements ([`Error::is_not_cached`]): for what may be answered
    /// from caches alone.
    pub fn caches_only(&self, tenant: TenantId) -> TenantTx {
        TenantTx { begun: None, tenant, may_write: false, backend: self.backend, gate: Arc::clone(&self.gate) }
    }

    /// Finds work across all tenants, for server tasks that then proceed tenant by tenant.
    pub async fn query_all_tenants(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>> {
        let statement = Statement::from_sql_and_values(self.backend, sql, values);
        let (open, _) = dialect::count_connections(&self.across);
        Ok(past_dead(open, || self.across.query_all_raw(statement.clone())).await?)
    }

    /// How many transactions may write at a time, of all tenants.
    pub fn writers_max(&self) -> usize {
        self.write.size()
    }

    /// The pools: purpose, open and idle connections.
    pub fn list_pools(&self) -> Vec<(&'static str, usize, usize)> {
        let across = dialect::count_connections(&self.across);
        let counts = [("read", self.read.count()), ("write", self.write.count()), ("across", across)];
        counts.into_iter().map(|(name, (open, idle))| (name, open, idle)).collect()
    }

    /// Whether the database answers. On PostgreSQL it does not compete with tenants' requests, which may occupy all
    /// their connections.
    pub async fn ping(&self) -> Result<()> {
        self.across.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// Whether the ledger is known to have a partition for the month containing `at` (microseconds). A month before
    /// `retained_from` may have been dropped since.
    pub fn has_month(&self, at: i64, retained_from: Option<i64>) -> bool {
        let is_known = || dialect::month_of(at).is_some_and(|month| self.months().contains(&month));
        !self.is_postgres() || retained_from.is_none_or(|from| at >= from) && is_known()
    }

    /// Ensures that the ledger has partitions for the months containing `times` (microseconds). Takes a write
    /// connection, so the caller must not have a transaction open.
    pub async fn ensure_months(&self, times: impl Iterator<Item = i64>) -> Result<()> {
        let months: BTreeSet<NaiveDate> = times.filter_map(dialect::month_of).collect();
        dialect::ensure_months(self.write.lend().await?.connection(), &months).await?;
        self.months().extend(months);
        Ok(())
    }

    /// Clears the cache of existing months: retention for all tenants drops months under a running server.
    pub fn forget_months(&self) {
        self.months().clear();
    }

    fn months(&self) -> MutexGuard<'_, BTreeSet<NaiveDate>> {
        self.months.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn close(self) -> Result<(), DbErr> {
        self.heads.close().await;
        self.across.close().await?;
        self.read.close().await?;
        self.write.close().await
    }
}

/// Connection of the tables' owner: for migrations and for dropping partitions. Servers have none.
pub struct Owner(DatabaseConnection);

impl Owner {
    pub async fn connect(url: &str) -> Result<Owner, ConnectError> {
        Ok(Owner(dialect::connect_owner(url).await?))
    }

    pub fn connection(&self) -> &DatabaseConnection {
        &self.0
    }

    /// Keeps tenants from being created as long as this connection lives, for work that has to reach all of them. No-op
    /// on SQLite, where no work does.
    pub async fn block_new_tenants(&self) -> Result<()> {
        Ok(dialect::block_new_tenants(&self.0).await?)
    }

    /// Whether the login owns the tables, as dropping partitions and migrations need.
    pub async fn owns_tables(&self) -> Result<bool> {
        Ok(dialect::owns_tables(&self.0).await?)
    }

    /// Whether this is the database that `db` is connected to.
    pub async fn is_of(&self, db: &Db) -> Result<bool> {
        Ok(dialect::is_same(&self.0, db.read.lend().await?.connection()).await?)
    }

    /// Drops the ledger's months before `before` for all tenants, where each month is its own partition, and returns
    /// their names. Elsewhere a no-op: the rows must be deleted.
    pub async fn drop_months(&self, before: NaiveDate) -> Result<Vec<String>> {
        Ok(dialect::drop_months(&self.0, before).await?)
    }

    pub async fn close(self) -> Result<(), DbErr> {
        self.0.close().await
    }
}

/// The value of column `index`; an internal error if it is not of type `T`.
pub fn get<T: sea_orm::TryGetable>(row: &QueryResult, index: usize) -> Result<T> {
    row.try_get_by_index(index).map_err(Error::internal)
}

/// A value of column `index` stored under its API name.
pub fn get_word<T: DeserializeOwned>(row: &QueryResult, index: usize) -> Result<T> {
    Ok(serde_json::from_value(serde_json::Value::String(get(row, index)?))?)
}

/// Like [`get_word`], of a column that may be null.
pub fn find_word<T: DeserializeOwned>(row: &QueryResult, index: usize) -> Result<Option<T>> {
    let text: Option<String> = get(row, index)?;
    Ok(text.map(|text| serde_json::from_value(serde_json::Value::String(text))).transpose()?)
}

/// A value in the storage form of [`get_word`].
pub fn word(value: impl Serialize) -> Result<Value> {
    word_text(value).map(Value::from)
}

/// Like [`word`], as text.
pub fn word_text(value: impl Serialize) -> Result<String> {
    match serde_json::to_value(value)? {
        serde_json::Value::String(word) => Ok(word),
        _ => Err(Error::internal("a value that is not a word")),
    }
}
