//! Storage of the tenants' keys: `tenant_keys`.

use super::keys::INDEX_VERSION;
use crate::clock::Timestamp;
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Error, Result};
use crate::sealing::kek::{KeyName, Purpose};
use crate::sealing::{WrappedKey, WrappedKeys};

/// The stored state of a tenant's keys.
#[derive(Debug, PartialEq)]
pub enum Stored {
    /// The tenant never had keys.
    None,
    Keys(WrappedKeys),
    /// Destroyed, and with them everything they sealed.
    Erased,
}

/// One stored key.
#[derive(Debug, PartialEq)]
pub struct KeyRow {
    pub version: u32,
    pub wrapped: String,
    pub created_at: Timestamp,
    /// Since then the key only opens.
    pub retired_at: Option<Timestamp>,
}

impl KeyRow {
    pub fn is_data(&self) -> bool {
        self.version != INDEX_VERSION
    }

    /// The name the key is wrapped under.
    pub fn name(&self, TenantId(tenant): TenantId) -> KeyName {
        let purpose = if self.is_data() { Purpose::Data } else { Purpose::Index };
        KeyName { tenant, purpose, version: self.version }
    }
}

/// Reads all keys of the tenant.
pub async fn read(tx: &TenantTx) -> Result<Stored> {
    let sql = "SELECT t.erased_at, k.version, k.wrapped, k.created_at, k.retired_at FROM tenants t \
               LEFT JOIN tenant_keys k ON k.tenant_id = t.id WHERE t.id = $1 ORDER BY k.version DESC";
    let rows = tx.query(sql, []).await?;
    let first = rows.first().ok_or_else(|| Error::not_found("tenant"))?;
    if get::<Option<i64>>(first, 0)?.is_some() {
        return Ok(Stored::Erased);
    }
    if get::<Option<i64>>(first, 1)?.is_none() {
        return Ok(Stored::None);
    }
    let keys = rows.iter().map(key_from).collect::<Result<Vec<_>>>()?;
    let (mut active, mut index, mut others) = (None, None, Vec::new());
    for row in keys {
        let (is_data, is_retired) = (row.is_data(), row.retired_at.is_some());
        let key = WrappedKey { version: row.version, text: row.wrapped };
        match (is_data, is_retired) {
            (false, _) => index = Some(key),
            (true, false) if active.is_none() => active = Some(key),
            (true, _) => others.push(key),
        }
    }
    let missing = || Error::internal("a tenant without its active or its index key");
    Ok(Stored::Keys(WrappedKeys { active: active.ok_or_else(missing)?, others, index: index.ok_or_else(missing)? }))
}

/// All keys of the tenant, newest first.
pub async fn list(tx: &TenantTx) -> Result<Vec<KeyRow>> {
    let sql = "SELECT NULL, version, wrapped, created_at, retired_at FROM tenant_keys WHERE tenant_id = $1 \
               ORDER BY version DESC";
    tx.query(sql, []).await?.iter().map(key_from).collect()
}

fn key_from(row: &sea_orm::QueryResult) -> Result<KeyRow> {
    Ok(KeyRow {
        version: u32::try_from(get::<i64>(row, 1)?).map_err(Error::internal)?,
        wrapped: get(row, 2)?,
        created_at: get(row, 3)?,
        retired_at: get(row, 4)?,
    })
}

/// Stores a new, active key.
pub async fn insert(tx: &TenantTx, version: u32, wrapped: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO tenant_keys (tenant_id, version, kek, wrapped, created_at, from_position) \
               SELECT $1, $2, $3, $4, $5, position FROM ledger_heads WHERE tenant_id = $1";
    let values = [i64::from(version).into(), kek_of(wrapped).into(), wrapped.into(), now.into()];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Retires the active data keys: they only open from now on.
pub async fn retire(tx: &TenantTx, now: Timestamp) -> Result<()> {
    let sql = "UPDATE tenant_keys SET retired_at = $2 WHERE tenant_id = $1 AND version > 0 AND retired_at IS NULL";
    tx.execute(sql, [now.into()]).await?;
    Ok(())
}

/// Replaces a key by its rewrapped form; `false` when it no longer exists.
pub async fn replace(tx: &TenantTx, row: &KeyRow, wrapped: &str) -> Result<bool> {
    let sql = "UPDATE tenant_keys SET kek = $4, wrapped = $5 WHERE tenant_id = $1 AND version = $2 AND wrapped = $3";
    let values = [i64::from(row.version).into(), row.wrapped.as_str().into(), kek_of(wrapped).into(), wrapped.into()];
    Ok(tx.execute(sql, values).await? == 1)
}

/// Destroys a key.
pub async fn destroy(tx: &TenantTx, version: u32) -> Result<()> {
    let sql = "DELETE FROM tenant_keys WHERE tenant_id = $1 AND version = $2";
    tx.execute(sql, [i64::from(version).into()]).await?;
    Ok(())
}

/// Destroys all keys of the tenant, which never gets new ones.
pub async fn destroy_all(tx: &TenantTx, now: Timestamp) -> Result<()> {
    tx.execute("DELETE FROM tenant_keys WHERE tenant_id = $1", []).await?;
    tx.execute("UPDATE tenants SET erased_at = $2 WHERE id = $1", [now.into()]).await?;
    Ok(())
}

/// The key-encryption key used for wrapping: `provider:key`.
fn kek_of(wrapped: &str) -> &str {
    let end = wrapped.match_indices(':').nth(1).map_or(wrapped.len(), |(at, _)| at);
    wrapped.get(..end).unwrap_or(wrapped)
}
