//! The ledger's tail: entries not yet folded into the rollups.
//!
//! A batch only appends entries; they are folded many batches at a time ([`super::fold`]), because events that arrive
//! together mostly add to the same rows. Readers add the tail to the rollups, so they see every committed entry.
//! Entries are immutable, so cached ones are valid in every snapshot.

use std::sync::Arc;

use moka::sync::Cache;

use super::entry::{Entry, EntryKind};
use super::store::{ENTRY_COLUMNS, entry_from};
use crate::db::{Standing, TenantId, TenantTx};
use crate::error::Result;
use crate::guard::Guard;
use crate::telemetry::metrics::METRICS;

/// Entries cached per process, across all tenants.
const REMEMBERED_MAX: u64 = 500_000;

/// The entries of positions `first..=last`, in order, each with its position.
pub struct Chunk {
    pub first: i64,
    pub last: i64,
    pub entries: Arc<Vec<(i64, Entry)>>,
}

/// The entries in a range of positions, exclusive of the first.
#[derive(Default)]
pub struct Tail {
    after: i64,
    to: i64,
    chunks: Vec<Arc<Chunk>>,
}

impl Tail {
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.chunks.iter().flat_map(|chunk| chunk.entries.iter());
        entries.filter(|(position, _)| *position > self.after && *position <= self.to).map(|(_, entry)| entry)
    }
}

/// Whether an entry reverses an order. Sets without multiplicities cannot tell whether its members are then gone.
pub fn takes_back(entry: &Entry) -> bool {
    entry.kind == EntryKind::Order && entry.sign < 0
}

/// Contiguous chunks.
type Chunks = Arc<Vec<Arc<Chunk>>>;

/// The tails cached by this process. Cheap to clone.
#[derive(Clone)]
pub struct Tails {
    remembered: Cache<TenantId, Chunks>,
    /// In a write transaction: its tenant's tail, including what it appended.
    written: Option<Chunks>,
}

impl Default for Tails {
    fn default() -> Self {
        let weigh = |_: &TenantId, chunks: &Chunks| {
            let entries: usize = chunks.iter().map(|chunk| 1 + chunk.entries.len()).sum();
            u32::try_from(entries).unwrap_or(u32::MAX)
        };
        let remembered = Cache::builder().max_capacity(REMEMBERED_MAX).weigher(weigh).build();
        Tails { remembered, written: None }
    }
}

impl Tails {
    /// The entries after those in the rollups; `standing` must be what `tx` sees.
    pub async fn get(&self, tx: &TenantTx, standing: &Standing) -> Result<Tail> {
        let (after, to) = (standing.folded, standing.head.position);
        if after >= to {
            return Ok(Tail::default());
        }
        let remembered = match &self.written {
            Some(written) => Arc::clone(written),
            None => self.remembered.get(&tx.tenant().at(Guard::Tails)).unwrap_or_default(),
        };
        let mut chunks: Vec<Arc<Chunk>> = match remembered.first() {
            Some(first) if first.first <= after + 1 => remembered.iter().filter(|c| c.last > after).cloned().collect(),
            _ => Vec::new(),
        };
        let known = chunks.last().map_or(after, |chunk| chunk.last);
        METRICS.cache_was_asked("tails", known >= to);
        if known < to {
            let chunk =
                Arc::new(Chunk { first: known + 1, last: to, entries: Arc::new(read_entries(tx, known, to).await?) });
            chunks.push(Arc::clone(&chunk));
            // Not cached: a write transaction may still roll back.
            if !tx.may_write() {
                self.remembered.insert(tx.tenant().at(Guard::Tails), Arc::new(chunks.clone()));
            }
        }
        Ok(Tail { after, to, chunks })
    }

    /// Pins the whole tail, for repeated reads within a write transaction.
    pub async fn complete(self, tx: &TenantTx, standing: &Standing) -> Result<Tails> {
        let written = Arc::new(self.get(tx, standing).await?.chunks);
        Ok(Tails { written: Some(written), ..self })
    }

    /// Caches a batch committed when rollups stood at `folded`.
    pub fn remember(&self, tenant: TenantId, folded: i64, chunk: Chunk) {
        self.remembered.insert(tenant.at(Guard::Tails), self.with(tenant, folded, chunk));
    }

    /// Like [`Tails::remember`], but visible only to reads within the transaction that appended the batch.
    pub fn within(&self, tenant: TenantId, folded: i64, chunk: Chunk) -> Tails {
        Tails { written: Some(self.with(tenant, folded, chunk)), ..self.clone() }
    }

    /// If others have written in between, the known prefix is worth more than the new chunk: readers continue from it.
    /// What is known of the chunk's own positions is of a ledger that has gone back since, or will be read again.
    fn with(&self, tenant: TenantId, folded: i64, chunk: Chunk) -> Chunks {
        let remembered = self.remembered.get(&tenant.at(Guard::Tails)).unwrap_or_default();
        let is_before = |c: &&Arc<Chunk>| c.last > folded && c.last < chunk.first;
        let mut chunks: Vec<Arc<Chunk>> = remembered.iter().filter(is_before).cloned().collect();
        if chunks.last().is_none_or(|last| last.last + 1 == chunk.first) {
            chunks.push(Arc::new(chunk));
        }
        Arc::new(chunks)
    }

    /// Evicts a tenant's entries, all of which are in the rollups.
    pub fn forget(&self, tenant: TenantId) {
        self.remembered.invalidate(&tenant.at(Guard::Tails));
    }
}

/// The entries of positions after `after` up to `to`, in order.
pub async fn read_entries(tx: &TenantTx, after: i64, to: i64) -> Result<Vec<(i64, Entry)>> {
    let sql = format!(
        "SELECT {ENTRY_COLUMNS} FROM ledger_entries e WHERE e.tenant_id = $1 AND e.position > $2 AND e.position <= $3 \
         ORDER BY e.position, e.entry_no"
    );
    tx.query(&sql, [after.into(), to.into()]).await?.iter().map(entry_from).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn chunk(first: i64, last: i64) -> Chunk {
        Chunk { first, last, entries: Arc::default() }
    }

    fn places(tails: &Tails, tenant: TenantId) -> Vec<(i64, i64)> {
        let chunks = tails.remembered.get(&tenant).unwrap_or_default();
        chunks.iter().map(|chunk| (chunk.first, chunk.last)).collect()
    }

    #[test]
    fn what_is_known_of_a_tail_outlasts_a_gap() {
        let (tails, tenant) = (Tails::default(), TenantId(Uuid::nil()));
        tails.remember(tenant, 0, chunk(1, 3));
        tails.remember(tenant, 0, chunk(4, 5));
        // Another process wrote 6, and the last one has already been read.
        tails.remember(tenant, 0, chunk(7, 9));
        tails.remember(tenant, 0, chunk(4, 5));
        assert_eq!(places(&tails, tenant), [(1, 3), (4, 5)]);
        tails.remember(tenant, 3, chunk(6, 6));
        assert_eq!(places(&tails, tenant), [(4, 5), (6, 6)]);
        // Everything known has been folded.
        tails.remember(tenant, 8, chunk(9, 9));
        assert_eq!(places(&tails, tenant), [(9, 9)]);
    }
}
