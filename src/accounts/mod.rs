//! Accounts of people and programs: sign-in, sessions, invitations, passwords, OpenID Connect, API keys.

pub mod api_keys;
pub mod graphql;
pub mod http;
pub mod limits;
pub mod mailed;
pub mod members;
pub mod mutation;
pub mod oidc;
pub mod sign_in;
