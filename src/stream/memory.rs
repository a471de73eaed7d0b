//! In-process transport of batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::{BATCHES_KEPT, CommittedBatch, EventStream, Listener, StreamError};
use crate::db::TenantId;
use crate::guard::Guard;

/// A channel per tenant with listeners.
#[derive(Default)]
pub struct MemoryStream {
    channels: Mutex<HashMap<TenantId, broadcast::Sender<Arc<CommittedBatch>>>>,
}

#[async_trait::async_trait]
impl EventStream for MemoryStream {
    async fn publish(&self, tenant: TenantId, batch: Arc<CommittedBatch>) -> Result<(), StreamError> {
        self.hand_on(tenant, batch);
        Ok(())
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        let mut channels = self.lock();
        Ok(Listener(
            channels
                .entry(tenant.at(Guard::Channels))
                .or_insert_with(|| broadcast::channel(BATCHES_KEPT).0)
                .subscribe(),
        ))
    }

    fn listening(&self) -> Vec<TenantId> {
        let mut channels = self.lock();
        channels.retain(|_, channel| channel.receiver_count() > 0);
        channels.keys().copied().collect()
    }
}

impl MemoryStream {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, broadcast::Sender<Arc<CommittedBatch>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a batch to the listeners in this process.
    pub fn hand_on(&self, tenant: TenantId, batch: Arc<CommittedBatch>) {
        let mut channels = self.lock();
        if let Some(channel) = channels.get(&tenant.at(Guard::Channels))
            && channel.send(batch).is_err()
        {
            channels.remove(&tenant.at(Guard::Channels));
        }
    }
}
