//! What the command line can do, a file per command, and what they share: the database, the stream and the parts
//! wired around them.

pub mod demo;
pub mod failure;
pub mod import;
pub mod log;
pub mod migrate;
pub mod retention;
pub mod serve;
pub mod signals;
pub mod tenant;
pub mod token;
pub mod verify;

use std::sync::Arc;

use self::failure::{Exit, Failure};
use crate::app::App;
use crate::auth::token::Tokens;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::db::{Db, Owner, TenantId, migrations, wall};
use crate::stream;
use crate::tenancy;

/// Connects to the database as its owner, whatever its state.
pub async fn connect_owner(config: &Config) -> Result<Owner, Failure> {
    make_folder(config)?;
    Ok(Owner::connect(config.owner_url.as_ref().unwrap_or(&config.database_url)).await?)
}

/// Connects to a database that this version can work with, and in which tenants are kept apart.
pub async fn connect(config: &Config) -> Result<Db, Failure> {
    make_folder(config)?;
    let db = Db::connect(&config.database_url, config.database_connections).await?;
    migrations::check(&db).await?;
    let holes = wall::list_holes(&db).await?;
    if holes.is_empty() {
        return Ok(db);
    }
    let message = format!("tenants are not kept apart: {} (see docs/operations.md)", holes.join("; "));
    Err(Failure::new(Exit::BadConfig, message))
}

fn make_folder(config: &Config) -> Result<(), Failure> {
    if let Some(folder) = sqlite_folder(&config.database_url) {
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure::new(Exit::DatabaseAway, format!("the folder {folder} of the database cannot be made: {error}"))
        })?;
    }
    Ok(())
}

/// The folder of a SQLite file that is to be made if it is missing.
fn sqlite_folder(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite://")?.split('?').next()?;
    let (folder, _) = path.rsplit_once('/')?;
    (!folder.is_empty()).then_some(folder)
}

/// The parts of a server or of a command that records.
pub async fn wire(config: &Config, db: Db, jwt_secret: &str) -> Result<App, Failure> {
    let stream = stream::connect(config.redis_url.as_deref()).await.map_err(|error| {
        Failure::new(Exit::DatabaseAway, format!("{error} (is Redis running, and is REDIS_URL right?)"))
    })?;
    Ok(App::new(db, Arc::new(SystemClock), stream, Tokens::new(jwt_secret, &config.jwt_issuer)))
}

/// The secret that signs tokens.
pub fn jwt_secret(config: &Config) -> Result<&str, Failure> {
    config.jwt_secret.as_deref().ok_or_else(|| {
        Failure::new(
            Exit::BadConfig,
            "SALESPULSE_JWT_SECRET is not set (set it to at least 32 random bytes, as of `openssl rand -hex 32`)",
        )
    })
}

/// The tenant of a slug or id.
pub async fn get_tenant(db: &Db, name: &str) -> Result<TenantId, Failure> {
    tenancy::find_tenant(db, name).await?.ok_or_else(|| {
        Failure::new(
            Exit::BadConfig,
            format!("there is no tenant {name} (`salespulse tenant list` shows those there are)"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::sqlite_folder;

    #[test]
    fn folders_of_sqlite_files_are_found() {
        assert_eq!(sqlite_folder("sqlite://data/a.db?mode=rwc"), Some("data"));
        assert_eq!(sqlite_folder("sqlite:///var/lib/a.db"), Some("/var/lib"));
        assert_eq!(sqlite_folder("sqlite://a.db"), None);
        assert_eq!(sqlite_folder("sqlite::memory:"), None);
        assert_eq!(sqlite_folder("postgres://host/db"), None);
    }
}
