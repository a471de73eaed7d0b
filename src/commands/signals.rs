//! SIGINT and SIGTERM: the first requests a graceful shutdown, a later one terminates at once.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};

/// Signals that follow so soon are one and the same: some programs send theirs to the process and to its group.
const SAME: Duration = Duration::from_millis(500);

/// A token that is cancelled by the first signal.
pub fn stop_token() -> Result<CancellationToken, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if first.get_or_insert_with(Instant::now).elapsed() > SAME {
                std::process::exit(Exit::Interrupted as i32);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}
