//! `salespulse verify`.

use std::sync::Arc;

use clap::{Parser, Subcommand};

use super::failure::{Exit, Failure};
use super::output;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::config::Config;
use crate::graphql::documents::Documents;
use crate::graphql::endpoint::Settings;
use crate::graphql::limits::Limits;
use crate::isolation::{self, Extent, client::Transport};
use crate::ledger::verify::verify;
use crate::server::Options;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// The tenant's slug or id; defaults to all.
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Subcommand)]
enum What {
    /// Check that two tenants created for it (isolation-a and isolation-b, which stay) cannot see each other's data.
    Isolation,
}

/// Exercises every query, transport and mutation on the running configuration, and prints the findings.
async fn verify_isolation(config: &Config) -> Result<(), Failure> {
    let (tokens, db) = (super::tokens(config)?, super::connect(config).await?);
    let clock = ManualClock::at(SystemClock.now());
    let app = super::wire(config, db.clone(), tokens.clone(), Arc::<ManualClock>::clone(&clock)).await?;
    let beside = super::wire(config, db, tokens, clock).await?;
    let options = super::serve::options(config)?;
    // The run exceeds any client's limits.
    let api = Settings { limits: Limits::default(), documents: Documents::default(), ..options.api };
    let extent = Extent { transports: &Transport::QUERIES, ends_when_found: false };
    let report = isolation::verify(&app, &beside, &Options { api, ..options }, &extent).await?;
    output::line(&report);
    if report.findings.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, "tenants are not kept apart")) }
}

/// How many differing rows are printed of each tenant.
const PRINTED_MAX: usize = 100;

/// Prints each tenant's result, and rows that do not equal the sum of their entries.
pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    if let Some(What::Isolation) = args.what {
        return verify_isolation(config).await;
    }
    let db = super::connect(config).await?;
    let tenants = super::list_tenants(&db, args.tenant.as_deref()).await?;
    let mut differences = 0;
    for (slug, tenant) in tenants {
        let report = verify(&db, tenant).await?;
        for difference in report.differences.iter().take(PRINTED_MAX) {
            output::line(format_args!("{slug}: {difference}"));
        }
        if report.differences.len() > PRINTED_MAX {
            output::line(format_args!("{slug}: and {} more", report.differences.len() - PRINTED_MAX));
        }
        differences += report.differences.len();
        output::line(format_args!(
            "{slug}: {} rows are compared with {} entries as of position {}, {} differ",
            report.rows,
            report.entries,
            report.position,
            report.differences.len()
        ));
    }
    if differences == 0 { Ok(()) } else { Err(Failure::new(Exit::Failed, format!("{differences} rows differ"))) }
}
