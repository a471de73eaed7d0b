//! `salespulse migrate`.

use clap::Parser;

use super::failure::Failure;
use super::output;
use crate::config::Config;
use crate::db::migrations;

#[derive(Parser)]
pub struct Args {
    /// Only list the migrations and whether they were applied.
    #[arg(long, conflicts_with = "down")]
    status: bool,
    /// Revert the newest N migrations, including the data they hold.
    #[arg(long, value_name = "N")]
    down: Option<u32>,
}

pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let owner = super::connect_owner(config).await?;
    if args.status {
        for (name, is_applied) in migrations::list(&owner).await? {
            output::line(format_args!("{} {name}", if is_applied { "applied" } else { "pending" }));
        }
        return Ok(());
    }
    match args.down {
        Some(steps) => migrations::down(&owner, steps).await?,
        None => migrations::up(&owner).await?,
    }
    let applied = migrations::list(&owner).await?.into_iter().filter(|(_, is_applied)| *is_applied).count();
    tracing::info!(applied, "migrated");
    owner.close().await.map_err(Failure::failed)
}
