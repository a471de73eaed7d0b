//! Statements that are not what was written: for the test that a guard which is gone is missed.

use std::sync::Arc;

use sea_orm::Statement;

type Make = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Makes another statement of a text, or none.
#[derive(Clone)]
pub struct Mutate(pub Arc<Make>);

pub fn apply(mutate: Option<&Mutate>, statement: Statement) -> Statement {
    match mutate.and_then(|mutate| (mutate.0)(&statement.sql)) {
        Some(sql) => Statement { sql, ..statement },
        None => statement,
    }
}
