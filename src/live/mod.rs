//! Live answers: a tenant's batches in order ([`feed`]), folded into the state of what is watched ([`watch`]).
//!
//! Whoever subscribes follows the feed first and then reads the snapshot, so that nothing falls between the two.

mod alerts;
pub mod feed;
pub mod graphql;
mod watch;
