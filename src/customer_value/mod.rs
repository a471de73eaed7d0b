//! What customers are worth: who will come again, when, and for how much; segments and retention.
//!
//! `models::value` computes, this reads and keeps. [`refit`] goes through a tenant's purchases in the background, fits the
//! models, and writes what they say of each customer ([`store`]); [`graphql`] answers from that. The numbers are those of
//! the model's position, which every answer has with it.

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
