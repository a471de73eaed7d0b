//! Alert rules: evaluated with each committed batch, in its transaction, and when time alone may change them.
//!
//! [`progress`] is the state machine of a rule, independent of where its numbers come from: the current ledger
//! ([`evaluate`]) or history ([`simulate`]).

mod anomaly;
pub mod evaluate;
pub mod explain;
pub mod graphql;
mod input;
mod progress;
mod rule;
mod settings;
mod simulate;
pub mod store;
mod sweep;

pub use anomaly::HOURLY_VIEWS_MAX;
pub use rule::{AlertCondition, AlertState, Frequency, Rule};
pub use sweep::{sweep, sweep_once};
