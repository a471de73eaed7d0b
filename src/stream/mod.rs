//! Transports committed batches to those who follow a tenant's ledger: within the process ([`memory`]) or between
//! processes ([`redis`]). The ledger remains the source of truth: a missed batch can be read from there.

mod batch;
pub mod memory;
pub mod redis;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use batch::CommittedBatch;

use crate::db::TenantId;

/// Batches buffered for a slow listener; beyond this it is told that it missed some.
pub const BATCHES_KEPT: usize = 256;

/// The bus is down. The batch is not resent: listeners compare positions.
#[derive(Debug, thiserror::Error)]
#[error("the stream is not available: {0}")]
pub struct StreamError(pub String);

#[async_trait::async_trait]
pub trait EventStream: Send + Sync + 'static {
    /// Sends a batch to all listeners of the tenant. Duplicates and out-of-order batches are harmless.
    async fn publish(&self, tenant: TenantId, batch: Arc<CommittedBatch>) -> Result<(), StreamError>;

    /// The tenant's batches from now on.
    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError>;

    /// The tenants with listeners in this process.
    fn listening(&self) -> Vec<TenantId>;

    /// Whether batches of other processes are delivered too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Batches queued for other processes.
    fn waiting(&self) -> usize {
        0
    }

    /// Whether batches of other processes are currently not arriving, because the bus or a part of it is down.
    fn is_degraded(&self) -> bool {
        false
    }

    /// Whether those of this tenant are not, for whatever reason.
    fn is_away(&self, _tenant: TenantId) -> bool {
        false
    }

    /// The newest position that came from the bus for a tenant with listeners, or that was there before them; 0 if none.
    fn newest_position(&self, _tenant: TenantId) -> i64 {
        0
    }

    /// Drops what the bus holds of a tenant beyond its ledger's head: batches of another ledger, before which it takes
    /// no others.
    async fn drop_beyond(&self, _tenant: TenantId, _head: i64) {}
}

/// The process's stream: Redis if a URL is given, which need not answer yet, otherwise in-process. Error: the URL is
/// malformed.
pub async fn connect(redis_url: Option<&str>) -> Result<Arc<dyn EventStream>, StreamError> {
    match redis_url {
        Some(url) => Ok(Arc::new(redis::RedisStream::connect(url).await?)),
        None => Ok(Arc::new(memory::MemoryStream::default())),
    }
}

pub struct Listener(pub(crate) broadcast::Receiver<Arc<CommittedBatch>>);

/// What a listener hears.
#[derive(Debug, PartialEq)]
pub enum ListenerEvent {
    CommittedBatch(Arc<CommittedBatch>),
    /// Some batches were dropped because this listener was slow.
    Missed,
}

impl Listener {
    /// The next batch; `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<ListenerEvent> {
        match self.0.recv().await {
            Ok(batch) => Some(ListenerEvent::CommittedBatch(batch)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(ListenerEvent::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next batch, if already available.
    pub fn try_next(&mut self) -> Option<ListenerEvent> {
        match self.0.try_recv() {
            Ok(batch) => Some(ListenerEvent::CommittedBatch(batch)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(ListenerEvent::Missed),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}
