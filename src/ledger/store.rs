//! The tenant's head, and the storage form of entries.

use std::sync::Arc;

use sea_orm::QueryResult;

use super::entry::{Entry, EntryKind, Segment, lines_from_json};
use crate::db::{Standing, TenantTx, get};
use crate::error::{Error, Result};
use crate::stream::CommittedBatch;

/// The tenant's row that writers lock: the newest position and the last numbers assigned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    pub position: i64,
    /// Rollups are the sums of the entries up to this position; later entries are the tail.
    pub folded: i64,
    /// Upper bound on every sum in the rollups.
    pub largest_sum: i64,
    /// Upper bound on what the tail adds to any sum.
    pub tail_volume: i64,
    pub watermark: Option<i64>,
    pub policy_epoch: i64,
    pub last_customer_no: i64,
    pub last_product_no: i64,
    pub last_order_no: i64,
    pub last_refund_no: i64,
    pub last_dimension_no: i64,
    pub last_alert_no: i64,
    /// When time alone may next change an alert rule; `None` without rules.
    pub alerts_due_at: Option<i64>,
    /// Months before this were dropped by retention.
    pub retained_from: Option<i64>,
    /// Data keys of older versions have been destroyed.
    pub oldest_key: i64,
    pub erased_customers: i64,
}

impl Head {
    /// The part of the head that answers depend on.
    pub fn to_db(&self) -> crate::db::Head {
        crate::db::Head { position: self.position, policy_epoch: self.policy_epoch, last_alert_no: self.last_alert_no }
    }

    /// The part of the head that readers need.
    pub fn standing(&self) -> Standing {
        Standing {
            head: self.to_db(),
            folded: self.folded,
            watermark: self.watermark,
            retained_from: self.retained_from,
            last_product_no: self.last_product_no,
            last_dimension_no: self.last_dimension_no,
        }
    }

    /// What is published when the ledger has come here: the `entries` from position `first` on.
    pub fn batch(&self, first: i64, entries: Option<Arc<Vec<(i64, Entry)>>>) -> CommittedBatch {
        CommittedBatch {
            first,
            last: self.position,
            watermark: self.watermark,
            policy_epoch: self.policy_epoch,
            last_alert_no: self.last_alert_no,
            entries,
        }
    }
}

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
        kind: EntryKind::from_repr(get(row, 2)?).ok_or_else(|| Error::internal("an entry of an unknown kind"))?,
        sign: get(row, 3)?,
        org_no: get(row, 4)?,
        channel_no: get(row, 5)?,
        region_no: get(row, 6)?,
        segment: Segment::from_repr(get(row, 7)?).ok_or_else(|| Error::internal("an unknown customer segment"))?,
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
