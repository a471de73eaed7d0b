//! Folds the ledger's tail into the rollups.

use std::collections::{BTreeSet, HashMap};

use chrono_tz::Tz;

use super::entry::Entry;
use super::organization::{Organization, list_organizations};
use super::rollup::{self, FoldError, Row};
use super::store::{Head, lock_head, save_folded};
use super::tail::Tails;
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Error, Result};

/// Tail length, in positions, that forces a fold even while events keep arriving: this many entries are cheap to add
/// when reading.
pub const TAIL_MAX: i64 = 4096;
/// Like [`TAIL_MAX`], for backfills and when more is queued than fits into a batch.
pub const CROWDED_TAIL_MAX: i64 = 16_384;

/// Folds `entries`, which must be all those after `head.folded`, into the stored rollups and advances `head`, which the
/// caller stores. Error: AMOUNT_OUT_OF_RANGE if a sum would exceed 64 bits.
pub(super) async fn fold(
    tx: &TenantTx,
    head: &mut Head,
    organizations: &[Organization],
    entries: &[&Entry],
) -> Result<()> {
    let zones: HashMap<i32, Tz> = organizations.iter().map(|o| (o.org_no, o.timezone)).collect();
    let zone = |org_no| zones.get(&org_no).copied().unwrap_or(chrono_tz::UTC);
    let keys: BTreeSet<rollup::Key> =
        entries.iter().flat_map(|entry| rollup::keys(entry, zone(entry.org_no))).collect();
    let mut rows = rollup::load(tx, &keys).await?;
    for entry in entries {
        rollup::fold(entry, zone(entry.org_no), &mut rows)?;
    }
    rollup::save(tx, &rows).await?;
    head.folded = head.position;
    head.largest_sum = rows.values().map(Row::largest_sum).max().unwrap_or(0).max(head.largest_sum);
    head.tail_volume = 0;
    Ok(())
}

/// Folds the tenant's tail in its own transaction.
pub async fn fold_tail(db: &Db, tails: &Tails, tenant: TenantId) -> Result<()> {
    let tx = db.write(tenant).await?;
    fold_locked(&tx, tails).await?;
    tx.commit().await?;
    tails.forget(tenant);
    Ok(())
}

/// Locks the head and folds the tail; nothing is appended to the ledger until the transaction ends.
pub async fn fold_locked(tx: &TenantTx, tails: &Tails) -> Result<()> {
    let mut head = lock_head(tx).await?;
    if head.folded == head.position {
        return Ok(());
    }
    let tail = tails.get(tx, &head).await?;
    let organizations = list_organizations(tx).await?;
    fold(tx, &mut head, &organizations, &tail.entries().collect::<Vec<_>>()).await?;
    save_folded(tx, &head).await
}

/// Upper bound on what one entry adds to any sum.
pub fn volume_of(entry: &Entry) -> i128 {
    let lines = entry.lines.iter().map(|l| i128::from(l.amount.0.abs()) + i128::from(l.discount.0.abs()));
    let units = i128::from(entry.units.abs()) + entry.lines.iter().map(|l| i128::from(l.units.abs())).sum::<i128>();
    i128::from(entry.amount.0.abs()) + i128::from(entry.discount.0.abs()) + lines.sum::<i128>() + units + 1
}

impl From<FoldError> for Error {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::OutOfRange => Error::sum_out_of_range(),
            FoldError::Inconsistent => Error::internal(error),
        }
    }
}
