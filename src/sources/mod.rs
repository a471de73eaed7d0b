//! Data sources of a tenant's events.

pub mod graphql;
