//! Response cache, keyed by the request and the caller's tenant and permissions. A cached response is served only if
//! the head (ledger position and policy epoch), read after the request arrived, is still the one it was computed from.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::auth::{Caller, Permission};
use crate::clock::Timestamp;
use crate::db::{Head, TenantId};
use crate::guard::Guard;

/// Memory limit of the cache.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a response stays in memory, as it may contain personal data.
const TIME_MAX: Duration = Duration::from_secs(600);

/// How long a response stays valid while nothing is written: indefinitely, or until a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    pub head: Head,
    pub until: Option<Timestamp>,
    /// Contains personal data that was encrypted: not to be served while the keys cannot be used.
    pub is_personal: bool,
}

impl Freshness {
    /// Combines two parts of one response; `None` when they were computed from different heads.
    pub fn and(self, other: Freshness) -> Option<Freshness> {
        let until = [self.until, other.until].into_iter().flatten().min();
        let is_personal = self.is_personal || other.is_personal;
        (self.head == other.head).then_some(Freshness { head: self.head, until, is_personal })
    }

    /// Whether the response is still valid.
    pub fn holds(&self, head: Head, now: Timestamp) -> bool {
        self.head == head && self.until.is_none_or(|until| now < until)
    }
}

/// The request and who sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: TenantId,
    permissions: Vec<Permission>,
    request: [u8; 32],
}

impl Key {
    /// `method` is the HTTP method, `request` the body or the query string.
    pub fn new(caller: &Caller, method: &str, request: &[u8]) -> Self {
        let request = Sha256::new().chain_update(method).chain_update([0]).chain_update(request).finalize().into();
        Key { tenant: caller.tenant.at(Guard::ResponseCache), permissions: caller.permissions.clone(), request }
    }
}

/// The cached responses; least recently used ones are evicted first.
#[derive(Clone)]
pub struct ResponseCache(Cache<Key, Arc<(Freshness, Bytes)>>);

impl Default for ResponseCache {
    fn default() -> Self {
        let weight = |_: &Key, entry: &Arc<(Freshness, Bytes)>| u32::try_from(entry.1.len() + 256).unwrap_or(u32::MAX);
        ResponseCache(Cache::builder().max_capacity(BYTES_MAX).time_to_live(TIME_MAX).weigher(weight).build())
    }
}

impl ResponseCache {
    pub fn get(&self, key: &Key) -> Option<Arc<(Freshness, Bytes)>> {
        self.0.get(key)
    }

    pub fn put(&self, key: Key, freshness: Freshness, body: Bytes) {
        self.0.insert(key, Arc::new((freshness, body)));
    }
}
