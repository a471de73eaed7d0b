//! Live answers: a tenant's batches in order ([`feed`]), folded into the state of what is watched ([`watch`]).
//!
//! A subscriber follows the feed before it reads the snapshot, so that nothing falls in between.

mod alerts;
pub mod feed;
pub mod graphql;
mod watch;
