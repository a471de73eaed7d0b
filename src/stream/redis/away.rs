//! The circuit breaker: what of Redis is away, and the task that finds out when it is back.
//!
//! On a single server a failure concerns all tenants, except that a key which is no stream concerns its tenant alone. On
//! a cluster it concerns the tenant it was met with, since the nodes of others may answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use redis::{AsyncCommands, RedisError, RedisResult};
use tokio::time::MissedTickBehavior;

use super::link::{Brief, Redis, silent};
use super::{ANSWER_TIMEOUT, IDLE_EXPIRY, RETRY_WAIT, Shared, TENANTS_AT_ONCE, probe_key};
use crate::db::TenantId;
use crate::telemetry::metrics::METRICS;

#[derive(Default)]
pub(super) struct Away(Mutex<State>);

#[derive(Default)]
struct State {
    /// Redis did not take the last write, or has not answered yet.
    writes: bool,
    /// The last read failed.
    reads: bool,
    tenants: HashMap<TenantId, Reason>,
}

/// Why a single tenant's stream is away.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reason {
    /// Its node does not answer, or takes no writes.
    Node,
    /// Its key holds something that is no stream.
    ForeignKey,
}

impl State {
    fn is_degraded(&self) -> bool {
        self.writes || self.reads || self.tenants.values().any(|reason| *reason == Reason::Node)
    }
}

impl Away {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Redis, or a node of it, is away.
    pub fn is_degraded(&self) -> bool {
        self.lock().is_degraded()
    }

    /// Whether the tenant's batches do not arrive.
    pub fn is_away(&self, tenant: TenantId) -> bool {
        let state = self.lock();
        state.writes || state.reads || state.tenants.contains_key(&tenant)
    }

    /// Whether the tenant's batches can be published.
    pub fn may_publish(&self, tenant: TenantId) -> bool {
        let state = self.lock();
        !state.writes && !state.tenants.contains_key(&tenant)
    }

    /// Whether the tenant is away by itself, whatever the others are.
    pub fn is_tenant_away(&self, tenant: TenantId) -> bool {
        self.lock().tenants.contains_key(&tenant)
    }

    pub fn has_written(&self, result: RedisResult<()>) {
        self.change(result.as_ref().err(), |state| state.writes = result.is_err());
    }

    pub fn has_read(&self, result: RedisResult<()>) {
        self.change(result.as_ref().err(), |state| state.reads = result.is_err());
    }

    /// A request for a tenant of a cluster failed, or one that met the tenant's key.
    pub fn tenant_failed(&self, tenant: TenantId, error: &RedisError) {
        let reason = if is_foreign_key(error) { Reason::ForeignKey } else { Reason::Node };
        let mut before = None;
        self.change(Some(error), |state| before = state.tenants.insert(tenant, reason));
        if reason == Reason::ForeignKey && before != Some(reason) {
            METRICS.stream_foreign.inc();
            tracing::warn!(tenant = %tenant.0, "the key of a stream holds something else");
        }
    }

    fn is_back(&self, tenant: TenantId) {
        self.change(None, |state| {
            state.tenants.remove(&tenant);
        });
    }

    /// Changes the state, and logs if Redis has gone or come back.
    fn change(&self, error: Option<&RedisError>, change: impl FnOnce(&mut State)) {
        let (was_degraded, is_degraded) = {
            let mut state = self.lock();
            let was_degraded = state.is_degraded();
            change(&mut state);
            (was_degraded, state.is_degraded())
        };
        match (was_degraded, is_degraded) {
            (true, false) => tracing::info!("redis is back"),
            (false, true) => {
                let error = error.map(tracing::field::display);
                tracing::warn!(error, "redis or a node of it is away; other processes follow the heads");
            }
            _ => {}
        }
    }
}

/// The key of the request holds something that is no stream.
pub(super) fn is_foreign_key(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Every [`RETRY_WAIT`], writes to a single server, and to the tenants that are away: only a write that succeeds shows
/// that Redis is back, since one that is full or read-only answers all the same.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(RETRY_WAIT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let written = match shared.link.found() {
            None => shared.link.find().await,
            Some(Redis::Server { .. }) => shared.probe().await,
            Some(Redis::Cluster { .. }) => Ok(()),
        };
        let is_there = written.is_ok();
        shared.away.has_written(written);
        let tenants: Vec<TenantId> = shared.away.lock().tenants.keys().copied().collect();
        if is_there
            && !tenants.is_empty()
            && let Err(error) = shared.probe_tenants(tenants).await
        {
            tracing::debug!(%error, "tenants not probed");
        }
    }
}

impl Shared {
    async fn probe(&self) -> RedisResult<()> {
        let written = async { write(&mut self.link.brief().await?, &probe_key(None)).await };
        tokio::time::timeout(ANSWER_TIMEOUT, written).await.map_err(silent).flatten()
    }

    /// Those that can be written and read are back, from their newest entries on.
    async fn probe_tenants(&self, tenants: Vec<TenantId>) -> RedisResult<()> {
        let connection = self.link.probing().await?;
        let probed = futures_util::stream::iter(tenants).for_each_concurrent(TENANTS_AT_ONCE, |tenant| {
            let mut connection = connection.clone();
            async move {
                let newest = async {
                    write(&mut connection, &probe_key(Some(tenant))).await?;
                    self.newest_entry(&mut connection, tenant).await
                };
                match newest.await {
                    Ok(newest) => {
                        self.moves_to(tenant, newest);
                        self.away.is_back(tenant);
                        self.added.notify_one();
                    }
                    Err(error) if self.is_of_tenant(&error) => self.away.tenant_failed(tenant, &error),
                    // The next write shows what is the matter with a single server.
                    Err(_) => {}
                }
            }
        });
        probed.await;
        Ok(())
    }
}

/// Writes a key whatever it held before.
async fn write(connection: &mut Brief, key: &str) -> RedisResult<()> {
    connection.set_ex(key, "", IDLE_EXPIRY.as_secs()).await
}
