//! A tenant's batches in this process: ordered and gapless, whatever the stream does.
//!
//! One task per followed tenant listens to the stream. Batches that do not arrive (their publisher died, the bus is
//! down) are read from the ledger: when a later batch reveals the gap, or when the head, polled about once a second,
//! has moved without them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::Instant;

use crate::alerts::store::Transition;
use crate::db::{Db, TenantId};
use crate::error::{Code, Error, Result};
use crate::guard::Guard;
use crate::ledger::store::read_head;
use crate::ledger::tail::read_entries;
use crate::stream::{BATCHES_KEPT, CommittedBatch, EventStream, Listener, ListenerEvent};
use crate::telemetry::metrics::METRICS;

/// Polls the head after hearing nothing for this long.
const COMPARE_AFTER: Duration = Duration::from_secs(1);
/// Poll interval while batches of other processes do not arrive.
const COMPARE_AFTER_DEGRADED: Duration = Duration::from_millis(500);
/// How long an out-of-order batch waits for its predecessor.
const GAP_WAIT: Duration = Duration::from_millis(50);
/// Maximum gap, in positions, filled from the ledger; across a longer one, followers re-read their answers.
const GAP_MAX: i64 = 20_000;
/// Maximum concurrent reads by followers of a tenant.
const READERS_MAX: usize = 4;
/// Limit on watched values of series and breakdowns per tenant.
pub const VALUES_MAX: usize = 2_000_000;
/// Newest alerts cached per tenant.
const ALERTS_KEPT: usize = 1_000;

/// The feeds of this process. Cheap to clone.
#[derive(Clone)]
pub struct Feeds(Arc<Shared>);

struct Shared {
    db: Db,
    stream: Arc<dyn EventStream>,
    feeds: Mutex<HashMap<TenantId, Feed>>,
}

#[derive(Clone)]
struct Feed {
    batches: broadcast::Sender<Arc<CommittedBatch>>,
    /// All batches up to here were delivered; `None` before listening starts.
    place: watch::Receiver<Option<i64>>,
    shared: Followed,
}

/// State shared by the followers of a tenant. Cheap to clone.
#[derive(Clone)]
pub struct Followed {
    /// Limits concurrent reads of the ledger, so that a burst of followers leaves connections for others.
    pub turns: Arc<Semaphore>,
    /// One permit per value that may still be watched.
    pub values: Arc<Semaphore>,
    pub alerts: RecentAlerts,
}

impl Default for Followed {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Followed { turns: semaphore(READERS_MAX), values: semaphore(VALUES_MAX), alerts: RecentAlerts::default() }
    }
}

/// The newest alerts any follower has read from a tenant's log, to spare the others the read. Cheap to clone.
#[derive(Clone, Default)]
pub struct RecentAlerts(Arc<Mutex<VecDeque<Transition>>>);

impl RecentAlerts {
    /// The alerts after a number, if the next one is cached; at most `count`.
    pub fn after(&self, alert_no: i64, count: usize) -> Option<Vec<Transition>> {
        let alerts = self.lock();
        let start = alerts.partition_point(|alert| alert.alert_no <= alert_no);
        let is_next = alerts.get(start).is_some_and(|alert| alert.alert_no == alert_no + 1);
        is_next.then(|| alerts.range(start..).take(count).cloned().collect())
    }

    /// Caches consecutive alerts, where newer than those known.
    pub fn add(&self, read: &[Transition]) {
        let mut alerts = self.lock();
        let known = alerts.back().map_or(0, |alert| alert.alert_no);
        let newer = &read[read.partition_point(|alert| alert.alert_no <= known)..];
        if newer.first().is_some_and(|alert| alert.alert_no > known + 1) {
            alerts.clear();
        }
        alerts.extend(newer.iter().cloned());
        let excess = alerts.len().saturating_sub(ALERTS_KEPT);
        alerts.drain(..excess);
    }

    fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Transition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeds {
    pub fn new(db: Db, stream: Arc<dyn EventStream>) -> Self {
        Feeds(Arc::new(Shared { db, stream, feeds: Mutex::default() }))
    }

    /// The tenant's batches from now on, and what is shared with its other followers: a ledger read made after this call
    /// contains all earlier ones. Error: SERVICE_UNAVAILABLE.
    pub async fn follow(&self, tenant: TenantId) -> Result<(Listener, Followed)> {
        let (listener, followed, mut place) = {
            let mut feeds = self.0.lock();
            let feed = feeds.entry(tenant.at(Guard::Feeds)).or_insert_with(|| self.start(tenant));
            (Listener(feed.batches.subscribe()), feed.shared.clone(), feed.place.clone())
        };
        match place.wait_for(Option::is_some).await {
            Ok(_) => Ok((listener, followed)),
            Err(_) => Err(Error::new(Code::ServiceUnavailable, "live updates are not available; try again")),
        }
    }

    /// The followed tenants and their positions.
    pub fn list_places(&self) -> Vec<(TenantId, i64)> {
        self.0.lock().iter().filter_map(|(tenant, feed)| Some((*tenant, (*feed.place.borrow())?))).collect()
    }

    fn start(&self, tenant: TenantId) -> Feed {
        let (batches, _) = broadcast::channel(BATCHES_KEPT);
        let (told, place) = watch::channel(None);
        let (shared, out) = (Arc::clone(&self.0), batches.clone());
        let followed = Followed::default();
        let alerts = followed.alerts.clone();
        tokio::spawn(async move {
            let follow = {
                let shared = Arc::clone(&shared);
                async move {
                    Follower::start(&shared, tenant, out, told, alerts).await?.run().await;
                    Ok::<_, Error>(())
                }
            };
            match tokio::spawn(follow).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::warn!(tenant = %tenant.0, source = error.cause(), "ledger not followed"),
                Err(panic) => tracing::error!(tenant = %tenant.0, %panic, "a feed has broken"),
            }
            shared.lock().remove(&tenant.at(Guard::Feeds));
        });
        Feed { batches, place, shared: followed }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one tenant.
struct Follower<'a> {
    shared: &'a Shared,
    tenant: TenantId,
    listener: Listener,
    out: broadcast::Sender<Arc<CommittedBatch>>,
    /// All batches up to here were delivered.
    head: crate::db::Head,
    place: watch::Sender<Option<i64>>,
    alerts: RecentAlerts,
    /// Out-of-order batches by position, and since when they wait.
    early: BTreeMap<(i64, i64), Arc<CommittedBatch>>,
    early_since: Option<Instant>,
}

impl<'a> Follower<'a> {
    async fn start(
        shared: &'a Shared,
        tenant: TenantId,
        out: broadcast::Sender<Arc<CommittedBatch>>,
        place: watch::Sender<Option<i64>>,
        alerts: RecentAlerts,
    ) -> Result<Self> {
        let listener = shared.stream.listen(tenant).await.map_err(|error| {
            Error::new(Code::ServiceUnavailable, "live updates are not available; try again").with_source(error)
        })?;
        let head = shared.db.head(tenant).await?.ok_or_else(|| Error::not_found("tenant"))?;
        place.send_replace(Some(head.position));
        Ok(Follower { shared, tenant, listener, out, head, place, alerts, early: BTreeMap::new(), early_since: None })
    }

    /// Runs until there are no followers or the stream ends.
    async fn run(mut self) {
        let mut heard_at = Instant::now();
        loop {
            let out = self.out.clone();
            let is_away = self.shared.stream.is_away(self.tenant);
            let patience = if is_away { COMPARE_AFTER_DEGRADED } else { COMPARE_AFTER };
            let look_at = self.early_since.map_or(heard_at + patience, |since| since + GAP_WAIT);
            let caught_up = tokio::select! {
                heard = self.listener.next() => match heard {
                    Some(ListenerEvent::CommittedBatch(batch)) => {
                        if self.take(batch) {
                            heard_at = Instant::now();
                        }
                        continue;
                    }
                    Some(ListenerEvent::Missed) => self.catch_up().await,
                    None => break,
                },
                () = tokio::time::sleep_until(look_at) => self.catch_up().await,
                () = out.closed() => {
                    let mut feeds = self.shared.lock();
                    if out.receiver_count() == 0 {
                        feeds.remove(&self.tenant.at(Guard::Feeds));
                        return;
                    }
                    continue;
                }
            };
            heard_at = Instant::now();
            self.early_since = None;
            self.early.clear();
            if let Err(error) = caught_up {
                tracing::warn!(tenant = %self.tenant.0, source = error.cause(), "head not read");
            }
        }
        self.shared.lock().remove(&self.tenant.at(Guard::Feeds));
    }

    /// Delivers a batch if it is the next one, along with those waiting for it. `false` if that made no progress.
    fn take(&mut self, batch: Arc<CommittedBatch>) -> bool {
        if batch.first > self.head.position + 1 {
            self.early.insert((batch.first, batch.last), batch);
            self.early_since.get_or_insert_with(Instant::now);
            return false;
        }
        let has_moved = self.hand_on(batch);
        while let Some(entry) = self.early.first_entry()
            && entry.key().0 <= self.head.position + 1
        {
            let batch = entry.remove();
            self.hand_on(batch);
        }
        if self.early.is_empty() {
            self.early_since = None;
        }
        has_moved
    }

    /// `false` if the batch is stale.
    fn hand_on(&mut self, batch: Arc<CommittedBatch>) -> bool {
        let head = crate::db::Head {
            position: batch.last.max(self.head.position),
            policy_epoch: batch.policy_epoch.max(self.head.policy_epoch),
            last_alert_no: batch.last_alert_no.max(self.head.last_alert_no),
        };
        let has_moved = head != self.head;
        if has_moved {
            self.head = head;
            self.place.send_replace(Some(head.position));
            // Having no followers is fine.
            let _ = self.out.send(batch);
        }
        has_moved
    }

    /// Reads missing batches from the ledger and delivers them.
    async fn catch_up(&mut self) -> Result<()> {
        // Batches come after their commit, so the head is not behind what has come before it is read.
        let came = self.shared.stream.newest_position(self.tenant);
        let head = self.shared.db.head(self.tenant).await?;
        if let Some(head) = head
            && came > head.position
            && !self.shared.stream.is_away(self.tenant)
        {
            self.shared.stream.drop_beyond(self.tenant, head.position).await;
        }
        match head {
            Some(head) if head == self.head => return Ok(()),
            None => return Err(Error::not_found("tenant")),
            Some(_) => {}
        }
        let tx = self.shared.db.read(self.tenant).await?;
        let head = read_head(&tx).await?;
        let after = self.head.position;
        // A ledger that went back was restored from a backup: all of it is new.
        let is_short = (0..=GAP_MAX).contains(&(head.position - after));
        let entries = match is_short {
            true => Some(Arc::new(read_entries(&tx, after, head.position).await?)),
            false => None,
        };
        let batch = head.batch(head.position.min(after) + 1, entries);
        METRICS.live_catch_ups.inc();
        if head.last_alert_no < self.head.last_alert_no {
            self.alerts.forget();
        }
        self.head = head.to_db();
        self.place.send_replace(Some(head.position));
        let _ = self.out.send(Arc::new(batch));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::alerts::AlertState;
    use crate::alerts::store::Denomination;
    use crate::clock::Timestamp;
    use crate::metrics::catalog::Metric;
    use crate::metrics::measured::Measured;
    use crate::money::Money;

    fn alerts(numbers: std::ops::RangeInclusive<i64>) -> Vec<Transition> {
        let alert = |alert_no| Transition {
            id: Uuid::nil(),
            alert_no,
            rule_id: Uuid::nil(),
            name: String::new(),
            measured: Measured::Metric(Metric::OrdersCount),
            condition: None,
            denomination: Denomination::default(),
            state: AlertState::Firing,
            value: None,
            judgement: None,
            threshold: Money::ZERO,
            position: alert_no,
            triggered_at: Timestamp(0),
            window_minutes: None,
            filters: None,
        };
        numbers.map(alert).collect()
    }

    fn numbers(alerts: Option<Vec<Transition>>) -> Option<Vec<i64>> {
        alerts.map(|alerts| alerts.iter().map(|alert| alert.alert_no).collect())
    }

    #[test]
    fn alerts_are_remembered_without_a_gap() {
        let recent = RecentAlerts::default();
        assert_eq!(recent.after(0, 2_000), None);
        recent.add(&alerts(5..=7));
        recent.add(&alerts(4..=8));
        assert_eq!(numbers(recent.after(4, 2_000)), Some(vec![5, 6, 7, 8]));
        assert_eq!(numbers(recent.after(4, 3)), Some(vec![5, 6, 7]));
        assert_eq!(numbers(recent.after(7, 2_000)), Some(vec![8]));
        assert_eq!((recent.after(3, 2_000), recent.after(8, 2_000)), (None, None));
        recent.add(&alerts(10..=11));
        assert_eq!((numbers(recent.after(7, 2_000)), numbers(recent.after(9, 2_000))), (None, Some(vec![10, 11])));
        recent.add(&alerts(12..=1_200));
        assert_eq!(recent.after(199, 2_000), None, "only the newest are kept");
        assert_eq!(recent.after(200, 2_000).map(|alerts| alerts.len()), Some(1_000));
    }
}
