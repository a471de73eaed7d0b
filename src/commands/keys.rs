//! `salespulse keys`.

use clap::Subcommand;

use super::failure::{Exit, Failure};
use super::output;
use crate::auth::keys;
use crate::config::Config;

#[derive(Subcommand)]
pub enum Command {
    /// Add a key that verifies access tokens; the first one in the file also signs them.
    New,
    /// Make a key the signing key, once all servers know it.
    Use {
        /// The key's name.
        #[arg(allow_hyphen_values = true)]
        name: String,
    },
    /// Remove a key, once all tokens it has signed have expired.
    Remove {
        /// The key's name.
        #[arg(allow_hyphen_values = true)]
        name: String,
    },
    /// List the names of the keys, the signing one first.
    List,
}

pub fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    let path = &config.signing_keys;
    let failed = |error| Failure::new(Exit::BadConfig, format!("{}: {error}", path.display()));
    match command {
        Command::New => output::line(keys::add(path).map_err(failed)?),
        Command::Use { name } => keys::promote(path, name).map_err(failed)?,
        Command::Remove { name } => keys::remove(path, name).map_err(failed)?,
        Command::List => {
            for key in keys::read(path).map_err(failed)? {
                output::line(key.id);
            }
        }
    }
    Ok(())
}
