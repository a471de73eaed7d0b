//! Runs an import: batches from the reading thread into the ledger, up to [`IN_FLIGHT`] at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::read::{CsvBatch, CsvReader, Draft, RawRow};
use super::rejected::Rejected;
use super::totals::Totals;
use super::{Files, ImportError, Mapping};
use crate::app::App;
use crate::db::TenantId;
use crate::error::Result;
use crate::ledger::event::{Event, Outcome, RefusalCode};

/// While one batch commits, the next one waits and the one after it is read.
const IN_FLIGHT: usize = 2;
const READ_AHEAD: usize = 2;

/// What to import.
pub struct Import {
    pub mapping: Mapping,
    pub files: Files,
    /// Where files of refused rows go; absent means beside the files.
    pub rejected_folder: Option<PathBuf>,
    /// Added to every time.
    pub shift_micros: i64,
    /// Bytes read so far, for who watches.
    pub read_bytes: Arc<AtomicU64>,
    /// Rows settled so far, for who watches.
    pub settled_rows: Arc<AtomicU64>,
}

/// How an import ended.
#[derive(Debug, PartialEq)]
pub enum End {
    Done,
    Stopped,
    Failed(String),
}

#[derive(Debug)]
pub struct Report {
    /// By feed, in the mapping's order.
    pub feeds: Vec<(String, Totals)>,
    pub rejected_files: Vec<PathBuf>,
    pub end: End,
}

impl Report {
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.feeds.iter().for_each(|(_, feed)| totals.merge(feed));
        totals
    }
}

impl Import {
    pub fn new(mapping: Mapping, files: Files) -> Self {
        Import {
            mapping,
            files,
            rejected_folder: None,
            shift_micros: 0,
            read_bytes: Arc::default(),
            settled_rows: Arc::default(),
        }
    }

    /// All there is to read, in bytes.
    pub fn bytes(&self) -> u64 {
        self.mapping.feeds.iter().map(|feed| self.files.size(&feed.file.path)).sum()
    }

    /// Records all rows, as history that fires no alert, until `stop`. What was recorded stays, however it ends.
    pub async fn run(self, app: &App, tenant: TenantId, stop: &CancellationToken) -> Report {
        let feeds = self.mapping.feeds.iter();
        let totals: Vec<_> = feeds.clone().map(|feed| (feed.name.clone(), Totals::default())).collect();
        let paths: Vec<_> =
            feeds.map(|f| self.files.rejected_path(&f.file.path, self.rejected_folder.as_deref())).collect();
        let rejected = match Rejected::begin(&paths) {
            Ok(rejected) => rejected,
            Err(error) => {
                return Report { feeds: totals, rejected_files: Vec::new(), end: End::Failed(error.to_string()) };
            }
        };
        let mut settled = Settled { feeds: totals, paths, rejected, rows: self.settled_rows };
        let name = self.mapping.name.clone();
        let stopped = Arc::new(AtomicBool::new(false));
        let reader = CsvReader {
            mapping: self.mapping,
            files: self.files,
            shift_micros: self.shift_micros,
            read_bytes: self.read_bytes,
            stop: Arc::clone(&stopped),
        };
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let reading = tokio::task::spawn_blocking(move || reader.run(&sender));
        let mut end = settled.record_all(app, tenant, batches, stop).await;
        stopped.store(true, Ordering::Relaxed);
        if reading.await.is_err() {
            end = End::Failed("the reading of files broke down".to_owned());
        }
        if end == End::Done
            && let Err(error) = note_source(app, tenant, &name).await
        {
            end = End::Failed(error.message);
        }
        let rejected_files = settled.rejected.finish().unwrap_or_else(|error| {
            end = End::Failed(error.to_string());
            Vec::new()
        });
        if let Err(error) = app.ledger.fold(tenant).await {
            // Readers add the tail meanwhile, and the next batch's lane folds it.
            tracing::warn!(tenant = %tenant.0, source = error.cause(), "tail not folded");
        }
        Report { feeds: settled.feeds, rejected_files, end }
    }
}

/// What has been recorded so far.
struct Settled {
    feeds: Vec<(String, Totals)>,
    /// By feed, where its refused rows go.
    paths: Vec<PathBuf>,
    rejected: Rejected,
    rows: Arc<AtomicU64>,
}

impl Settled {
    async fn record_all(
        &mut self,
        app: &App,
        tenant: TenantId,
        mut batches: mpsc::Receiver<Result<CsvBatch, ImportError>>,
        stop: &CancellationToken,
    ) -> End {
        let mut in_flight = FuturesOrdered::new();
        let mut end = None;
        loop {
            let is_reading = end.is_none();
            tokio::select! {
                biased;
                () = stop.cancelled(), if is_reading => end = Some(End::Stopped),
                Some((batch, outcomes)) = in_flight.next(), if !in_flight.is_empty() => {
                    if let Err(error) = self.settle(batch, outcomes) {
                        end = Some(End::Failed(error));
                    }
                }
                message = batches.recv(), if is_reading && in_flight.len() < IN_FLIGHT => match message {
                    Some(Ok(batch)) => in_flight.push_back(record(app, tenant, batch)),
                    Some(Err(error)) => end = Some(End::Failed(error.to_string())),
                    None => end = Some(End::Done),
                },
                else => return end.unwrap_or(End::Done),
            }
        }
    }

    /// Counts a batch and writes down what was refused. Error: what keeps the import from going on.
    fn settle(&mut self, batch: Rejoined, outcomes: Result<Vec<Outcome>>) -> Result<(), String> {
        let outcomes =
            outcomes.map_err(|error| format!("{} (what is recorded stays; run the import again)", error.message))?;
        let mut outcomes = outcomes.iter();
        let (name, totals) = &mut self.feeds[batch.feed];
        let path: &Path = &self.paths[batch.feed];
        let before = totals.rows.read;
        totals.add_skipped(batch.skipped);
        for (defect, rows) in &batch.facts {
            let outcome = if defect.is_none() { outcomes.next() } else { None };
            totals.add_fact(outcome, rows.len() as u64);
            let (code, reason) = match (defect, outcome) {
                (Some(defect), _) => (RefusalCode::BadUserInput, defect),
                (None, Some(Outcome::Refused(refusal))) => (refusal.code, &refusal.reason),
                (None, _) => continue,
            };
            self.rejected.write(path, name, code.as_str(), reason, rows).map_err(|error| error.to_string())?;
        }
        self.rows.fetch_add(totals.rows.read - before, Ordering::Relaxed);
        Ok(())
    }
}

/// A batch whose events are with the ledger.
struct Rejoined {
    feed: usize,
    skipped: u64,
    /// Of each fact, why it is no event, and its rows.
    facts: Vec<(Option<String>, Vec<RawRow>)>,
}

async fn record(app: &App, tenant: TenantId, batch: CsvBatch) -> (Rejoined, Result<Vec<Outcome>>) {
    let mut events: Vec<Event> = Vec::with_capacity(batch.drafts.len());
    let mut facts = Vec::with_capacity(batch.drafts.len());
    for Draft { event, rows } in batch.drafts {
        match event {
            Ok(event) => {
                events.push(event);
                facts.push((None, rows));
            }
            Err(defect) => facts.push((Some(defect), rows)),
        }
    }
    let rejoined = Rejoined { feed: batch.feed, skipped: batch.skipped, facts };
    if events.is_empty() {
        return (rejoined, Ok(Vec::new()));
    }
    let answer = app.ledger.record(tenant, events, true).await;
    (rejoined, answer.map(|answer| answer.outcomes))
}

/// Writes down where events came from, and when last.
async fn note_source(app: &App, tenant: TenantId, name: &str) -> Result<()> {
    let now = app.clock.now().0;
    let tx = app.db.write(tenant).await?;
    let sql = "INSERT INTO data_sources (tenant_id, id, kind, name, last_sync_at, created_at) \
               VALUES ($1, $2, 'csv', $3, $4, $4) \
               ON CONFLICT (tenant_id, name) DO UPDATE SET last_sync_at = excluded.last_sync_at";
    tx.execute(sql, [Uuid::now_v7().into(), name.into(), now.into()]).await?;
    tx.commit().await
}
