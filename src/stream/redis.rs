//! Notices between processes, on Redis Streams.
//!
//! | key | entry id | fields | kept |
//! |---|---|---|---|
//! | `salespulse:{<tenant id>}:notices` | `<last position>-0` | `first`: the first position of the batch | about [`ENTRIES_KEPT`] entries, [`IDLE_EXPIRY`] after the newest |
//!
//! The braces put a tenant's keys on one node of a cluster. Redis refuses an id that is not above the newest, so a
//! notice that comes late or twice changes nothing. One task publishes, from a bounded queue, so that no writer waits
//! for Redis; one task reads, over a connection of its own, the streams of the tenants that have listeners here.
//! Whatever gets lost while Redis is away is found by comparing heads ([`crate::live::watch_heads`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::{Pool, Runtime};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamMaxlen, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, RedisError};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::memory::MemoryStream;
use super::{EventStream, Listener, Notice, StreamError};
use crate::db::TenantId;

/// Entries of one stream.
pub const ENTRIES_KEPT: usize = 10_000;
/// A stream without news is removed after this time.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(3600);
/// Notices that wait to be published; beyond it they are dropped.
const QUEUE_MAX: usize = 4096;
/// Redis is taken to be away when it has not answered for this long.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a read waits for news; the tenants to read are looked up again after it.
const READ_WAIT: Duration = Duration::from_millis(100);
/// Pause after a failure.
const RETRY_WAIT: Duration = Duration::from_millis(500);

pub struct RedisStream {
    local: Arc<MemoryStream>,
    queue: mpsc::Sender<(TenantId, Notice)>,
    /// The last position read of each tenant that has listeners.
    read_to: Arc<Mutex<HashMap<TenantId, i64>>>,
    pool: Pool,
    tasks: [AbortHandle; 2],
}

impl RedisStream {
    /// Connects by URL. Error: Redis cannot be reached now.
    pub async fn connect(url: &str) -> Result<RedisStream, StreamError> {
        let config = deadpool_redis::Config::from_url(url);
        let pool = config.create_pool(Some(Runtime::Tokio1)).map_err(failed)?;
        let mut connection = get(&pool).await?;
        let pong: Result<String, RedisError> = redis::cmd("PING").query_async(&mut connection).await;
        pong.map_err(failed)?;
        let client = redis::Client::open(url).map_err(failed)?;
        let local = Arc::new(MemoryStream::default());
        let read_to = Arc::new(Mutex::new(HashMap::new()));
        let (queue, notices) = mpsc::channel(QUEUE_MAX);
        let publisher = tokio::spawn(publish_all(pool.clone(), notices)).abort_handle();
        let reader = Reader { client, local: Arc::clone(&local), read_to: Arc::clone(&read_to) };
        let reader = tokio::spawn(reader.run()).abort_handle();
        Ok(RedisStream { local, queue, read_to, pool, tasks: [publisher, reader] })
    }
}

impl Drop for RedisStream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[async_trait::async_trait]
impl EventStream for RedisStream {
    async fn publish(&self, tenant: TenantId, notice: Notice) -> Result<(), StreamError> {
        self.local.announce(tenant, notice);
        self.queue.try_send((tenant, notice)).map_err(|_| StreamError("the queue to Redis is full".to_owned()))
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        let listener = self.local.listen(tenant).await?;
        let is_read = lock(&self.read_to).contains_key(&tenant);
        if !is_read {
            // From the newest entry on. While Redis is away, from the first one it will have.
            let newest = newest_position(&self.pool, tenant).await.unwrap_or(0);
            lock(&self.read_to).entry(tenant).or_insert(newest);
        }
        Ok(listener)
    }

    fn listening(&self) -> Vec<TenantId> {
        self.local.listening()
    }

    fn announce(&self, tenant: TenantId, notice: Notice) {
        self.local.announce(tenant, notice);
    }
}

fn key(tenant: TenantId) -> String {
    format!("salespulse:{{{}}}:notices", tenant.0)
}

fn failed(error: impl std::fmt::Display) -> StreamError {
    StreamError(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn get(pool: &Pool) -> Result<deadpool_redis::Connection, StreamError> {
    tokio::time::timeout(ANSWER_TIMEOUT, pool.get()).await.map_err(failed)?.map_err(failed)
}

async fn newest_position(pool: &Pool, tenant: TenantId) -> Result<i64, StreamError> {
    let mut connection = get(pool).await?;
    let entries: redis::streams::StreamRangeReply =
        connection.xrevrange_count(key(tenant), "+", "-", 1).await.map_err(failed)?;
    Ok(entries.ids.first().and_then(|entry| position_of(&entry.id)).unwrap_or(0))
}

fn position_of(entry_id: &str) -> Option<i64> {
    entry_id.split_once('-')?.0.parse().ok()
}

/// Publishes what comes through the queue, as many notices together as are waiting.
async fn publish_all(pool: Pool, mut notices: mpsc::Receiver<(TenantId, Notice)>) {
    static IS_AWAY: AtomicBool = AtomicBool::new(false);
    let mut waiting = Vec::new();
    while notices.recv_many(&mut waiting, QUEUE_MAX).await > 0 {
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, publish(&pool, &waiting)).await;
        let error = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(elapsed) => Some(failed(elapsed)),
        };
        waiting.clear();
        match error {
            None => {
                if IS_AWAY.swap(false, Ordering::Relaxed) {
                    tracing::info!("redis is back");
                }
            }
            Some(error) => {
                if !IS_AWAY.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "redis is away; other processes follow the heads");
                }
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

async fn publish(pool: &Pool, notices: &[(TenantId, Notice)]) -> Result<(), StreamError> {
    let mut pipeline = redis::pipe();
    for (tenant, notice) in notices {
        let id = format!("{}-0", notice.last);
        let length = StreamMaxlen::Approx(ENTRIES_KEPT);
        pipeline.xadd_maxlen(key(*tenant), length, id, &[("first", notice.first)]).ignore();
        pipeline.expire(key(*tenant), i64::try_from(IDLE_EXPIRY.as_secs()).unwrap_or(i64::MAX)).ignore();
    }
    let mut connection = get(pool).await?;
    match pipeline.query_async::<()>(&mut connection).await {
        // An id below the newest one: the notice is old news.
        Err(error) if error.to_string().contains("equal or smaller") => Ok(()),
        result => result.map_err(failed),
    }
}

/// Reads the streams of all tenants that have listeners in this process.
struct Reader {
    client: redis::Client,
    local: Arc<MemoryStream>,
    read_to: Arc<Mutex<HashMap<TenantId, i64>>>,
}

impl Reader {
    async fn run(self) {
        let mut connection: Option<MultiplexedConnection> = None;
        loop {
            let result = match &mut connection {
                Some(connection) => self.read(connection).await,
                None => match self.client.get_multiplexed_async_connection().await {
                    Ok(made) => {
                        connection = Some(made);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = result {
                tracing::debug!(%error, "stream not read");
                connection = None;
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }

    async fn read(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let tenants = self.local.listening();
        let places: Vec<(TenantId, i64)> = {
            let mut read_to = lock(&self.read_to);
            read_to.retain(|tenant, _| tenants.contains(tenant));
            read_to.iter().map(|(tenant, position)| (*tenant, *position)).collect()
        };
        if places.is_empty() {
            tokio::time::sleep(READ_WAIT).await;
            return Ok(());
        }
        let keys: Vec<String> = places.iter().map(|(tenant, _)| key(*tenant)).collect();
        let ids: Vec<String> = places.iter().map(|(_, position)| format!("{position}-0")).collect();
        let wait = usize::try_from(READ_WAIT.as_millis()).unwrap_or(0);
        let options = StreamReadOptions::default().block(wait).count(1000);
        let reply: Option<StreamReadReply> = connection.xread_options(&keys, &ids, &options).await?;
        for stream in reply.into_iter().flat_map(|reply| reply.keys) {
            let Some(index) = keys.iter().position(|key| *key == stream.key) else { continue };
            self.hand_on(places[index], &stream.ids);
        }
        Ok(())
    }

    /// Tells the listeners of what was read; one notice for all entries, since they follow each other.
    fn hand_on(&self, (tenant, read_to): (TenantId, i64), entries: &[redis::streams::StreamId]) {
        let Some(last) = entries.iter().filter_map(|entry| position_of(&entry.id)).max() else { return };
        if let Some(position) = lock(&self.read_to).get_mut(&tenant) {
            *position = last.max(*position);
        }
        self.local.announce(tenant, Notice { first: read_to + 1, last });
    }
}
