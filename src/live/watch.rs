//! One set of metrics, watched: a snapshot, then the batches folded into it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::app::App;
use crate::clock::{Timestamp, until};
use crate::db::{LazyTx, TenantId};
use crate::error::{Code, Error, Result};
use crate::graphql::size::Size;
use crate::metrics::answer::Answer;
use crate::metrics::plan::Plan;
use crate::metrics::state::State;
use crate::stream::{Listener, ListenerEvent};

/// Updates are at least this far apart; the newest state wins.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Pause before the database is asked again.
const RETRY_WAIT: Duration = Duration::from_millis(500);

pub struct Watch {
    app: App,
    tenant: TenantId,
    plan: Plan,
    batches: Listener,
    /// `None` when it is to be read anew.
    state: Option<State>,
    given: Option<Given>,
    turns: Arc<Semaphore>,
    /// What the first answer comes to; those after it are not paid for.
    size: Option<Arc<Size>>,
}

/// The last update.
struct Given {
    at: Instant,
    /// When time alone changes the answer.
    ends_at: Option<Timestamp>,
}

impl Watch {
    pub async fn start(app: &App, tenant: TenantId, plan: Plan, size: Arc<Size>) -> Result<Watch> {
        let batches = app.feeds.follow(tenant).await?;
        let turns = app.feeds.turns(tenant);
        Ok(Watch { app: app.clone(), tenant, plan, batches, state: None, given: None, turns, size: Some(size) })
    }

    /// The metrics as they stand: at first at once, then whenever the ledger has moved, a bucket or a period has ended, or
    /// a sliding period means another one.
    pub async fn next(&mut self) -> Result<Arc<Answer>> {
        if let Some(given) = &self.given {
            let pause = given.at + UPDATE_INTERVAL;
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

    /// Waits until there is something new to say.
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
                heard = self.batches.next() => if self.take(heard)? {
                    return Ok(());
                },
                () = time_comes => return Ok(()),
            }
        }
    }

    /// Folds what was heard. `false` when it was known already.
    fn take(&mut self, heard: Option<ListenerEvent>) -> Result<bool> {
        let ended = || Error::new(Code::ServiceUnavailable, "the stream has ended; subscribe again");
        let heard = heard.ok_or_else(ended)?;
        let Some(state) = &mut self.state else { return Ok(true) };
        let before = state.head();
        let is_folded = match heard {
            // A sum that does not fit is told when it is read.
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
        loop {
            let result = self.try_answer().await;
            match result {
                Err(error) if error.code == Code::ServiceUnavailable && self.given.is_some() => {
                    tracing::warn!(tenant = %self.tenant.0, source = error.cause(), "live metrics not read");
                    self.state = None;
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                result => return result,
            }
        }
    }

    async fn try_answer(&mut self) -> Result<Answer> {
        let (app, now) = (&self.app, self.app.clock.now());
        match &mut self.state {
            Some(state) if state.due_at().is_none_or(|at| now < at) => {
                state.answer(&LazyTx::later(&app.db, self.tenant), &app.memory, now).await
            }
            stale => {
                let _turn = self.turns.acquire().await.map_err(Error::internal)?;
                // What came while it waited is in what is read now.
                while self.batches.try_next().is_some() {}
                let now = app.clock.now();
                let size = self.size.take().unwrap_or_default();
                let tx = app.db.read(self.tenant).await?;
                let state = stale.insert(State::read(&tx, &app.memory, &self.plan, now, &size).await?);
                state.answer(&LazyTx::Begun(&tx), &app.memory, now).await
            }
        }
    }
}
