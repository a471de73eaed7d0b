//! CSV files into the ledger, by a mapping (`docs/import.md`).
//!
//! A thread reads rows and makes events of them ([`read`]); the ledger records batches of them meanwhile ([`record`]).
//! Ids of events are made of the mapping and the rows alone, so an import that was stopped, or is run again, records
//! nothing twice.

mod check;
mod condition;
mod expression;
mod feed;
mod group;
mod lookup;
pub mod mapping;
mod number;
mod parsed;
mod places;
mod read;
pub mod record;
mod rejected;
pub mod retry;
mod rows;
mod settled;
mod source;
mod template;
mod time;
pub mod totals;

pub use mapping::Mapping;
pub use read::read_events;
pub use record::{End, Import, Ready, Report};
pub use source::Files;

/// Why an import ends early: where and what.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ImportError {
    /// A file, with the line where there is one.
    pub place: String,
    pub what: String,
}

impl ImportError {
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        ImportError { place: place.into(), what: what.into() }
    }
}
