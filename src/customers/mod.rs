//! Customers: buyers and what they bought.

pub mod graphql;
mod identity;
mod store;

pub use graphql::Customer;
pub use identity::Identity;
pub use store::{CustomersByNumber, get_customer};
