//! Alert rules: evaluated with each committed batch, in its transaction, and when time alone may change them.
//!
//! [`progress`] says what becomes of a rule, whatever its numbers come from: from the ledger as it stands ([`evaluate`]), or
//! from history ([`simulate`]).

mod anomaly;
pub mod evaluate;
pub mod graphql;
mod progress;
mod rule;
mod simulate;
pub mod store;
mod sweep;

pub use anomaly::HOURLY_VIEWS_MAX;
pub use rule::{AlertCondition, AlertState, Frequency, Rule};
pub use sweep::{sweep, sweep_once};
