//! Customers: buyers and their purchases.

pub mod graphql;
mod identity;
mod store;

pub use graphql::Customer;
pub use identity::Identity;
pub use store::{CustomersByNumber, get_customer};
