//! Revocation checks: whether the holder of a valid token still has access, i.e. the user is active and has the token's
//! role, and the session or key was not revoked. A tenant's access data is cached until it changes, which other
//! processes notice within half a second; open sockets and streams are notified.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use sea_orm::Value;
use tokio::sync::{OnceCell, broadcast};
use tokio::time::Instant;
use uuid::Uuid;

use super::opaque::Opaque;
use super::{Caller, Permission, Role, Through};
use crate::clock::{MINUTE, SECOND, SharedClock, Timestamp};
use crate::db::{Db, TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::guard::Guard;

/// Lifetime of a session's access tokens. Sessions that ended longer ago have no valid ones left.
pub const ACCESS_SECS: i64 = 15 * 60;
/// How often changes by other processes are polled.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Polls overlap by this much: more than the clock skew between servers. Database outages are shorter, or made up for.
const LOOK_BACK: i64 = 10 * MINUTE;
const TENANTS_MAX: u64 = 10_000;
/// Unknown users and keys trigger a reload at most this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const CHANGES_MAX: usize = 1024;

/// Cached access data of tenants. Cheap to clone.
#[derive(Clone)]
pub struct AccessCache {
    db: Db,
    clock: SharedClock,
    known: Cache<TenantId, Arc<OnceCell<TenantAccess>>>,
    changes: broadcast::Sender<TenantId>,
}

/// Who has access to a tenant.
struct TenantAccess {
    read_at: Instant,
    /// Active users: their roles, and the second from which on operator-issued tokens for them are valid.
    users: HashMap<Uuid, (Role, i64)>,
    /// Those of the last minutes.
    ended_sessions: HashSet<Uuid>,
    keys: HashMap<[u8; 32], Arc<Caller>>,
}

impl TenantAccess {
    fn allows(&self, caller: &Caller) -> bool {
        let Some((role, tokens_from)) = self.users.get(&caller.user_id) else { return false };
        *role == caller.role
            && match caller.through {
                Through::Session(session) => !self.ended_sessions.contains(&session),
                Through::Token { issued_at_secs } => issued_at_secs >= *tokens_from,
                Through::ApiKey(id) => self.keys.values().any(|key| key.through == Through::ApiKey(id)),
            }
    }
}

impl AccessCache {
    pub fn new(db: Db, clock: SharedClock) -> Self {
        AccessCache { db, clock, known: Cache::new(TENANTS_MAX), changes: broadcast::channel(CHANGES_MAX).0 }
    }

    /// Error: UNAUTHENTICATED.
    pub async fn check(&self, caller: &Caller) -> Result<()> {
        let allowed = self.find(caller.tenant, || Ok(()), |standing| standing.allows(caller).then_some(())).await?;
        allowed.ok_or_else(unauthenticated)
    }

    /// Authenticates by an API key. `may_look` is consulted before the tenant's access data is reloaded for a key that is
    /// not in it, or loaded for one of an unknown tenant. Error: UNAUTHENTICATED.
    pub async fn caller_of(&self, key: &Opaque, may_look: impl Fn() -> Result<()>) -> Result<Arc<Caller>> {
        let hash = key.hash();
        let find =
            |standing: &TenantAccess| standing.keys.get(&hash).filter(|caller| standing.allows(caller)).map(Arc::clone);
        let caller = self.find(key.tenant, may_look, find).await?.ok_or_else(unauthenticated)?;
        if caller.expires_at() <= self.clock.now() { Err(unauthenticated()) } else { Ok(caller) }
    }

    /// Looks something up with `find` in the tenant's access data, reloading it when nothing is found and the data is
    /// not fresh.
    async fn find<T>(
        &self,
        tenant: TenantId,
        may_look: impl Fn() -> Result<()>,
        find: impl Fn(&TenantAccess) -> Option<T>,
    ) -> Result<Option<T>> {
        for _ in 0..2 {
            let is_known = self.known.contains_key(&tenant.at(Guard::AccessCache));
            if !is_known
                && let Err(limited) = may_look()
                && !self.is_tenant(tenant).await?
            {
                return Err(limited);
            }
            let cell = self.known.get_with(tenant.at(Guard::AccessCache), Arc::default);
            let standing = cell.get_or_try_init(|| Box::pin(self.read(tenant))).await?;
            let found = find(standing);
            if found.is_some() || standing.read_at.elapsed() < LOOK_AGAIN {
                return Ok(found);
            }
            may_look()?;
            self.known.invalidate(&tenant.at(Guard::AccessCache));
        }
        Ok(None)
    }

    async fn is_tenant(&self, tenant: TenantId) -> Result<bool> {
        let rows = self.db.query_all_tenants("SELECT 1 FROM tenants WHERE id = $1", [tenant.0.into()]).await?;
        Ok(!rows.is_empty())
    }

    async fn read(&self, tenant: TenantId) -> Result<TenantAccess> {
        let read_at = Instant::now();
        let tx = self.db.read(tenant).await?;
        let sql = "SELECT id, role, tokens_from FROM users WHERE tenant_id = $1 AND is_active";
        let mut users = HashMap::new();
        for row in tx.query(sql, []).await? {
            users.insert(get(&row, 0)?, (Role::get(&row, 1)?, get(&row, 2)?));
        }
        let ended_after = self.clock.now().0 - (ACCESS_SECS * SECOND + LOOK_BACK);
        let sql = "SELECT id FROM sessions WHERE tenant_id = $1 AND revoked_at > $2";
        let rows = tx.query(sql, [ended_after.into()]).await?;
        let ended_sessions = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
        let sql =
            "SELECT id, hash, user_id, permissions, ends_at FROM api_keys WHERE tenant_id = $1 AND revoked_at IS NULL";
        let mut keys = HashMap::new();
        for row in tx.query(sql, []).await? {
            let user_id = get(&row, 2)?;
            let (Some((role, _)), Ok(hash)) = (users.get(&user_id), get::<Vec<u8>>(&row, 1)?.try_into()) else {
                continue;
            };
            let permissions: Vec<Permission> = serde_json::from_value(get(&row, 3)?)?;
            let caller = Caller {
                tenant,
                user_id,
                role: *role,
                permissions: permissions.into_iter().filter(|p| role.permissions().contains(p)).collect(),
                expires_at_secs: get::<Option<i64>>(&row, 4)?.map_or(i64::MAX, |at| at.div_euclid(SECOND)),
                through: Through::ApiKey(get(&row, 0)?),
            };
            keys.insert(hash, Arc::new(caller));
        }
        Ok(TenantAccess { read_at, users, ended_sessions, keys })
    }

    /// Records that a user signed in as `role`: the change that admitted them may have been made by another process and
    /// not be known here yet.
    pub fn came_in(&self, tenant: TenantId, user_id: Uuid, role: Role) {
        let cell = self.known.get(&tenant.at(Guard::AccessCache));
        let known = cell.as_deref().and_then(OnceCell::get).and_then(|standing| standing.users.get(&user_id));
        if known.is_none_or(|(known, _)| *known != role) {
            self.known.invalidate(&tenant.at(Guard::AccessCache));
        }
    }

    /// Announces a change of a tenant's access data: effective here at once, in other processes when they next poll.
    pub fn changed(&self, tenant: TenantId) {
        self.known.invalidate(&tenant.at(Guard::AccessCache));
        // There may be no listeners.
        let _ = self.changes.send(tenant);
    }

    /// Waits until the caller loses access.
    pub async fn ended(&self, caller: &Caller) {
        let mut changes = self.changes.subscribe();
        loop {
            match self.check(caller).await {
                Err(Error { code: Code::Unauthenticated, .. }) => return,
                // While the database is unavailable, nobody is disconnected; retry.
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(()) => {
                    while let Ok(tenant) = changes.recv().await
                        && tenant != caller.tenant
                    {}
                }
            }
        }
    }

    /// Polls for changes by other processes, until dropped.
    pub async fn watch(self) {
        let mut epochs: HashMap<Uuid, i64> = HashMap::new();
        let mut looked_at = self.clock.now();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = self.clock.now();
            match self.look(Timestamp(looked_at.0 - LOOK_BACK)).await {
                Ok(seen) => {
                    looked_at = now;
                    for (tenant, epoch) in &seen {
                        if epochs.get(tenant) != Some(epoch) {
                            self.changed(TenantId(*tenant));
                        }
                    }
                    epochs = seen;
                }
                Err(error) => tracing::warn!(source = error.cause(), "checking for access changes failed"),
            }
        }
    }

    async fn look(&self, since: Timestamp) -> Result<HashMap<Uuid, i64>> {
        let sql = "SELECT id, standing_epoch FROM tenants WHERE standing_changed_at >= $1";
        let rows = self.db.query_all_tenants(sql, [since.into()]).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    }
}

/// Checks, in a transaction that has locked the settings, that the caller still has access: since the request arrived it
/// may have been revoked, here or by another process. Error: UNAUTHENTICATED.
pub async fn check_locked(tx: &TenantTx, caller: &Caller) -> Result<()> {
    let (holds, value): (&str, Value) = match caller.through {
        Through::Session(id) => (
            "EXISTS (SELECT 1 FROM sessions s \
             WHERE s.tenant_id = $1 AND s.id = $4 AND s.user_id = u.id AND s.revoked_at IS NULL)",
            id.into(),
        ),
        Through::ApiKey(id) => (
            "EXISTS (SELECT 1 FROM api_keys k \
             WHERE k.tenant_id = $1 AND k.id = $4 AND k.user_id = u.id AND k.revoked_at IS NULL)",
            id.into(),
        ),
        Through::Token { issued_at_secs } => ("u.tokens_from <= $4", issued_at_secs.into()),
    };
    let sql = format!(
        "SELECT 1 FROM users u WHERE u.tenant_id = $1 AND u.id = $2 AND u.is_active AND u.role = $3 AND {holds}"
    );
    let found = tx.query_one(&sql, [caller.user_id.into(), caller.role.as_str().into(), value]).await?;
    found.map(|_| ()).ok_or_else(unauthenticated)
}

/// Part of a change that grants or revokes access; [`AccessCache::changed`] is called after it has committed.
pub async fn begin_epoch(tx: &TenantTx, now: Timestamp) -> Result<()> {
    let sql = "UPDATE tenants SET standing_epoch = standing_epoch + 1, standing_changed_at = $2 WHERE id = $1";
    tx.execute(sql, [now.into()]).await?;
    Ok(())
}

fn unauthenticated() -> Error {
    Error::new(Code::Unauthenticated, "the token is no longer valid")
}
