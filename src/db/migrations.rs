//! Checks the database schema against this version's migrations, and applies them.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};

use super::{Db, Owner, dialect};

/// Why the schema cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// Pending migrations.
    Behind,
    /// A migration unknown to this version was applied.
    Ahead(String),
    /// The login of the owner does not own the tables.
    NotOwner(DbErr),
    Unknown(DbErr),
}

impl From<DbErr> for StateError {
    fn from(error: DbErr) -> Self {
        if dialect::is_forbidden(&error) { StateError::NotOwner(error) } else { StateError::Unknown(error) }
    }
}

/// Checks that exactly this version's migrations are applied. Read-only.
pub async fn check(db: &Db) -> Result<(), StateError> {
    let read = db.read.lend().await.map_err(StateError::Unknown)?;
    compare(&applied(read.connection()).await.map_err(StateError::Unknown)?)
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

/// Applies what is pending: all of it, or nothing.
pub async fn up(owner: &Owner) -> Result<(), StateError> {
    let tx = begin(owner).await?;
    Migrator::up(&tx, None).await?;
    Ok(tx.commit().await?)
}

/// Reverts the newest migrations: all of them, or none.
pub async fn down(owner: &Owner, steps: u32) -> Result<(), StateError> {
    let tx = begin(owner).await?;
    Migrator::down(&tx, Some(steps)).await?;
    Ok(tx.commit().await?)
}

/// The transaction of all migrations of a run, so that an interrupted one leaves nothing behind. Waits for other runs.
async fn begin(owner: &Owner) -> Result<DatabaseTransaction, StateError> {
    let tx = dialect::begin_migrating(&owner.0).await?;
    match compare(&applied(&tx).await?) {
        Err(StateError::Behind) | Ok(()) => Ok(tx),
        Err(error) => Err(error),
    }
}

fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|m| m.name().to_owned()).collect()
}

async fn applied(connection: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
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
