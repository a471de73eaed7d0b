//! Checks the database schema against this version's migrations, and applies them.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use super::{Db, Owner};

/// Why the schema cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// Pending migrations.
    Behind,
    /// A migration unknown to this version was applied.
    Ahead(String),
    Unknown(DbErr),
}

impl From<DbErr> for StateError {
    fn from(error: DbErr) -> Self {
        StateError::Unknown(error)
    }
}

/// Checks that exactly this version's migrations are applied. Read-only.
pub async fn check(db: &Db) -> Result<(), StateError> {
    compare(&applied(&db.read).await?)
}

fn compare(applied: &[String]) -> Result<(), StateError> {
    let known = names();
    if let Some(name) = applied.iter().find(|name| !known.contains(name)) {
        return Err(StateError::Ahead(name.clone()));
    }
    if applied.len() < known.len() { Err(StateError::Behind) } else { Ok(()) }
}

/// This version's migrations, and whether each is applied.
pub async fn list(owner: &Owner) -> Result<Vec<(String, bool)>, StateError> {
    let applied = applied(&owner.0).await?;
    Ok(names().into_iter().map(|name| (name.clone(), applied.contains(&name))).collect())
}

pub async fn up(owner: &Owner) -> Result<(), StateError> {
    refuse_ahead(owner).await?;
    Ok(Migrator::up(&owner.0, None).await?)
}

pub async fn down(owner: &Owner, steps: u32) -> Result<(), StateError> {
    refuse_ahead(owner).await?;
    Ok(Migrator::down(&owner.0, Some(steps)).await?)
}

async fn refuse_ahead(owner: &Owner) -> Result<(), StateError> {
    match compare(&applied(&owner.0).await?) {
        Err(StateError::Behind) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|m| m.name().to_owned()).collect()
}

async fn applied(connection: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let statement = |sql: &str| Statement::from_string(connection.get_database_backend(), sql);
    let exists = if connection.get_database_backend() == DbBackend::Postgres {
        "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL"
    } else {
        "SELECT 1 FROM sqlite_master WHERE name = 'seaql_migrations'"
    };
    if connection.query_one_raw(statement(exists)).await?.is_none() {
        return Ok(Vec::new());
    }
    let rows = connection.query_all_raw(statement("SELECT version FROM seaql_migrations ORDER BY version")).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}
