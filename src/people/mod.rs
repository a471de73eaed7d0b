//! The structure of a tenant: its organizations, teams and quotas.

pub mod graphql;
pub mod mutation;
pub mod organizations;
pub mod quotas;
mod teams;

pub use teams::{get_team_name, list_members_in};
