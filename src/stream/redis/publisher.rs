//! The task that publishes the batches of this process.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use redis::streams::StreamMaxlen;
use redis::{RedisError, RedisResult, Value};
use tokio::sync::mpsc;

use super::away::is_foreign_key;
use super::link::{Redis, silent};
use super::{ANSWER_TIMEOUT, BATCH_BYTES_MAX, ENTRIES_KEPT, EntryId, IDLE_EXPIRY, Shared, TENANTS_AT_ONCE, key};
use crate::db::TenantId;
use crate::stream::CommittedBatch;

/// Batches per publish: with their entries a few megabytes, which Redis takes within [`ANSWER_TIMEOUT`].
const TOGETHER_MAX: usize = 128;

pub(super) type Queued = (TenantId, Arc<CommittedBatch>);

/// Publishes what is queued, up to [`TOGETHER_MAX`] batches at once, except to what is away: those batches are found by
/// comparing heads.
pub(super) async fn publish_all(shared: Arc<Shared>, mut queue: mpsc::Receiver<Queued>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, TOGETHER_MAX).await > 0 {
        waiting.retain(|(tenant, _)| shared.away.may_publish(*tenant));
        match shared.link.found() {
            _ if waiting.is_empty() => {}
            None => {}
            Some(Redis::Server { .. }) => {
                let published = tokio::time::timeout(ANSWER_TIMEOUT, shared.publish(&waiting)).await;
                if let Err(error) = published.map_err(silent).flatten() {
                    shared.away.has_written(Err(error));
                }
            }
            Some(Redis::Cluster { .. }) => shared.publish_by_tenant(&waiting).await,
        }
        waiting.clear();
    }
}

impl Shared {
    /// Publishes batches of one or more tenants; on a cluster, of a single one. Error: Redis does not take them.
    async fn publish(&self, batches: &[Queued]) -> RedisResult<()> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for (tenant, batch) in batches {
            let json = batch.to_json(*tenant, BATCH_BYTES_MAX).map_err(silent)?;
            let fields = [("from", self.process.as_str()), ("batch", json.as_str())];
            let id = EntryId::of(batch).to_string();
            let key = key(*tenant);
            pipeline.xadd_maxlen(&key, StreamMaxlen::Approx(ENTRIES_KEPT), id, &fields);
            pipeline.expire(&key, i64::try_from(IDLE_EXPIRY.as_secs()).unwrap_or(i64::MAX)).ignore();
        }
        let added: Vec<RedisResult<Value>> = pipeline.query_async(&mut self.link.brief().await?).await?;
        let mut refused = Ok(());
        for ((tenant, _), added) in batches.iter().zip(added) {
            match added {
                Ok(_) => {}
                Err(error) if is_stale(&error) => {}
                Err(error) if is_foreign_key(&error) => self.away.tenant_failed(*tenant, &error),
                Err(error) => refused = Err(error),
            }
        }
        refused
    }

    /// Publishes batches to a cluster, where a node that is down does not affect the tenants of others.
    async fn publish_by_tenant(&self, batches: &[Queued]) {
        let mut tenants: HashMap<TenantId, Vec<Queued>> = HashMap::new();
        for (tenant, batch) in batches {
            tenants.entry(*tenant).or_default().push((*tenant, Arc::clone(batch)));
        }
        let published = futures_util::stream::iter(tenants).map(|(tenant, batches)| async move {
            let published = self.publish(&batches).await;
            published.inspect_err(|error| self.away.tenant_failed(tenant, error)).is_ok()
        });
        let published: Vec<bool> = published.buffer_unordered(TENANTS_AT_ONCE).collect().await;
        if !published.contains(&true) {
            self.link.renew();
        }
    }
}

/// Whether Redis has refused an id because one above it was added. If that is beyond the ledger, followers find out.
fn is_stale(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.contains("equal or smaller") || detail.contains("exhausted the last possible ID")
}
