//! Validation of text arguments.

use crate::error::{Error, Result};

/// A name: trimmed, 1 to `chars_max` characters, none of them a control character. Error: BAD_USER_INPUT.
pub fn name(argument: &'static str, text: &str, chars_max: usize) -> Result<String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > chars_max || name.chars().any(char::is_control) {
        let message = format!("must have 1 to {chars_max} characters, none of them a control character");
        return Err(Error::bad_input(argument, message));
    }
    Ok(name.to_owned())
}

/// Free text: at most `chars_max` characters; line breaks and tabs but no other control characters. Error:
/// BAD_USER_INPUT.
pub fn prose(argument: &'static str, text: String, chars_max: usize) -> Result<String> {
    let is_bad = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().count() > chars_max || text.chars().any(is_bad) {
        let message = format!("must have at most {chars_max} characters, none of them a control character");
        return Err(Error::bad_input(argument, message));
    }
    Ok(text)
}
