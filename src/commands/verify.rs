//! `salespulse verify`.

use clap::Parser;

use super::failure::{Exit, Failure};
use crate::config::Config;
use crate::ledger::verify::verify;
use crate::tenancy;

#[derive(Parser)]
pub struct Args {
    /// The tenant's slug or id; absent means all.
    #[arg(long)]
    tenant: Option<String>,
}

/// Prints each tenant's result, and each rollup row that is not the sum of its entries.
pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let db = super::connect(config).await?;
    let tenants = match &args.tenant {
        Some(name) => vec![(name.clone(), super::get_tenant(&db, name).await?)],
        None => tenancy::list_tenants(&db).await?,
    };
    let mut differences = 0;
    for (slug, tenant) in tenants {
        let report = verify(&db, tenant).await?;
        for difference in &report.differences {
            println!("{slug}: {difference}");
        }
        differences += report.differences.len();
        println!(
            "{slug}: {} rows are compared with {} entries as of position {}, {} differ",
            report.rows,
            report.entries,
            report.position,
            report.differences.len()
        );
    }
    if differences == 0 { Ok(()) } else { Err(Failure::new(Exit::Failed, format!("{differences} rows differ"))) }
}
