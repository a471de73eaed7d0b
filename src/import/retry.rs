//! Retries while the database is unavailable or locked by another process.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::error::{Code, Error, Result};

/// No further attempt starts after this time.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Retries `attempt` while it fails with SERVICE_UNAVAILABLE, with increasing pauses, until `stop`. It must be
/// idempotent.
pub async fn patiently<T, F>(stop: &CancellationToken, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let begun = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let error = match attempt().await {
            Err(error) if error.code == Code::ServiceUnavailable => error,
            answer => return answer,
        };
        if begun.elapsed() + pause > PATIENCE {
            return Err(error);
        }
        tracing::info!(source = error.cause(), "the database is away, trying again");
        tokio::select! {
            () = stop.cancelled() => return Err(error),
            () = sleep(pause) => pause = (2 * pause).min(PAUSE_MAX),
        }
    }
}

/// Whether the cause of the error is an unavailable database, whatever its code.
pub async fn is_away(db: &Db, error: &Error) -> bool {
    error.code == Code::ServiceUnavailable || error.code == Code::Internal && db.ping().await.is_err()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn only_what_is_away_is_tried_again() {
        let tries = Cell::new(0);
        let away_until = |n| {
            let tries = &tries;
            move || {
                tries.set(tries.get() + 1);
                let is_away = tries.get() < n;
                async move { if is_away { Err(Error::new(Code::ServiceUnavailable, "away")) } else { Ok(n) } }
            }
        };
        let stop = CancellationToken::new();
        assert_eq!(patiently(&stop, away_until(2)).await.ok(), Some(2));
        let refused = patiently(&stop, || async { Err::<(), _>(Error::new(Code::Conflict, "no")) }).await;
        assert_eq!(refused.map_err(|error| error.code), Err(Code::Conflict));
        stop.cancel();
        tries.set(0);
        assert!(patiently(&stop, away_until(1_000)).await.is_err());
        assert_eq!(tries.get(), 1);
    }
}
