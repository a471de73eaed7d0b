//! `salespulse tenant`.

use clap::{Parser, Subcommand};

use super::failure::{Exit, Failure};
use super::output;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::db::{Db, TenantId};
use crate::error::Error;
use crate::money::is_currency;
use crate::people::organizations;
use crate::privacy::erasure::erase_tenant;
use crate::tenancy::{self, NewTenant};

#[derive(Subcommand)]
pub enum Command {
    /// Create a tenant with one organization, and one user for each role.
    Create(CreateArgs),
    /// List the tenants: slug and id.
    List,
    /// Erase what identifies the customers of a tenant, irrevocably; orders and numbers stay.
    Erase {
        /// The tenant's slug or id.
        tenant: String,
        /// Confirm: this cannot be undone.
        #[arg(long, required = true)]
        yes: bool,
    },
}

#[derive(Parser)]
pub struct CreateArgs {
    /// The tenant's short name, as in URLs.
    slug: String,
    /// The display name; defaults to the slug.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    organization: OrganizationArgs,
}

/// The settings of a new tenant's organization.
#[derive(Parser)]
pub struct OrganizationArgs {
    /// The time zone in which its days begin, by IANA name.
    #[arg(long, default_value = "UTC", value_parser = parse_timezone)]
    pub timezone: chrono_tz::Tz,
    /// The currency of its metrics, by ISO 4217 code.
    #[arg(long, default_value = "USD", value_parser = parse_currency)]
    pub currency: String,
}

pub async fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    let db = super::connect(config).await?;
    match command {
        Command::List => {
            for (slug, TenantId(id)) in tenancy::list_tenants(&db).await? {
                output::line(format_args!("{slug} {id}"));
            }
        }
        Command::Erase { tenant, .. } => {
            let id = super::get_tenant(&db, tenant).await?;
            let rows = erase_tenant(&db, id, SystemClock.now()).await?;
            output::line(format_args!("{tenant}: its keys are destroyed, {rows} customers are cleared"));
        }
        Command::Create(args) => {
            let name = args.name.as_deref().unwrap_or(&args.slug);
            let TenantId(id) = create(&db, &args.slug, name, &args.organization).await?;
            output::line(format_args!("{} {id}", args.slug));
        }
    }
    Ok(())
}

/// A tenant's slug and name are also those of its default organization.
pub fn check_slug(slug: &str) -> Result<(), Failure> {
    organizations::check_form(slug).map_err(wrong)
}

fn wrong(error: Error) -> Failure {
    let what = error.argument.unwrap_or_default();
    Failure::new(Exit::BadConfig, format!("the {what} {}", error.message))
}

pub async fn create(db: &Db, slug: &str, name: &str, organization: &OrganizationArgs) -> Result<TenantId, Failure> {
    check_slug(slug)?;
    let name = &organizations::name_of(name).map_err(wrong)?;
    let new = NewTenant { slug, name, timezone: organization.timezone, currency: &organization.currency };
    Ok(tenancy::create_tenant(db, &new, SystemClock.now()).await?.id)
}

pub fn parse_timezone(name: &str) -> Result<chrono_tz::Tz, String> {
    name.parse().map_err(|_| "no such time zone; for example Europe/London".to_owned())
}

pub fn parse_currency(code: &str) -> Result<String, String> {
    if is_currency(code) { Ok(code.to_owned()) } else { Err("no such currency; for example EUR".to_owned()) }
}
