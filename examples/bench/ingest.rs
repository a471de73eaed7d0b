//! The write path beside its limits: COPY of the rows it wrote, and its own statements sent bare.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use salespulse::app::App;
use salespulse::audit::By;
use salespulse::db::{Db, TenantId};
use salespulse::ledger::event::Outcome;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{ConnectOptions, Connection, PgConnection};
use sea_orm::{ConnectionTrait, Statement, Value};

use crate::Urls;
use crate::events::Sales;

/// The statements that a database was sent, in order.
#[derive(Clone, Default)]
pub struct Recording(Arc<(AtomicBool, Mutex<Vec<Statement>>)>);

/// How often each statement was sent and how long it took in all.
#[derive(Clone, Default)]
pub struct Times(Arc<Mutex<HashMap<String, (u64, Duration)>>>);

impl Times {
    fn add(&self, statement: &Statement, took: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name: String = statement.sql.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(110).collect();
        let entry = times.entry(name).or_default();
        entry.0 += 1;
        entry.1 += took;
    }

    /// Prints and forgets them, the longest first.
    pub fn print(&self) {
        let mut times: Vec<_> =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect();
        times.sort_by_key(|(_, (_, took))| std::cmp::Reverse(*took));
        for (sql, (count, took)) in times.into_iter().take(20) {
            println!("{:>9.1} ms {count:>7} times  {sql}", took.as_secs_f64() * 1e3);
        }
    }
}

impl Recording {
    /// Of all that `db` sends while it is switched on.
    pub fn of(db: &mut Db, times: Option<Times>) -> Recording {
        let recording = Recording::default();
        let into = recording.clone();
        db.on_statement(move |statement, took| {
            if let Some(times) = &times {
                times.add(statement, took);
            }
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

/// Records all sales in calls of `batch` by `callers` at a time, as a backfill or as they happen, and folds them into rollups.
pub async fn ingest(
    app: &App,
    tenant: TenantId,
    sales: Sales,
    batch: u64,
    callers: u64,
    is_backfill: bool,
) -> Duration {
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (app, next) = (app.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= sales.total {
                    return;
                }
                let events = (first..(first + batch).min(sales.total)).map(|n| sales.event(n)).collect();
                let answer = app.ledger.record(tenant, By::default(), events, is_backfill).await.expect("recorded");
                let is_applied = |outcome: &Outcome| matches!(outcome, Outcome::Applied { .. });
                assert!(answer.outcomes.iter().all(is_applied), "{answer:?}");
            }
        });
    }
    tasks.join_all().await;
    app.ledger.fold(tenant).await.expect("folded");
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
        // What begins a transaction has none, and is done anew.
        let Some(values) = statement.values.as_mut() else { continue };
        values.0[0] = Value::from(tenant.0);
        if let Some(last) = transactions.last_mut() {
            last.push(statement);
        }
    }
    let started = Instant::now();
    for statements in transactions {
        let tx = db.write(tenant).await.expect("begun");
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

/// Events a second whose rows COPY puts into tables like the ledger's (the events and their entries), each in one
/// transaction; PostgreSQL only.
pub async fn copy(urls: &Urls, tenant: TenantId) -> f64 {
    let options = PgConnectOptions::from_str(&urls.server).expect("a URL");
    let options = options.options([("role", "salespulse_app"), ("app.tenant_id", tenant.0.to_string().as_str())]);
    let mut from = options.connect().await.expect("connected");
    let mut to = PgConnection::connect(&urls.owner).await.expect("connected");
    let (events, events_took) = copy_table(&mut from, &mut to, "ledger_events").await;
    let (_, entries_took) = copy_table(&mut from, &mut to, "ledger_entries").await;
    events as f64 / (events_took + entries_took).as_secs_f64()
}

/// The number of the tenant's rows, and how long COPY needs for them.
async fn copy_table(from: &mut PgConnection, to: &mut PgConnection, table: &'static str) -> (u64, Duration) {
    use futures_util::StreamExt;
    let run = async |connection: &mut PgConnection, sql: String| {
        sea_orm::sqlx::raw_sql(sea_orm::sqlx::AssertSqlSafe(sql)).execute(connection).await.expect("run");
    };
    run(to, format!("DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE {table} INCLUDING ALL)")).await;
    let out = format!("COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)");
    let mut rows = Vec::new();
    {
        let mut stream = from.copy_out_raw(&out).await.expect("copied out");
        while let Some(chunk) = stream.next().await {
            rows.push(chunk.expect("copied out"));
        }
    }
    let started = Instant::now();
    let mut sink = to.copy_in_raw("COPY copied FROM STDIN (FORMAT binary)").await.expect("copying");
    for chunk in rows {
        sink.send(chunk).await.expect("sent");
    }
    let count = sink.finish().await.expect("copied");
    let took = started.elapsed();
    run(to, "DROP TABLE copied".to_owned()).await;
    (count, took)
}
