//! Products: what is known of them from sales, and what is set by hand.

pub mod graphql;
pub mod mutation;
mod store;

pub use graphql::Product;
pub use store::ProductsByNumber;
