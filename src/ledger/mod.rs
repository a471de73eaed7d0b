//! Events in: validation, group commit, positions, orders and refunds; rollups and the tail that they do not hold yet.
//!
//! [`Ledger::record`] hands events to the tenant's lane. A lane takes all that has come while it was committing (up to
//! [`LANE_BATCH_EVENTS_MAX`]) into one transaction: alone, an event waits for nobody; under load, commits are shared.
//! The transaction locks the tenant's head ([`store::lock_head`]), so commit order is position order.

mod batch;
pub mod changes;
pub mod check;
pub mod dimensions;
pub mod entry;
pub mod event;
pub mod fold;
pub mod graphql;
pub mod http;
mod lane;
mod load;
pub mod memory;
mod numbers;
pub mod organization;
pub mod rates;
pub mod refunded;
pub mod retention;
pub mod rollup;
mod save;
mod save_customers;
pub mod state;
pub mod store;
pub mod tail;
pub mod verify;
mod verify_performance;
mod verify_totals;
mod wanted;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use self::changes::Head;
use self::entry::Entry;
use self::event::{Event, Outcome};
use self::lane::{Item, Job, Lane, LaneProgress};
use self::memory::Memory;
use crate::clock::{SharedClock, Timestamp};
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Code, Error, Result};
use crate::guard::Guard;
use crate::personal::Keys;
use crate::stream::EventStream;

/// Events in one call.
pub const BATCH_EVENTS_MAX: usize = 1000;
/// Events in one transaction, of calls that wait.
const LANE_BATCH_EVENTS_MAX: usize = 4 * BATCH_EVENTS_MAX;
/// Requests that wait for one lane, and events in them; more are refused with SERVICE_UNAVAILABLE.
const LANE_JOBS_MAX: usize = 4096;
const LANE_EVENTS_MAX: usize = 50_000;

/// What else happens in the transaction of a batch: alerts.
#[async_trait::async_trait]
pub trait BatchObserver: Send + Sync + 'static {
    /// The head is locked, and nothing of the batch is written yet. What the observer changes of the head, it stores.
    async fn batch_begins(&self, tx: &TenantTx, head: &mut Head, now: Timestamp) -> Result<()>;

    /// All of the batch is written. Not called for backfills, which are no news.
    async fn batch_recorded(&self, tx: &TenantTx, head: &mut Head, batch: &RecordedBatch<'_>) -> Result<()>;
}

/// A batch as an observer sees it.
pub struct RecordedBatch<'a> {
    pub now: Timestamp,
    /// The position of its first event.
    pub first: i64,
    pub entries: &'a Arc<Vec<(i64, Entry)>>,
}

/// The answers to one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One per event, in their order.
    pub outcomes: Vec<Outcome>,
    /// The ledger's position after the events.
    pub position: i64,
}

/// The write path. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Arc<LaneContext>,
    lanes: Mutex<HashMap<TenantId, OpenLane>>,
    /// The tasks of all lanes.
    tasks: TaskTracker,
}

/// What lanes work with.
struct LaneContext {
    db: Db,
    clock: SharedClock,
    stream: Arc<dyn EventStream>,
    observer: Arc<dyn BatchObserver>,
    memory: Memory,
    keys: Keys,
}

/// A lane as callers have it.
struct OpenLane {
    jobs: mpsc::Sender<Job>,
    /// One permit for each event that may still come.
    room: Arc<Semaphore>,
    place: watch::Receiver<LaneProgress>,
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug)]
pub struct LaneState {
    pub tenant: TenantId,
    pub position: i64,
    /// Up to here the rollups are.
    pub folded: i64,
    /// Requests that wait.
    pub waiting: usize,
}

impl Ledger {
    pub fn new(
        db: Db,
        clock: SharedClock,
        stream: Arc<dyn EventStream>,
        observer: Arc<dyn BatchObserver>,
        memory: Memory,
        keys: Keys,
    ) -> Self {
        let parts = Arc::new(LaneContext { db, clock, stream, observer, memory, keys });
        Ledger { shared: Arc::new(Shared { parts, lanes: Mutex::default(), tasks: TaskTracker::new() }) }
    }

    /// Adds to the rollups what they do not hold yet. Lanes do it by themselves; a process that ends does it at last.
    pub async fn fold(&self, tenant: TenantId) -> Result<()> {
        let LaneContext { db, memory, .. } = &*self.shared.parts;
        fold::fold_tail(db, &memory.tails, tenant).await
    }

    /// Stores `events` and gives one outcome for each. When this returns `Ok`, they are committed; after an error none
    /// is known to be, and the same call may be made again. Events of customers need the tenant's keys: while they cannot be
    /// reached, SERVICE_UNAVAILABLE.
    pub async fn record(&self, tenant: TenantId, events: Vec<Event>, is_backfill: bool) -> Result<Answer> {
        if events.is_empty() {
            return Err(Error::bad_input("events", "no events"));
        }
        if events.len() > BATCH_EVENTS_MAX {
            return Err(Error::bad_input("events", format!("more than {BATCH_EVENTS_MAX} events")));
        }
        let has_persons = events.iter().any(Event::has_person);
        let parts = &self.shared.parts;
        let keys = if has_persons { parts.keys.get(tenant).await? } else { None };
        let (reply, answer) = oneshot::channel();
        // What can be done without the ledger is done here, beside the lane.
        let now = parts.clock.now();
        let items = events.into_iter().map(|event| Item::new(event, now, keys.as_deref())).collect();
        self.enqueue(tenant, Job { items, keys, is_backfill, reply, room: None })?;
        answer.await.map_err(|_| Error::internal("a lane ended without an answer"))?
    }

    /// Ends all lanes: what they were given is recorded and folded. Events that come later begin new ones.
    pub async fn close(&self) {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }

    /// The lanes that have work, or had some a short time ago.
    pub fn list_lanes(&self) -> Vec<LaneState> {
        let lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let open = lanes.iter().filter(|(_, lane)| !lane.jobs.is_closed());
        open.map(|(tenant, lane)| {
            let LaneProgress { position, folded } = *lane.place.borrow();
            LaneState { tenant: *tenant, position, folded, waiting: LANE_JOBS_MAX - lane.jobs.capacity() }
        })
        .collect()
    }

    fn enqueue(&self, tenant: TenantId, job: Job) -> Result<()> {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(tenant.at(Guard::Lanes)).or_insert_with(|| self.start_lane(tenant));
        match lane.send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Error::new(Code::ServiceUnavailable, "too many events are waiting; try again"))
            }
            Err(mpsc::error::TrySendError::Closed(job)) => {
                let lane = self.start_lane(tenant);
                let sent = lane.send(job);
                // Others that have ended are not kept either.
                lanes.retain(|_, lane| !lane.jobs.is_closed());
                lanes.insert(tenant.at(Guard::Lanes), lane);
                sent.map_err(|_| Error::internal("a new lane does not take events"))
            }
        }
    }

    fn start_lane(&self, tenant: TenantId) -> OpenLane {
        let (sender, jobs) = mpsc::channel(LANE_JOBS_MAX);
        let (told, place) = watch::channel(LaneProgress::default());
        let lane = Lane::new(tenant, Arc::clone(&self.shared.parts));
        self.shared.tasks.spawn(lane.run(jobs, told));
        OpenLane { jobs: sender, room: Arc::new(Semaphore::new(LANE_EVENTS_MAX)), place }
    }
}

impl OpenLane {
    fn send(&self, mut job: Job) -> Result<(), mpsc::error::TrySendError<Job>> {
        if self.jobs.is_closed() {
            return Err(mpsc::error::TrySendError::Closed(job));
        }
        let events = u32::try_from(job.items.len()).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(events) {
            Ok(room) => job.room = Some(room),
            Err(_) => return Err(mpsc::error::TrySendError::Full(job)),
        }
        self.jobs.try_send(job)
    }
}
