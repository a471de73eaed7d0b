//! Fields of updates: what is omitted stays as it is; null clears what may be empty, and is refused elsewhere.

use async_graphql::MaybeUndefined;

use crate::error::{Error, Result};

/// A value that cannot be empty; `None` if it is omitted. Error: BAD_USER_INPUT for null.
pub fn given<T>(argument: &'static str, value: MaybeUndefined<T>) -> Result<Option<T>> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(Error::bad_input(argument, "must not be null; omit it to leave it as it is")),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

/// A value that null clears; if it is omitted, that of `before`.
pub fn cleared<T>(value: MaybeUndefined<T>, before: Option<T>) -> Option<T> {
    match value {
        MaybeUndefined::Undefined => before,
        MaybeUndefined::Null => None,
        MaybeUndefined::Value(value) => Some(value),
    }
}
