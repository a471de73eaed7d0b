//! The people of a tenant, as everything refers to them that somebody owns, does or is a member of.

pub mod graphql;
mod store;

pub use graphql::User;
pub use store::{NewUser, USER_COLUMNS, UsersById, check_users, get_user, insert_user, user_from};
