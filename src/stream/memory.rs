//! Notices within one process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

use super::{EventStream, Listener, NOTICES_KEPT, Notice, StreamError};
use crate::db::TenantId;

/// A channel per tenant that has listeners.
#[derive(Default)]
pub struct MemoryStream {
    channels: Mutex<HashMap<TenantId, broadcast::Sender<Notice>>>,
}

#[async_trait::async_trait]
impl EventStream for MemoryStream {
    async fn publish(&self, tenant: TenantId, notice: Notice) -> Result<(), StreamError> {
        self.announce(tenant, notice);
        Ok(())
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Listener(channels.entry(tenant).or_insert_with(|| broadcast::channel(NOTICES_KEPT).0).subscribe()))
    }

    fn listening(&self) -> Vec<TenantId> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, channel| channel.receiver_count() > 0);
        channels.keys().copied().collect()
    }

    fn announce(&self, tenant: TenantId, notice: Notice) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&tenant)
            && channel.send(notice).is_err()
        {
            channels.remove(&tenant);
        }
    }
}
