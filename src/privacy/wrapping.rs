//! Wrapping of the tenants' keys: which key-encryption keys were used, whether the configured one can unwrap them, and
//! rewrapping after its rotation. The tenants' keys themselves do not change.

use uuid::Uuid;

use crate::db::{Db, TenantId, get};
use crate::error::{Error, Result};
use crate::personal::store;
use crate::sealing::generate_key;
use crate::sealing::kek::{KekError, KeyEncryption, KeyName, Purpose};

/// How many stored keys [`check`] tries for each key-encryption key.
const TRIED_MAX: i64 = 10;

/// The result of [`rewrap`].
pub struct Rewrapped {
    pub count: u64,
    /// Versions that do not unwrap, and why; they are left as they are.
    pub failed: Vec<(u32, KekError)>,
}

/// Rewraps all keys of a tenant with the current key-encryption key. May be interrupted and repeated.
pub async fn rewrap(db: &Db, kek: &dyn KeyEncryption, tenant: TenantId) -> Result<Rewrapped> {
    let rows = store::list(&db.read(tenant).await?).await?;
    let (mut wrapped, mut failed) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        match kek.rewrap(&row.name(tenant), &row.wrapped).await {
            Ok(text) => wrapped.push((row, text)),
            Err(error @ (KekError::BadWrapped(_) | KekError::UnknownKek(_))) => failed.push((row.version, error)),
            Err(error) => return Err(error.into()),
        }
    }
    let tx = db.write(tenant).await?;
    let mut count = 0;
    for (row, wrapped) in &wrapped {
        count += u64::from(store::replace(&tx, row, wrapped).await?);
    }
    tx.commit().await?;
    Ok(Rewrapped { count, failed })
}

/// The key-encryption keys in use: `provider:key`, and the number of tenant keys wrapped by each.
pub async fn list_keks(db: &Db) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT kek, COUNT(*) FROM tenant_keys GROUP BY kek ORDER BY kek";
    db.query_all_tenants(sql, []).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// Checks that the key-encryption key works and can unwrap what is stored: for each key used for wrapping, one key of
/// one tenant. A stored key that was damaged is logged, unless none unwraps.
pub async fn check(db: &Db, kek: &dyn KeyEncryption) -> Result<(), CheckError> {
    let name = KeyName { tenant: Uuid::nil(), purpose: Purpose::Index, version: 0 };
    let key = generate_key().map_err(KekError::from)?;
    kek.unwrap(&name, &kek.wrap(&name, &key).await?).await?;
    let (mut unwraps, mut damaged) = (false, None);
    for (wrapper, _) in list_keks(db).await? {
        let sql = "SELECT tenant_id, version FROM tenant_keys WHERE kek = $1 ORDER BY tenant_id, version LIMIT $2";
        for found in db.query_all_tenants(sql, [wrapper.into(), TRIED_MAX.into()]).await? {
            let (tenant, version) = (TenantId(get(&found, 0)?), get::<i64>(&found, 1)?);
            let stored = store::list(&db.read(tenant).await?).await?;
            let Some(row) = stored.iter().find(|row| i64::from(row.version) == version) else { continue };
            match kek.unwrap(&row.name(tenant), &row.wrapped).await {
                Ok(_) => {
                    unwraps = true;
                    break;
                }
                Err(error @ KekError::BadWrapped(_)) => {
                    tracing::error!(tenant = %tenant.0, version, %error, "a stored key cannot be unwrapped");
                    damaged = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    damaged.filter(|_| !unwraps).map_or(Ok(()), |error| Err(error.into()))
}

/// Why [`check`] failed.
#[derive(Debug)]
pub enum CheckError {
    Kek(KekError),
    Stored(Error),
}

impl From<KekError> for CheckError {
    fn from(error: KekError) -> Self {
        CheckError::Kek(error)
    }
}

impl From<Error> for CheckError {
    fn from(error: Error) -> Self {
        CheckError::Stored(error)
    }
}
