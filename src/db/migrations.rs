//! Whether the database's tables are those of this version, and bringing them there.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DbErr, Statement};

use super::Db;

/// Why the database cannot be worked with.
#[derive(Debug)]
pub enum StateError {
    /// Migrations are still to be applied.
    Behind,
    /// A migration was applied that this version does not know.
    Ahead(String),
    Unknown(DbErr),
}

impl From<DbErr> for StateError {
    fn from(error: DbErr) -> Self {
        StateError::Unknown(error)
    }
}

/// Makes sure that exactly the migrations of this version are applied. Writes nothing.
pub async fn check(db: &Db) -> Result<(), StateError> {
    let applied = applied(db).await?;
    let known = names();
    if let Some(name) = applied.iter().find(|name| !known.contains(name)) {
        return Err(StateError::Ahead(name.clone()));
    }
    if applied.len() < known.len() { Err(StateError::Behind) } else { Ok(()) }
}

/// The migrations of this version, and whether each is applied.
pub async fn list(db: &Db) -> Result<Vec<(String, bool)>, StateError> {
    let applied = applied(db).await?;
    Ok(names().into_iter().map(|name| (name.clone(), applied.contains(&name))).collect())
}

pub async fn up(db: &Db) -> Result<(), StateError> {
    refuse_ahead(db).await?;
    Ok(Migrator::up(db.system(), None).await?)
}

pub async fn down(db: &Db, steps: u32) -> Result<(), StateError> {
    refuse_ahead(db).await?;
    Ok(Migrator::down(db.system(), Some(steps)).await?)
}

async fn refuse_ahead(db: &Db) -> Result<(), StateError> {
    match check(db).await {
        Err(StateError::Behind) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|m| m.name().to_owned()).collect()
}

async fn applied(db: &Db) -> Result<Vec<String>, DbErr> {
    let connection = db.system();
    let statement = |sql: &str| Statement::from_string(connection.get_database_backend(), sql);
    let exists = if db.is_postgres() {
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
