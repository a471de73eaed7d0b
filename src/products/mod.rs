//! Products: attributes known from sales, and those set by hand.

pub mod graphql;
pub mod mutation;
mod store;

pub use graphql::Product;
pub use store::ProductsByNumber;
