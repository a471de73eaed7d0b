//! Erasure: removes what identifies a customer, or all customers of a tenant; the numbers stay.

use uuid::Uuid;

use crate::audit::{self, Entry};
use crate::clock::Timestamp;
use crate::db::{Db, TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::integrations::quarantine::{self, Found};
use crate::ledger::store::{begin_policy_epoch, lock_head};
use crate::personal::store::{self, Stored};
use crate::personal::{Keys, erased_id};
use crate::sealing::TenantKeys;

/// Rows cleared per transaction.
const ROWS_MAX: i64 = 5_000;

/// The error for using the keys of an erased tenant.
pub fn erased() -> Error {
    Error::new(Code::Conflict, "the tenant's personal data was erased")
}

/// The assignments of an UPDATE of `customers` that remove all personal data.
const CLEARED: &str = "name = NULL, email = NULL, phone = NULL, address = NULL, email_index = NULL, phone_index = NULL, \
    key_version = NULL, details_print = NULL";

/// Erases what identifies a customer, including the quarantined deliveries found before
/// ([`quarantine::find_of_customer`]); the source's id is replaced by a keyed hash with which later events still find
/// the same customer. `false` when already erased. Error: NOT_FOUND.
pub async fn erase_customer(
    tx: &TenantTx,
    (all_keys, keys): (&Keys, &TenantKeys),
    customer_no: i64,
    found: &Found,
    now: Timestamp,
) -> Result<bool> {
    lock_head(tx).await?;
    let sql = "SELECT external_id, erased_at FROM customers WHERE tenant_id = $1 AND customer_no = $2";
    let row = tx.query_one(sql, [customer_no.into()]).await?.ok_or_else(|| Error::not_found("customer"))?;
    if get::<Option<i64>>(&row, 1)?.is_some() {
        return Ok(false);
    }
    let external_id: String = get(&row, 0)?;
    quarantine::remove_of_customer(tx, all_keys, &external_id, found).await?;
    let erased_id = erased_id(&keys.index, &external_id);
    let sql = format!(
        "UPDATE customers SET external_id = $3, erased_at = $4, {CLEARED} WHERE tenant_id = $1 AND customer_no = $2"
    );
    tx.execute(&sql, [customer_no.into(), erased_id.into(), now.into()]).await?;
    tx.execute("UPDATE ledger_heads SET erased_customers = erased_customers + 1 WHERE tenant_id = $1", []).await?;
    // Invalidates cached responses.
    begin_policy_epoch(tx).await?;
    Ok(true)
}

/// Crypto-shredding: erases what identifies the customers of a tenant, at once, by destroying its keys; the sealed
/// values are then cleared in batches. May be interrupted and repeated. Returns the number of rows cleared.
pub async fn erase_tenant(db: &Db, tenant: TenantId, now: Timestamp) -> Result<u64> {
    destroy_keys(db, tenant, now).await?;
    // Ids in their place that no source can have sent.
    let unguessable = Uuid::new_v4().simple().to_string();
    let mut cleared = 0;
    loop {
        let tx = db.write(tenant).await?;
        lock_head(&tx).await?;
        let sql = format!(
            "UPDATE customers SET external_id = 'erased:' || $4 || ':' || customer_no, erased_at = $2, {CLEARED} \
             WHERE tenant_id = $1 AND customer_no IN \
             (SELECT c.customer_no FROM customers c WHERE c.tenant_id = $1 AND c.erased_at IS NULL ORDER BY c.customer_no LIMIT $3)"
        );
        let rows = tx.execute(&sql, [now.into(), ROWS_MAX.into(), unguessable.as_str().into()]).await?;
        if rows == 0 {
            return Ok(cleared);
        }
        begin_policy_epoch(&tx).await?;
        tx.commit().await?;
        cleared += rows;
    }
}

async fn destroy_keys(db: &Db, tenant: TenantId, now: Timestamp) -> Result<()> {
    let tx = db.write(tenant).await?;
    // Nobody may create a key meanwhile.
    tx.lock_settings().await?;
    lock_head(&tx).await?;
    if store::read(&tx).await? == Stored::Erased {
        return Ok(());
    }
    store::destroy_all(&tx, now).await?;
    // Pending customer data, and the secrets of those who would send more.
    tx.execute("DELETE FROM quarantine WHERE tenant_id = $1", []).await?;
    let sql = "UPDATE integrations SET secrets = NULL, key_version = NULL, is_enabled = false WHERE tenant_id = $1";
    tx.execute(sql, []).await?;
    // Prevents processes that still hold a key from sealing.
    tx.execute("UPDATE ledger_heads SET oldest_key = $2 WHERE tenant_id = $1", [i64::MAX.into()]).await?;
    begin_policy_epoch(&tx).await?;
    audit::record_by_operator(&tx, now, Entry::of("tenant.erase", tenant.0)).await?;
    tx.commit().await
}
