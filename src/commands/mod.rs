//! The commands, one file each, and what they share: the database, the stream and the application wired around them.

pub mod demo;
mod dry_run;
pub mod failure;
pub mod health;
pub mod import;
mod kek;
pub mod keys;
pub mod log;
pub mod migrate;
pub mod output;
pub mod retention;
pub mod sealing;
pub mod serve;
pub mod signals;
pub mod tenant;
pub mod token;
pub mod user;
pub mod verify;

use self::failure::{Exit, Failure};
use crate::accounts::oidc::{self, Providers};
use crate::app::App;
use crate::auth::keys as signing_keys;
use crate::auth::token::Tokens;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::db::{self, Db, Owner, TenantId, migrations, wall};
use crate::predictions::Predictions;
use crate::predictions::pool::Pool;
use crate::secret_file;
use crate::stream;
use crate::tenancy;

/// Connects to the database as its owner, whatever the schema's state.
pub async fn connect_owner(config: &Config) -> Result<Owner, Failure> {
    let (setting, url) = match &config.owner_url {
        Some(url) => ("SALESPULSE_OWNER_URL", url),
        None => ("DATABASE_URL", &config.database_url),
    };
    check_file(setting, url)?;
    Owner::connect(url).await.map_err(|error| Failure::of_connecting(setting, &error))
}

/// The same for a database that need not exist yet, on SQLite.
async fn connect_owner_of_new(config: &Config) -> Result<Owner, Failure> {
    make_file(config.owner_url.as_ref().unwrap_or(&config.database_url))?;
    connect_owner(config).await
}

/// Connects to a database whose schema this version supports, and which enforces tenant isolation.
pub async fn connect(config: &Config) -> Result<Db, Failure> {
    check_file("DATABASE_URL", &config.database_url)?;
    let db = Db::connect(&config.database_url, config.database_connections).await;
    let db = db.map_err(|error| Failure::of_connecting("DATABASE_URL", &error))?;
    migrations::check(&db).await?;
    let holes = wall::list_holes(&db).await?;
    if holes.is_empty() {
        return Ok(db);
    }
    let message = format!("tenants are not kept apart: {} (see docs/operations.md)", holes.join("; "));
    Err(Failure::new(Exit::BadConfig, message))
}

/// Brings a database up to date as its owner, and connects to it.
async fn connect_migrated(config: &Config) -> Result<Db, Failure> {
    let owner = connect_owner_of_new(config).await?;
    migrations::up(&owner).await?;
    owner.close().await.map_err(Failure::failed)?;
    connect(config).await
}

/// Connects to the database as its owner beside `db`, to change tables that hold every tenant's data.
async fn connect_owner_of(config: &Config, db: &Db) -> Result<Owner, Failure> {
    let owner = connect_owner(config).await?;
    if !owner.is_of(db).await? {
        let message = "SALESPULSE_OWNER_URL and DATABASE_URL are different databases (nothing was changed)";
        return Err(Failure::new(Exit::BadConfig, message));
    }
    if !owner.owns_tables().await? {
        return Err(Failure::not_owner("this login does not own the tables"));
    }
    Ok(owner)
}

/// A mistyped path must not make an empty database.
fn check_file(setting: &str, url: &str) -> Result<(), Failure> {
    let Some(file) = db::sqlite_file(url).filter(|file| !file.exists()) else { return Ok(()) };
    let file = file.display();
    let message = format!("there is no database at {file} (is {setting} right? `salespulse migrate` creates it)");
    Err(Failure::new(Exit::NotMigrated, message))
}

/// Makes the file of a SQLite database, and its folder, unless they exist; for their owner only.
fn make_file(url: &str) -> Result<(), Failure> {
    let Some(file) = db::sqlite_file(url) else { return Ok(()) };
    secret_file::make(&file).map_err(|error| {
        let file = file.display();
        Failure::new(Exit::DatabaseAway, format!("the database {file} cannot be created: {error}"))
    })
}

/// Wires up the application for a server or for a command that records.
pub async fn wire(config: &Config, db: Db, tokens: Tokens, clock: SharedClock) -> Result<App, Failure> {
    let stream = stream::connect(config.redis_url.as_deref())
        .await
        .map_err(|error| Failure::new(Exit::BadConfig, format!("REDIS_URL: {error}")))?;
    let kek = kek::open(config, &db).await?;
    let app = App::new(db, clock, stream, tokens, kek);
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", config.listen));
    let providers = providers(config, &public_url)?;
    let pool = config.prediction_threads.map_or_else(Pool::default, Pool::new).beside(config.database_connections);
    let predictions = Predictions::new(pool);
    Ok(App { providers, predictions, public_url: public_url.into(), ..app })
}

/// The configured OpenID Connect providers.
fn providers(config: &Config, public_url: &str) -> Result<Providers, Failure> {
    let Some(path) = &config.oidc_providers else { return Ok(Providers::default()) };
    let bad =
        |why: String| Failure::new(Exit::BadConfig, format!("SALESPULSE_OIDC_PROVIDERS: {}: {why}", path.display()));
    let text = secret_file::read(path).map_err(|error| bad(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|error| bad(error.to_string()))?;
    Providers::new(oidc::settings::parse(&text).map_err(bad)?, public_url).map_err(bad)
}

/// The token signer: keys of the key file, which is created for a single server, and the secret.
pub fn tokens(config: &Config) -> Result<Tokens, Failure> {
    let path = &config.signing_keys;
    let failed = |error| Failure::new(Exit::BadConfig, format!("{}: {error}", path.display()));
    let secret = config.jwt_secret.as_deref();
    if !path.exists() && secret.is_none() {
        if !config.database_url.starts_with("sqlite:") {
            let message = format!(
                "there is no key to sign tokens with: {} is missing (create it with `salespulse keys new` and give it to every \
                 server, or set SALESPULSE_JWT_SECRET)",
                path.display()
            );
            return Err(Failure::new(Exit::BadConfig, message));
        }
        signing_keys::create(path).map_err(failed)?;
        tracing::info!(path = %path.display(), "created a key that signs access tokens");
    }
    let keys = if path.exists() { signing_keys::read(path).map_err(failed)? } else { Vec::new() };
    Ok(Tokens::with_keys(&keys, secret, &config.jwt_issuer))
}

/// The tenant with a slug or id.
pub async fn get_tenant(db: &Db, name: &str) -> Result<TenantId, Failure> {
    tenancy::find_tenant(db, name).await?.ok_or_else(|| {
        Failure::new(
            Exit::BadConfig,
            format!("there is no tenant {name} (`salespulse tenant list` shows those there are)"),
        )
    })
}

/// The tenant with a slug or id, labelled as given, or all tenants.
pub async fn list_tenants(db: &Db, name: Option<&str>) -> Result<Vec<(String, TenantId)>, Failure> {
    match name {
        Some(name) => Ok(vec![(name.to_owned(), get_tenant(db, name).await?)]),
        None => Ok(tenancy::list_tenants(db).await?),
    }
}
