//! Sums of day rollups, without their sets, cached per process.
//!
//! Only a fold changes them, so those read while rollups stood at a position are valid in every snapshot in which they
//! still stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moka::sync::Cache;

use super::store::load_sums;
use super::{Key, Level, Row, SlotRange};
use crate::db::{TenantId, TenantTx};
use crate::error::Result;
use crate::guard::Guard;
use crate::telemetry::metrics::METRICS;

/// Consecutive days that are cached together.
const BLOCK_DAYS: i32 = 32;
/// Maximum blocks of a question.
const BLOCKS_MAX: usize = 256;
/// Maximum rows of a block: beyond, it takes the database less time to add up than to send them.
const ROWS_MAX: usize = 4_000;
/// Maximum blocks read at once.
const READ_BLOCKS_MAX: usize = 5;
/// Memory limit of the cache.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Some days of an organization.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Block {
    org_no: i32,
    number: i32,
}

impl Block {
    fn of((key, _): &(Key, Row)) -> Block {
        Block { org_no: key.org_no, number: key.slot.div_euclid(BLOCK_DAYS) }
    }

    /// The blocks that a range is in.
    fn all(range: SlotRange) -> impl Iterator<Item = Block> {
        let numbers = range.from.div_euclid(BLOCK_DAYS)..=(range.to - 1).div_euclid(BLOCK_DAYS);
        numbers.map(move |number| Block { org_no: range.org_no, number })
    }

    fn range(self) -> SlotRange {
        let from = self.number * BLOCK_DAYS;
        SlotRange { org_no: self.org_no, by_day: true, from, to: from + BLOCK_DAYS }
    }
}

/// Rows in ascending order of days.
type Rows = Arc<[(Key, Row)]>;

#[derive(Clone)]
enum Cached {
    /// The rows when rollups stood at this position.
    Rows(i64, Rows),
    /// There are too many, and rows are never removed.
    TooMany,
}

/// The sums cached by this process. Cheap to clone.
#[derive(Clone)]
pub struct DaySums {
    cache: Cache<(TenantId, Level, Block), Cached>,
    rows_max: usize,
}

impl Default for DaySums {
    fn default() -> Self {
        DaySums::limited(ROWS_MAX)
    }
}

impl DaySums {
    /// With another limit on the rows of a block.
    pub fn limited(rows_max: usize) -> Self {
        let weigh = |_: &(TenantId, Level, Block), cached: &Cached| {
            let rows = match cached {
                Cached::Rows(_, rows) => rows.len(),
                Cached::TooMany => 0,
            };
            u32::try_from(128 + rows * size_of::<(Key, Row)>()).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(BYTES_MAX).weigher(weigh).support_invalidation_closures();
        DaySums { cache: cache.build(), rows_max }
    }

    /// Evicts a tenant's rows, of a ledger that has gone back to an earlier state.
    pub fn forget(&self, tenant: TenantId) {
        let tenant = tenant.at(Guard::Days);
        // Closures are supported, so it cannot fail.
        drop(self.cache.invalidate_entries_if(move |(of, ..), _| *of == tenant));
    }

    /// The rows of ranges of days at a level, in the snapshot of `tx`, in which rollups stand at `folded`. `None` if
    /// there are too many, or they are missing in a transaction that may write: what it reads cannot be cached, as it may
    /// still roll back.
    pub async fn get(
        &self,
        tx: &TenantTx,
        folded: i64,
        level: Level,
        ranges: Vec<SlotRange>,
    ) -> Result<Option<DayRows>> {
        let tenant = tx.tenant().at(Guard::Days);
        let mut asked = BTreeSet::new();
        for block in ranges.iter().flat_map(|range| Block::all(*range)) {
            asked.insert(block);
            if asked.len() > BLOCKS_MAX {
                return Ok(None);
            }
        }
        let (mut blocks, mut missing) = (BTreeMap::new(), Vec::new());
        for block in asked {
            match self.cache.get(&(tenant, level, block)) {
                Some(Cached::TooMany) => return Ok(None),
                Some(Cached::Rows(position, rows)) if position == folded => drop(blocks.insert(block, rows)),
                _ => missing.push(block),
            }
        }
        METRICS.cache_was_asked("days", missing.is_empty());
        if missing.is_empty() {
            return Ok(Some(DayRows { ranges, blocks }));
        }
        if tx.may_write() {
            return Ok(None);
        }
        let of_missing: Vec<SlotRange> = missing.iter().map(|block| block.range()).collect();
        let rows_max = (self.rows_max + 1) * missing.len().min(READ_BLOCKS_MAX);
        let rows = load_sums(tx, level, &of_missing, rows_max).await?;
        // The block in which reading ended is incomplete, and all after it were not read.
        let cut = rows.last().filter(|_| rows.len() == rows_max).map(Block::of);
        let mut is_complete = true;
        for block in missing {
            let from = rows.partition_point(|row| Block::of(row) < block);
            let to = rows.partition_point(|row| Block::of(row) <= block);
            let cached = if to - from > self.rows_max {
                Cached::TooMany
            } else if cut.is_none_or(|cut| block < cut) {
                Cached::Rows(folded, rows[from..to].into())
            } else {
                is_complete = false;
                continue;
            };
            match &cached {
                Cached::Rows(_, rows) => drop(blocks.insert(block, Arc::clone(rows))),
                Cached::TooMany => is_complete = false,
            }
            self.cache.insert((tenant, level, block), cached);
        }
        Ok(is_complete.then_some(DayRows { ranges, blocks }))
    }
}

/// Rows of ranges of days.
pub struct DayRows {
    ranges: Vec<SlotRange>,
    blocks: BTreeMap<Block, Rows>,
}

impl DayRows {
    pub fn iter(&self) -> impl Iterator<Item = &(Key, Row)> {
        self.ranges.iter().flat_map(|range| {
            let rows = Block::all(*range).filter_map(|block| self.blocks.get(&block)).flat_map(|rows| rows.iter());
            rows.skip_while(|(key, _)| key.slot < range.from).take_while(|(key, _)| key.slot < range.to)
        })
    }
}
