//! Inter-process transport of batches on Redis Streams, of a single server or a cluster.
//!
//! | key | entry id | fields | kept |
//! |---|---|---|---|
//! | `salespulse:{<tenant id>}:batches` | `<last position>-<settings changed + alerts logged>` | `from`: the process; `batch`: [`CommittedBatch`] as JSON | about [`ENTRIES_KEPT`] entries, [`IDLE_EXPIRY`] after the newest |
//!
//! The braces are a hash tag that keeps a tenant's keys on one cluster node. Redis rejects an id that is not above the
//! newest, so a late or duplicate batch is a no-op. One task publishes from a bounded queue, so that no writer waits
//! for Redis; another reads the streams of the tenants with listeners here, over its own connection.
//!
//! The reader takes few entries of a stream at once and skips what it could not read in time: followers read that from
//! the ledger.
//!
//! While Redis does not answer, at startup or later, nothing is sent to it: listeners in this process receive its own
//! batches anyway, and find those of others by comparing heads ([`crate::live::feed`]).

mod link;
mod reader;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::AsyncCommands;
use redis::streams::{StreamMaxlen, StreamRangeReply};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use uuid::Uuid;

use self::link::{Link, Redis};
use self::reader::StreamReader;
use super::memory::MemoryStream;
use super::{CommittedBatch, EventStream, Listener, StreamError};
use crate::db::TenantId;
use crate::guard::Guard;

/// Entries kept per stream.
pub const ENTRIES_KEPT: usize = 1_000;
/// A stream without new entries expires after this time.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(3600);
/// A longer batch is sent without its entries, which listeners then read from the ledger.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Batches queued for publishing; beyond this they are dropped.
const QUEUE_MAX: usize = 4096;
/// Batches per publish: with their entries a few megabytes, which Redis takes within [`ANSWER_TIMEOUT`].
const TOGETHER_MAX: usize = 128;
/// Redis is considered down after not answering for this long.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause before retrying Redis, and heartbeat interval without batches.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Tenants written to concurrently, on a cluster.
const TENANTS_AT_ONCE: usize = 16;

pub struct RedisStream {
    local: Arc<MemoryStream>,
    queue: mpsc::Sender<(TenantId, Arc<CommittedBatch>)>,
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

/// State shared by the tasks and the callers.
struct Shared {
    link: Link,
    /// Id of this process, so that it skips its own entries.
    process: String,
    /// Redis did not answer the last request.
    is_away: AtomicBool,
    /// The last entry read of each tenant with listeners.
    places: Mutex<HashMap<TenantId, EntryId>>,
    /// Notified when a tenant is added to `places`.
    added: Notify,
}

/// The two parts of an entry id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct EntryId(i64, i64);

impl EntryId {
    fn of(batch: &CommittedBatch) -> Self {
        EntryId(batch.last, batch.policy_epoch + batch.last_alert_no)
    }

    fn parse(text: &str) -> Option<Self> {
        let (position, part) = text.split_once('-')?;
        Some(EntryId(position.parse().ok()?, part.parse().ok()?))
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl RedisStream {
    /// Connects by URL, or by comma-separated URLs of cluster nodes. Redis need not answer: it then counts as down and
    /// is used once it does. Error: a URL is malformed.
    pub async fn connect(urls: &str) -> Result<RedisStream, StreamError> {
        let shared = Arc::new(Shared {
            link: Link::new(urls)?,
            process: Uuid::now_v7().to_string(),
            is_away: AtomicBool::new(false),
            places: Mutex::default(),
            added: Notify::new(),
        });
        shared.has_answered(shared.link.find().await);
        let local = Arc::new(MemoryStream::default());
        let (queue, batches) = mpsc::channel(QUEUE_MAX);
        let publisher = tokio::spawn(publish_all(Arc::clone(&shared), batches)).abort_handle();
        let reader = StreamReader { shared: Arc::clone(&shared), local: Arc::clone(&local) };
        let reader = tokio::spawn(reader.run()).abort_handle();
        Ok(RedisStream { local, queue, shared, tasks: [publisher, reader] })
    }
}

impl Drop for RedisStream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[async_trait::async_trait]
impl EventStream for RedisStream {
    async fn publish(&self, tenant: TenantId, batch: Arc<CommittedBatch>) -> Result<(), StreamError> {
        self.local.hand_on(tenant, Arc::clone(&batch));
        if self.is_degraded() {
            return Ok(());
        }
        self.queue.try_send((tenant, batch)).map_err(|_| StreamError("the queue to Redis is full".to_owned()))
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        let listener = self.local.listen(tenant).await?;
        let is_read = self.shared.places().contains_key(&tenant);
        if !is_read {
            // From the newest entry on; while Redis is down, from its first one.
            let newest = self.shared.newest_entry(tenant).await.unwrap_or_default();
            self.shared.places().entry(tenant).or_insert(newest);
            self.shared.added.notify_one();
        }
        Ok(listener)
    }

    fn listening(&self) -> Vec<TenantId> {
        self.local.listening()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn waiting(&self) -> usize {
        QUEUE_MAX - self.queue.capacity()
    }

    fn is_degraded(&self) -> bool {
        self.shared.is_away.load(Ordering::Relaxed)
    }
}

fn key(tenant: TenantId) -> String {
    format!("salespulse:{{{}}}:batches", tenant.at(Guard::Streams).0)
}

fn failed(error: impl std::fmt::Display) -> StreamError {
    StreamError(error.to_string())
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, HashMap<TenantId, EntryId>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn newest_entry(&self, tenant: TenantId) -> Result<EntryId, StreamError> {
        let mut connection = self.link.pooled().await?;
        let newest = connection.xrevrange_count(key(tenant), "+", "-", 1);
        let entries: StreamRangeReply =
            tokio::time::timeout(ANSWER_TIMEOUT, newest).await.map_err(failed)?.map_err(failed)?;
        Ok(entries.ids.first().and_then(|entry| EntryId::parse(&entry.id)).unwrap_or_default())
    }

    async fn ping(&self) -> Result<(), StreamError> {
        let mut connection = self.link.pooled().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(failed)
    }

    /// Publishes batches of one or more tenants; on a cluster, of a single one.
    async fn publish(&self, batches: &[(TenantId, Arc<CommittedBatch>)]) -> Result<(), StreamError> {
        let mut pipeline = redis::pipe();
        for (tenant, batch) in batches {
            let json = batch.to_json(*tenant, BATCH_BYTES_MAX).map_err(failed)?;
            let fields = [("from", self.process.as_str()), ("batch", json.as_str())];
            let (length, id) = (StreamMaxlen::Approx(ENTRIES_KEPT), EntryId::of(batch).to_string());
            pipeline.xadd_maxlen(key(*tenant), length, id, &fields).ignore();
            pipeline.expire(key(*tenant), i64::try_from(IDLE_EXPIRY.as_secs()).unwrap_or(i64::MAX)).ignore();
        }
        let mut connection = self.link.pooled().await?;
        match pipeline.query_async::<()>(&mut connection).await {
            // The id is not above the newest one: the batch is stale.
            Err(error) if error.to_string().contains("equal or smaller") => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// Error: no tenant's batches could be published. Those for a node that is down are found by comparing heads.
    async fn publish_by_tenant(&self, batches: &[(TenantId, Arc<CommittedBatch>)]) -> Result<(), StreamError> {
        let mut tenants: HashMap<TenantId, Vec<(TenantId, Arc<CommittedBatch>)>> = HashMap::new();
        for (tenant, batch) in batches {
            tenants.entry(*tenant).or_default().push((*tenant, Arc::clone(batch)));
        }
        let sent = futures_util::stream::iter(tenants.into_values())
            .map(|batches| async move { self.publish(&batches).await })
            .buffer_unordered(TENANTS_AT_ONCE);
        let sent: Vec<Result<(), StreamError>> = sent.collect().await;
        if sent.iter().any(Result::is_ok) {
            sent.into_iter().filter_map(Result::err).for_each(|error| tracing::warn!(%error, "batches not published"));
            return Ok(());
        }
        sent.into_iter().collect()
    }

    /// Records whether Redis answered, and logs changes.
    fn has_answered(&self, result: Result<(), StreamError>) {
        let was_away = self.is_away.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(()) if was_away => tracing::info!("redis is back"),
            Err(error) if !was_away => tracing::warn!(%error, "redis is away; other processes follow the heads"),
            _ => {}
        }
    }
}

/// Publishes what is queued, up to [`TOGETHER_MAX`] batches at once; when idle, or while Redis is down, probes it
/// periodically.
async fn publish_all(shared: Arc<Shared>, mut queue: mpsc::Receiver<(TenantId, Arc<CommittedBatch>)>) {
    let mut waiting = Vec::new();
    loop {
        let is_away = shared.is_away.load(Ordering::Relaxed);
        if is_away {
            tokio::time::sleep(RETRY_WAIT).await;
            // Batches queued while Redis was down are stale.
            while queue.try_recv().is_ok() {}
        } else if let Ok(0) = tokio::time::timeout(RETRY_WAIT, queue.recv_many(&mut waiting, TOGETHER_MAX)).await {
            return;
        }
        let answered = match shared.link.found() {
            None => shared.link.find().await,
            Some(redis) => {
                let work = async {
                    match redis {
                        _ if waiting.is_empty() => shared.ping().await,
                        Redis::Server { .. } => shared.publish(&waiting).await,
                        Redis::Cluster { .. } => shared.publish_by_tenant(&waiting).await,
                    }
                };
                let answered = tokio::time::timeout(ANSWER_TIMEOUT, work).await;
                answered.unwrap_or_else(|elapsed| Err(failed(elapsed)))
            }
        };
        shared.has_answered(answered);
        waiting.clear();
    }
}
