//! The reading thread: rows to facts, facts to batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::ImportError;
use super::feed::{Feed, ParsedRow};
use super::lookup::Lookup;
use super::mapping::{FeedSpec, FileSpec, Grouping, Mapping};
use super::rows::{Row, Rows};
use super::source::Files;
use super::template::Joined;
use crate::ledger::BATCH_EVENTS_MAX;
use crate::ledger::event::Event;

/// Rows held for facts whose rows stand anywhere.
const GROUPED_ROWS_MAX: usize = 2_000_000;
/// A batch goes on after this many rows, so that skipped rows are told as well.
const BATCH_ROWS_MAX: u64 = 20_000;

/// A row as it stands in the file, for what is refused.
#[derive(Debug)]
pub struct RawRow {
    pub line: u64,
    pub text: String,
}

/// A fact's event with the rows it is made of, or why there is none.
#[derive(Debug)]
pub struct Draft {
    pub event: Result<Event, String>,
    pub rows: Vec<RawRow>,
}

/// Part of a feed.
#[derive(Debug, Default)]
pub struct CsvBatch {
    pub feed: usize,
    pub drafts: Vec<Draft>,
    /// Rows that are not the feed's.
    pub skipped: u64,
}

/// Reads all feeds of a mapping and sends batches; the last message is the error, if there is one.
pub struct CsvReader {
    pub mapping: Mapping,
    pub files: Files,
    /// Added to every time.
    pub shift_micros: i64,
    /// Bytes taken from the disk so far.
    pub read_bytes: Arc<AtomicU64>,
    /// Ends the reading.
    pub stop: Arc<AtomicBool>,
}

impl CsvReader {
    /// Blocks; ends early when nobody receives any more.
    pub fn run(self, sender: &mpsc::Sender<Result<CsvBatch, ImportError>>) {
        if let Err(Some(error)) = self.read_all(sender) {
            // Nobody may be there to hear it.
            let _ = sender.blocking_send(Err(error));
        }
    }

    /// Error: `None` when there is nobody to read for.
    fn read_all(&self, sender: &mpsc::Sender<Result<CsvBatch, ImportError>>) -> Result<(), Option<ImportError>> {
        let lookups = self
            .mapping
            .lookups
            .iter()
            .map(|(name, spec)| Lookup::read(name, spec, &self.files))
            .collect::<Result<Vec<_>, _>>()?;
        // All feeds are opened first, so that a mistake in the last one is told before anything is recorded.
        let mut opened = Vec::new();
        for spec in &self.mapping.feeds {
            opened.push(self.open(spec, &lookups)?);
        }
        for (number, (feed, rows, first)) in opened.into_iter().enumerate() {
            let mut groups = Groups::new(number, &feed, sender);
            self.read_feed(&feed, rows, first, &lookups, &mut groups)?;
        }
        Ok(())
    }

    fn open(&self, spec: &FeedSpec, lookups: &[Lookup]) -> Result<(Feed, Rows, Option<Row>), ImportError> {
        let mut rows = Rows::new(self.files.open(&spec.file.path, Arc::clone(&self.read_bytes))?, &spec.file)?;
        let (columns, first) = column_names(&mut rows, &spec.file)?;
        let feed = Feed::new(&self.mapping.name, spec, &columns, lookups, self.shift_micros)
            .map_err(|what| ImportError::new(&rows.place, format!("feed {}: {what}", spec.name)))?;
        Ok((feed, rows, first))
    }

    fn read_feed(
        &self,
        feed: &Feed,
        mut rows: Rows,
        first: Option<Row>,
        lookups: &[Lookup],
        groups: &mut Groups<'_>,
    ) -> Result<(), Option<ImportError>> {
        let mut next = first;
        let mut columns = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(None);
            }
            let row = match next.take() {
                Some(row) => row,
                None => match rows.next() {
                    Ok(Some(row)) => row,
                    Ok(None) => return groups.finish().map_err(|()| None),
                    Err(error) => {
                        groups.break_off(&error).map_err(|()| None)?;
                        return Err(Some(error));
                    }
                },
            };
            let expected = *columns.get_or_insert(rows.columns_count(row.len()));
            let found = feed.join(&row, lookups);
            let joined = Joined { row: &row, lookups, found: &found };
            let said = match &row.defect {
                Some(defect) => Some(Err(defect.clone())),
                None if row.len() != expected => Some(Err(format!("has {} columns and not {expected}", row.len()))),
                None => match feed.takes(&joined) {
                    Ok(true) => Some(feed.read(&joined)),
                    Ok(false) => None,
                    Err(defect) => Some(Err(defect)),
                },
            };
            let id = feed.id(&joined);
            match said {
                None => groups.skip(),
                Some(said) => groups.add(id, said, RawRow { line: row.line, text: row.raw }),
            }
            .map_err(|gone| gone.map(|what| ImportError::new(&rows.place, what)))?;
        }
    }
}

/// The events of all feeds of a mapping; what makes none is left out.
pub async fn read_events(mapping: Mapping, files: Files) -> Result<Vec<Event>, ImportError> {
    let (sender, mut batches) = mpsc::channel(1);
    let reader = CsvReader { mapping, files, shift_micros: 0, read_bytes: Arc::default(), stop: Arc::default() };
    tokio::task::spawn_blocking(move || reader.run(&sender));
    let mut events = Vec::new();
    while let Some(batch) = batches.recv().await {
        events.extend(batch?.drafts.into_iter().filter_map(|draft| draft.event.ok()));
    }
    Ok(events)
}

/// The names of a file's columns: its header's, those of the mapping, or their numbers; and the first row, where it
/// had to be read for that.
pub fn column_names(rows: &mut Rows, spec: &FileSpec) -> Result<(Vec<String>, Option<Row>), ImportError> {
    let first = rows.next()?;
    if spec.header {
        let header =
            first.ok_or_else(|| ImportError::new(&rows.place, "is empty; its first line should name the columns"))?;
        let names: Vec<String> = header.fields().map(str::to_owned).collect();
        rows.columns = Some(names.len());
        return Ok((names, None));
    }
    if spec.columns.is_empty() {
        let count = first.as_ref().map_or(0, Row::len);
        return Ok(((1..=count).map(|n| n.to_string()).collect(), first));
    }
    rows.columns = Some(spec.columns.len());
    Ok((spec.columns.clone(), first))
}

type Sent = Result<(), ()>;

/// Facts in the making.
struct Groups<'a> {
    feed: &'a Feed,
    sender: &'a mpsc::Sender<Result<CsvBatch, ImportError>>,
    batch: CsvBatch,
    batch_rows: u64,
    /// In the order of their first rows.
    open: Vec<Group>,
    index: HashMap<String, usize>,
    open_rows: usize,
}

struct Group {
    said: Result<ParsedRow, String>,
    rows: Vec<RawRow>,
}

impl<'a> Groups<'a> {
    fn new(number: usize, feed: &'a Feed, sender: &'a mpsc::Sender<Result<CsvBatch, ImportError>>) -> Self {
        let batch = CsvBatch { feed: number, ..CsvBatch::default() };
        Groups { feed, sender, batch, batch_rows: 0, open: Vec::new(), index: HashMap::new(), open_rows: 0 }
    }

    fn skip(&mut self) -> Result<(), Option<String>> {
        self.batch.skipped += 1;
        self.batch_rows += 1;
        self.send_if_full().map_err(|()| None)
    }

    /// Error: nobody receives, or why no more rows can be held.
    fn add(&mut self, id: String, said: Result<ParsedRow, String>, row: RawRow) -> Result<(), Option<String>> {
        let Some(grouping) = self.feed.grouping.filter(|_| !id.is_empty()) else {
            return self.close(Group { said, rows: vec![row] }).map_err(|()| None);
        };
        if grouping == Grouping::Adjacent && !self.index.contains_key(&id) {
            self.close_all().map_err(|()| None)?;
        }
        self.open_rows += 1;
        if self.open_rows > GROUPED_ROWS_MAX {
            return Err(Some(format!(
                "more than {GROUPED_ROWS_MAX} rows to group (sort the file and set `group = \"adjacent\"`)"
            )));
        }
        match self.index.get(&id) {
            Some(i) => self.open[*i].add(said, row),
            None => {
                self.index.insert(id, self.open.len());
                self.open.push(Group { said, rows: vec![row] });
            }
        }
        Ok(())
    }

    fn close_all(&mut self) -> Sent {
        self.index.clear();
        self.open_rows = 0;
        std::mem::take(&mut self.open).into_iter().try_for_each(|group| self.close(group))
    }

    fn close(&mut self, group: Group) -> Sent {
        self.batch_rows += group.rows.len() as u64;
        let event = group.said.and_then(|said| self.feed.event(said));
        self.batch.drafts.push(Draft { event, rows: group.rows });
        self.send_if_full()
    }

    fn send_if_full(&mut self) -> Sent {
        if self.batch.drafts.len() < BATCH_EVENTS_MAX && self.batch_rows < BATCH_ROWS_MAX {
            Ok(())
        } else {
            self.send()
        }
    }

    fn send(&mut self) -> Sent {
        let next = CsvBatch { feed: self.batch.feed, ..CsvBatch::default() };
        let batch = std::mem::replace(&mut self.batch, next);
        self.batch_rows = 0;
        self.sender.blocking_send(Ok(batch)).map_err(|_| ())
    }

    fn finish(&mut self) -> Sent {
        self.close_all()?;
        self.send()
    }

    /// Refuses the facts that may lack rows because the file broke off.
    fn break_off(&mut self, error: &ImportError) -> Sent {
        for group in &mut self.open {
            group.said = Err(format!("the file breaks off before all rows were read: {error}"));
        }
        self.finish()
    }
}

impl Group {
    /// One bad row makes the whole fact one, which would otherwise be wrong.
    fn add(&mut self, said: Result<ParsedRow, String>, row: RawRow) {
        match (&mut self.said, said) {
            (Ok(all), Ok(said)) => all.add(said),
            (Ok(_), Err(defect)) => self.said = Err(format!("line {}: {defect}", row.line)),
            (Err(_), _) => {}
        }
        self.rows.push(row);
    }
}
