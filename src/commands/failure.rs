//! Failures of commands: a sentence for people and an exit code for scripts.

use std::error::Error as StdError;
use std::fmt::Write;
use std::process::ExitCode;

use sea_orm::DbErr;

use crate::config::ConfigError;
use crate::db::ConnectError;
use crate::db::migrations::StateError;
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

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let (exit, advice) = match error {
            ConnectError::UnknownScheme | ConnectError::BadUrl(_) => {
                (Exit::BadConfig, "see DATABASE_URL in .env.example")
            }
            ConnectError::NoRole(_) => {
                (Exit::NotMigrated, "run scripts/roles.sql, then `salespulse migrate`; see docs/operations.md")
            }
            ConnectError::Unreachable(_) => (Exit::DatabaseAway, "is it running, and is DATABASE_URL right?"),
        };
        Failure::new(exit, format!("{error} ({advice})"))
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
            // A migration states why it does not proceed.
            StateError::Unknown(DbErr::Custom(why)) => Failure::new(Exit::Failed, why),
            StateError::Unknown(error) => Error::from(error).into(),
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
