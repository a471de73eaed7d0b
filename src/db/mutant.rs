//! Statement mutation, for the test that the absence of a guard is detected.

use std::sync::Arc;

use sea_orm::Statement;

type Make = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Maps a statement's text to a replacement, if any.
#[derive(Clone)]
pub struct Mutate(pub Arc<Make>);

pub fn apply(mutate: Option<&Mutate>, statement: Statement) -> Statement {
    match mutate.and_then(|mutate| (mutate.0)(&statement.sql)) {
        Some(sql) => Statement { sql, ..statement },
        None => statement,
    }
}
