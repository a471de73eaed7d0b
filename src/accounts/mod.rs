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

use crate::error::{Error, Result};

const EMAIL_CHARS_MAX: usize = 254;

/// Normalizes an e-mail address for storage and comparison. Error: BAD_USER_INPUT.
pub fn email_of(text: &str) -> Result<String> {
    let email = text.trim().to_lowercase();
    let is_good = email.len() <= EMAIL_CHARS_MAX && email.parse::<lettre::Address>().is_ok();
    if is_good { Ok(email) } else { Err(Error::bad_input("email", "not an e-mail address")) }
}
