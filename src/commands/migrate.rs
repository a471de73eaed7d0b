//! `salespulse migrate`.

use clap::Parser;

use super::failure::{Exit, Failure};
use super::output;
use crate::config::Config;
use crate::db::migrations;

#[derive(Parser)]
pub struct Args {
    /// Only list the migrations and whether they were applied.
    #[arg(long, conflicts_with = "down")]
    status: bool,
    /// Revert the newest N migrations, including the data they hold.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    down: Option<u32>,
}

pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let owner = match args.status || args.down.is_some() {
        true => super::connect_owner(config).await?,
        false => super::connect_owner_of_new(config).await?,
    };
    if args.status {
        for (name, is_applied) in migrations::list(&owner).await? {
            output::line(format_args!("{} {name}", if is_applied { "applied" } else { "pending" }));
        }
        return Ok(());
    }
    let count =
        async || Ok::<_, Failure>(migrations::list(&owner).await?.iter().filter(|(_, applied)| *applied).count());
    match args.down {
        Some(reverted) => {
            let applied = count().await?;
            if usize::try_from(reverted).map_or(true, |reverted| reverted > applied) {
                let message =
                    format!("--down {reverted}: only {applied} migrations are applied (nothing was reverted)");
                return Err(Failure::new(Exit::BadConfig, message));
            }
            migrations::down(&owner, reverted).await?;
            tracing::info!(reverted, applied = count().await?, "migrations reverted");
        }
        None => {
            migrations::up(&owner).await?;
            tracing::info!(applied = count().await?, "migrated");
        }
    }
    owner.close().await.map_err(Failure::failed)
}
