//! Metrics: exact answers from the rollups.
//!
//! [`catalog`] defines each metric once. [`read`] adds up rollup rows (and, where a boundary cuts a 15-minute slot, an
//! earlier position is requested, or rows are by customer, the ledger's entries) into one [`cell::Cell`] per bucket and combination of
//! dimension values; [`state`] holds all cells of a plan and carries them forward with new batches, and [`answer`] is
//! the complete `SalesMetrics` computed from them. [`kpis`] adds formulas wherever metrics are.

pub mod answer;
pub mod catalog;
pub mod cell;
mod comparison;
mod days;
pub mod dimension;
pub mod facts;
pub mod filter;
mod flat;
pub mod graphql;
pub mod grid;
pub mod group;
pub mod history;
pub mod input;
pub mod kpis;
pub mod labels;
pub mod look_ahead;
pub mod measured;
mod named;
pub mod period;
pub mod plan;
pub mod ranges;
mod ranking;
pub mod read;
pub mod state;
mod sums;
pub mod values;
