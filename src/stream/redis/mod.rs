//! Inter-process transport of batches on Redis Streams, of a single server or a cluster.
//!
//! | key | entry id | fields | kept |
//! |---|---|---|---|
//! | `salespulse:{<tenant id>}:batches` | `<last position>-<settings changed + alerts logged>` | `from`: the process; `batch`: [`CommittedBatch`] as JSON | about [`ENTRIES_KEPT`] entries, [`IDLE_EXPIRY`] after the newest |
//! | `salespulse:probe`, `salespulse:{<tenant id>}:probe` | | an empty text | as long |
//!
//! The braces are a hash tag that keeps a tenant's keys on one cluster node. Redis rejects an id that is not above the
//! newest, so a late or duplicate batch is a no-op. One task publishes from a bounded queue, so that no writer waits
//! for Redis; another reads the streams of the tenants with listeners here, over its own connection.
//!
//! The reader takes few entries of a stream at once and skips what it could not read in time: followers read that from
//! the ledger. An entry that is no batch of its tenant is skipped and counted; a stream that is ahead of its ledger,
//! which would silence the tenant, is deleted.
//!
//! What is away (`away.rs`), at startup or later, is sent nothing until a write to it succeeds: all of Redis, the
//! tenants of a node that is down, or a tenant whose key is no stream. Listeners in this process receive its own batches
//! anyway, and find those of others by comparing heads ([`crate::live::feed`]).

mod away;
mod link;
mod publisher;
mod reader;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::streams::StreamRangeReply;
use redis::{AsyncCommands, RedisError, RedisResult};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use uuid::Uuid;

use self::away::Away;
use self::link::{Brief, Link, Redis};
use self::publisher::Queued;
use self::reader::StreamReader;
use super::memory::MemoryStream;
use super::{CommittedBatch, EventStream, Listener, StreamError};
use crate::db::TenantId;
use crate::guard::Guard;
use crate::telemetry::metrics::METRICS;

/// Entries kept per stream.
pub const ENTRIES_KEPT: usize = 1_000;
/// A stream without new entries expires after this time.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(3600);
/// A longer batch is sent without its entries, which listeners then read from the ledger.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Batches queued for publishing; beyond this they are dropped.
const QUEUE_MAX: usize = 4096;
/// Redis is considered down after not answering for this long.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause before retrying Redis, and between two probes of it.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Tenants of a cluster asked for concurrently, so that those of a node that does not answer are waited for once.
const TENANTS_AT_ONCE: usize = 128;

pub struct RedisStream {
    local: Arc<MemoryStream>,
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
    tasks: [AbortHandle; 3],
}

/// State shared by the tasks and the callers.
struct Shared {
    link: Link,
    /// Id of this process, so that it skips its own entries.
    process: String,
    away: Away,
    /// The last entry read of each tenant with listeners.
    places: Mutex<HashMap<TenantId, EntryId>>,
    /// Notified when there is another place to read from.
    added: Notify,
}

/// The two parts of an entry id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct EntryId(u64, u64);

impl EntryId {
    fn of(batch: &CommittedBatch) -> Self {
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        EntryId(part(batch.last), part(batch.policy_epoch + batch.last_alert_no))
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
            away: Away::default(),
            places: Mutex::default(),
            added: Notify::new(),
        });
        shared.away.has_written(shared.link.find().await);
        let local = Arc::new(MemoryStream::default());
        let (queue, batches) = mpsc::channel(QUEUE_MAX);
        let publisher = tokio::spawn(publisher::publish_all(Arc::clone(&shared), batches)).abort_handle();
        let watch = tokio::spawn(away::watch(Arc::clone(&shared))).abort_handle();
        let reader = StreamReader { shared: Arc::clone(&shared), local: Arc::clone(&local) };
        let reader = tokio::spawn(reader.run()).abort_handle();
        Ok(RedisStream { local, queue, shared, tasks: [publisher, watch, reader] })
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
        if !self.shared.away.may_publish(tenant) {
            return Ok(());
        }
        self.queue.try_send((tenant, batch)).map_err(|_| StreamError("the queue to Redis is full".to_owned()))
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        let listener = self.local.listen(tenant).await?;
        let is_read = self.shared.places().contains_key(&tenant);
        if !is_read {
            // From the newest entry on; while Redis is down, from its first one.
            let newest = self.shared.find_newest(tenant).await.unwrap_or_default();
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
        self.shared.away.is_degraded()
    }

    fn is_away(&self, tenant: TenantId) -> bool {
        self.shared.away.is_away(tenant)
    }

    fn newest_position(&self, tenant: TenantId) -> i64 {
        self.shared.places().get(&tenant).map_or(0, |place| i64::try_from(place.0).unwrap_or(i64::MAX))
    }

    async fn drop_beyond(&self, tenant: TenantId, head: i64) {
        if let Err(error) = self.shared.drop_beyond(tenant, head).await {
            tracing::debug!(%error, "stream not dropped");
        }
    }
}

fn key(tenant: TenantId) -> String {
    format!("salespulse:{{{}}}:batches", tenant.at(Guard::Streams).0)
}

/// Of a single server, or of the node that has the tenant's stream.
fn probe_key(tenant: Option<TenantId>) -> String {
    match tenant {
        None => "salespulse:probe".to_owned(),
        Some(tenant) => format!("salespulse:{{{}}}:probe", tenant.0),
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, HashMap<TenantId, EntryId>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads on from an entry, unless the place is beyond it.
    fn moves_to(&self, tenant: TenantId, entry: EntryId) {
        if let Some(place) = self.places().get_mut(&tenant) {
            *place = entry.max(*place);
        }
    }

    async fn newest_entry(&self, connection: &mut Brief, tenant: TenantId) -> RedisResult<EntryId> {
        let entries: StreamRangeReply = connection.xrevrange_count(key(tenant), "+", "-", 1).await?;
        Ok(entries.ids.first().and_then(|entry| EntryId::parse(&entry.id)).unwrap_or_default())
    }

    /// The newest entry. On failure, what the failure concerns is away.
    async fn find_newest(&self, tenant: TenantId) -> RedisResult<EntryId> {
        let newest = async { self.newest_entry(&mut self.link.brief().await?, tenant).await }.await;
        newest.inspect_err(|error| {
            if self.is_of_tenant(error) {
                self.away.tenant_failed(tenant, error);
            }
        })
    }

    /// Whether a failed request concerns the tenant that it was made for, rather than all.
    fn is_of_tenant(&self, error: &RedisError) -> bool {
        away::is_foreign_key(error) || matches!(self.link.found(), Some(Redis::Cluster { .. }))
    }

    /// Deletes a stream with entries beyond the ledger's head, unless another process has, and reads it from its
    /// beginning.
    async fn drop_beyond(&self, tenant: TenantId, head: i64) -> RedisResult<()> {
        let mut connection = self.link.brief().await?;
        if self.newest_entry(&mut connection, tenant).await?.0 > head.unsigned_abs() {
            connection.del::<_, ()>(key(tenant)).await?;
            METRICS.stream_foreign.inc();
            tracing::warn!(tenant = %tenant.0, head, "a stream was ahead of its ledger");
        }
        if let Some(place) = self.places().get_mut(&tenant) {
            *place = EntryId::default();
        }
        self.added.notify_one();
        Ok(())
    }
}
