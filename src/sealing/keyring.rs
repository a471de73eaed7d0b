//! Cache of the tenants' unwrapped keys, for some minutes.
//!
//! Keys are refreshed at half of their lifetime. While the key-encryption key is unreachable, cached keys serve for the
//! rest of it, and one request at a time retries every few seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::index::IndexKey;
use super::kek::{KekError, KeyEncryption, KeyName, Purpose};
use super::key::{DataKey, DataKeys, KeyBytes};
use crate::guard::Guard;

/// Lifetime of an unwrapped key. A version that was active may still seal in other processes for this time: it must not
/// be destroyed before.
pub const KEYS_TTL_MS: i64 = 10 * 60 * 1000;
const RENEW_AFTER_MS: i64 = KEYS_TTL_MS / 2;
/// The pause after a failure.
const RETRY_AFTER_MS: i64 = 5_000;

/// A key in stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    pub version: u32,
    pub text: String,
}

/// All keys of a tenant in stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeys {
    /// The data key that seals.
    pub active: WrappedKey,
    /// Data keys that only open, in any stable order.
    pub others: Vec<WrappedKey>,
    pub index: WrappedKey,
}

/// All keys of a tenant, ready for use.
#[derive(Debug)]
pub struct TenantKeys {
    pub data: DataKeys,
    pub index: IndexKey,
}

/// Cached keys.
#[derive(Clone, Debug)]
pub struct Held {
    pub keys: Arc<TenantKeys>,
    /// Why they could not be refreshed: they expire soon, and lack versions added since.
    pub trouble: Option<KekError>,
}

/// The keys of recently active tenants. Times are milliseconds of a monotonic clock.
pub struct Keyring {
    kek: Arc<dyn KeyEncryption>,
    slots: Mutex<HashMap<Uuid, Arc<Slot>>>,
}

/// One tenant.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// Held while the key-encryption key is in use, so that concurrent requests share one call.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    unwrapped: Option<Unwrapped>,
    /// Why the last refresh failed.
    failure: Option<KekError>,
    /// No refresh before this time.
    ask_at_ms: i64,
}

struct Unwrapped {
    keys: Arc<TenantKeys>,
    /// The stored form they were unwrapped from.
    wrapped: WrappedKeys,
    expires_at_ms: i64,
}

impl Keyring {
    pub fn new(kek: Arc<dyn KeyEncryption>) -> Self {
        Keyring { kek, slots: Mutex::default() }
    }

    /// The tenant's keys if cached and not due for a refresh. Otherwise read them from storage and [`load`](Self::load)
    /// them; likewise when a value has a version that they lack, as another process may have rotated.
    pub fn find(&self, tenant: Uuid, now_ms: i64) -> Option<Arc<TenantKeys>> {
        let slot = lock(&self.slots).get(&Guard::Keyring.of(tenant)).cloned()?;
        let state = lock(&slot.state);
        state.unexpired(now_ms).filter(|_| now_ms < state.ask_at_ms).map(|unwrapped| Arc::clone(&unwrapped.keys))
    }

    /// The tenant's keys from their stored form, unwrapped unless that was just done. Errors where nothing is cached:
    /// why the key-encryption key is unavailable, or what is wrong with a stored key.
    pub async fn load(&self, tenant: Uuid, wrapped: &WrappedKeys, now_ms: i64) -> Result<Held, KekError> {
        let slot = Arc::clone(lock(&self.slots).entry(Guard::Keyring.of(tenant)).or_default());
        let _asking = slot.asking.lock().await;
        if let Some(known) = lock(&slot.state).begin(wrapped, now_ms) {
            return known;
        }
        let unwrapped = self.unwrap_all(tenant, wrapped).await;
        lock(&slot.state).end(unwrapped, wrapped, now_ms)
    }

    /// Evicts the tenant's keys, as when the tenant was erased.
    pub fn forget(&self, tenant: Uuid) {
        lock(&self.slots).remove(&Guard::Keyring.of(tenant));
    }

    /// Evicts expired keys; to be called every minute or so, as they may never be requested again.
    pub fn drop_expired(&self, now_ms: i64) {
        lock(&self.slots).retain(|_, slot| {
            let mut state = lock(&slot.state);
            state.unwrapped.take_if(|unwrapped| now_ms >= unwrapped.expires_at_ms);
            state.unwrapped.is_some() || now_ms < state.ask_at_ms
        });
    }

    async fn unwrap_all(&self, tenant: Uuid, wrapped: &WrappedKeys) -> Result<TenantKeys, KekError> {
        let active = self.unwrap_data_key(tenant, &wrapped.active).await?;
        let mut others = Vec::with_capacity(wrapped.others.len());
        for key in &wrapped.others {
            match self.unwrap_data_key(tenant, key).await {
                Ok(key) => others.push(key),
                // Only what it sealed is lost.
                Err(error @ KekError::BadWrapped(_)) => {
                    tracing::error!(%tenant, version = key.version, %error, "a retired data key cannot be unwrapped");
                }
                Err(error) => return Err(error),
            }
        }
        let index = IndexKey::new(self.unwrap_key(tenant, Purpose::Index, &wrapped.index).await?);
        Ok(TenantKeys { data: DataKeys::new(active, others), index })
    }

    async fn unwrap_data_key(&self, tenant: Uuid, key: &WrappedKey) -> Result<DataKey, KekError> {
        Ok(DataKey::new(key.version, &self.unwrap_key(tenant, Purpose::Data, key).await?))
    }

    async fn unwrap_key(&self, tenant: Uuid, purpose: Purpose, key: &WrappedKey) -> Result<KeyBytes, KekError> {
        let unwrapped = self.kek.unwrap(&KeyName { tenant, purpose, version: key.version }, &key.text).await;
        unwrapped.map_err(|error| match error {
            KekError::BadWrapped(why) => KekError::BadWrapped(format!("{why} (version {})", key.version)),
            error => error,
        })
    }
}

impl State {
    fn unexpired(&self, now_ms: i64) -> Option<&Unwrapped> {
        self.unwrapped.as_ref().filter(|unwrapped| now_ms < unwrapped.expires_at_ms)
    }

    fn held(&self, now_ms: i64) -> Option<(Held, &WrappedKeys)> {
        let unwrapped = self.unexpired(now_ms)?;
        let held = Held { keys: Arc::clone(&unwrapped.keys), trouble: self.failure.clone() };
        Some((held, &unwrapped.wrapped))
    }

    /// The result without a refresh; `None` if one is due.
    fn begin(&mut self, wrapped: &WrappedKeys, now_ms: i64) -> Option<Result<Held, KekError>> {
        let held = self.held(now_ms);
        if now_ms >= self.ask_at_ms {
            if held.is_some() {
                // While this request refreshes, others use the cached keys.
                self.ask_at_ms = now_ms.saturating_add(RETRY_AFTER_MS);
            }
            return None;
        }
        match (held, &self.failure) {
            (Some((held, of)), failure) if of == wrapped || failure.is_some() => Some(Ok(held)),
            (None, Some(failure)) => Some(Err(failure.clone())),
            _ => None,
        }
    }

    fn end(
        &mut self,
        unwrapped: Result<TenantKeys, KekError>,
        wrapped: &WrappedKeys,
        now_ms: i64,
    ) -> Result<Held, KekError> {
        match unwrapped {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self = State {
                    unwrapped: Some(Unwrapped {
                        keys: Arc::clone(&keys),
                        wrapped: wrapped.clone(),
                        expires_at_ms: now_ms.saturating_add(KEYS_TTL_MS),
                    }),
                    failure: None,
                    ask_at_ms: now_ms.saturating_add(RENEW_AFTER_MS),
                };
                Ok(Held { keys, trouble: None })
            }
            Err(failure) => {
                self.ask_at_ms = now_ms.saturating_add(RETRY_AFTER_MS);
                self.failure = Some(failure.clone());
                self.held(now_ms).map(|(held, _)| held).ok_or(failure)
            }
        }
    }
}

/// No panic leaves the state inconsistent, so a poisoned lock can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
