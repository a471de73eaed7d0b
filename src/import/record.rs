//! Runs an import: batches from the reading thread into the ledger, up to [`IN_FLIGHT`] at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use roaring::RoaringTreemap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::group::{CsvBatch, Defect, Draft, RawRow};
use super::read::{CsvReader, OpenFiles};
use super::rejected::Rejected;
use super::retry::{is_away, patiently};
use super::totals::Totals;
use super::{Files, ImportError, Mapping};
use crate::app::App;
use crate::db::TenantId;
use crate::error::{Error, Result};
use crate::ledger::event::{Event, Outcome, RefusalCode};

/// While one batch commits, the next one waits and the one after it is read.
const IN_FLIGHT: usize = 2;
const READ_AHEAD: usize = 2;
const BROKE_DOWN: &str = "the reading of files broke down";

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

/// How an import ended. What was recorded stays, whichever it is.
#[derive(Debug, PartialEq)]
pub enum End {
    Done,
    Stopped,
    Failed(String),
    /// The database could not be reached, for as long as it was tried.
    DatabaseAway(String),
}

#[derive(Debug)]
pub struct Report {
    /// By feed, in the mapping's order.
    pub feeds: Vec<(String, Totals)>,
    /// What the totals do not tell, for people.
    pub notes: Vec<String>,
    /// Rows of tables to join with that are not used.
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

/// An import whose files are open and fit the mapping, and whose refused rows have a place.
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

    /// All there is to read, in bytes; 0 when it is not known.
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

    /// Opens the files and makes places for refused rows. Error: why there is nothing to run; nothing was changed then.
    pub async fn open(self, stop: &CancellationToken) -> Result<Ready, Report> {
        let feeds: Vec<_> = self.mapping.feeds.iter().map(|feed| (feed.name.clone(), Totals::default())).collect();
        let name = self.mapping.name.clone();
        let places = Places::of(&self);
        let stopped = Arc::new(AtomicBool::new(false));
        let reader = CsvReader {
            mapping: self.mapping,
            files: self.files,
            shift_micros: self.shift_micros,
            read_bytes: self.read_bytes,
            stop: Arc::clone(&stopped),
        };
        let (sender, opened) = oneshot::channel();
        // Not one of the runtime's threads, which would be waited for: it may wait for input that does not come. One that
        // cannot begin drops the sender.
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
            let rejected = Rejected::begin(&places.to_make, &places.inputs);
            rejected.map(|rejected| (files, rejected)).map_err(|error| End::Failed(error.to_string()))
        });
        match begun {
            Ok((files, rejected)) => {
                let settled = Settled::new(feeds, places, rejected, self.settled_rows);
                Ok(Ready { name, files, settled, stopped })
            }
            Err(end) => {
                Err(Report { feeds, notes: Vec::new(), table_rows_refused: 0, rejected_files: Vec::new(), end })
            }
        }
    }
}

impl Ready {
    /// Records all rows, as history that fires no alert, until `stop`. What was recorded stays, however it ends.
    pub async fn run(self, app: &App, tenant: TenantId, stop: &CancellationToken) -> Report {
        let Ready { name, mut files, mut settled, stopped } = self;
        let begun = settled.begin(&mut files);
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let reading = begun.and_then(|()| {
            let reading = thread::Builder::new().spawn(move || files.read(&sender));
            reading.map_err(|error| End::Failed(format!("{BROKE_DOWN}: {error}")))
        });
        let mut end = match reading {
            Ok(reading) => match settled.record_all(app, tenant, batches, stop).await {
                // It has ended when it sends no more.
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
            // Readers add the tail meanwhile, and the next batch's lane folds it.
            tracing::warn!(tenant = %tenant.0, source = error.cause(), "tail not folded");
        }
        settled.report(end)
    }
}

/// Where refused rows go.
struct Places {
    /// By feed.
    feeds: Vec<PathBuf>,
    /// By table, in the order of their names; `None` where a feed reads the same file and refuses its rows.
    lookups: Vec<Option<PathBuf>>,
    /// Those that are made before anything is read; of files within the program there is seldom something to refuse.
    to_make: Vec<PathBuf>,
    /// What is read.
    inputs: Vec<PathBuf>,
}

impl Places {
    fn of(import: &Import) -> Places {
        let Import { mapping, files, rejected_folder, .. } = import;
        let place = |path: &String| files.rejected_path(path, rejected_folder.as_deref());
        let feeds: Vec<&String> = mapping.feeds.iter().map(|feed| &feed.file.path).collect();
        let lookups: Vec<&String> = mapping.lookups.values().map(|lookup| &lookup.file.path).collect();
        let all = || feeds.iter().chain(&lookups).copied();
        Places {
            to_make: all().filter(|path| !files.embedded.contains_key(*path)).map(place).collect(),
            inputs: all().map(|path| files.path(path)).collect(),
            lookups: lookups.iter().map(|path| (!feeds.contains(path)).then(|| place(path))).collect(),
            feeds: feeds.into_iter().map(place).collect(),
        }
    }
}

/// What has been recorded so far.
struct Settled {
    feeds: Vec<(String, Totals)>,
    places: Places,
    rejected: Rejected,
    rows: Arc<AtomicU64>,
    /// Positions of what this run has recorded or found recorded.
    seen: RoaringTreemap,
    tables: Vec<Table>,
    /// By feed and table, rows that found nothing.
    missed: BTreeMap<(usize, usize), u64>,
}

/// A table to join with.
struct Table {
    name: String,
    rows_refused: u64,
}

impl Settled {
    fn new(feeds: Vec<(String, Totals)>, places: Places, rejected: Rejected, rows: Arc<AtomicU64>) -> Settled {
        let (seen, tables, missed) = (RoaringTreemap::new(), Vec::new(), BTreeMap::new());
        Settled { feeds, places, rejected, rows, seen, tables, missed }
    }

    /// Writes down which rows are not in the tables.
    fn begin(&mut self, files: &mut OpenFiles) -> Result<(), End> {
        for (lookup, place) in files.lookups.iter_mut().zip(&self.places.lookups) {
            let refused = std::mem::take(&mut lookup.refused);
            let table = Table { name: lookup.name.clone(), rows_refused: refused.len() as u64 };
            for (defect, row) in refused {
                let Some(place) = place else { continue };
                let feed = format!("lookups.{}", table.name);
                let code = RefusalCode::BadUserInput.as_str();
                let written = self.rejected.write(place, &feed, code, &defect, &[row]);
                written.map_err(|error| End::Failed(error.to_string()))?;
            }
            self.tables.push(table);
        }
        Ok(())
    }

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
                    // The first that went wrong is told.
                    if let Err(failed) = self.settle(batch, outcomes)
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

    /// Counts a batch and writes down what was refused. Error: what keeps the import from going on; all that was
    /// recorded is counted even so.
    fn settle(&mut self, batch: Rejoined, outcomes: Result<Vec<Outcome>, End>) -> Result<(), End> {
        let outcomes = outcomes?;
        let mut outcomes = outcomes.iter();
        let (Some((name, totals)), Some(path)) = (self.feeds.get_mut(batch.feed), self.places.feeds.get(batch.feed))
        else {
            return Err(End::Failed(BROKE_DOWN.to_owned()));
        };
        let before = totals.rows.read;
        let mut written = Ok(());
        totals.add_skipped(batch.skipped);
        for (table, rows) in batch.missed {
            *self.missed.entry((batch.feed, table)).or_default() += rows;
        }
        for (defect, rows) in &batch.facts {
            let outcome = if defect.is_none() { outcomes.next() } else { None };
            let is_first = outcome.and_then(position_of).is_none_or(|position| self.seen.insert(position));
            totals.add_fact(outcome, is_first, rows.len() as u64);
            let refused;
            let (code, defect) = match (defect, outcome) {
                (Some(defect), _) => (RefusalCode::BadUserInput, defect),
                (None, Some(Outcome::Refused(refusal))) => {
                    let line = rows.first().map(|row| row.line);
                    refused = Defect { line, what: refusal.reason.clone() };
                    (refusal.code, &refused)
                }
                (None, _) => continue,
            };
            written = written.and_then(|()| self.rejected.write(path, name, code.as_str(), defect, rows));
        }
        self.rows.fetch_add(totals.rows.read - before, Ordering::Relaxed);
        written.map_err(|error| End::Failed(error.to_string()))
    }

    fn report(self, mut end: End) -> Report {
        let notes = self.notes();
        let table_rows_refused = self.tables.iter().map(|table| table.rows_refused).sum();
        let (rejected_files, written) = self.rejected.finish();
        if let Err(error) = written
            && end == End::Done
        {
            end = End::Failed(error.to_string());
        }
        Report { feeds: self.feeds, notes, table_rows_refused, rejected_files, end }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for Table { name, rows_refused } in self.tables.iter().filter(|table| table.rows_refused > 0) {
            notes.push(format!("{name}: {rows_refused} rows of this table cannot be used"));
        }
        for ((feed, table), rows) in &self.missed {
            if let (Some((feed, _)), Some(Table { name, .. })) = (self.feeds.get(*feed), self.tables.get(*table)) {
                notes.push(format!("{feed}: {rows} rows find nothing in the table {name}"));
            }
        }
        for (feed, totals) in self.feeds.iter().filter(|(_, totals)| totals.rows.repeated_in_run > 0) {
            let rows = totals.rows.repeated_in_run;
            notes.push(format!(
                "{feed}: warning: {rows} rows are alike others of this run and were not recorded again (is `id` another for \
                 each of them?)"
            ));
        }
        notes
    }
}

/// Where an event was recorded, now or before.
fn position_of(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Applied { position } | Outcome::Superseded { position } | Outcome::Repeated { position } => {
            u64::try_from(*position).ok()
        }
        Outcome::Refused(_) => None,
    }
}

/// A batch whose events are with the ledger.
struct Rejoined {
    feed: usize,
    skipped: u64,
    missed: BTreeMap<usize, u64>,
    /// Of each fact, why it is no event, and its rows.
    facts: Vec<(Option<Defect>, Vec<RawRow>)>,
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
    let outcomes = match patiently(stop, || app.ledger.record(tenant, events.clone(), true)).await {
        Ok(answer) => Ok(answer.outcomes),
        Err(error) => Err(end_of(app, &error).await),
    };
    (rejoined, outcomes)
}

/// How an import ends that the ledger could not go on with.
async fn end_of(app: &App, error: &Error) -> End {
    let message = format!("{} (what is recorded stays; run the import again)", error.message);
    if is_away(&app.db, error).await { End::DatabaseAway(message) } else { End::Failed(message) }
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
