//! The log: to stderr, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::failure::{Exit, Failure};
use crate::config::Config;

pub fn start(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| {
        Failure::new(
            Exit::BadConfig,
            format!("SALESPULSE_LOG_LEVEL: {error} (for example info, or info,salespulse=debug)"),
        )
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if config.log_json {
        log.json().flatten_event(true).try_init()
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}
