//! Texts of other tables sealed with the tenant's keys: bound to the row's id, with the key's version in the column
//! `key_version`.

use uuid::Uuid;

use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::sealing::{self, AssociatedData, TenantKeys};

/// A column of sealed texts.
#[derive(Clone, Copy)]
pub struct SealedColumn {
    pub table: &'static str,
    pub column: &'static str,
}

/// Secrets with which webhook senders sign.
pub const INTEGRATION_SECRETS: SealedColumn = SealedColumn { table: "integrations", column: "secrets" };
/// Quarantined webhook bodies.
pub const QUARANTINED_BODIES: SealedColumn = SealedColumn { table: "quarantine", column: "body" };

/// All of them, for rotation.
pub const SEALED_COLUMNS: [SealedColumn; 2] = [INTEGRATION_SECRETS, QUARANTINED_BODIES];

impl SealedColumn {
    /// Seals the text for the row `id` of `tx`'s tenant; returns it with the key's version. Error: SERVICE_UNAVAILABLE,
    /// where the key was destroyed meanwhile.
    pub async fn seal(&self, keys: &TenantKeys, tx: &TenantTx, id: Uuid, text: &str) -> Result<(Vec<u8>, i64)> {
        let key = keys.data.active();
        let sql = format!("SELECT oldest_key FROM ledger_heads WHERE tenant_id = $1 {}", tx.for_update());
        let oldest = tx.query_one(&sql, []).await?.map_or(Ok(0), |row| get::<i64>(&row, 0))?;
        if i64::from(key.version()) < oldest {
            return Err(Error::new(Code::ServiceUnavailable, "the tenant's keys have just changed; try again"));
        }
        Ok((sealing::seal(key, &self.place(tx.tenant(), &id), text)?, key.version().into()))
    }

    /// Error: DECRYPTION_FAILED.
    pub fn open(&self, keys: &TenantKeys, tenant: TenantId, id: Uuid, sealed: &[u8]) -> Result<String> {
        Ok(sealing::open(&keys.data, &self.place(tenant, &id), sealed)?)
    }

    fn place<'a>(&self, tenant: TenantId, id: &'a Uuid) -> AssociatedData<'a> {
        AssociatedData { tenant: tenant.0, table: self.table, column: self.column, row: id.as_bytes() }
    }
}
