//! Follows the tenant's alert log from a given position.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::feed::Followed;
use crate::alerts::store::{Transition, find_oldest, list_after};
use crate::app::App;
use crate::auth::cursor::Mark;
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::ledger::store::read_head;
use crate::stream::{Listener, ListenerEvent};

/// Alerts per read of the log.
const ALERTS_AT_ONCE: u16 = 100;
/// Pause before retrying the database.
const RETRY_WAIT: Duration = Duration::from_millis(500);

pub struct AlertLog {
    app: App,
    tenant: TenantId,
    batches: Listener,
    followed: Followed,
    /// All alerts up to here were delivered or are ready.
    read_to: i64,
    /// The newest alert number announced so far.
    newest: i64,
    /// Something was missed, so the log must be read.
    must_look: bool,
    ready: VecDeque<Transition>,
    /// The rules whose alerts are delivered; `None` for all.
    rules: Option<BTreeSet<Uuid>>,
}

impl AlertLog {
    /// Starts after `after`, or from now on. Error: RESUME_GAP if the log does not reach that far or no longer retains
    /// what follows it.
    pub async fn start(
        app: &App,
        tenant: TenantId,
        after: Option<Mark>,
        rules: Option<BTreeSet<Uuid>>,
    ) -> Result<AlertLog> {
        let (batches, followed) = app.feeds.follow(tenant).await?;
        let turn = followed.turns.acquire().await.map_err(Error::internal)?;
        let head = app.db.head(tenant).await?.ok_or_else(|| Error::not_found("tenant"))?;
        let newest = head.last_alert_no;
        let read_to = after.map_or(newest, |mark| mark.position);
        if read_to > newest {
            return Err(gap());
        }
        if read_to < newest && find_oldest(&app.db.read(tenant).await?).await?.is_none_or(|oldest| oldest > read_to + 1)
        {
            return Err(Error::new(Code::ResumeGap, "alerts after the cursor are no longer kept"));
        }
        drop(turn);
        let ready = VecDeque::new();
        Ok(AlertLog { app: app.clone(), tenant, batches, followed, read_to, newest, must_look: false, ready, rules })
    }

    /// The next alert. Error: RESUME_GAP if the log has gone back.
    pub async fn next(&mut self) -> Result<Transition> {
        loop {
            if let Some(alert) = self.ready.pop_front() {
                if self.rules.as_ref().is_none_or(|rules| rules.contains(&alert.rule_id)) {
                    return Ok(alert);
                }
                continue;
            }
            if self.must_look || self.read_to < self.newest {
                match self.read().await {
                    Err(error) if error.is_passing() => {
                        tracing::warn!(tenant = %self.tenant.0, source = error.cause(), "alerts not read");
                        tokio::time::sleep(RETRY_WAIT).await;
                    }
                    read => read?,
                }
                continue;
            }
            match self.batches.next().await {
                Some(ListenerEvent::CommittedBatch(batch)) => {
                    // Late, or of a log that has gone back: reading tells.
                    self.must_look |= batch.last_alert_no < self.read_to;
                    self.newest = batch.last_alert_no.max(self.newest);
                }
                Some(ListenerEvent::Missed) => self.must_look = true,
                None => return Err(Error::new(Code::ServiceUnavailable, "the stream has ended; subscribe again")),
            }
        }
    }

    /// Takes the next part of the log from the shared cache, or reads it. How far the log goes is read in the same
    /// snapshot.
    async fn read(&mut self) -> Result<()> {
        if self.take_known() {
            return Ok(());
        }
        let turns = Arc::clone(&self.followed.turns);
        let _turn = turns.acquire().await.map_err(Error::internal)?;
        // Followers whose turn came before may have read it.
        if self.take_known() {
            return Ok(());
        }
        let tx = self.app.db.read(self.tenant).await?;
        let newest = read_head(&tx).await?.last_alert_no;
        if newest < self.read_to {
            return Err(gap());
        }
        let found = list_after(&tx, self.read_to, ALERTS_AT_ONCE.into()).await?;
        self.followed.alerts.add(&found);
        self.newest = newest;
        self.must_look = false;
        self.read_to = found.last().map_or(newest, |last| last.alert_no);
        self.ready.extend(found);
        Ok(())
    }

    /// `false` if the next alerts are not cached or something was missed.
    fn take_known(&mut self) -> bool {
        let known = || self.followed.alerts.after(self.read_to, ALERTS_AT_ONCE.into());
        let known = if self.must_look { None } else { known() };
        let Some(last) = known.as_ref().and_then(|known| known.last()) else { return false };
        self.read_to = last.alert_no;
        self.ready.extend(known.into_iter().flatten());
        true
    }
}

fn gap() -> Error {
    Error::new(Code::ResumeGap, "the log of alerts ends before the cursor")
}
