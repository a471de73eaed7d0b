//! `salespulse import --dry-run`: imports into a temporary database, and reports what it contains then.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use super::import::{self, Args, Progress};
use super::{output, signals, tenant};
use crate::app::App;
use crate::auth::token::Tokens;
use crate::clock::{SystemClock, Timestamp};
use crate::config::{Config, KekSource};
use crate::db::{Db, TenantId, get};
use crate::error::{Error, Result};
use crate::graphql::scalars::DateTime;
use crate::graphql::size::Size;
use crate::import::{End, Import, WHAT_TO_DO};
use crate::ledger::organization::{Organization, list_organizations};
use crate::metrics::answer::answer;
use crate::metrics::catalog::{Metric, Needs};
use crate::metrics::filter::MetricsFilters;
use crate::metrics::input::DateRange;
use crate::metrics::plan::Plan;
use crate::sealing::generate_key;
use crate::tenancy;

/// The metrics that are reported.
const REPORTED: [Metric; 6] = [
    Metric::OrdersCount,
    Metric::UniqueCustomers,
    Metric::UnitsSold,
    Metric::GrossRevenue,
    Metric::Refunds,
    Metric::Visits,
];

/// The tenant in the temporary database.
const SLUG: &str = "dry-run";

pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let import = import::import_of(args)?;
    let stop = signals::stop_token()?;
    let folder = tempfile::tempdir().map_err(|error| unusable(&error))?;
    let ended = run_in(folder.path(), config, args, import, &stop).await;
    folder.close().map_err(|error| unusable(&error)).and(ended)
}

fn unusable(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("the temporary folder (see TMPDIR) cannot be used: {why}"))
}

async fn run_in(
    folder: &Path,
    config: &Config,
    args: &Args,
    import: Import,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    // These would end the path in a URL, or be decoded.
    let plain = folder.to_str().filter(|path| !path.contains(['?', '%']));
    let folder =
        plain.ok_or_else(|| unusable(&format!("the path {} has characters such as % in it", folder.display())))?;
    let temporary = Config {
        database_url: format!("sqlite://{folder}/dry-run.db"),
        owner_url: None,
        redis_url: None,
        kek: KekSource::Texts(vec![STANDARD.encode(generate_key().map_err(Failure::failed)?.as_slice())]),
        ..config.clone()
    };
    let db = super::connect_migrated(&temporary).await?;
    let tenant = create_tenant(config, &db, args).await?;
    let tokens = Tokens::with_keys(&[], None, &config.jwt_issuer);
    let app = super::wire(&temporary, db, tokens, Arc::new(SystemClock)).await?;

    let progress = Progress::start(&import);
    let report = import.run(&app, tenant, stop).await;
    drop(progress);
    import::print(&report);
    let ended = match &report.end {
        End::Done => {
            for organization in list_organizations(&app.db.read(tenant).await?).await? {
                if let Some(line) = contents(&app, tenant, &organization).await? {
                    output::line(line);
                }
            }
            import::end_of(&report)
        }
        End::Stopped => Err(Failure::new(Exit::Interrupted, "stopped")),
        End::Failed(message) | End::DatabaseAway(message) => {
            Err(Failure::new(Exit::Failed, message.trim_end_matches(WHAT_TO_DO)))
        }
    };
    output::line("dry run: nothing was recorded");
    ended
}

/// Creates the tenant in the temporary database `db`, with the settings of the existing one, if any.
async fn create_tenant(config: &Config, db: &Db, args: &Args) -> Result<TenantId, Failure> {
    let original = match &args.tenant {
        Some(_) => {
            let real = super::connect(config).await?;
            import::find_tenant(&real, args).await?.map(|tenant| (real, tenant))
        }
        None => None,
    };
    let tenant = tenant::create(db, SLUG, SLUG, &args.organization()).await?;
    if let Some((real, original)) = original {
        let (from, to) = (real.read(original).await?, db.write(tenant).await?);
        tenancy::copy_settings(&from, &to).await?;
        to.commit().await?;
    }
    Ok(tenant)
}

/// What was imported for an organization, in its currency and time zone; `None` if nothing was.
async fn contents(app: &App, tenant: TenantId, organization: &Organization) -> Result<Option<String>> {
    let tx = app.db.read(tenant).await?;
    let sql = "SELECT MIN(at), MAX(at) FROM ledger_entries WHERE tenant_id = $1 AND org_no = $2";
    let row = tx.query_one(sql, [organization.org_no.into()]).await?.ok_or_else(|| Error::not_found("entry"))?;
    let (Some(first), Some(last)) = (get::<Option<Timestamp>>(&row, 0)?, get::<Option<Timestamp>>(&row, 1)?) else {
        return Ok(None);
    };
    let plan = Plan {
        period: DateRange {
            start: Some(DateTime(first)),
            end: Some(DateTime(Timestamp(last.0 + 1))),
            ..DateRange::default()
        },
        filters: MetricsFilters { organization_id: Some(organization.id.into()), ..MetricsFilters::default() },
        totals: Some(Needs::of(REPORTED)),
        ..Plan::default()
    };
    let values = answer(&tx, &app.memory, &plan, app.clock.now(), &Size::default()).await?.totals;
    let local = |at: Timestamp| {
        at.to_utc().map(|at| at.with_timezone(&organization.timezone).format("%Y-%m-%d %H:%M:%S %Z").to_string())
    };
    let (slug, currency) = (&organization.slug, &organization.currency);
    Ok(Some(format!(
        "{slug}: orders {}, customers {}, units {}, gross revenue {} {currency}, refunds {} {currency}, visits {}; \
         from {} to {}",
        values.orders,
        values.unique_customers,
        values.units,
        values.gross,
        values.refunds,
        values.visits.unwrap_or_default(),
        local(first).unwrap_or_default(),
        local(last).unwrap_or_default(),
    )))
}
