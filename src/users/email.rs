//! E-mail addresses, by which users are known.

use crate::error::{Error, Result};

const EMAIL_CHARS_MAX: usize = 254;

/// Normalizes an e-mail address for storage and comparison: of the local part only ASCII letters, as others may tell
/// mailboxes apart, and some become ASCII letters. Error: BAD_USER_INPUT.
pub fn email_of(text: &str) -> Result<String> {
    let (local, domain) = text.trim().rsplit_once('@').unwrap_or_default();
    let email = format!("{}@{}", local.to_ascii_lowercase(), domain.to_lowercase());
    let is_good = email.len() <= EMAIL_CHARS_MAX && email.parse::<lettre::Address>().is_ok();
    if is_good { Ok(email) } else { Err(Error::bad_input("email", "not an e-mail address")) }
}

#[cfg(test)]
mod tests {
    use super::email_of;

    #[test]
    fn an_address_has_no_case_but_different_mailboxes_stay_different() {
        let of = |text: &str| email_of(text).ok();
        assert_eq!(of(" Ann@ACME.example "), Some("ann@acme.example".to_owned()));
        // The Kelvin sign is not a K before the @; in a domain it is.
        assert_ne!(of("\u{212A}im@acme.example"), of("kim@acme.example"));
        assert_ne!(of("\u{212A}im@acme.example"), None);
        assert_eq!(of("kim@\u{212A}.example"), of("kim@k.example"));
        for bad in ["", "@", "ann", "ann@", "@acme.example", "a@b@c"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
