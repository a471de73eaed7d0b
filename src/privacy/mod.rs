//! Life cycle of personal data: key rotation, erasure of customers and whole tenants, and export of a customer's data.

pub mod erasure;
mod export;
pub mod graphql;
pub mod rotation;
pub mod wrapping;
