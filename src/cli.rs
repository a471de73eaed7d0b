//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::failure::Failure;
use crate::commands::{
    demo, health, import, keys, log, migrate, output, retention, sealing, serve, tenant, token, user, verify,
};
use crate::config::Config;
use crate::contract;

const EXIT_CODES: &str = "\
Settings are read from the environment and from the file .env; .env.example lists them.

Exit codes:
  0    done
  1    failed; the message says why. `verify`: differences were found
  2    the arguments or the settings are wrong
  3    the database cannot be reached
  4    the database is not migrated, or by a newer version
  5    the address to listen on is taken
  6    `import`: done, but some lines were refused
  130  stopped by a signal";

/// Exact, live sales metrics for many tenants.
#[derive(Parser)]
#[command(name = "salespulse", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API until SIGINT or SIGTERM.
    Serve,
    /// Bring the database's tables up to date.
    Migrate(migrate::Args),
    /// Create or list the keys that sign access tokens.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Rotate the keys of personal data, and the keys that wrap them.
    #[command(subcommand)]
    Sealing(sealing::Command),
    /// Create users, or set their passwords.
    #[command(subcommand)]
    User(user::Command),
    /// Print an access token.
    Token(token::Args),
    /// Create, list or erase tenants.
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Record the rows of CSV files; may be interrupted and repeated.
    Import(import::Args),
    /// Compare all rollups with the ledger.
    Verify(verify::Args),
    /// Drop the ledger entries of old months; metrics, down to 15 minutes, and orders stay.
    Retention(retention::Args),
    /// Check whether the server with these settings responds; for containers.
    Health,
    /// Print the GraphQL schema of this program.
    Schema,
    /// Serve two tenants with real sales, some of them happening live.
    Demo(demo::Args),
}

/// Runs the command given by the process arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command).and_then(|()| output::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::note(format_args!("salespulse: {}", failure.message));
            }
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    if matches!(command, Command::Schema) {
        output::line(contract::running().trim_end());
        return Ok(());
    }
    let config = Config::load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let _log = log::start(&config, runtime.handle())?;
    runtime.block_on(async {
        match command {
            Command::Schema => Ok(()),
            Command::Serve => serve::run(&config).await,
            Command::Health => health::run(&config).await,
            Command::Migrate(args) => migrate::run(&config, &args).await,
            Command::Keys(command) => keys::run(&config, &command),
            Command::Sealing(command) => sealing::run(&config, &command).await,
            Command::User(command) => user::run(&config, &command).await,
            Command::Token(args) => token::run(&config, &args).await,
            Command::Tenant(command) => tenant::run(&config, &command).await,
            Command::Import(args) => import::run(&config, &args).await,
            Command::Verify(args) => verify::run(&config, &args).await,
            Command::Retention(args) => retention::run(&config, &args).await,
            Command::Demo(args) => demo::run(config, &args).await,
        }
    })
}
