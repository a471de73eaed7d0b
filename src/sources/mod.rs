//! Where a tenant's events come from.

pub mod graphql;
