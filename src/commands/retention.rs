//! `salespulse retention`.

use clap::Parser;
use serde_json::json;

use super::failure::Failure;
use super::output;
use crate::audit::{self, Entry};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::ledger::retention::{close_before, count_before, cut, drop_before};

#[derive(Parser)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["tenant", "all"]))]
pub struct Args {
    /// The tenant's slug or id.
    #[arg(long)]
    tenant: Option<String>,
    /// All tenants; on PostgreSQL this drops whole months at once, as the owner of the tables.
    #[arg(long)]
    all: bool,
    /// How many months before the current one to keep.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
    keep_months: u32,
    /// Only print what would be dropped.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let db = super::connect(config).await?;
    let cut = cut(SystemClock.now(), args.keep_months)?;
    let owner = if args.all { Some(super::connect_owner_of(config, &db).await?) } else { None };
    if args.dry_run {
        for (slug, tenant) in super::list_tenants(&db, args.tenant.as_deref()).await? {
            let dropped = count_before(&db, tenant, cut).await?;
            output::line(format_args!(
                "{slug}: {} entries and {} event ids before {cut} would be dropped",
                dropped.entries, dropped.events
            ));
        }
        return Ok(());
    }
    if let Some(owner) = &owner {
        owner.block_new_tenants().await?;
    }
    let tenants = super::list_tenants(&db, args.tenant.as_deref()).await?;
    // First every tenant stops accepting events of those months; then they can be dropped.
    let mut counted = Vec::new();
    for (_, tenant) in &tenants {
        close_before(&db, *tenant, cut).await?;
        if args.all {
            // While the months are still there.
            counted.push(count_before(&db, *tenant, cut).await?);
        }
    }
    if let Some(owner) = owner {
        for month in owner.drop_months(cut).await? {
            output::line(format_args!("{month} dropped"));
        }
        owner.close().await.map_err(Failure::failed)?;
    }
    let mut counted = counted.into_iter();
    for (slug, tenant) in tenants {
        let deleted = drop_before(&db, tenant, cut).await?;
        let dropped = counted.next().unwrap_or(deleted);
        let told = json!({ "by": "operator", "before": cut, "entries": dropped.entries, "events": dropped.events });
        let tx = db.write(tenant).await?;
        audit::record_by_operator(&tx, SystemClock.now(), Entry::of("retention", &slug).after(told)).await?;
        tx.commit().await?;
        output::line(format_args!(
            "{slug}: {} entries and {} event ids before {cut} dropped",
            dropped.entries, dropped.events
        ));
    }
    Ok(())
}
