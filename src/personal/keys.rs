//! Cache of the tenants' unwrapped keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::store::{self, Stored};
use crate::audit::{self, Entry};
use crate::clock::SharedClock;
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Error, Result};
use crate::sealing::kek::{KeyEncryption, KeyName, Purpose};
use crate::sealing::{Held, Keyring, TenantKeys, generate_key};

/// The version under which the index key is stored; data keys start at 1.
pub const INDEX_VERSION: u32 = 0;

/// Unwraps tenants' keys, caches them for some minutes, and creates missing ones. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

/// A tenant's keys, or why there are none.
pub enum Access {
    Keys(Held),
    /// The tenant never had keys: nothing is sealed.
    Never,
    /// Destroyed, and with them everything they sealed.
    Erased,
}

struct Shared {
    db: Db,
    clock: SharedClock,
    kek: Arc<dyn KeyEncryption>,
    keyring: Keyring,
    /// The latest time seen: the clock may go back, which would otherwise extend the keys' lifetime.
    latest_ms: AtomicI64,
}

impl Keys {
    pub fn new(db: Db, clock: SharedClock, kek: Arc<dyn KeyEncryption>) -> Self {
        let keyring = Keyring::new(Arc::clone(&kek));
        Keys(Arc::new(Shared { db, clock, kek, keyring, latest_ms: AtomicI64::new(i64::MIN) }))
    }

    fn now_ms(&self) -> i64 {
        let now = self.0.clock.now().0 / 1000;
        self.0.latest_ms.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// The tenant's keys if cached; otherwise they have to be [loaded](Self::load).
    pub fn find(&self, tenant: TenantId) -> Option<Arc<TenantKeys>> {
        self.0.keyring.find(tenant.0, self.now_ms())
    }

    /// The tenant's keys as seen by `tx`. Errors: SERVICE_UNAVAILABLE while the key-encryption key is unreachable;
    /// DECRYPTION_FAILED when a stored key was tampered with.
    pub async fn load(&self, tx: &TenantTx) -> Result<Access> {
        let now_ms = self.now_ms();
        let access = match store::read(tx).await? {
            Stored::Keys(wrapped) => {
                let held = self.0.keyring.load(tx.tenant().0, &wrapped, now_ms).await?;
                if let Some(trouble) = &held.trouble {
                    tracing::warn!(tenant = %tx.tenant().0, %trouble, "cached keys not renewed before they expire");
                }
                return Ok(Access::Keys(held));
            }
            Stored::None => Access::Never,
            Stored::Erased => Access::Erased,
        };
        self.forget(tx.tenant());
        Ok(access)
    }

    /// The tenant's keys, created if there were never any; `None` when the tenant was erased. Must not be called within
    /// a transaction. Errors as for [`load`](Self::load).
    pub async fn get(&self, tenant: TenantId) -> Result<Option<Arc<TenantKeys>>> {
        if let Some(keys) = self.find(tenant) {
            return Ok(Some(keys));
        }
        let mut access = self.load(&self.0.db.read(tenant).await?).await?;
        if matches!(access, Access::Never) {
            self.make(tenant).await?;
            access = self.load(&self.0.db.read(tenant).await?).await?;
        }
        match access {
            Access::Keys(held) => Ok(Some(held.keys)),
            Access::Erased => Ok(None),
            Access::Never => Err(Error::internal("the keys that were made are not there")),
        }
    }

    /// Creates a tenant's first keys, unless another process has meanwhile.
    async fn make(&self, tenant: TenantId) -> Result<()> {
        let index = self.wrap_new(tenant, Purpose::Index, INDEX_VERSION).await?;
        let data = self.wrap_new(tenant, Purpose::Data, INDEX_VERSION + 1).await?;
        let tx = self.0.db.write(tenant).await?;
        tx.lock_settings().await?;
        let now = self.0.clock.now();
        if store::read(&tx).await? == Stored::None {
            for (version, wrapped) in [(INDEX_VERSION, index), (INDEX_VERSION + 1, data)] {
                store::insert(&tx, version, &wrapped, now).await?;
            }
            audit::record_by_operator(&tx, now, Entry::of("data-key.create", INDEX_VERSION + 1)).await?;
        }
        tx.commit().await
    }

    /// Generates and wraps a key.
    pub async fn wrap_new(&self, tenant: TenantId, purpose: Purpose, version: u32) -> Result<String> {
        let key = generate_key().map_err(Error::internal)?;
        Ok(self.0.kek.wrap(&KeyName { tenant: tenant.0, purpose, version }, &key).await?)
    }

    /// Evicts the tenant's keys in this process.
    pub fn forget(&self, tenant: TenantId) {
        self.0.keyring.forget(tenant.0);
    }

    /// Evicts expired keys.
    pub fn drop_expired(&self) {
        self.0.keyring.drop_expired(self.now_ms());
    }
}
