//! The write path: validation, group commit, positions, orders and refunds; rollups and the unfolded tail.
//!
//! [`Ledger::record`] hands events to the tenant's lane. A lane puts everything that arrived while it was committing
//! (up to [`LANE_BATCH_EVENTS_MAX`]) into one transaction: a lone event does not wait; under load, commits are shared.
//! The transaction locks the tenant's head ([`store::lock_head`]), so commit order is position order.

mod batch;
mod batch_keys;
pub mod changes;
pub mod check;
pub mod dated;
pub mod dimensions;
pub mod entry;
pub mod event;
pub mod fold;
pub mod graphql;
pub mod http;
pub mod input;
mod item;
mod lane;
mod load;
pub mod memory;
pub mod node_id;
mod numbers;
pub mod organization;
pub mod rates;
pub mod recordings;
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

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use self::entry::Entry;
use self::event::{Event, Outcome, Refusal};
use self::item::Item;
use self::lane::{Job, Lane, LaneProgress};
use self::memory::Memory;
use self::store::{Head, read_head};
use crate::audit::By;
use crate::clock::{SharedClock, Timestamp};
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Code, Error, Result};
use crate::guard::Guard;
use crate::personal::Keys;
use crate::stream::EventStream;

/// Maximum events per call.
pub const BATCH_EVENTS_MAX: usize = 1000;
/// Maximum events per transaction, across waiting calls.
const LANE_BATCH_EVENTS_MAX: usize = 4 * BATCH_EVENTS_MAX;
/// Back-pressure: requests queued for one lane, and events in them; beyond this, SERVICE_UNAVAILABLE.
const LANE_JOBS_MAX: usize = 4096;
const LANE_EVENTS_MAX: usize = 50_000;

/// Hook into the transaction of a batch, for alerts.
#[async_trait::async_trait]
pub trait BatchObserver: Send + Sync + 'static {
    /// Called with the head locked, before anything of the batch is written. The observer stores its own changes to the
    /// head.
    async fn batch_begins(&self, tx: &TenantTx, head: &mut Head, now: Timestamp) -> Result<()>;

    /// Called once the batch is fully written. Skipped for backfills, which are not news.
    async fn batch_recorded(&self, tx: &TenantTx, head: &mut Head, batch: &RecordedBatch<'_>) -> Result<()>;
}

/// A batch as an observer sees it.
pub struct RecordedBatch<'a> {
    pub now: Timestamp,
    /// The position of its first event.
    pub first: i64,
    pub entries: &'a Arc<Vec<(i64, Entry)>>,
}

/// The result of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One per event, in order.
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

/// Dependencies shared by all lanes.
struct LaneContext {
    db: Db,
    clock: SharedClock,
    stream: Arc<dyn EventStream>,
    observer: Arc<dyn BatchObserver>,
    memory: Memory,
    keys: Keys,
    /// Folds that may be under way beside their lanes. A lane whose fold has no permit waits for it, so that it needs one
    /// connection at a time; half of them are left for batches.
    folds_beside: Arc<Semaphore>,
}

/// The callers' handle of a lane.
struct OpenLane {
    jobs: mpsc::Sender<Job>,
    /// One permit per event that may still be queued.
    room: Arc<Semaphore>,
    place: watch::Receiver<LaneProgress>,
}

/// A lane's progress.
#[derive(Clone, Copy, Debug)]
pub struct LaneState {
    pub tenant: TenantId,
    pub position: i64,
    /// The position up to which rollups are folded.
    pub folded: i64,
    /// Queued requests.
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
        let folds_beside = Arc::new(Semaphore::new(db.writers_max() / 2));
        let parts = Arc::new(LaneContext { db, clock, stream, observer, memory, keys, folds_beside });
        Ledger { shared: Arc::new(Shared { parts, lanes: Mutex::default(), tasks: TaskTracker::new() }) }
    }

    /// Folds the tail into the rollups. Lanes do this on their own; a process does it once more on shutdown.
    pub async fn fold(&self, tenant: TenantId) -> Result<()> {
        let LaneContext { db, memory, .. } = &*self.shared.parts;
        fold::fold_tail(db, &memory.tails, tenant).await.map(drop)
    }

    /// Stores `events`, recorded `by` somebody, and returns one outcome for each. On `Ok` they are committed; on error none is known to be, and
    /// the call can safely be retried. Events with customers need the tenant's keys: SERVICE_UNAVAILABLE while those
    /// are unreachable.
    pub async fn record(&self, tenant: TenantId, by: By, events: Vec<Event>, is_backfill: bool) -> Result<Answer> {
        check_length(events.len())?;
        let has_persons = events.iter().any(Event::has_person);
        let parts = &self.shared.parts;
        let keys = if has_persons { parts.keys.get(tenant).await? } else { None };
        let (reply, answer) = oneshot::channel();
        // Work that does not need the ledger is done here, outside the lane.
        let now = parts.clock.now();
        let index_key = keys.as_deref().map(|keys| &keys.index);
        let items = events.into_iter().map(|event| Item::new(event, by, now, index_key)).collect();
        self.enqueue(tenant, Job { items, keys, is_backfill, reply, room: None })?;
        answer.await.map_err(|_| Error::internal("a lane ended without an answer"))?
    }

    /// Stores those of `given` that are events, like [`Ledger::record`], and returns one outcome for each, in the order
    /// given.
    pub async fn record_given(
        &self,
        tenant: TenantId,
        by: By,
        given: Vec<Result<Event, Refusal>>,
        is_backfill: bool,
    ) -> Result<Answer> {
        check_length(given.len())?;
        let mut events = Vec::with_capacity(given.len());
        let refusals: Vec<_> = given.into_iter().map(|event| event.map(|event| events.push(event)).err()).collect();
        let answer = if events.is_empty() {
            let head = read_head(&self.shared.parts.db.read(tenant).await?).await?;
            Answer { outcomes: Vec::new(), position: head.position }
        } else {
            self.record(tenant, by, events, is_backfill).await?
        };
        let mut recorded = answer.outcomes.into_iter();
        let outcome = |refusal: Option<Refusal>| refusal.map(Outcome::Refused).or_else(|| recorded.next());
        Ok(Answer { outcomes: refusals.into_iter().filter_map(outcome).collect(), ..answer })
    }

    /// Ends all lanes after they record and fold what they were given. Later events start new ones.
    pub async fn close(&self) {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }

    /// Lanes that have work or had some recently.
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
                // Also drops other lanes that have ended.
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

/// Error: BAD_USER_INPUT.
fn check_length(events: usize) -> Result<()> {
    match events {
        0 => Err(Error::bad_input("events", "no events")),
        1..=BATCH_EVENTS_MAX => Ok(()),
        _ => Err(Error::bad_input("events", format!("more than {BATCH_EVENTS_MAX} events"))),
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
