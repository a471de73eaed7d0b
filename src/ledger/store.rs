//! The tenant's head, and the storage form of entries.

use sea_orm::QueryResult;

use super::changes::Head;
use super::entry::{Entry, EntryKind, Segment, lines_from_json};
use crate::db::{TenantTx, get};
use crate::error::{Error, Result};

/// Locks the tenant's ledger for writing and returns its head.
pub async fn lock_head(tx: &TenantTx) -> Result<Head> {
    head(tx, tx.for_update()).await
}

/// Locks the head and begins a new policy epoch, which invalidates what lanes and caches know of organizations and
/// products.
pub async fn begin_policy_epoch(tx: &TenantTx) -> Result<()> {
    let sql = "UPDATE ledger_heads SET policy_epoch = policy_epoch + 1 WHERE tenant_id = $1";
    if tx.execute(sql, []).await? == 1 { Ok(()) } else { Err(Error::not_found("tenant")) }
}

/// The next product number; the transaction must have locked the head.
pub async fn new_product_no(tx: &TenantTx) -> Result<i64> {
    new_number(tx, "last_product_no").await
}

/// The next number of a channel, region or category; the transaction must have locked the head.
pub async fn new_dimension_no(tx: &TenantTx) -> Result<i32> {
    i32::try_from(new_number(tx, "last_dimension_no").await?).map_err(Error::internal)
}

async fn new_number(tx: &TenantTx, column: &str) -> Result<i64> {
    let sql = format!("UPDATE ledger_heads SET {column} = {column} + 1 WHERE tenant_id = $1 RETURNING {column}");
    let row = tx.query_one(&sql, []).await?.ok_or_else(|| Error::not_found("tenant"))?;
    get(&row, 0)
}

/// The tenant's head as this transaction sees it.
pub async fn read_head(tx: &TenantTx) -> Result<Head> {
    head(tx, "").await
}

async fn head(tx: &TenantTx, lock: &str) -> Result<Head> {
    let sql = format!(
        "SELECT position, watermark, policy_epoch, last_customer_no, last_product_no, last_order_no, last_refund_no, \
         last_dimension_no, retained_from, folded, largest_sum, tail_volume, last_alert_no, alerts_due_at, \
         oldest_key, erased_customers FROM ledger_heads WHERE tenant_id = $1 {lock}"
    );
    let row = tx.query_one(&sql, []).await?.ok_or_else(|| Error::not_found("tenant"))?;
    Ok(Head {
        position: get(&row, 0)?,
        watermark: get(&row, 1)?,
        policy_epoch: get(&row, 2)?,
        last_customer_no: get(&row, 3)?,
        last_product_no: get(&row, 4)?,
        last_order_no: get(&row, 5)?,
        last_refund_no: get(&row, 6)?,
        last_dimension_no: get(&row, 7)?,
        retained_from: get(&row, 8)?,
        folded: get(&row, 9)?,
        largest_sum: get(&row, 10)?,
        tail_volume: get(&row, 11)?,
        last_alert_no: get(&row, 12)?,
        alerts_due_at: get(&row, 13)?,
        oldest_key: get(&row, 14)?,
        erased_customers: get(&row, 15)?,
    })
}

/// Stores the rollups' position.
pub async fn save_folded(tx: &TenantTx, head: &Head) -> Result<()> {
    let sql = "UPDATE ledger_heads SET folded = $2, largest_sum = $3, tail_volume = $4 WHERE tenant_id = $1";
    tx.execute(sql, [head.folded.into(), head.largest_sum.into(), head.tail_volume.into()]).await?;
    Ok(())
}

/// Columns read by [`entry_from`], of a table aliased `e`.
pub const ENTRY_COLUMNS: &str = "e.position, e.at, e.kind, e.sign, e.org_no, e.channel_no, e.region_no, e.segment, \
    e.customer_no, e.order_no, e.currency, e.amount_paid, e.amount, e.discount, e.units, e.lines";

/// Decodes an entry and its position from [`ENTRY_COLUMNS`].
pub fn entry_from(row: &QueryResult) -> Result<(i64, Entry)> {
    let entry = Entry {
        at: get(row, 1)?,
        kind: EntryKind::from_i32(get(row, 2)?).ok_or_else(|| Error::internal("an entry of an unknown kind"))?,
        sign: get(row, 3)?,
        org_no: get(row, 4)?,
        channel_no: get(row, 5)?,
        region_no: get(row, 6)?,
        segment: Segment::from_i32(get(row, 7)?).ok_or_else(|| Error::internal("an unknown customer segment"))?,
        customer_no: get(row, 8)?,
        order_no: get(row, 9)?,
        currency: get(row, 10)?,
        amount_paid: get(row, 11)?,
        amount: get(row, 12)?,
        discount: get(row, 13)?,
        units: get(row, 14)?,
        lines: lines_from_json(&get::<String>(row, 15)?)?,
    };
    Ok((get(row, 0)?, entry))
}
