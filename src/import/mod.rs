//! Imports CSV files into the ledger, by a mapping (`docs/import.md`).
//!
//! A thread reads rows and converts them to events ([`read`]); concurrently, the ledger records batches of them
//! ([`record`]). Event ids are derived from the mapping and the rows alone, so imports are idempotent: one that was
//! stopped or is repeated records nothing twice.

mod check;
mod condition;
mod expression;
mod feed;
mod group;
mod lookup;
pub mod mapping;
mod number;
mod parsed;
mod read;
pub mod record;
mod rejected;
mod rejected_paths;
pub mod retry;
mod rows;
mod settled;
mod source;
mod template;
mod time;
pub mod totals;

pub use mapping::Mapping;
pub use read::read_events;
pub use record::{End, Import, Ready, Report, WHAT_TO_DO};
pub use source::Files;

/// Why an import was aborted: where and what.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ImportError {
    /// The file, with the line where applicable.
    pub place: String,
    pub what: String,
}

impl ImportError {
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        ImportError { place: place.into(), what: what.into() }
    }
}
