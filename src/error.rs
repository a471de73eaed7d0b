//! Client-facing errors: a stable code and a sentence. The cause of an internal error goes only to the log.
//!
//! [`Error`] has no `Display`: async-graphql turns anything that has one into a client-visible message.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use strum::IntoStaticStr;

/// The stable codes of `extensions.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    Unauthenticated,
    Forbidden,
    NotFound,
    BadUserInput,
    Conflict,
    MixedCurrencies,
    AsOfNotAvailable,
    AmountOutOfRange,
    ResumeGap,
    InvalidGrant,
    MailNotConfigured,
    RateLimited,
    PredictionPending,
    ForecastHistoryEmpty,
    ForecastHistoryAllGaps,
    ForecastHistoryTooShort,
    ForecastHistoryTooOld,
    ForecastValueOutOfRange,
    ForecastNoFit,
    AnomalyHistoryTooShort,
    QueryTimeout,
    ServiceUnavailable,
    /// A sealed value was tampered with or is out of place.
    DecryptionFailed,
    #[strum(serialize = "INTERNAL_SERVER_ERROR")]
    Internal,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A failure, with what the client may know about it.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    /// For the client; identical for all internal errors.
    pub message: String,
    /// The argument it is about: a path, such as `widgets.2.title`, if that is part of another one.
    pub argument: Option<Cow<'static, str>>,
    /// When to retry, if known.
    pub retry_after: Option<Duration>,
    /// Machine-readable details: further members of `extensions`.
    pub details: Vec<(&'static str, serde_json::Value)>,
    /// For the log only.
    pub source: Option<BoxError>,
}

/// The name of the detail by which [`Error::in_field`] leads to the path of the error, joined by dots; clients do not
/// see it.
pub const FIELD: &str = "field";

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), argument: None, retry_after: None, details: Vec::new(), source: None }
    }

    pub fn bad_input(argument: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Error::new(Code::BadUserInput, message).about(argument)
    }

    /// The same error, about an argument.
    pub fn about(self, argument: impl Into<Cow<'static, str>>) -> Self {
        Error { argument: Some(argument.into()), ..self }
    }

    /// The same error, about an element of a list or, if it is about an argument, about that argument of the element.
    pub fn of_element(self, list: &str, index: usize) -> Self {
        let part = self.argument.as_ref().map_or_else(String::new, |argument| format!(".{argument}"));
        self.about(format!("{list}.{index}{part}"))
    }

    /// The same error, about a field within the one whose answer failed as a whole or, if it is about a field already,
    /// about that one within this. None of them may be nullable.
    pub fn in_field(mut self, response_key: &str) -> Self {
        match self.details.iter_mut().find(|(name, _)| *name == FIELD) {
            Some((_, serde_json::Value::String(path))) => *path = format!("{response_key}.{path}"),
            _ => self.details.push((FIELD, response_key.into())),
        }
        self
    }

    /// The same error, with its cause for the log.
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        Error { source: Some(source.into()), ..self }
    }

    /// Identical whatever is wrong with a token.
    pub fn unauthenticated() -> Self {
        Error::new(Code::Unauthenticated, "a bearer token is needed; it is missing, invalid, expired or revoked")
    }

    /// Identical for a missing entity and for another tenant's.
    pub fn not_found(what: &str) -> Self {
        Error::new(Code::NotFound, format!("no such {what}"))
    }

    /// A sum that storage cannot hold.
    pub fn sum_out_of_range() -> Self {
        Error::new(Code::AmountOutOfRange, "a sum is beyond the largest amount")
    }

    /// Whether the same may succeed a moment later: the database is away, or busy.
    pub fn is_passing(&self) -> bool {
        matches!(self.code, Code::ServiceUnavailable | Code::QueryTimeout)
    }

    /// The same error for each waiter of one shared operation.
    pub fn shared(error: &Arc<Error>) -> Self {
        let source = Shared(Arc::clone(error));
        Error {
            code: error.code,
            message: error.message.clone(),
            argument: error.argument.clone(),
            retry_after: error.retry_after,
            details: error.details.clone(),
            source: Some(source.into()),
        }
    }

    /// Whether the ledger's partition for a month is missing although it existed before.
    pub fn lacks_month(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.is::<LacksMonth>())
    }

    /// Whether only caches could be used, and they did not have what it takes.
    pub fn is_not_cached(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.is::<NotCached>())
    }

    /// The underlying cause, for the log.
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }

    pub fn internal(source: impl Into<BoxError>) -> Self {
        Error::new(Code::Internal, "something went wrong on the server").with_source(source)
    }
}

/// The ledger's partition for the month no longer exists.
#[derive(Debug, thiserror::Error)]
#[error("no partition of the month")]
struct LacksMonth;

/// A statement without a database.
#[derive(Debug, thiserror::Error)]
#[error("not cached")]
struct NotCached;

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.source.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string))]
struct Shared(Arc<Error>);

impl From<sea_orm::DbErr> for Error {
    fn from(error: sea_orm::DbErr) -> Self {
        // Only the message: the details of PostgreSQL errors contain row values.
        let source = error.to_string();
        if crate::db::lacks_month(&error) {
            return Error::internal(LacksMonth);
        }
        if crate::db::is_not_cached(&error) {
            return Error::internal(NotCached);
        }
        let shown = if crate::db::is_out_of_range(&error) {
            Error::sum_out_of_range()
        } else if crate::db::is_unwritable(&error) {
            Error::new(Code::BadUserInput, "a text contains characters that are not allowed")
        } else if crate::db::is_timeout(&error) {
            Error::new(Code::QueryTimeout, "the query takes too long")
        } else if crate::db::is_full(&error) {
            Error::new(Code::ServiceUnavailable, "the disk of the database is full or read-only; try again")
        } else if crate::db::is_busy(&error) {
            Error::new(Code::ServiceUnavailable, "the database is busy, or cannot be reached; try again")
        } else if crate::db::is_unavailable(&error) {
            Error::new(Code::ServiceUnavailable, "the database cannot be reached; try again")
        } else {
            return Error::internal(source);
        };
        shown.with_source(source)
    }
}

impl From<serde_json::Error> for Error {
    /// Only the kind and location: the message would contain the value.
    fn from(error: serde_json::Error) -> Self {
        Error::internal(format!("{:?} error of JSON, column {}", error.classify(), error.column()))
    }
}
