//! Failures of commands: a sentence for people and an exit code for scripts.

use std::error::Error as StdError;
use std::fmt::{Display, Write};
use std::process::ExitCode;

use sea_orm::DbErr;

use crate::config::ConfigError;
use crate::db::migrations::StateError;
use crate::db::{ConnectError, message_of};
use crate::error::{Code, Error};

/// The exit codes that `--help` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    BadConfig = 2,
    DatabaseAway = 3,
    NotMigrated = 4,
    PortInUse = 5,
    LinesRefused = 6,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// What failed and, in parentheses, how to fix it; empty when everything has been printed.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into() }
    }

    pub fn failed(error: impl StdError) -> Self {
        Failure::new(Exit::Failed, error.to_string())
    }

    /// Why there is no connection to the URL in `setting`.
    pub fn of_connecting(setting: &str, error: &ConnectError) -> Self {
        match error {
            ConnectError::UnknownScheme | ConnectError::BadUrl(_) => {
                Failure::new(Exit::BadConfig, format!("{setting} {error} (see .env.example)"))
            }
            ConnectError::NoRole(_) => {
                let advice = "run scripts/roles.sql, then `salespulse migrate`; see docs/operations.md";
                Failure::new(Exit::NotMigrated, format!("{error} ({advice})"))
            }
            ConnectError::NotGranted(_) => {
                let advice = format!(
                    "{setting} must log in as salespulse, not as the owner of the tables; see docs/operations.md"
                );
                Failure::new(Exit::BadConfig, format!("{error} ({advice})"))
            }
            ConnectError::Unreachable(_) => {
                Failure::new(Exit::DatabaseAway, format!("{error} (is it running, and is {setting} right?)"))
            }
        }
    }

    /// The login for the tables' owner is not theirs.
    pub fn not_owner(why: impl Display) -> Self {
        let advice = "set SALESPULSE_OWNER_URL to the login that owns the tables; see docs/operations.md";
        Failure::new(Exit::BadConfig, format!("{why} ({advice})"))
    }

    /// Exits with a code; everything has been printed.
    pub fn silent(exit: Exit) -> Self {
        Failure::new(exit, "")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Exit::BadConfig, error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Behind => {
                Failure::new(Exit::NotMigrated, "the database is not up to date (run `salespulse migrate`)")
            }
            StateError::Ahead(name) => {
                let message = format!("the database was migrated by a newer version, with {name} (run that version)");
                Failure::new(Exit::NotMigrated, message)
            }
            StateError::NotOwner(error) => Failure::not_owner(message_of(&error)),
            // A migration states why it does not proceed.
            StateError::Unknown(DbErr::Custom(why)) => Failure::new(Exit::Failed, why),
            StateError::Unknown(error) => match Error::from(error) {
                Error { code: Code::Internal, source: Some(source), .. } => {
                    Failure::new(Exit::Failed, format!("the database has refused a statement: {source}"))
                }
                error => error.into(),
            },
        }
    }
}

impl From<Error> for Failure {
    /// Operators may see the cause of an error.
    fn from(error: Error) -> Self {
        let exit = if error.code == Code::ServiceUnavailable { Exit::DatabaseAway } else { Exit::Failed };
        let mut message = error.message;
        if let Some(source) = error.source {
            // Infallible: the target is a string.
            let _ = write!(message, ": {source}");
        }
        Failure::new(exit, message)
    }
}
