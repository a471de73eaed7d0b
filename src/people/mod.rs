//! Users, teams, organizations and quotas.

pub mod graphql;
