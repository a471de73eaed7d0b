//! Runs an import: batches from the reader thread into the ledger, up to [`IN_FLIGHT`] at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::group::{CsvBatch, Draft};
use super::read::{CsvReader, OpenFiles};
use super::rejected::Rejected;
use super::rejected_paths::RejectedPaths;
use super::retry::{is_away, patiently};
use super::settled::{Rejoined, Settled};
use super::totals::Totals;
use super::{Files, ImportError, Mapping};
use crate::app::App;
use crate::audit::{By, Means};
use crate::db::TenantId;
use crate::error::{Error, Result};
use crate::ledger::event::{Event, Outcome};

/// Half of them fill a transaction; the others wait for the next one.
const IN_FLIGHT: usize = 8;
const READ_AHEAD: usize = 2;
pub(super) const BROKE_DOWN: &str = "reading the files failed";
/// Added to what goes wrong with the database.
pub const WHAT_TO_DO: &str = " (what is recorded stays; run the import again)";

/// The parameters of an import.
pub struct Import {
    pub mapping: Mapping,
    pub files: Files,
    /// Directory for rejected-row files; absent means next to the files.
    pub rejected_folder: Option<PathBuf>,
    /// Added to every timestamp.
    pub shift_micros: i64,
    /// Bytes read so far, for progress display.
    pub read_bytes: Arc<AtomicU64>,
    /// Rows processed so far, for progress display.
    pub settled_rows: Arc<AtomicU64>,
}

/// How an import ended. What was recorded stays, in every case.
#[derive(Debug, PartialEq)]
pub enum End {
    Done,
    Stopped,
    Failed(String),
    /// The database was unavailable for longer than the retries.
    DatabaseAway(String),
}

#[derive(Debug)]
pub struct Report {
    /// By feed, in the mapping's order.
    pub feeds: Vec<(String, Totals)>,
    /// Remarks for people, beyond the totals.
    pub notes: Vec<String>,
    /// Rejected rows of lookup tables.
    pub table_rows_refused: u64,
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

/// An import whose files are open and match the mapping, and whose rejected-row files are locked.
pub struct Ready {
    name: String,
    files: OpenFiles,
    settled: Settled,
    stopped: Arc<AtomicBool>,
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

    /// Total input size in bytes; 0 when unknown.
    pub fn bytes(&self) -> u64 {
        self.mapping.feeds.iter().map(|feed| self.files.size(&feed.file.path)).sum()
    }

    /// [`Import::open`] and [`Ready::run`].
    pub async fn run(self, app: &App, tenant: TenantId, stop: &CancellationToken) -> Report {
        match self.open(stop).await {
            Ok(ready) => ready.run(app, tenant, stop).await,
            Err(report) => report,
        }
    }

    /// Opens the files and locks the rejected-row files. Error: why the import cannot run; nothing was changed then.
    pub async fn open(self, stop: &CancellationToken) -> Result<Ready, Report> {
        let feeds: Vec<_> = self.mapping.feeds.iter().map(|feed| (feed.name.clone(), Totals::default())).collect();
        let name = self.mapping.name.clone();
        let rejected_paths = RejectedPaths::of(&self.mapping, &self.files, self.rejected_folder.as_deref());
        let stopped = Arc::new(AtomicBool::new(false));
        let reader = CsvReader {
            mapping: self.mapping,
            files: self.files,
            shift_micros: self.shift_micros,
            read_bytes: self.read_bytes,
            stop: Arc::clone(&stopped),
        };
        let (sender, opened) = oneshot::channel();
        // Not on a runtime thread, since shutdown would wait for it: it may block on input that never comes. If the
        // thread cannot be spawned, the sender is dropped.
        drop(thread::Builder::new().spawn(move || sender.send(reader.open())));
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => Err(End::Stopped),
            opened = opened => match opened {
                Ok(opened) => opened.map_err(|error| End::Failed(error.to_string())),
                Err(_) => Err(End::Failed(BROKE_DOWN.to_owned())),
            },
        };
        let begun = opened.and_then(|files| {
            let rejected = Rejected::lock(&rejected_paths.to_make, &rejected_paths.inputs);
            rejected.map(|rejected| (files, rejected)).map_err(|error| End::Failed(error.to_string()))
        });
        match begun {
            Ok((files, rejected)) => {
                let settled = Settled::new(feeds, rejected_paths, rejected, self.settled_rows);
                Ok(Ready { name, files, settled, stopped })
            }
            Err(end) => {
                Err(Report { feeds, notes: Vec::new(), table_rows_refused: 0, rejected_files: Vec::new(), end })
            }
        }
    }
}

impl Ready {
    /// Records all rows until `stop`, as history that fires no alerts. What was recorded stays, however it ends.
    pub async fn run(self, app: &App, tenant: TenantId, stop: &CancellationToken) -> Report {
        let Ready { name, mut files, mut settled, stopped } = self;
        let begun = settled.begin(&mut files);
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let reading = begun.and_then(|()| {
            let reading = thread::Builder::new().spawn(move || files.read(&sender));
            reading.map_err(|error| End::Failed(format!("{BROKE_DOWN}: {error}")))
        });
        let mut end = match reading {
            Ok(reading) => match record_all(&mut settled, app, tenant, batches, stop).await {
                // The reader has ended once its channel is closed.
                End::Done if reading.join().is_err() => End::Failed(BROKE_DOWN.to_owned()),
                end => end,
            },
            Err(end) => end,
        };
        stopped.store(true, Ordering::Relaxed);
        if end == End::Done
            && let Err(error) = patiently(stop, || note_source(app, tenant, &name)).await
        {
            end = end_of(app, &error).await;
        }
        if !matches!(end, End::DatabaseAway(_))
            && let Err(error) = app.ledger.fold(tenant).await
        {
            // Until then readers add the tail, and the lane of the next batch folds it.
            tracing::warn!(tenant = %tenant.0, source = error.cause(), "tail not folded");
        }
        settled.report(end)
    }
}

async fn record_all(
    settled: &mut Settled,
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
                // The first failure is the one reported.
                if let Err(failed) = settled.settle(batch, outcomes)
                    && end.as_ref().is_none_or(|end| *end == End::Done)
                {
                    end = Some(failed);
                }
            }
            message = batches.recv(), if is_reading && in_flight.len() < IN_FLIGHT => match message {
                Some(Ok(batch)) => in_flight.push_back(record(app, tenant, batch, stop)),
                Some(Err(error)) => end = Some(End::Failed(error.to_string())),
                None => end = Some(End::Done),
            },
            else => return end.unwrap_or(End::Done),
        }
    }
}

async fn record(
    app: &App,
    tenant: TenantId,
    batch: CsvBatch,
    stop: &CancellationToken,
) -> (Rejoined, Result<Vec<Outcome>, End>) {
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
    let rejoined = Rejoined { feed: batch.feed, skipped: batch.skipped, missed: batch.missed, facts };
    if events.is_empty() {
        return (rejoined, Ok(Vec::new()));
    }
    let outcomes =
        match patiently(stop, || app.ledger.record(tenant, By::means(Means::Import, None), events.clone(), true)).await
        {
            Ok(answer) => Ok(answer.outcomes),
            Err(error) => Err(end_of(app, &error).await),
        };
    (rejoined, outcomes)
}

/// The outcome of an import after a ledger error.
async fn end_of(app: &App, error: &Error) -> End {
    let message = format!("{}{WHAT_TO_DO}", error.message);
    if is_away(&app.db, error).await { End::DatabaseAway(message) } else { End::Failed(message) }
}

/// Records the source of the events and its last activity.
async fn note_source(app: &App, tenant: TenantId, name: &str) -> Result<()> {
    let now = app.clock.now().0;
    let tx = app.db.write(tenant).await?;
    let sql = "INSERT INTO data_sources (tenant_id, id, kind, name, last_sync_at, created_at) \
               VALUES ($1, $2, 'csv', $3, $4, $4) \
               ON CONFLICT (tenant_id, name) DO UPDATE SET last_sync_at = excluded.last_sync_at";
    tx.execute(sql, [Uuid::now_v7().into(), name.into(), now.into()]).await?;
    tx.commit().await
}
