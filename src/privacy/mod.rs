//! What is done with personal data over time: its keys are rotated, customers and whole tenants are erased, and what is
//! held of one customer is exported.

pub mod erasure;
mod export;
pub mod graphql;
pub mod rotation;
pub mod wrapping;
