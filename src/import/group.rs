//! Groups rows into facts, and facts into batches.
//!
//! A fact that lacks some of its rows would be wrong, so one bad row rejects the whole fact. A row that cannot be
//! attributed with certainty rejects the fact whose id it appears to have; where there is no such fact, it may belong
//! to the fact of the row before or of the row after it, and rejects both.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use tokio::sync::mpsc;

use super::ImportError;
use super::feed::Feed;
use super::mapping::Grouping;
use super::parsed::ParsedRow;
use crate::ledger::BATCH_EVENTS_MAX;
use crate::ledger::event::Event;

/// Maximum number of rows buffered for facts whose rows may be anywhere.
const GROUPED_ROWS_MAX: usize = 2_000_000;
/// Maximum number of consecutive broken rows waiting for the next fact.
const LOOSE_ROWS_MAX: usize = 1_000;
/// A batch is sent after this many rows, so that skipped rows are reported as well.
const BATCH_ROWS_MAX: u64 = 20_000;

/// A row as written in the file, for rejection reports.
#[derive(Debug)]
pub struct RawRow {
    pub line: u64,
    pub text: String,
}

/// What is wrong, and in which line, if it is a single one.
#[derive(Clone, Debug, PartialEq)]
pub struct Defect {
    pub line: Option<u64>,
    pub what: String,
}

impl Defect {
    pub fn at(line: u64, what: impl Into<String>) -> Self {
        Defect { line: Some(line), what: what.into() }
    }

    /// The description, as reported next to a line of the fact.
    pub fn told_at(&self, line: u64) -> String {
        match self.line {
            Some(bad) if bad != line => format!("line {bad}: {}", self.what),
            _ => self.what.clone(),
        }
    }
}

/// A fact's event with its source rows, or why there is none.
#[derive(Debug)]
pub struct Draft {
    pub event: Result<Event, Defect>,
    pub rows: Vec<RawRow>,
}

/// A part of a feed.
#[derive(Debug, Default)]
pub struct CsvBatch {
    pub feed: usize,
    pub drafts: Vec<Draft>,
    /// Rows that do not belong to the feed.
    pub skipped: u64,
    /// By table, the number of rows without a match.
    pub missed: BTreeMap<usize, u64>,
}

/// A row that cannot be attributed to a fact with certainty.
pub struct BrokenRow {
    pub defect: Defect,
    /// What is in place of its id; may be empty.
    pub id: String,
    /// Whether the id is certain.
    pub is_sure: bool,
    /// The row as written; `None` when an earlier feed has rejected it.
    pub row: Option<RawRow>,
}

pub type Batches = mpsc::Sender<Result<CsvBatch, ImportError>>;

/// Error: the receiver is gone.
type Sent = Result<(), ()>;
/// Error: `None` if the receiver is gone, otherwise why no more rows can be buffered.
type Added = Result<(), Option<String>>;

/// Facts under construction.
pub struct Groups<'a> {
    feed: &'a Feed,
    sender: &'a Batches,
    batch: CsvBatch,
    batch_rows: u64,
    /// In the order of their first rows.
    open: Vec<Group>,
    index: HashMap<String, usize>,
    /// Where rows have to be adjacent: the first line of each id and version so far, by their hash, to save memory. Two
    /// of a hundred million have the same one with a probability of 0.0003.
    lines: HashMap<u64, u64>,
    hasher: RandomState,
    /// The group of the last row.
    last: Option<usize>,
    /// Broken rows not attributed yet.
    loose: Vec<Loose>,
    /// Why the next fact is rejected.
    spoils_next: Option<Defect>,
    open_rows: usize,
}

struct Group {
    parsed: Result<ParsedRow, Defect>,
    rows: Vec<RawRow>,
}

/// A broken row between two valid ones.
struct Loose {
    broken: BrokenRow,
    before: Option<usize>,
    after: Option<usize>,
}

impl<'a> Groups<'a> {
    pub fn new(number: usize, feed: &'a Feed, sender: &'a Batches) -> Self {
        Groups {
            feed,
            sender,
            batch: CsvBatch { feed: number, ..CsvBatch::default() },
            batch_rows: 0,
            open: Vec::new(),
            index: HashMap::new(),
            lines: HashMap::new(),
            hasher: RandomState::default(),
            last: None,
            loose: Vec::new(),
            spoils_next: None,
            open_rows: 0,
        }
    }

    /// Counts a row that does not belong to the feed.
    pub fn skip(&mut self) -> Added {
        self.skip_one().map_err(|()| None)
    }

    /// Counts a row without a match in a table.
    pub fn miss(&mut self, table: usize) {
        *self.batch.missed.entry(table).or_default() += 1;
    }

    /// Adds a row whose id is known.
    pub fn add(&mut self, id: String, mut parsed: Result<ParsedRow, Defect>, row: RawRow) -> Added {
        let Some(grouping) = self.feed.grouping else {
            return self.close(Group { parsed, rows: vec![row] }).map_err(|()| None);
        };
        self.count_row()?;
        let known = self.index.get(&id).copied();
        if grouping == Grouping::Adjacent {
            let version = parsed.as_ref().map_or(self.feed.unknown_version(), |parsed| Some(parsed.version()));
            let first = self.first_line(&id, version, row.line);
            if known.is_none() && first != row.line {
                let what = format!(
                    "its id was in line {first}, with rows of others in between (set `group = \"anywhere\"`, or sort the file)"
                );
                parsed = Err(Defect::at(row.line, what));
            }
        }
        let number = known.unwrap_or(self.open.len());
        match self.open.get_mut(number) {
            Some(group) => group.add(parsed, row),
            None => self.open.push(Group { parsed, rows: vec![row] }),
        }
        if let Some(defect) = self.spoils_next.take() {
            self.spoil(number, defect);
        }
        self.loose.iter_mut().rev().take_while(|loose| loose.after.is_none()).for_each(|l| l.after = Some(number));
        self.last = Some(number);
        if known.is_none() {
            self.index.insert(id.clone(), number);
            if grouping == Grouping::Adjacent && number > 0 {
                self.close_before(id).map_err(|()| None)?;
            }
        }
        Ok(())
    }

    /// Adds a row that cannot be attributed with certainty.
    pub fn add_broken(&mut self, broken: BrokenRow) -> Added {
        let Some(grouping) = self.feed.grouping else {
            return self.refuse_alone(broken).map_err(|()| None);
        };
        self.count_row()?;
        self.loose.push(Loose { broken, before: self.last, after: None });
        if grouping == Grouping::Adjacent && self.loose.len() > LOOSE_ROWS_MAX {
            let rows = self.loose.len();
            self.settle_loose().map_err(|()| None)?;
            self.open_rows = self.open_rows.saturating_sub(rows);
        }
        Ok(())
    }

    pub fn finish(&mut self) -> Sent {
        self.close_all()?;
        self.send()
    }

    /// Rejects the facts that may lack rows because the file ended early.
    pub fn break_off(&mut self, error: &ImportError) -> Sent {
        self.settle_loose()?;
        let what = format!("the file breaks off before all rows were read: {error}");
        for group in &mut self.open {
            group.parsed = Err(Defect { line: None, what: what.clone() });
        }
        self.finish()
    }

    /// The first line with that id and version; `line`, if there was none before.
    fn first_line(&mut self, id: &str, version: Option<i64>, line: u64) -> u64 {
        *self.lines.entry(self.hasher.hash_one((id, version))).or_insert(line)
    }

    fn count_row(&mut self) -> Added {
        self.open_rows += 1;
        if self.open_rows <= GROUPED_ROWS_MAX {
            return Ok(());
        }
        Err(Some(format!("more than {GROUPED_ROWS_MAX} rows to group (sort the file and set `group = \"adjacent\"`)")))
    }

    fn skip_one(&mut self) -> Sent {
        self.batch.skipped += 1;
        self.batch_rows += 1;
        self.send_if_full()
    }

    fn spoil(&mut self, number: usize, defect: Defect) {
        if let Some(group) = self.open.get_mut(number)
            && group.parsed.is_ok()
        {
            group.parsed = Err(defect);
        }
    }

    /// Attributes the pending broken rows.
    fn settle_loose(&mut self) -> Sent {
        for Loose { mut broken, before, after } in std::mem::take(&mut self.loose) {
            if let Some(number) = self.index.get(&broken.id).copied() {
                self.spoil(number, broken.defect.clone());
                if let Some(group) = self.open.get_mut(number)
                    && let Some(row) = broken.row.take()
                {
                    group.rows.push(row);
                    continue;
                }
            } else if !broken.is_sure {
                let Defect { line, what } = &broken.defect;
                let defect = Defect { line: *line, what: format!("may belong here, but {what}") };
                before.into_iter().chain(after).for_each(|number| self.spoil(number, defect.clone()));
                if after.is_none() {
                    self.spoils_next = Some(defect);
                }
            } else if self.feed.grouping == Some(Grouping::Adjacent)
                && let Some(line) = broken.defect.line
            {
                self.first_line(&broken.id, self.feed.unknown_version(), line);
            }
            self.refuse_alone(broken)?;
        }
        Ok(())
    }

    fn refuse_alone(&mut self, broken: BrokenRow) -> Sent {
        match broken.row {
            Some(row) => self.close(Group { parsed: Err(broken.defect), rows: vec![row] }),
            None => self.skip_one(),
        }
    }

    /// Closes all facts but the last one, which has that id.
    fn close_before(&mut self, id: String) -> Sent {
        self.settle_loose()?;
        let last = self.open.split_off(self.open.len().saturating_sub(1));
        let closed = std::mem::replace(&mut self.open, last);
        self.index.clear();
        self.index.insert(id, 0);
        self.last = Some(0);
        self.open_rows = 1;
        closed.into_iter().try_for_each(|group| self.close(group))
    }

    fn close_all(&mut self) -> Sent {
        self.settle_loose()?;
        self.index.clear();
        self.last = None;
        self.open_rows = 0;
        std::mem::take(&mut self.open).into_iter().try_for_each(|group| self.close(group))
    }

    fn close(&mut self, group: Group) -> Sent {
        let Group { parsed, mut rows } = group;
        self.batch_rows += rows.len() as u64;
        if parsed.is_err() {
            rows.sort_by_key(|row| row.line);
        }
        let first = rows.first().map(|row| row.line);
        let event = parsed.and_then(|parsed| self.feed.event(parsed).map_err(|what| Defect { line: first, what }));
        self.batch.drafts.push(Draft { event, rows });
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
}

impl Group {
    /// One bad row invalidates the whole fact, which would otherwise be wrong.
    fn add(&mut self, parsed: Result<ParsedRow, Defect>, row: RawRow) {
        if let Ok(all) = &mut self.parsed {
            let line = row.line;
            let added = parsed.and_then(|parsed| all.add(parsed).map_err(|what| Defect::at(line, what)));
            if let Err(defect) = added {
                self.parsed = Err(defect);
            }
        }
        self.rows.push(row);
    }
}
