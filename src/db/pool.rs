//! A pool that lends the connection returned last. Its caches are warm, in the database's process too, while the
//! driver's pool takes turns through all connections it has opened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DatabaseTransaction, DbErr, Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use super::dialect::{count_connections, is_cut_off};

/// Timeout of waiting for a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// The error when all connections remain lent.
pub(super) const ALL_LENT: &str = "all connections are in use";

/// Connections of one purpose. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    /// Pools of the driver with at most one connection each, opened when it is needed.
    all: Arc<Vec<DatabaseConnection>>,
    lending: Arc<Lending>,
    /// How long to wait for one.
    wait: Duration,
}

struct Lending {
    /// Indices of those not lent, the one returned last at the end.
    free: Mutex<Vec<usize>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    /// The first of `all` is lent first.
    pub fn new(all: Vec<DatabaseConnection>) -> Self {
        let free = Mutex::new((0..all.len()).rev().collect());
        let lending = Lending { free, permits: Arc::new(Semaphore::new(all.len())) };
        Pool { all: Arc::new(all), lending: Arc::new(lending), wait: ACQUIRE_TIMEOUT }
    }

    /// The same, with another time to wait for a connection.
    pub fn patient(self, wait: Duration) -> Self {
        Pool { wait, ..self }
    }

    /// Calls `callback` with each statement sent and its duration.
    pub fn on_statement(&mut self, callback: impl Fn(&Statement, Duration) + Clone + Send + Sync + 'static) {
        for connection in Arc::make_mut(&mut self.all) {
            let callback = callback.clone();
            connection.set_metric_callback(move |info| callback(info.statement, info.elapsed));
        }
    }

    /// Lends a connection. Error: none became free in time.
    pub async fn lend(&self) -> Result<Lent, DbErr> {
        let permit = tokio::time::timeout(self.wait, Arc::clone(&self.lending.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| DbErr::Custom(ALL_LENT.to_owned()))?;
        let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let mut free = lock(&self.lending.free);
        // One that was given up may still be busy with its last statement.
        let ready = free.iter().rposition(|index| match count_connections(&self.all[*index]) {
            (0, _) => true,
            (_, idle) => idle > 0,
        });
        let last = free.len().checked_sub(1).ok_or(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        let index = free.remove(ready.unwrap_or(last));
        drop(free);
        Ok(Lent { pool: self.clone(), index, _permit: permit })
    }

    /// Begins a transaction, skipping connections that died while idle, e.g. in a restart of the database.
    ///
    /// In a task of its own, which survives cancellation of the caller: the driver registers a transaction only once the
    /// database has answered. If cancelled before, it would stay open on its connection, and the next borrower would read
    /// an old snapshot.
    pub async fn begin(&self, options: TransactionOptions) -> Result<(DatabaseTransaction, Lent), DbErr> {
        let pool = self.clone();
        let begun = async move { past_dead(pool.count().0, || pool.begin_once(options)).await };
        let failed = |error: tokio::task::JoinError| DbErr::Custom(error.to_string());
        tokio::spawn(begun.in_current_span()).await.map_err(failed)?
    }

    async fn begin_once(&self, options: TransactionOptions) -> Result<(DatabaseTransaction, Lent), DbErr> {
        let lent = self.lend().await?;
        Ok((lent.connection().begin_with_options(options).await?, lent))
    }

    /// How many connections can be lent at a time.
    pub fn size(&self) -> usize {
        self.all.len()
    }

    /// The numbers of open and of idle connections.
    pub fn count(&self) -> (usize, usize) {
        let each = self.all.iter().map(count_connections);
        each.fold((0, 0), |(open, idle), (more_open, more_idle)| (open + more_open, idle + more_idle))
    }

    pub async fn close(&self) -> Result<(), DbErr> {
        for connection in self.all.iter() {
            connection.close_by_ref().await?;
        }
        Ok(())
    }
}

/// A connection that returns to its pool when dropped: after its transaction.
pub struct Lent {
    pool: Pool,
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    pub fn connection(&self) -> &DatabaseConnection {
        &self.pool.all[self.index]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.pool.lending.free).push(self.index);
    }
}

/// Retries for each of `open` connections that died while idle, e.g. after a database restart. `ask` must be free of
/// side effects.
pub(super) async fn past_dead<T, F>(open: usize, ask: impl Fn() -> F) -> Result<T, DbErr>
where
    F: Future<Output = Result<T, DbErr>>,
{
    for _ in 0..open {
        match ask().await {
            Err(error) if is_cut_off(&error) => {}
            answer => return answer,
        }
    }
    ask().await
}

fn lock(free: &Mutex<Vec<usize>>) -> MutexGuard<'_, Vec<usize>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, ConnectionTrait, Database};

    use super::*;

    /// Databases in memory, each known by its only table.
    async fn pool(tables: &[&str]) -> Pool {
        let mut all = Vec::new();
        for table in tables {
            let mut options = ConnectOptions::new("sqlite::memory:");
            options.max_connections(1).sqlx_logging(false);
            let connection = Database::connect(options).await.expect("opened");
            connection.execute_unprepared(&format!("CREATE TABLE {table} (n)")).await.expect("created");
            all.push(connection);
        }
        Pool::new(all)
    }

    /// Lends once the driver has taken all back that nobody uses.
    async fn lend(pool: &Pool, used: usize) -> Lent {
        while pool.count().1 + used < pool.count().0 {
            tokio::task::yield_now().await;
        }
        pool.lend().await.expect("lent")
    }

    async fn is(lent: &Lent, table: &str) -> bool {
        lent.connection().execute_unprepared(&format!("SELECT n FROM {table}")).await.is_ok()
    }

    #[tokio::test]
    async fn the_connection_returned_last_is_lent_next() {
        let pool = pool(&["a", "b", "c"]).await;
        let (a, b, c) = (lend(&pool, 0).await, lend(&pool, 0).await, lend(&pool, 0).await);
        assert!(is(&a, "a").await && is(&b, "b").await && is(&c, "c").await);
        drop((b, c, a));
        for _ in 0..3 {
            assert!(is(&lend(&pool, 0).await, "a").await);
        }
        let _a = lend(&pool, 0).await;
        assert!(is(&lend(&pool, 0).await, "c").await);
    }

    #[tokio::test]
    async fn a_connection_that_is_still_busy_is_lent_last() {
        let pool = pool(&["a", "b"]).await;
        let lent = lend(&pool, 0).await;
        let _busy = lent.connection().begin().await.expect("begun");
        drop(lent);
        assert!(is(&lend(&pool, 1).await, "b").await);
    }
}
