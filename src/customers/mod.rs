//! Customers: buyers and what they bought.

pub mod graphql;
mod store;

pub use graphql::Customer;
pub use store::CustomersByNumber;
