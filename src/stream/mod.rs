//! Tells, after each commit, that a tenant's ledger has moved: within the process ([`memory`]) or between processes
//! ([`redis`]). It is transport and never truth: who misses a notice finds the same in the ledger.

pub mod memory;
pub mod redis;

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::db::TenantId;

/// Notices kept for a slow listener; it is told when it missed some.
pub const NOTICES_KEPT: usize = 1024;

/// A committed batch: the positions from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Notice {
    pub first: i64,
    pub last: i64,
}

/// The bus is away. The notice is not sent again: listeners compare positions.
#[derive(Debug, thiserror::Error)]
#[error("the stream is not available: {0}")]
pub struct StreamError(pub String);

#[async_trait::async_trait]
pub trait EventStream: Send + Sync + 'static {
    /// Sends a notice to all listeners of the tenant. Sending one twice, or an older one later, is harmless.
    async fn publish(&self, tenant: TenantId, notice: Notice) -> Result<(), StreamError>;

    /// Notices of the tenant from now on.
    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError>;

    /// The tenants that have listeners in this process.
    fn listening(&self) -> Vec<TenantId>;

    /// Hands a notice to the listeners in this process only.
    fn announce(&self, tenant: TenantId, notice: Notice);
}

/// The stream of this process: on Redis where a URL is given, else within the process.
pub async fn connect(redis_url: Option<&str>) -> Result<Arc<dyn EventStream>, StreamError> {
    match redis_url {
        Some(url) => Ok(Arc::new(redis::RedisStream::connect(url).await?)),
        None => Ok(Arc::new(memory::MemoryStream::default())),
    }
}

/// One listener's end.
pub struct Listener(pub(crate) broadcast::Receiver<Notice>);

/// What a listener hears.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Notice(Notice),
    /// Some notices were dropped because this listener was slow.
    Missed,
}

impl Listener {
    /// The next notice; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(notice) => Some(Heard::Notice(notice)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Heard::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
