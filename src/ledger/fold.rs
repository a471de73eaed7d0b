//! Folds the ledger's tail into the rollups.

use std::collections::{BTreeSet, HashMap};

use chrono_tz::Tz;

use super::entry::Entry;
use super::organization::{Organization, list_organizations};
use super::rollup::{self, FoldError, Row};
use super::store::{Head, lock_head, read_head, save_folded};
use super::tail::Tails;
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Error, Result};

/// Tail length, in positions, that forces a fold even while events keep arriving: this many entries are cheap to add
/// when reading.
pub const TAIL_MAX: i64 = 4096;
/// Like [`TAIL_MAX`], for backfills and when more is queued than fits into a batch.
pub const CROWDED_TAIL_MAX: i64 = 16_384;
/// Entries folded before other tasks get their turn.
const ENTRIES_A_TURN: usize = 256;

/// Adds `entries`, which must follow those in the rollups, to the stored rollups. The transaction must have locked them;
/// the caller advances the head. Error: AMOUNT_OUT_OF_RANGE if a sum would exceed 64 bits.
pub(super) async fn fold(tx: &TenantTx, organizations: &[Organization], entries: &[&Entry]) -> Result<Folded> {
    let zones: HashMap<i32, Tz> = organizations.iter().map(|o| (o.org_no, o.timezone)).collect();
    let zone = |org_no| zones.get(&org_no).copied().unwrap_or(chrono_tz::UTC);
    let keys: BTreeSet<rollup::Key> =
        entries.iter().flat_map(|entry| rollup::keys(entry, zone(entry.org_no))).collect();
    let mut rows = rollup::load(tx, &keys).await?;
    for some in entries.chunks(ENTRIES_A_TURN) {
        for entry in some {
            rollup::fold(entry, zone(entry.org_no), &mut rows)?;
        }
        tokio::task::yield_now().await;
    }
    rollup::save(tx, &rows).await?;
    let volume = entries.iter().map(|entry| volume_of(entry)).sum();
    Ok(Folded { volume, largest_sum: rows.values().map(Row::largest_sum).max().unwrap_or(0) })
}

/// What was added to the rollups.
#[derive(Default)]
pub(super) struct Folded {
    /// Upper bound on what was added to any sum.
    volume: i128,
    /// The largest of the sums that have changed.
    largest_sum: i64,
}

impl Head {
    /// Advances what it says of the rollups, which now are the sums of the entries up to `position`.
    pub(super) fn advance_rollups(&mut self, position: i64, folded: &Folded) {
        self.folded = position;
        self.largest_sum = self.largest_sum.max(folded.largest_sum);
        let rest = i128::from(self.tail_volume) - folded.volume;
        self.tail_volume = if position == self.position { 0 } else { i64::try_from(rest.max(0)).unwrap_or(i64::MAX) };
    }
}

/// Folds the tenant's tail, as it is at the beginning, in a transaction of its own; batches are appended meanwhile.
/// Returns the position up to which rollups are now the sums of entries.
pub async fn fold_tail(db: &Db, tails: &Tails, tenant: TenantId) -> Result<i64> {
    let tx = db.write(tenant).await?;
    tx.lock_rollups().await?;
    let before = read_head(&tx).await?;
    if before.folded == before.position {
        return Ok(before.folded);
    }
    let folded = fold_up_to(&tx, tails, &before).await?;
    let mut head = lock_head(&tx).await?;
    if head.folded != before.folded {
        return Err(Error::internal("rollups were changed without their lock"));
    }
    head.advance_rollups(before.position, &folded);
    save_folded(&tx, &head).await?;
    tx.commit().await?;
    if head.folded == head.position {
        tails.forget(tenant);
    }
    Ok(head.folded)
}

/// Locks the rollups and the head, and folds the tail; nothing is appended to the ledger until the transaction ends.
pub async fn fold_locked(tx: &TenantTx, tails: &Tails) -> Result<()> {
    tx.lock_rollups().await?;
    let mut head = lock_head(tx).await?;
    let folded = fold_up_to(tx, tails, &head).await?;
    head.advance_rollups(head.position, &folded);
    save_folded(tx, &head).await
}

/// Folds the tail that `head` has.
async fn fold_up_to(tx: &TenantTx, tails: &Tails, head: &Head) -> Result<Folded> {
    if head.folded == head.position {
        return Ok(Folded::default());
    }
    let tail = tails.get(tx, &head.standing()).await?;
    let organizations = list_organizations(tx).await?;
    fold(tx, &organizations, &tail.entries().collect::<Vec<_>>()).await
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
