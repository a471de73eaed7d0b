//! The outcome of an import: totals, notes, and the files of rejected rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roaring::RoaringTreemap;

use super::group::{Defect, RawRow};
use super::read::OpenFiles;
use super::record::{BROKE_DOWN, End, Report};
use super::rejected::Rejected;
use super::rejected_paths::RejectedPaths;
use super::totals::Totals;
use crate::ledger::event::{Outcome, RefusalCode};

/// The outcome so far.
pub struct Settled {
    feeds: Vec<(String, Totals)>,
    rejected_paths: RejectedPaths,
    rejected: Rejected,
    rows: Arc<AtomicU64>,
    /// Positions that this run has recorded or found already recorded.
    seen: RoaringTreemap,
    tables: Vec<Table>,
    /// By feed and table, the number of rows without a match.
    missed: BTreeMap<(usize, usize), u64>,
}

/// A lookup table.
struct Table {
    name: String,
    rows_refused: u64,
}

impl Settled {
    pub fn new(
        feeds: Vec<(String, Totals)>,
        rejected_paths: RejectedPaths,
        rejected: Rejected,
        rows: Arc<AtomicU64>,
    ) -> Settled {
        let (seen, tables, missed) = (RoaringTreemap::new(), Vec::new(), BTreeMap::new());
        Settled { feeds, rejected_paths, rejected, rows, seen, tables, missed }
    }

    /// Empties the files of rejected rows, and reports those of lookup tables.
    pub fn begin(&mut self, files: &mut OpenFiles) -> Result<(), End> {
        self.rejected.begin().map_err(|error| End::Failed(error.to_string()))?;
        for (lookup, place) in files.lookups.iter_mut().zip(&self.rejected_paths.lookups) {
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

    /// Counts a batch and reports its rejected rows. Error: why the import cannot continue; what was recorded is
    /// counted even so.
    pub fn settle(&mut self, batch: Rejoined, outcomes: Result<Vec<Outcome>, End>) -> Result<(), End> {
        let outcomes = outcomes?;
        let mut outcomes = outcomes.iter();
        let (Some((name, totals)), Some(path)) =
            (self.feeds.get_mut(batch.feed), self.rejected_paths.feeds.get(batch.feed))
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

    pub fn report(self, mut end: End) -> Report {
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
                "{feed}: warning: {rows} rows equal others of this run and were not recorded again (does `id` differ for \
                 each of them?)"
            ));
        }
        notes
    }
}

/// The position at which an event was recorded, now or before.
fn position_of(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Applied { position } | Outcome::Superseded { position } | Outcome::Repeated { position } => {
            u64::try_from(*position).ok()
        }
        Outcome::Refused(_) => None,
    }
}

/// A batch whose events have been passed to the ledger.
pub struct Rejoined {
    pub feed: usize,
    pub skipped: u64,
    pub missed: BTreeMap<usize, u64>,
    /// For each fact, why it yields no event, if so, and its rows.
    pub facts: Vec<(Option<Defect>, Vec<RawRow>)>,
}
