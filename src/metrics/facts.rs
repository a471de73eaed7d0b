//! The ledger state an answer is read from.

use std::borrow::Cow;

use super::group::GroupBy;
use super::period::Span;
use super::ranges::{Ranges, round_up};
use crate::clock::Timestamp;
use crate::db::{Standing, TenantTx};
use crate::error::{Code, Error, Result};
use crate::ledger::entry::Entry;
use crate::ledger::memory::Memory;
use crate::ledger::rollup::Level;
use crate::ledger::rollup::days::{DayRows, DaySums};
use crate::ledger::store::{ENTRY_COLUMNS, entry_from};
use crate::ledger::tail::Tail;

/// The ledger state to read.
pub enum Facts {
    /// The newest: the rollups plus the unfolded tail.
    Newest(Newest),
    /// The entries up to this position.
    AsOf(i64),
    /// These entries, with their positions, cover everything that is read.
    Entries(Vec<(i64, Entry)>),
}

pub struct Newest {
    pub tail: Tail,
    /// The position that rollups stand at.
    folded: i64,
    watermark: Option<i64>,
    days: DaySums,
}

impl Newest {
    /// Bucket boundaries between which there is the same. Where nothing lies after the last one, a slot that it cuts, as
    /// now does, is read as a whole, instead of entry by entry.
    pub fn padded<'a>(&self, boundaries: &'a [Timestamp]) -> Cow<'a, [Timestamp]> {
        match boundaries.split_last() {
            Some((end, before)) if self.watermark.is_some_and(|newest| newest < end.0) && round_up(*end) != *end => {
                Cow::Owned([before, &[round_up(*end)]].concat())
            }
            _ => Cow::Borrowed(boundaries),
        }
    }

    /// The rows of days without their sets; `None` if there are too many.
    pub async fn days(&self, tx: &TenantTx, level: Level, ranges: &Ranges) -> Result<Option<DayRows>> {
        self.days.get(tx, self.folded, level, ranges.days().copied().collect()).await
    }
}

impl Facts {
    /// The state at a position; `standing` must be what `tx` sees.
    pub async fn at(tx: &TenantTx, memory: &Memory, standing: &Standing, position: i64) -> Result<Facts> {
        if position == standing.head.position {
            let tail = memory.tails.get(tx, standing).await?;
            Ok(Facts::Newest(Newest {
                tail,
                folded: standing.folded,
                watermark: standing.watermark,
                days: memory.days.clone(),
            }))
        } else {
            Ok(Facts::AsOf(position))
        }
    }

    /// Adjusts bucket boundaries to what is known. Before `retained_from` only 15-minute slots remain, so a slot counts
    /// as a whole, at its start; earlier states are gone, and so is what rollups do not keep apart. Error:
    /// AS_OF_NOT_AVAILABLE.
    pub fn known(
        &self,
        mut boundaries: Vec<Timestamp>,
        group: &GroupBy,
        retained_from: Option<Timestamp>,
    ) -> Result<Vec<Timestamp>> {
        let dropped = boundaries.iter_mut().filter(|at| retained_from.is_some_and(|from| **at < from));
        for at in dropped {
            let gone = |what: &str| {
                let message = format!("{what}, this needs months whose entries were dropped");
                Err(Error::new(Code::AsOfNotAvailable, message))
            };
            if !matches!(self, Facts::Newest(_)) {
                return gone("as of an earlier position");
            }
            if !group.is_rolled_up() {
                return gone("by customer");
            }
            *at = round_up(*at);
        }
        Ok(boundaries)
    }
}

/// The entries of disjoint spans up to a position, in time order; `None` if there are more than `rows_max`.
pub async fn read_entries(
    tx: &TenantTx,
    spans: &[Span],
    position_max: i64,
    rows_max: usize,
) -> Result<Option<Vec<(i64, Entry)>>> {
    let sql = format!(
        "SELECT {ENTRY_COLUMNS} FROM ledger_entries e WHERE e.tenant_id = $1 AND e.at >= $2 AND e.at < $3 AND e.position <= $4 \
         ORDER BY e.at, e.position, e.entry_no LIMIT $5"
    );
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let mut entries = Vec::new();
    for span in spans {
        let values = [span.start.0.into(), span.end.0.into(), position_max.into(), limit.into()];
        for row in tx.query(&sql, values).await? {
            entries.push(entry_from(&row)?);
        }
        if entries.len() > rows_max {
            return Ok(None);
        }
    }
    Ok(Some(entries))
}
