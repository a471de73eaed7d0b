//! The reader thread: rows to facts, facts to batches.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roaring::RoaringTreemap;
use tokio::sync::mpsc;

use super::ImportError;
use super::feed::Feed;
use super::group::{Batches, BrokenRow, Defect, Groups, RawRow};
use super::lookup::Lookup;
use super::mapping::{FeedSpec, FileSpec, Mapping};
use super::rows::{Row, Rows};
use super::source::Files;
use super::template::Joined;
use crate::ledger::event::Event;

/// Opens the files of a mapping.
pub struct CsvReader {
    pub mapping: Mapping,
    pub files: Files,
    /// Added to every timestamp.
    pub shift_micros: i64,
    /// Bytes read from disk so far.
    pub read_bytes: Arc<AtomicU64>,
    /// Stops reading.
    pub stop: Arc<AtomicBool>,
}

/// The files of a mapping, with resolved columns.
pub struct OpenFiles {
    pub lookups: Vec<Lookup>,
    feeds: Vec<OpenFeed>,
    stop: Arc<AtomicBool>,
    /// Lines that a feed has rejected, regardless of which feed they belong to; for files that several feeds read.
    refused: HashMap<PathBuf, RoaringTreemap>,
}

struct OpenFeed {
    feed: Feed,
    /// Its file, whatever name the mapping has for it.
    file: PathBuf,
    rows: Rows,
    /// A row that had to be read to determine the columns.
    first: Option<Row>,
}

impl CsvReader {
    /// Opens all files before anything is recorded, so that a mistake in the last feed is reported at once. Blocking.
    pub fn open(self) -> Result<OpenFiles, ImportError> {
        let specs = self.mapping.lookups.iter();
        let lookups = specs.map(|(name, spec)| Lookup::read(name, spec, &self.files)).collect::<Result<Vec<_>, _>>()?;
        let specs = &self.mapping.feeds;
        let feeds = specs.iter().map(|spec| self.open_feed(spec, &lookups)).collect::<Result<Vec<_>, _>>()?;
        let readers = |file: &Path| feeds.iter().filter(|feed| feed.file == file).count();
        let shared = feeds.iter().map(|feed| &feed.file).filter(|file| readers(file) > 1);
        let refused = shared.map(|file| (file.clone(), RoaringTreemap::new())).collect();
        Ok(OpenFiles { lookups, feeds, stop: self.stop, refused })
    }

    fn open_feed(&self, spec: &FeedSpec, lookups: &[Lookup]) -> Result<OpenFeed, ImportError> {
        let mut rows = Rows::new(self.files.open(&spec.file.path, Arc::clone(&self.read_bytes))?, &spec.file)?;
        let (columns, first) = column_names(&mut rows, &spec.file)?;
        let feed = Feed::new(&self.mapping.name, spec, &columns, lookups, self.shift_micros)
            .map_err(|what| ImportError::new(&rows.place, format!("feed {}: {what}", spec.name)))?;
        Ok(OpenFeed { feed, file: self.files.identity(&spec.file.path), rows, first })
    }
}

impl OpenFiles {
    /// Reads all feeds and sends batches; an error is sent as the last message. Blocking; ends early when the receiver
    /// is gone.
    pub fn read(mut self, sender: &Batches) {
        for (number, feed) in std::mem::take(&mut self.feeds).into_iter().enumerate() {
            match self.read_feed(number, feed, sender) {
                Ok(()) => {}
                Err(None) => return,
                Err(Some(error)) => {
                    // The receiver may be gone.
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
        }
    }

    /// Error: `None` if the receiver is gone.
    fn read_feed(&mut self, number: usize, open: OpenFeed, sender: &Batches) -> Result<(), Option<ImportError>> {
        let OpenFeed { feed, file, mut rows, first } = open;
        let mut groups = Groups::new(number, &feed, sender);
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
            let added = match row.flaw(expected) {
                None => self.add(&feed, row, &mut groups),
                Some(flaw) => self.add_flawed(&feed, row, expected, flaw, &file, &mut groups),
            };
            added.map_err(|gone| gone.map(|what| ImportError::new(&rows.place, what)))?;
        }
    }

    fn add(&self, feed: &Feed, row: Row, groups: &mut Groups<'_>) -> Result<(), Option<String>> {
        let found = feed.join(&row, &self.lookups);
        let joined = Joined { row: &row, lookups: &self.lookups, found: &found };
        let parsed = match feed.takes(&joined) {
            Ok(true) => feed.read(&joined),
            Ok(false) => return groups.skip(),
            Err(defect) => Err(defect),
        };
        feed.missed(&found).for_each(|table| groups.miss(table));
        let id = feed.id(&joined);
        let line = row.line;
        let raw = RawRow { line, text: row.raw };
        match parsed.map_err(|what| Defect::at(line, what)) {
            Err(defect) if id.is_empty() => groups.add_broken(BrokenRow { defect, id, is_sure: false, row: Some(raw) }),
            parsed => groups.add(id, parsed, raw),
        }
    }

    /// Handles a malformed row, whose fields may be misaligned. Of several feeds reading the file, the first that may
    /// own the row rejects it: if each did, correcting the reports would duplicate it.
    fn add_flawed(
        &mut self,
        feed: &Feed,
        row: Row,
        expected: usize,
        flaw: String,
        file: &Path,
        groups: &mut Groups<'_>,
    ) -> Result<(), Option<String>> {
        let found = feed.join(&row, &self.lookups);
        let joined = Joined { row: &row, lookups: &self.lookups, found: &found };
        // Such as a line below the table.
        if row.len() < expected && feed.leaves_out(&joined) {
            return groups.skip();
        }
        let is_whole = row.len() == expected;
        let id = if is_whole { feed.id(&joined) } else { feed.id_within(&joined) };
        let is_sure = is_whole && !id.is_empty() && !id.contains(char::REPLACEMENT_CHARACTER);
        let line = row.line;
        let is_first = self.refused.get_mut(file).is_none_or(|lines| lines.insert(line));
        let row = is_first.then_some(RawRow { line, text: row.raw });
        groups.add_broken(BrokenRow { defect: Defect::at(line, flaw), id, is_sure, row })
    }
}

/// The events of all feeds of a mapping; rows that yield none are omitted.
pub async fn read_events(mapping: Mapping, files: Files) -> Result<Vec<Event>, ImportError> {
    let (sender, mut batches) = mpsc::channel(1);
    let reader = CsvReader { mapping, files, shift_micros: 0, read_bytes: Arc::default(), stop: Arc::default() };
    tokio::task::spawn_blocking(move || match reader.open() {
        Ok(files) => files.read(&sender),
        // The receiver may be gone.
        Err(error) => drop(sender.blocking_send(Err(error))),
    });
    let mut events = Vec::new();
    while let Some(batch) = batches.recv().await {
        events.extend(batch?.drafts.into_iter().filter_map(|draft| draft.event.ok()));
    }
    Ok(events)
}

/// The column names of a file: from its header, from the mapping, or numbers; and the first row, where it had to be
/// read for that.
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
