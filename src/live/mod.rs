//! Follows a tenant's ledger for subscriptions: listens first, then takes the snapshot, so that nothing falls between
//! the two.
//!
//! Every update is computed from the database in one snapshot. That each subscription computes its own is the part
//! that the cohorts of a later version replace; what they replace is [`Follower`] and its callers in [`graphql`].

pub mod graphql;
mod heads;

use std::time::Duration;

pub use heads::watch_heads;
use tokio::time::Instant;

use crate::app::App;
use crate::clock::Timestamp;
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::stream::{Heard, Listener};

/// Updates of one subscription are at least this far apart; the newest state wins.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// One subscription's place in a tenant's ledger.
pub struct Follower {
    listener: Listener,
    /// The position that the subscriber has seen.
    seen: i64,
    last_update: Option<Instant>,
}

impl Follower {
    /// Listens from now on.
    pub async fn start(app: &App, tenant: TenantId) -> Result<Follower> {
        let listener = app.stream.listen(tenant).await.map_err(|error| Error {
            source: Some(error.into()),
            ..Error::new(Code::ServiceUnavailable, "live updates are not available; try again")
        })?;
        Ok(Follower { listener, seen: 0, last_update: None })
    }

    /// Notes what the subscriber has been given.
    pub fn has_seen(&mut self, position: i64) {
        self.seen = self.seen.max(position);
        self.last_update = Some(Instant::now());
    }

    /// Waits until the ledger may be beyond what was seen, but not sooner than the last update allows. `false` when the
    /// stream has ended.
    pub async fn moved(&mut self) -> bool {
        loop {
            match self.listener.next().await {
                None => return false,
                Some(Heard::Notice(notice)) if notice.last <= self.seen => {}
                Some(Heard::Notice(_) | Heard::Missed) => break,
            }
        }
        if let Some(last) = self.last_update {
            tokio::time::sleep_until(last + UPDATE_INTERVAL).await;
        }
        true
    }
}

/// Waits until the clock is at `at`; for ever for `None`.
async fn until(app: &App, at: Option<Timestamp>) {
    match at {
        None => std::future::pending().await,
        Some(at) => crate::clock::until(app.clock.as_ref(), at).await,
    }
}
