//! Orders in their newest version, and their lines.

mod by_customer;
pub mod graphql;
mod lines;
mod refunds;
mod store;
