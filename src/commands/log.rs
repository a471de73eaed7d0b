//! Logging to stderr, as text or JSON, and export of traces, if a collector is configured.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tokio::runtime::Handle;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::failure::{Exit, Failure};
use crate::config::Config;
use crate::telemetry::json::JsonLines;

/// Targets that, at verbose levels, would log data on the wire, URLs, and statement parameters.
const QUIET: [&str; 7] = [
    "hyper=info",
    "opentelemetry=info",
    "reqwest=info",
    "sea_orm=warn",
    // What PostgreSQL says about tables that are there already, or not yet.
    "sqlx::postgres::notice=warn",
    "tokio_tungstenite=info",
    "tungstenite=info",
];

#[cfg(feature = "otlp")]
type Export = crate::telemetry::otlp::Export;
#[cfg(not(feature = "otlp"))]
type Export = ();

/// Starts logging; traces are exported until the returned value is dropped.
pub fn start(config: &Config, runtime: &Handle) -> Result<Option<Export>, Failure> {
    let bad = |why: String| {
        let message = format!("SALESPULSE_LOG_LEVEL: {why} (for example info, or info,salespulse=debug)");
        Failure::new(Exit::BadConfig, message)
    };
    // The library would interpret a word that is not a level as the only module to log.
    let is_word = |part: &&str| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
    if let Some(word) = config.log_level.split(',').map(str::trim).find(is_word) {
        return Err(bad(format!("{word:?} is none of error, warn, info, debug, trace and off")));
    }
    let mut filter = EnvFilter::try_new(&config.log_level).map_err(|error| bad(error.to_string()))?;
    for directive in QUIET {
        filter = filter.add_directive(directive.parse().map_err(Failure::failed)?);
    }
    // An error of stderr would be reported there, with a panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let lines = if config.log_json {
        lines.fmt_fields(JsonFields::new()).event_format(JsonLines).with_filter(filter).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
    };
    let export = config.otlp_endpoint.as_ref().map(|endpoint| export(endpoint, runtime)).transpose()?;
    let log = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otlp")]
    let log = log.with(export.as_ref().map(Export::layer));
    log.try_init().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(export)
}

#[cfg(feature = "otlp")]
fn export(endpoint: &str, runtime: &Handle) -> Result<Export, Failure> {
    Export::start(endpoint, runtime)
        .map_err(|error| Failure::new(Exit::BadConfig, format!("SALESPULSE_OTLP_ENDPOINT: {error}")))
}

#[cfg(not(feature = "otlp"))]
fn export(_: &str, _: &Handle) -> Result<Export, Failure> {
    Err(Failure::new(Exit::BadConfig, "SALESPULSE_OTLP_ENDPOINT: this program was built without the feature otlp"))
}

/// A formatted panic message may contain anything, so only its location is logged.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&str>().copied();
    let location = panic.location().map(ToString::to_string);
    tracing::error!(message, location, "panic");
}
