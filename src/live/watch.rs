//! Watches one set of metrics: a snapshot, then the batches folded into it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::feed::{Followed, VALUES_MAX};
use crate::app::App;
use crate::clock::{Timestamp, until};
use crate::db::{LazyTx, TenantId};
use crate::error::{Code, Error, Result};
use crate::graphql::size::Size;
use crate::metrics::answer::Answer;
use crate::metrics::plan::Plan;
use crate::metrics::state::State;
use crate::stream::{Listener, ListenerEvent};

/// Minimum interval between updates; the newest state wins.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// The pause after an answer is at least this multiple of its computation time, so that no subscription keeps a core
/// busy.
const REST: u32 = 4;
/// Upper bound of that pause: it may have been the database that was slow once.
const REST_MAX: Duration = Duration::from_secs(5);
/// After as many reads in a row that took too long, the next would too: it is not the database that is slow for a moment.
const TIMEOUTS_MAX: usize = 3;
/// Pause before retrying the database.
const RETRY_WAIT: Duration = Duration::from_millis(500);

pub struct Watch {
    app: App,
    tenant: TenantId,
    plan: Plan,
    batches: Listener,
    /// `None` if it must be re-read.
    state: Option<State>,
    given: Option<Given>,
    followed: Followed,
    /// Its share of the tenant's watched values, held from the first answer on.
    held: Option<OwnedSemaphorePermit>,
    /// When computation of the last answer began.
    begun_at: Instant,
    /// Size of the first answer; later ones are not charged.
    size: Option<Arc<Size>>,
}

/// The last update.
struct Given {
    at: Instant,
    /// When time alone next changes the answer.
    ends_at: Option<Timestamp>,
}

impl Watch {
    pub async fn start(app: &App, tenant: TenantId, plan: Plan, size: Arc<Size>) -> Result<Watch> {
        let (batches, followed) = app.feeds.follow(tenant).await?;
        Ok(Watch {
            app: app.clone(),
            tenant,
            plan,
            batches,
            state: None,
            given: None,
            followed,
            held: None,
            begun_at: Instant::now(),
            size: Some(size),
        })
    }

    /// The current metrics: immediately at first, then whenever the ledger has moved, a bucket or period has ended, or
    /// a sliding period means another span. The caller must have serialized the previous answer, whose cost sets the
    /// pace. Error of the first: RATE_LIMITED if too much of the tenant is watched.
    pub async fn next(&mut self) -> Result<Arc<Answer>> {
        if let Some(given) = &self.given {
            let pause =
                (given.at + UPDATE_INTERVAL).max(Instant::now() + (REST * self.begun_at.elapsed()).min(REST_MAX));
            self.wait().await?;
            tokio::time::sleep_until(pause).await;
            while let Some(heard) = self.batches.try_next() {
                self.take(Some(heard))?;
            }
        }
        let answer = Arc::new(self.answer().await?);
        self.given = Some(Given { at: Instant::now(), ends_at: answer.next_end() });
        Ok(answer)
    }

    /// Waits for a change.
    async fn wait(&mut self) -> Result<()> {
        let ends_at = self.given.as_ref().and_then(|given| given.ends_at);
        loop {
            let due_at = self.state.as_ref().and_then(State::due_at);
            let due = [ends_at, due_at].into_iter().flatten().min();
            let app = self.app.clone();
            let time_comes = async {
                match due {
                    Some(at) => until(app.clock.as_ref(), at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What is behind is read again when it is due.
                heard = self.batches.next() => if self.take(heard)? && !self.state.as_ref().is_some_and(State::is_behind) {
                    return Ok(());
                },
                () = time_comes => return Ok(()),
            }
        }
    }

    /// Folds the event. `false` if it was already known.
    fn take(&mut self, heard: Option<ListenerEvent>) -> Result<bool> {
        let ended = || Error::new(Code::ServiceUnavailable, "the stream has ended; subscribe again");
        let heard = heard.ok_or_else(ended)?;
        let Some(state) = &mut self.state else { return Ok(true) };
        let before = state.head();
        let is_folded = match heard {
            // An overflow is reported by the re-read.
            ListenerEvent::CommittedBatch(batch) => state.fold(&batch, self.app.clock.now()).unwrap_or(false),
            ListenerEvent::Missed => false,
        };
        if is_folded {
            return Ok(state.head() != before);
        }
        self.state = None;
        Ok(true)
    }

    async fn answer(&mut self) -> Result<Answer> {
        let mut timeouts = 0;
        loop {
            let error = match self.try_answer().await {
                Err(error) if error.is_passing() && self.given.is_some() => error,
                result => return result,
            };
            tracing::warn!(tenant = %self.tenant.0, source = error.cause(), "live metrics not read");
            self.state = None;
            if error.code == Code::QueryTimeout {
                timeouts += 1;
                if timeouts == TIMEOUTS_MAX {
                    return Err(error);
                }
                tokio::time::sleep((REST * self.begun_at.elapsed()).min(REST_MAX)).await;
            } else {
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }

    async fn try_answer(&mut self) -> Result<Answer> {
        let (app, now) = (&self.app, self.app.clock.now());
        self.begun_at = Instant::now();
        match &mut self.state {
            Some(state) if !state.is_behind() && state.due_at().is_none_or(|at| now < at) => {
                state.answer(&LazyTx::later(&app.db, self.tenant), &app.memory, now).await
            }
            stale => {
                let _turn = self.followed.turns.acquire().await.map_err(Error::internal)?;
                self.begun_at = Instant::now();
                // Batches that arrived while waiting are in the snapshot about to be read.
                while self.batches.try_next().is_some() {}
                let now = app.clock.now();
                let size = self.size.take().unwrap_or_default();
                let tx = app.db.read(self.tenant).await?;
                let state = State::read(&tx, &app.memory, &self.plan, now, &size).await?;
                if self.held.is_none() {
                    self.held = Some(hold(&self.followed, size.count())?);
                }
                let state = stale.insert(state);
                state.answer(&LazyTx::Begun(&tx), &app.memory, now).await
            }
        }
    }
}

/// Acquires permits for as many watched values of the tenant. Error: RATE_LIMITED.
fn hold(followed: &Followed, values: usize) -> Result<OwnedSemaphorePermit> {
    let values = u32::try_from(values).unwrap_or(u32::MAX);
    let too_many = |_| {
        let message =
            format!("live metrics of the tenant come to more than {VALUES_MAX} values; watch fewer at a time");
        Error::new(Code::RateLimited, message)
    };
    Arc::clone(&followed.values).try_acquire_many_owned(values).map_err(too_many)
}
