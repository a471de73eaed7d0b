//! A transaction of one tenant: the only access path to its rows.

use std::sync::Arc;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, ExecResult, QueryResult, Select, Statement,
    Value,
};
use tokio::sync::OnceCell;

use super::gate::Gate;
use super::pool::Lent;
use super::{Db, Inserts, OnConflict, Table, TenantId, dialect, get};
use crate::error::Result;

/// An entity whose rows belong to tenants.
pub trait TenantEntity: EntityTrait {
    const TENANT: Self::Column;
}

/// A transaction of one tenant.
pub struct TenantTx {
    /// `None` if only caches may be used.
    pub(super) begun: Option<Begun>,
    pub(super) tenant: TenantId,
    pub(super) may_write: bool,
    pub(super) backend: DbBackend,
    pub(super) gate: Arc<Gate>,
}

/// A transaction that has begun.
pub(super) struct Begun {
    // Dropped before its connection is lent to another.
    pub tx: DatabaseTransaction,
    pub _lent: Lent,
}

/// The message of the error of a handle that only caches may be used with.
pub(super) const NOT_CACHED: &str = "not cached";

impl TenantTx {
    pub(super) fn tx(&self) -> Result<&DatabaseTransaction, DbErr> {
        self.begun.as_ref().map(|begun| &begun.tx).ok_or_else(|| DbErr::Custom(NOT_CACHED.to_owned()))
    }

    /// Whether it may see uncommitted rows: its own.
    pub fn may_write(&self) -> bool {
        self.may_write
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Waits for work of the owner that has to reach all tenants: to be called before a tenant is created.
    pub async fn wait_for_owner(&self) -> Result<()> {
        Ok(dialect::wait_for_owner(self.tx()?, self.backend).await?)
    }

    /// The tenant's rows of `E`.
    #[expect(clippy::disallowed_methods, reason = "this is the door that adds the tenant")]
    pub fn find<E: TenantEntity>(&self) -> Select<E> {
        use sea_orm::{ColumnTrait, QueryFilter};
        E::find().filter(E::TENANT.eq(self.tenant.0))
    }

    /// All rows of `sql`, in which `$1` is the tenant and `$2…` are `values`. `{each TABLE ALIAS: CONDITION}` in it is a
    /// join with the tenant's rows of a table that match each row before.
    pub async fn query(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Vec<QueryResult>> {
        Ok(self.query_all_raw(self.statement(&dialect::each(self.backend, sql), values)).await?)
    }

    pub async fn query_one(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Option<QueryResult>> {
        Ok(self.query_one_raw(self.statement(sql, values)).await?)
    }

    /// The count that `sql` selects.
    pub async fn count(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<i64> {
        self.query_one(sql, values).await?.map_or(Ok(0), |row| get(&row, 0))
    }

    /// Runs `sql` like [`TenantTx::query`]; returns the number of affected rows.
    pub async fn execute(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<u64> {
        Ok(self.execute_raw(self.statement(sql, values)).await?.rows_affected())
    }

    /// Like [`TenantTx::query`] with a table of keys: `{keys}` in `sql` becomes a table expression aliased `k` with the
    /// columns of `keys`, bound from `$2` on.
    pub async fn query_by_keys(&self, sql: &str, keys: &Table) -> Result<Vec<QueryResult>> {
        self.query_by_keys_after(sql, Vec::new(), keys).await
    }

    /// The same with `values` bound from `$2` on, before the keys.
    pub async fn query_by_keys_after(
        &self,
        sql: &str,
        mut values: Vec<Value>,
        keys: &Table,
    ) -> Result<Vec<QueryResult>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (expression, of_keys) = keys.expression(self.backend, values.len() + 2);
        values.extend(of_keys);
        self.query(&sql.replace("{keys}", &expression), values).await
    }

    /// The first `k.rows_max` rows of each key, in unspecified order between keys.
    pub async fn query_first_by_keys(&self, rows: &FirstRows<'_>, keys: &Table) -> Result<Vec<QueryResult>> {
        self.query_by_keys(&dialect::first_rows(self.backend, rows), keys).await
    }

    /// Runs a modifying statement with a table of keys, like [`TenantTx::query_by_keys`].
    pub async fn execute_by_keys(&self, sql: &str, keys: &Table) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let (expression, values) = keys.expression(self.backend, 2);
        self.execute(&sql.replace("{keys}", &expression), values).await
    }

    /// Inserts all of `rows` in one statement; `conflict` handles existing rows.
    pub async fn insert(&self, table: &str, rows: &Table, conflict: OnConflict<'_>) -> Result<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let (sql, values) = rows.insert(self.backend, table, conflict, 2);
        self.execute(&sql, values).await
    }

    /// Inserts rows into several tables at once.
    pub async fn insert_all(&self, inserts: Inserts) -> Result<()> {
        for (sql, values) in inserts.statements(self.backend) {
            self.execute(&sql, values).await?;
        }
        Ok(())
    }

    /// Suffix for a SELECT of the row that serializes a tenant's writers.
    pub fn for_update(&self) -> &'static str {
        dialect::for_update(self.backend)
    }

    /// The operator for case-insensitive pattern matching; on SQLite, for ASCII letters only.
    pub fn like_any_case(&self) -> &'static str {
        dialect::like_any_case(self.backend)
    }

    /// Serializes the tenant's settings changes until this transaction ends, so that checked preconditions (a free
    /// name, a limit) still hold at commit.
    pub async fn lock_settings(&self) -> Result<()> {
        let sql = format!("SELECT 1 FROM tenants WHERE id = $1 {}", self.for_update());
        self.query_one(&sql, []).await?;
        Ok(())
    }

    /// Serializes what changes the tenant's rollups until this transaction ends. Whoever locks the head, too, does so
    /// afterwards.
    pub async fn lock_rollups(&self) -> Result<()> {
        if let Some(sql) = dialect::lock_rollups(self.backend) {
            self.query_one(sql, []).await?;
        }
        Ok(())
    }

    /// The same without waiting, so also after the head was locked. `false` if another transaction has the lock.
    pub async fn try_lock_rollups(&self) -> Result<bool> {
        let Some(sql) = dialect::try_lock_rollups(self.backend) else { return Ok(true) };
        let row = self.query_one(sql, []).await?;
        row.map_or(Ok(false), |row| get(&row, 0))
    }

    pub async fn commit(self) -> Result<()> {
        let begun = self.begun.ok_or_else(|| DbErr::Custom(NOT_CACHED.to_owned()))?;
        Ok(begun.tx.commit().await?)
    }

    pub(super) async fn without_time_limit(&self) -> Result<()> {
        self.tx()?.execute_unprepared("SET LOCAL statement_timeout = 0").await?;
        Ok(())
    }

    fn statement(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        let values = std::iter::once(Value::from(self.tenant.0)).chain(values);
        Statement::from_sql_and_values(self.backend, sql, values)
    }
}

/// A read transaction that may turn out not to be needed.
pub enum LazyTx<'a> {
    Begun(&'a TenantTx),
    /// Begun on first use.
    Later(&'a Db, TenantId, OnceCell<TenantTx>),
}

impl<'a> LazyTx<'a> {
    pub fn later(db: &'a Db, tenant: TenantId) -> Self {
        LazyTx::Later(db, tenant, OnceCell::new())
    }

    pub async fn get(&self) -> Result<&TenantTx> {
        match self {
            LazyTx::Begun(tx) => Ok(tx),
            LazyTx::Later(db, tenant, begun) => begun.get_or_try_init(|| db.read(*tenant)).await,
        }
    }
}

/// For operations sea-orm runs itself: entities' `one`, `all`, `insert`, `update`.
#[async_trait::async_trait]
impl ConnectionTrait for TenantTx {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.tx()?.execute_raw(self.gate.pass(statement, self.tenant)?).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let statement = self.gate.pass(Statement::from_string(self.backend, sql), self.tenant)?;
        self.tx()?.execute_unprepared(&statement.sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.tx()?.query_one_raw(self.gate.pass(statement, self.tenant)?).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.tx()?.query_all_raw(self.gate.pass(statement, self.tenant)?).await
    }
}

/// A statement for [`TenantTx::query_first_by_keys`].
pub struct FirstRows<'a> {
    pub columns: &'a str,
    /// The table and its alias.
    pub table: &'a str,
    /// The condition that rows are the tenant's and match a key `k`.
    pub matching: &'a str,
    /// The columns of `k` that identify a key.
    pub key: &'a str,
    pub order: &'a str,
}
