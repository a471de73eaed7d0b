//! `salespulse keys`.

use clap::{Parser, Subcommand};

use super::failure::{Exit, Failure};
use crate::auth::keys;
use crate::config::Config;

#[derive(Subcommand)]
pub enum Command {
    /// Put a new key in front of those that sign access tokens; older ones stay good for what they signed.
    New(NewArgs),
    /// List the names of the keys, the one that signs first.
    List,
}

#[derive(Parser)]
pub struct NewArgs {
    /// How many older keys stay.
    #[arg(long, value_name = "N", default_value_t = 1)]
    keep: usize,
}

pub fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    let path = &config.signing_keys;
    let failed = |error| Failure::new(Exit::BadConfig, format!("{}: {error}", path.display()));
    match command {
        Command::New(args) => println!("{}", keys::rotate(path, args.keep).map_err(failed)?),
        Command::List => {
            for key in keys::read(path).map_err(failed)? {
                println!("{}", key.id);
            }
        }
    }
    Ok(())
}
