//! Customer value: who will buy again, when, and for how much; segments and retention.
//!
//! `models::value` computes; this module reads and stores. [`refit`] scans a tenant's purchases in the background, fits
//! the models, and writes the predictions for each customer ([`store`]); [`graphql`] serves them. The numbers are those
//! of the model's ledger position, which every response includes.

mod filter;
pub mod forecasts;
pub mod graphql;
mod history;
mod model;
mod refit;
mod retention;
mod store;
mod terms;

pub use filter::PredictionFilter;
pub use refit::{keep_fitted, refit, refit_due};
pub use store::export;
