//! The users of a tenant, as referenced by what they own, do or are members of.

mod email;
pub mod graphql;
mod store;

pub use email::email_of;
pub use graphql::User;
pub use store::{NewUser, USER_COLUMNS, UsersById, find_unknown, get_user, insert_user, user_from};
