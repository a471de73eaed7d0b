//! How a tenant is made up: its organizations, its teams and what they are to sell.

pub mod graphql;
pub mod mutation;
mod organizations;
pub mod quotas;
mod teams;

pub use teams::{get_team_name, team_user_ids};
