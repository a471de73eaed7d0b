//! Wrapping of the tenants' keys: which key-encryption keys were used, whether the configured one can unwrap them, and
//! rewrapping after its rotation. The tenants' keys themselves do not change.

use uuid::Uuid;

use crate::db::{Db, TenantId, get};
use crate::error::{Error, Result};
use crate::personal::store;
use crate::sealing::generate_key;
use crate::sealing::kek::{KekError, KeyEncryption, KeyName, Purpose};

/// Rewraps all keys of a tenant with the current key-encryption key. May be interrupted and repeated. Returns their
/// number.
pub async fn rewrap(db: &Db, kek: &dyn KeyEncryption, tenant: TenantId) -> Result<u64> {
    let rows = store::list(&db.read(tenant).await?).await?;
    let mut wrapped = Vec::with_capacity(rows.len());
    for row in &rows {
        wrapped.push(kek.rewrap(&row.name(tenant), &row.wrapped).await?);
    }
    let tx = db.write(tenant).await?;
    let mut count = 0;
    for (row, wrapped) in rows.iter().zip(&wrapped) {
        count += u64::from(store::replace(&tx, row, wrapped).await?);
    }
    tx.commit().await?;
    Ok(count)
}

/// The key-encryption keys in use: `provider:key`, and the number of tenant keys wrapped by each.
pub async fn list_keks(db: &Db) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT kek, COUNT(*) FROM tenant_keys GROUP BY kek ORDER BY kek";
    db.query_all_tenants(sql, []).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// Checks that the key-encryption key works and can unwrap what is stored: for each key used for wrapping, one key of
/// one tenant.
pub async fn check(db: &Db, kek: &dyn KeyEncryption) -> Result<(), CheckError> {
    let name = KeyName { tenant: Uuid::nil(), purpose: Purpose::Index, version: 0 };
    let key = generate_key().map_err(KekError::from)?;
    kek.unwrap(&name, &kek.wrap(&name, &key).await?).await?;
    for (wrapper, _) in list_keks(db).await? {
        let sql = "SELECT tenant_id, version FROM tenant_keys WHERE kek = $1 LIMIT 1";
        let found = db.query_all_tenants(sql, [wrapper.into()]).await?;
        let Some(found) = found.first() else { continue };
        let (tenant, version) = (TenantId(get(found, 0)?), get::<i64>(found, 1)?);
        let stored = store::list(&db.read(tenant).await?).await?;
        if let Some(row) = stored.iter().find(|row| i64::from(row.version) == version) {
            kek.unwrap(&row.name(tenant), &row.wrapped).await?;
        }
    }
    Ok(())
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
