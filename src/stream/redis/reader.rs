//! The task that reads the streams of all tenants with listeners in this process.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, RedisError, RedisResult};

use super::away::is_foreign_key;
use super::link::Reading;
use super::{EntryId, RETRY_WAIT, Shared, TENANTS_AT_ONCE, key};
use crate::db::TenantId;
use crate::stream::memory::MemoryStream;
use crate::stream::{CommittedBatch, EventStream};
use crate::telemetry::metrics::METRICS;

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
                    match self.shared.link.reading(2 * READ_WAIT).await {
                        Ok(made) => {
                            connection = Some(made);
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            let is_read = result.is_ok();
            self.shared.away.has_read(result);
            if !is_read {
                // On a cluster each stream is read separately, and found away if it cannot be.
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
            if let Ok(newest) = self.shared.find_newest(tenant).await {
                self.shared.moves_to(tenant, newest);
            }
        });
        skipped.await;
    }

    /// The tenants that still have listeners and are not away; waits while there are none.
    async fn places(&self) -> Vec<StreamOffset> {
        loop {
            let added = self.shared.added.notified();
            let places: Vec<StreamOffset> = {
                // A listener that arrives after this finds its place gone and recreates it.
                let mut places = self.shared.places();
                let listening: HashSet<TenantId> = self.local.listening().into_iter().collect();
                places.retain(|tenant, _| listening.contains(tenant));
                let present = places.iter().filter(|(tenant, _)| !self.shared.away.is_tenant_away(**tenant));
                present.map(|(tenant, id)| (*tenant, *id)).collect()
            };
            if !places.is_empty() {
                return places;
            }
            // What is not read does not fail.
            self.shared.away.has_read(Ok(()));
            added.await;
        }
    }

    /// Blocks for new entries of any tenant; returns early once another tenant is added.
    async fn read_server(&self, connection: &mut MultiplexedConnection, client_id: i64) -> RedisResult<()> {
        let places = self.places().await;
        let keys: Vec<String> = places.iter().map(|(tenant, _)| key(*tenant)).collect();
        let tenants: HashMap<&str, TenantId> =
            keys.iter().map(String::as_str).zip(places.iter().map(|(tenant, _)| *tenant)).collect();
        let ids: Vec<String> = places.iter().map(|(_, id)| id.to_string()).collect();
        let wait = usize::try_from(READ_WAIT.as_millis()).unwrap_or(0);
        let options = StreamReadOptions::default().block(wait).count(ENTRIES_AT_ONCE);
        let reply: RedisResult<Option<StreamReadReply>> = {
            let mut read = pin!(connection.xread_options(&keys, &ids, &options));
            tokio::select! {
                reply = &mut read => reply,
                () = self.shared.added.notified() => {
                    self.unblock(client_id).await;
                    read.await
                }
            }
        };
        let reply = match reply {
            Err(error) if is_foreign_key(&error) => return self.find_foreign_keys(connection, &places, &error).await,
            reply => reply?,
        };
        for stream in reply.into_iter().flat_map(|reply| reply.keys) {
            if let Some(tenant) = tenants.get(stream.key.as_str()) {
                self.hand_on(*tenant, &stream.ids);
            }
        }
        Ok(())
    }

    /// Finds out whose keys made a read fail, so that the others are read without them.
    async fn find_foreign_keys(
        &self,
        connection: &mut MultiplexedConnection,
        places: &[StreamOffset],
        error: &RedisError,
    ) -> RedisResult<()> {
        let mut types = redis::pipe();
        for (tenant, _) in places {
            types.cmd("TYPE").arg(key(*tenant));
        }
        let types: Vec<String> = types.query_async(connection).await?;
        for ((tenant, _), found) in places.iter().zip(types) {
            if !matches!(found.as_str(), "stream" | "none") {
                self.shared.away.tenant_failed(*tenant, error);
            }
        }
        Ok(())
    }

    /// Unblocks the reading connection. On failure, its wait simply times out.
    async fn unblock(&self, client_id: i64) {
        let Ok(mut connection) = self.shared.link.brief().await else { return };
        let unblocked = redis::cmd("CLIENT").arg("UNBLOCK").arg(client_id).exec_async(&mut connection).await;
        if let Err(error) = unblocked {
            tracing::debug!(%error, "reading connection not unblocked");
        }
    }

    /// Polls all tenants concurrently; backs off exponentially without new entries. Error: no tenant can be read.
    async fn read_cluster(&self, connection: &ClusterConnection, pause: &mut Duration) -> RedisResult<()> {
        let options = StreamReadOptions::default().count(ENTRIES_AT_ONCE);
        let reads = self.places().await.into_iter().map(|(tenant, id)| {
            let (mut connection, options) = (connection.clone(), &options);
            async move { (tenant, connection.xread_options(&[key(tenant)], &[id.to_string()], options).await) }
        });
        let mut reads: FuturesUnordered<_> = reads.collect();
        let (mut has_news, mut failed, mut is_read) = (false, Ok(()), false);
        // Each is handed on when it completes, so that a node that is down does not delay the tenants of others.
        while let Some((tenant, read)) = reads.next().await {
            let reply: Option<StreamReadReply> = match read {
                Ok(reply) => reply,
                Err(error) => {
                    self.shared.away.tenant_failed(tenant, &error);
                    is_read |= is_foreign_key(&error);
                    failed = Err(error);
                    continue;
                }
            };
            is_read = true;
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
        if is_read { Ok(()) } else { failed }
    }

    /// Delivers batches of other processes to the listeners. What is none is skipped: listeners detect the gap.
    fn hand_on(&self, tenant: TenantId, entries: &[StreamId]) {
        let mut last = EntryId::default();
        for entry in entries {
            last = EntryId::parse(&entry.id).unwrap_or_default().max(last);
            if entry.get::<String>("from").is_some_and(|from| from == self.shared.process) {
                continue;
            }
            match entry.get::<String>("batch").map(|json| CommittedBatch::from_json(tenant, &json)) {
                Some(Ok(batch)) => self.local.hand_on(tenant, Arc::new(batch)),
                _ => {
                    METRICS.stream_foreign.inc();
                    tracing::warn!(tenant = %tenant.0, entry = %entry.id, "an entry that is no batch of its tenant");
                }
            }
        }
        self.shared.moves_to(tenant, last);
    }
}
