//! Totals of rows and of the events made from them.

use std::fmt;

use crate::ledger::event::Outcome;

/// `read = accepted + repeated + repeated_in_run + superseded + refused + skipped`, for rows as for events. All rows of
/// a fact share its outcome; skipped rows make no event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub accepted: u64,
    /// Recorded by an earlier run.
    pub repeated: u64,
    /// Duplicates of another fact of this run, which counts once.
    pub repeated_in_run: u64,
    pub superseded: u64,
    pub refused: u64,
    pub skipped: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub rows: Counts,
    pub events: Counts,
}

impl Counts {
    fn add(&mut self, outcome: Option<&Outcome>, is_first: bool, n: u64) {
        self.read += n;
        match outcome {
            Some(Outcome::Repeated { .. }) if !is_first => self.repeated_in_run += n,
            Some(Outcome::Applied { .. }) => self.accepted += n,
            Some(Outcome::Repeated { .. }) => self.repeated += n,
            Some(Outcome::Superseded { .. }) => self.superseded += n,
            Some(Outcome::Refused(_)) | None => self.refused += n,
        }
    }
}

impl Totals {
    /// Counts one fact made of `rows` rows; without an outcome it was rejected before it became an event. `is_first`:
    /// no earlier fact of this run was the same event.
    pub fn add_fact(&mut self, outcome: Option<&Outcome>, is_first: bool, rows: u64) {
        self.rows.add(outcome, is_first, rows);
        self.events.add(outcome, is_first, 1);
    }

    pub fn add_skipped(&mut self, rows: u64) {
        self.rows.read += rows;
        self.rows.skipped += rows;
    }

    pub fn merge(&mut self, other: &Totals) {
        for (counts, other) in [(&mut self.rows, other.rows), (&mut self.events, other.events)] {
            counts.read += other.read;
            counts.accepted += other.accepted;
            counts.repeated += other.repeated;
            counts.repeated_in_run += other.repeated_in_run;
            counts.superseded += other.superseded;
            counts.refused += other.refused;
            counts.skipped += other.skipped;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, events) = (&self.rows, &self.events);
        write!(
            f,
            "rows: {} read = {} accepted + {} repeated + {} repeated in this run + {} superseded + {} refused + {} skipped; \
             events: {} = {} accepted + {} repeated + {} repeated in this run + {} superseded + {} refused",
            rows.read,
            rows.accepted,
            rows.repeated,
            rows.repeated_in_run,
            rows.superseded,
            rows.refused,
            rows.skipped,
            events.read,
            events.accepted,
            events.repeated,
            events.repeated_in_run,
            events.superseded,
            events.refused
        )
    }
}
