//! `salespulse sealing`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use super::failure::{Exit, Failure};
use super::{kek, output};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::db::{Db, TenantId};
use crate::privacy::rotation;
use crate::privacy::wrapping::{Rewrapped, list_keks, rewrap};
use crate::tenancy;

#[derive(Subcommand)]
pub enum Command {
    /// Show the key-encryption keys in use, and each tenant's data keys with the number of rows they have encrypted.
    Status,
    /// Give tenants a new data key, and reseal what the old ones have sealed; servers may keep running.
    Rotate(Which),
    /// Continue rotations that were begun, and destroy data keys that are no longer needed.
    Resume(Which),
    /// Rewrap the tenants' keys with the key-encryption key that is first now.
    Rewrap(Which),
    /// Create a key-encryption key in a new file.
    NewKek {
        /// The file.
        file: PathBuf,
    },
}

/// Whose keys.
#[derive(Parser)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["tenant", "all"]))]
pub struct Which {
    /// The tenant's slug or id.
    #[arg(long)]
    tenant: Option<String>,
    /// All tenants.
    #[arg(long)]
    all: bool,
}

impl Which {
    async fn tenants(&self, db: &Db) -> Result<Vec<(String, TenantId)>, Failure> {
        super::list_tenants(db, self.tenant.as_deref()).await
    }
}

pub async fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    if let Command::NewKek { file } = command {
        return kek::write_new(file);
    }
    let db = super::connect(config).await?;
    match command {
        Command::NewKek { .. } => Ok(()),
        Command::Status => status(&db).await,
        Command::Rewrap(which) => {
            let kek = kek::open(config, &db).await?;
            let mut ended = Ok(());
            for (slug, tenant) in which.tenants(&db).await? {
                let Rewrapped { count, failed } = rewrap(&db, kek.as_ref(), tenant).await?;
                output::line(format_args!("{slug}: {count} keys rewrapped"));
                for (version, error) in failed {
                    output::note(format_args!("{slug}: key {version} is not rewrapped: {error}"));
                    ended = Err(Failure::silent(Exit::Failed));
                }
            }
            ended
        }
        Command::Rotate(which) | Command::Resume(which) => {
            let tenants = which.tenants(&db).await?;
            let app = super::wire(config, db, super::tokens(config)?, Arc::new(SystemClock)).await?;
            let mut ended = Ok(());
            for (slug, tenant) in tenants {
                match work_on(&app, command, &slug, tenant).await {
                    // The other tenants' keys may be in order.
                    Err(Failure { exit: Exit::Failed, message }) => {
                        output::note(format_args!("{slug}: {message}"));
                        ended = Err(Failure::silent(Exit::Failed));
                    }
                    worked => worked?,
                }
            }
            ended
        }
    }
}

async fn status(db: &Db) -> Result<(), Failure> {
    for (kek, keys) in list_keks(db).await? {
        output::line(format_args!("{kek} wraps {keys} keys"));
    }
    for (slug, tenant) in tenancy::list_tenants(db).await? {
        for version in rotation::list_versions(&db.read_patiently(tenant).await?).await? {
            let state = if version.retired_at.is_some() { "only opens" } else { "seals" };
            output::line(format_args!("{slug}: data key {} {state}, {} encrypted rows", version.version, version.rows));
        }
    }
    Ok(())
}

/// Begins a tenant's rotation unless it only has to be continued, and carries on with it.
async fn work_on(app: &App, command: &Command, slug: &str, tenant: TenantId) -> Result<(), Failure> {
    if matches!(command, Command::Rotate(_)) && !begin(app, slug, tenant).await? {
        return Ok(());
    }
    carry_on(app, slug, tenant).await
}

/// `false` for a tenant with no sealed data.
async fn begin(app: &App, slug: &str, tenant: TenantId) -> Result<bool, Failure> {
    if rotation::list_versions(&app.db.read_patiently(tenant).await?).await?.is_empty() {
        output::line(format_args!("{slug}: has no keys"));
        return Ok(false);
    }
    let version = rotation::begin(app, tenant).await?;
    output::line(format_args!("{slug}: data key {version} seals from now on"));
    Ok(true)
}

async fn carry_on(app: &App, slug: &str, tenant: TenantId) -> Result<(), Failure> {
    rotation::reseal(app, tenant, |rows| output::line(format_args!("{slug}: {rows} customers resealed"))).await?;
    for version in rotation::destroy_unused(app, tenant).await? {
        output::line(format_args!("{slug}: data key {version} destroyed"));
    }
    for version in rotation::list_versions(&app.db.read_patiently(tenant).await?).await? {
        match (version.retired_at, version.rows) {
            (None, _) => {}
            (Some(_), 0) => output::line(format_args!(
                "{slug}: data key {} is not needed; a server destroys it in ten minutes",
                version.version
            )),
            (Some(_), rows) => {
                let message = format!("{rows} encrypted rows are left with data key {} (see the log)", version.version);
                return Err(Failure::new(Exit::Failed, message));
            }
        }
    }
    Ok(())
}
