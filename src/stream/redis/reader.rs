//! The task that reads the streams of all tenants with listeners in this process.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, RedisError};

use super::link::Reading;
use super::{EntryId, RETRY_WAIT, Shared, TENANTS_AT_ONCE, key};
use crate::db::TenantId;
use crate::stream::memory::MemoryStream;
use crate::stream::{CommittedBatch, EventStream};

/// How long one read blocks for new entries.
const READ_WAIT: Duration = Duration::from_secs(1);
/// Backoff between cluster reads without new entries: initial and, after doubling, maximum.
const CLUSTER_PAUSE: Duration = Duration::from_millis(10);
const CLUSTER_PAUSE_MAX: Duration = Duration::from_millis(160);
/// Entries per stream in one reply, which must arrive in time however many streams have new ones.
const ENTRIES_AT_ONCE: usize = 64;

pub(super) struct StreamReader {
    pub shared: Arc<Shared>,
    pub local: Arc<MemoryStream>,
}

/// Where to resume a tenant's stream.
type StreamOffset = (TenantId, EntryId);

impl StreamReader {
    pub async fn run(self) {
        let mut connection: Option<Reading> = None;
        let mut pause = CLUSTER_PAUSE;
        let mut has_failed = false;
        loop {
            let result = match &mut connection {
                Some(Reading::Server(connection, client_id)) => self.read_server(connection, *client_id).await,
                Some(Reading::Cluster(connection)) => self.read_cluster(connection, &mut pause).await,
                None => {
                    if std::mem::take(&mut has_failed) {
                        self.skip_to_newest().await;
                    }
                    self.shared.link.reading(2 * READ_WAIT).await.map(|made| connection = Some(made))
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "stream not read");
                // On a cluster each stream is read separately, so one node's failure does not affect the others.
                has_failed |= matches!(connection, Some(Reading::Server(..)));
                connection = None;
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }

    /// Skips to the newest entries: what could not be read in time would fail again. Listeners read what lies between
    /// from the ledger. If Redis does not answer, the place stays.
    async fn skip_to_newest(&self) {
        let tenants: Vec<TenantId> = self.shared.places().keys().copied().collect();
        let skipped = futures_util::stream::iter(tenants).for_each_concurrent(TENANTS_AT_ONCE, |tenant| async move {
            if let Ok(newest) = self.shared.newest_entry(tenant).await {
                self.moves_to(tenant, newest);
            }
        });
        skipped.await;
    }

    fn moves_to(&self, tenant: TenantId, newest: EntryId) {
        if let Some(place) = self.shared.places().get_mut(&tenant) {
            *place = newest.max(*place);
        }
    }

    /// The tenants that still have listeners; waits while there are none.
    async fn places(&self) -> Vec<StreamOffset> {
        loop {
            let added = self.shared.added.notified();
            let places: Vec<StreamOffset> = {
                // A listener that arrives after this finds its place gone and recreates it.
                let mut places = self.shared.places();
                let listening: HashSet<TenantId> = self.local.listening().into_iter().collect();
                places.retain(|tenant, _| listening.contains(tenant));
                places.iter().map(|(tenant, id)| (*tenant, *id)).collect()
            };
            if !places.is_empty() {
                return places;
            }
            added.await;
        }
    }

    /// Blocks for new entries of any tenant; returns early once another tenant is added.
    async fn read_server(&self, connection: &mut MultiplexedConnection, client_id: i64) -> Result<(), RedisError> {
        let places = self.places().await;
        let keys: Vec<String> = places.iter().map(|(tenant, _)| key(*tenant)).collect();
        let tenants: HashMap<&str, TenantId> =
            keys.iter().map(String::as_str).zip(places.iter().map(|(tenant, _)| *tenant)).collect();
        let ids: Vec<String> = places.iter().map(|(_, id)| id.to_string()).collect();
        let wait = usize::try_from(READ_WAIT.as_millis()).unwrap_or(0);
        let options = StreamReadOptions::default().block(wait).count(ENTRIES_AT_ONCE);
        let mut read = pin!(connection.xread_options(&keys, &ids, &options));
        let reply: Option<StreamReadReply> = tokio::select! {
            reply = &mut read => reply?,
            () = self.shared.added.notified() => {
                self.unblock(client_id).await;
                read.await?
            }
        };
        for stream in reply.into_iter().flat_map(|reply| reply.keys) {
            if let Some(tenant) = tenants.get(stream.key.as_str()) {
                self.hand_on(*tenant, &stream.ids);
            }
        }
        Ok(())
    }

    /// Unblocks the reading connection. On failure, its wait simply times out.
    async fn unblock(&self, client_id: i64) {
        let Ok(mut connection) = self.shared.link.pooled().await else { return };
        let unblocked = redis::cmd("CLIENT").arg("UNBLOCK").arg(client_id).exec_async(&mut connection).await;
        if let Err(error) = unblocked {
            tracing::debug!(%error, "reading connection not unblocked");
        }
    }

    /// Polls all tenants concurrently; backs off exponentially without new entries.
    async fn read_cluster(&self, connection: &ClusterConnection, pause: &mut Duration) -> Result<(), RedisError> {
        let options = StreamReadOptions::default().count(ENTRIES_AT_ONCE);
        let reads = self.places().await.into_iter().map(|(tenant, id)| {
            let (mut connection, options) = (connection.clone(), &options);
            async move {
                let reply: Option<StreamReadReply> =
                    connection.xread_options(&[key(tenant)], &[id.to_string()], options).await?;
                Ok::<_, RedisError>((tenant, reply))
            }
        });
        let (mut has_news, mut failed) = (false, Ok(()));
        // A node that is down does not affect the tenants of others.
        for read in join_all(reads).await {
            let (tenant, reply) = match read {
                Ok(read) => read,
                Err(error) => {
                    failed = failed.and(Err(error));
                    continue;
                }
            };
            for stream in reply.into_iter().flat_map(|reply| reply.keys) {
                has_news = true;
                self.hand_on(tenant, &stream.ids);
            }
        }
        if has_news {
            *pause = CLUSTER_PAUSE;
        } else {
            tokio::time::sleep(*pause).await;
            *pause = CLUSTER_PAUSE_MAX.min(2 * *pause);
        }
        failed
    }

    /// Delivers batches of other processes to the listeners. Unreadable ones are skipped: listeners detect the gap.
    fn hand_on(&self, tenant: TenantId, entries: &[StreamId]) {
        let mut last = EntryId::default();
        for entry in entries {
            last = EntryId::parse(&entry.id).unwrap_or_default().max(last);
            if entry.get::<String>("from").is_some_and(|from| from == self.shared.process) {
                continue;
            }
            match entry.get::<String>("batch").map(|json| CommittedBatch::from_json(tenant, &json)) {
                Some(Ok(batch)) => self.local.hand_on(tenant, Arc::new(batch)),
                _ => tracing::warn!(tenant = %tenant.0, entry = %entry.id, "an entry that is no batch of its tenant"),
            }
        }
        self.moves_to(tenant, last);
    }
}
