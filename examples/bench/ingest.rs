//! The write path beside its limits: COPY of the rows it wrote, and its own statements sent bare.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use salespulse::app::App;
use salespulse::clock::Timestamp;
use salespulse::db::{Db, TenantId};
use salespulse::ledger::event::Outcome;
use sea_orm::sqlx::Connection;
use sea_orm::{ConnectionTrait, Statement, TransactionTrait, Value};

use crate::events::event;

/// The statements that a database was sent, in order.
#[derive(Clone, Default)]
pub struct Recording(Arc<(AtomicBool, Mutex<Vec<Statement>>)>);

impl Recording {
    /// Of all that `db` sends while it is switched on.
    pub fn of(db: &mut Db) -> Recording {
        let recording = Recording::default();
        let into = recording.clone();
        db.on_statement(move |statement| {
            if into.0.0.load(Ordering::Relaxed) {
                into.statements().push(statement.clone());
            }
        });
        recording
    }

    pub fn start(&self) {
        self.0.0.store(true, Ordering::Relaxed);
    }

    /// Ends the recording and gives what was recorded.
    pub fn stop(&self) -> Vec<Statement> {
        self.0.0.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.statements())
    }

    fn statements(&self) -> MutexGuard<'_, Vec<Statement>> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records `total` events in calls of `batch` by `callers` at a time.
pub async fn ingest(app: &App, tenant: TenantId, total: u64, batch: u64, callers: u64, now: Timestamp) -> Duration {
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (app, next) = (app.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= total {
                    return;
                }
                let events = (first..(first + batch).min(total)).map(|n| event("o", n, total, now)).collect();
                let answer = app.ledger.record(tenant, events, true).await.expect("recorded");
                let is_applied = |outcome: &Outcome| matches!(outcome, Outcome::Applied { .. });
                assert!(answer.outcomes.iter().all(is_applied), "{answer:?}");
            }
        });
    }
    tasks.join_all().await;
    started.elapsed()
}

/// Sends recorded statements once more for another, empty tenant, in the same transactions, and nothing else.
pub async fn replay(db: &Db, statements: Vec<Statement>, tenant: TenantId) -> Duration {
    let is_first = |s: &Statement| s.sql.contains("FROM ledger_heads");
    let mut transactions: Vec<Vec<Statement>> = Vec::new();
    for mut statement in statements {
        if is_first(&statement) {
            transactions.push(Vec::new());
        }
        let values = statement.values.as_mut().expect("values");
        values.0[0] = Value::from(tenant.0);
        if let Some(last) = transactions.last_mut() {
            last.push(statement);
        }
    }
    let connection = db.system();
    let started = Instant::now();
    for statements in transactions {
        let tx = connection.begin().await.expect("begun");
        for statement in statements {
            if statement.sql.starts_with("SELECT") {
                tx.query_all_raw(statement).await.expect("read");
            } else {
                tx.execute_raw(statement).await.expect("written");
            }
        }
        tx.commit().await.expect("committed");
    }
    started.elapsed()
}

/// Rows a second that COPY puts into a table like the ledger's, in one transaction; PostgreSQL only.
pub async fn copy(url: &str, tenant: TenantId) -> f64 {
    use futures_util::StreamExt;
    let mut connection = sea_orm::sqlx::PgConnection::connect(url).await.expect("connected");
    let run = async |connection: &mut sea_orm::sqlx::PgConnection, sql: &'static str| {
        sea_orm::sqlx::raw_sql(sql).execute(connection).await.expect(sql);
    };
    run(&mut connection, "DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE ledger_entries INCLUDING ALL)").await;
    let out = format!("COPY (SELECT * FROM ledger_entries WHERE tenant_id = '{}') TO STDOUT (FORMAT binary)", tenant.0);
    let mut rows = Vec::new();
    {
        let mut stream = connection.copy_out_raw(&out).await.expect("copied out");
        while let Some(chunk) = stream.next().await {
            rows.push(chunk.expect("copied out"));
        }
    }
    let started = Instant::now();
    let mut sink = connection.copy_in_raw("COPY copied FROM STDIN (FORMAT binary)").await.expect("copying");
    for chunk in rows {
        sink.send(chunk).await.expect("sent");
    }
    let count = sink.finish().await.expect("copied");
    let took = started.elapsed();
    run(&mut connection, "DROP TABLE copied").await;
    count as f64 / took.as_secs_f64()
}
