//! Carries committed batches to those who follow a tenant's ledger: within the process ([`memory`]) or between processes
//! ([`redis`]). It is transport and never truth: who misses a batch finds the same in the ledger.

mod batch;
pub mod memory;
pub mod redis;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use batch::CommittedBatch;

use crate::db::TenantId;

/// Batches kept for a slow listener; it is told when it missed some.
pub const BATCHES_KEPT: usize = 256;

/// The bus is away. The batch is not sent again: listeners compare positions.
#[derive(Debug, thiserror::Error)]
#[error("the stream is not available: {0}")]
pub struct StreamError(pub String);

#[async_trait::async_trait]
pub trait EventStream: Send + Sync + 'static {
    /// Sends a batch to all listeners of the tenant. Sending one twice, or an older one later, is harmless.
    async fn publish(&self, tenant: TenantId, batch: Arc<CommittedBatch>) -> Result<(), StreamError>;

    /// Batches of the tenant from now on.
    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError>;

    /// The tenants that have listeners in this process.
    fn listening(&self) -> Vec<TenantId>;

    /// Whether batches of other processes come too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Batches that wait to be sent to other processes.
    fn waiting(&self) -> usize {
        0
    }

    /// Whether batches of other processes do not come now.
    fn is_degraded(&self) -> bool {
        false
    }
}

/// The stream of this process: on Redis where a URL is given, which need not answer yet, else within the process. Error: the
/// URL cannot be read.
pub async fn connect(redis_url: Option<&str>) -> Result<Arc<dyn EventStream>, StreamError> {
    match redis_url {
        Some(url) => Ok(Arc::new(redis::RedisStream::connect(url).await?)),
        None => Ok(Arc::new(memory::MemoryStream::default())),
    }
}

/// One listener's end.
pub struct Listener(pub(crate) broadcast::Receiver<Arc<CommittedBatch>>);

/// What a listener hears.
#[derive(Debug, PartialEq)]
pub enum ListenerEvent {
    CommittedBatch(Arc<CommittedBatch>),
    /// Some batches were dropped because this listener was slow.
    Missed,
}

impl Listener {
    /// The next batch; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<ListenerEvent> {
        match self.0.recv().await {
            Ok(batch) => Some(ListenerEvent::CommittedBatch(batch)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(ListenerEvent::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// What is there already.
    pub fn try_next(&mut self) -> Option<ListenerEvent> {
        match self.0.try_recv() {
            Ok(batch) => Some(ListenerEvent::CommittedBatch(batch)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(ListenerEvent::Missed),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}
