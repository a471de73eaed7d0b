//! `salespulse import`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use super::tenant::{self, OrganizationArgs};
use super::{dry_run, output, signals};
use crate::app::App;
use crate::audit::{self, Entry};
use crate::auth::token::Tokens;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::db::{Db, TenantId, get};
use crate::error::Error;
use crate::import::retry::patiently;
use crate::import::{End, Files, Import, Mapping, Report, WHAT_TO_DO};
use crate::tenancy;

/// How often progress is redrawn on a terminal, and printed elsewhere.
const REDRAW: Duration = Duration::from_millis(200);
const REPORT: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(group = ArgGroup::new("creates").multiple(true))]
pub struct Args {
    /// The mapping: what the columns of the files mean (see docs/import.md).
    mapping: PathBuf,
    /// The tenant's slug or id.
    #[arg(long, required_unless_present = "dry_run")]
    pub(super) tenant: Option<String>,
    /// Record nothing: import into a temporary, empty database instead, and report what it contains then. Of an
    /// existing tenant it knows the organizations and exchange rates, but not what has been recorded.
    #[arg(long, group = "creates")]
    dry_run: bool,
    /// The directory of the files that the mapping names; defaults to the mapping's own.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The directory for FILE.rejected.csv with the rejected rows; defaults to that of FILE.
    #[arg(long, value_name = "FOLDER")]
    rejected: Option<PathBuf>,
    /// Create the tenant if it does not exist.
    #[arg(long, group = "creates")]
    create_tenant: bool,
    /// The time zone of a tenant to create, in which its days begin, by IANA name; defaults to UTC.
    #[arg(long, requires = "creates", value_parser = tenant::parse_timezone)]
    timezone: Option<chrono_tz::Tz>,
    /// The currency of a tenant to create, in which its metrics are given, by ISO 4217 code; defaults to USD.
    #[arg(long, requires = "creates", value_parser = tenant::parse_currency)]
    currency: Option<String>,
}

impl Args {
    fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or_default()
    }

    /// The settings of a tenant to create.
    pub(super) fn organization(&self) -> OrganizationArgs {
        OrganizationArgs {
            timezone: self.timezone.unwrap_or(chrono_tz::UTC),
            currency: self.currency.clone().unwrap_or_else(|| "USD".to_owned()),
        }
    }
}

pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    if args.dry_run {
        return dry_run::run(config, args).await;
    }
    let import = import_of(args)?;
    let db = super::connect(config).await?;
    let known = find_tenant(&db, args).await?;
    // The stream notifies running servers of what is recorded; no tokens are issued here.
    let tokens = Tokens::with_keys(&[], None, &config.jwt_issuer);
    let app = super::wire(config, db.clone(), tokens, Arc::new(SystemClock)).await?;
    let stop = signals::stop_token()?;
    let progress = Progress::start(&import);
    let name = import.mapping.name.clone();
    // A mapping that does not fit its files must not create a tenant.
    let ready = match import.open(&stop).await {
        Ok(ready) => ready,
        Err(report) => {
            drop(progress);
            print(&report);
            return end_of(&report);
        }
    };
    let tenant = match known {
        Some(tenant) => tenant,
        None => create_tenant(&db, args).await?,
    };
    let report = ready.run(&app, tenant, &stop).await;
    let noted = note(&app, tenant, &name, &report, &stop).await;
    drop(progress);
    print(&report);
    if report.end == End::Done {
        noted?;
    }
    end_of(&report)
}

/// Records the import in the audit log.
async fn note(
    app: &App,
    tenant: TenantId,
    name: &str,
    report: &Report,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let rows = report.totals().rows;
    if rows.accepted == 0 || matches!(report.end, End::DatabaseAway(_)) {
        return Ok(());
    }
    let told = json!({ "by": "operator", "rowsRead": rows.read, "rowsAccepted": rows.accepted });
    let attempt = || async {
        let tx = app.db.write(tenant).await?;
        audit::record_by_operator(&tx, app.clock.now(), Entry::of("import", name).after(told.clone())).await?;
        tx.commit().await
    };
    let noted = patiently(stop, attempt).await;
    noted.map_err(|error| {
        let Failure { exit, message } = error.into();
        Failure::new(exit, format!("{message}{WHAT_TO_DO}"))
    })
}

pub(super) fn end_of(report: &Report) -> Result<(), Failure> {
    match &report.end {
        End::Done if report.totals().rows.refused + report.table_rows_refused > 0 => {
            Err(Failure::silent(Exit::LinesRefused))
        }
        End::Done => Ok(()),
        End::Stopped => Err(Failure::new(Exit::Interrupted, "stopped; run the same command again to go on")),
        End::Failed(message) => Err(Failure::new(Exit::Failed, message)),
        End::DatabaseAway(message) => Err(Failure::new(Exit::DatabaseAway, message)),
    }
}

pub(super) fn import_of(args: &Args) -> Result<Import, Failure> {
    let place = args.mapping.display().to_string();
    let text = std::fs::read_to_string(&args.mapping)
        .map_err(|error| Failure::new(Exit::Failed, format!("{place}: cannot be read: {error}")))?;
    let mapping = Mapping::parse(&text, &place).map_err(Failure::failed)?;
    let folder = args.data.clone().unwrap_or_else(|| args.mapping.parent().unwrap_or(Path::new("")).to_owned());
    let mut import = Import::new(mapping, Files::in_folder(folder));
    import.rejected_folder.clone_from(&args.rejected);
    Ok(import)
}

/// The tenant, or `None` when it is to be created. Error: it does not exist, or does not match the arguments, or cannot
/// be created with that slug.
pub(super) async fn find_tenant(db: &Db, args: &Args) -> Result<Option<TenantId>, Failure> {
    if !args.create_tenant {
        let tenant = super::get_tenant(db, args.tenant()).await?;
        check_settings(db, tenant, args).await?;
        return Ok(Some(tenant));
    }
    let Some(tenant) = tenancy::find_tenant(db, args.tenant()).await? else {
        tenant::check_slug(args.tenant())?;
        return Ok(None);
    };
    check_settings(db, tenant, args).await?;
    Ok(Some(tenant))
}

/// Error: the tenant exists with another time zone or currency than the arguments have.
async fn check_settings(db: &Db, tenant: TenantId, args: &Args) -> Result<(), Failure> {
    let tx = db.read(tenant).await?;
    let sql = "SELECT timezone, currency FROM organizations WHERE tenant_id = $1 AND is_default";
    let row = tx.query_one(sql, []).await?.ok_or_else(|| Error::not_found("organization"))?;
    let differs = |option: &str, given: Option<&str>, known: String| match given {
        Some(given) if given != known => Err(Failure::new(
            Exit::BadConfig,
            format!("there is a tenant {} already, with {known} and not {given} (leave out {option})", args.tenant()),
        )),
        _ => Ok(()),
    };
    differs("--timezone", args.timezone.map(|zone| zone.name()), get(&row, 0)?)?;
    differs("--currency", args.currency.as_deref(), get(&row, 1)?)
}

/// Creates the tenant, unless another process has just done so.
async fn create_tenant(db: &Db, args: &Args) -> Result<TenantId, Failure> {
    let created = tenant::create(db, args.tenant(), args.tenant(), &args.organization()).await;
    if created.is_err()
        && let Some(tenant) = find_tenant(db, args).await?
    {
        return Ok(tenant);
    }
    created
}

pub(super) fn print(report: &Report) {
    for (feed, totals) in &report.feeds {
        output::line(format_args!("{feed}: {totals}"));
    }
    if report.feeds.len() > 1 {
        output::line(format_args!("all: {}", report.totals()));
    }
    for note in &report.notes {
        output::line(note);
    }
    for path in &report.rejected_files {
        output::line(format_args!("refused rows are in {}", path.display()));
    }
}

/// Shows the progress of an import: a bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    task: tokio::task::JoinHandle<()>,
    bar: ProgressBar,
}

impl Progress {
    pub fn start(import: &Import) -> Progress {
        let (bytes, rows) = (Arc::clone(&import.read_bytes), Arc::clone(&import.settled_rows));
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(import.bytes()) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}  {eta} left") {
            bar.set_style(style);
        }
        let bytes_max = import.bytes();
        let task = if bar.is_hidden() {
            tokio::spawn(report_lines(rows, bytes, bytes_max))
        } else {
            tokio::spawn(redraw(bar.clone(), rows, bytes))
        };
        Progress { task, bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

async fn redraw(bar: ProgressBar, rows: Arc<AtomicU64>, bytes: Arc<AtomicU64>) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(REDRAW).await;
        bar.set_position(bytes.load(Ordering::Relaxed));
        bar.set_message(rate(rows.load(Ordering::Relaxed), begun));
    }
}

async fn report_lines(rows: Arc<AtomicU64>, bytes: Arc<AtomicU64>, bytes_max: u64) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(REPORT).await;
        let rate = rate(rows.load(Ordering::Relaxed), begun);
        match (100 * bytes.load(Ordering::Relaxed).min(bytes_max)).checked_div(bytes_max) {
            Some(percent) => output::note(format_args!("salespulse: {percent} % read, {rate}")),
            None => output::note(format_args!("salespulse: {rate}")),
        }
    }
}

fn rate(rows: u64, begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs().max(1);
    format!("{rows} rows, {} a second", rows / seconds)
}
