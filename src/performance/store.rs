//! Sums of deals and activities: whole 15-minute slots from the rollup, partial slots from the facts.

use std::collections::HashMap;

use uuid::Uuid;

use crate::db::{Column, Table, TenantTx, get};
use crate::error::Result;
use crate::ledger::organization::Organization;
use crate::metrics::period::Span;
use crate::metrics::ranges::ranges;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    pub deals_won: i128,
    pub deals_lost: i128,
    pub revenue: i128,
    pub activities: i128,
}

impl Sums {
    pub fn has_deals(&self) -> bool {
        self.deals_won + self.deals_lost != 0
    }
}

/// Sums by organization number, of each owner in its span; activities in partial slots count to `default`, since they
/// have no amount.
pub async fn read(tx: &TenantTx, owners: &[(Uuid, Span)], default: &Organization) -> Result<HashMap<i32, Sums>> {
    let (mut slots, mut cut) = (Vec::new(), Vec::new());
    for (owner, span) in owners {
        // Slots are the same for all organizations, so one organization's ranges serve for all.
        let ranges = ranges(&[span.start, span.end], std::slice::from_ref(default), |_| false);
        slots.extend(ranges.slots.iter().map(|range| (*owner, range.from.into(), range.to.into())));
        cut.extend(ranges.cut.iter().map(|part| (*owner, part.start.0, part.end.0)));
    }
    let mut sums: HashMap<i32, Sums> = HashMap::new();
    add_slots(tx, &table_of(&slots, ["from_slot", "to_slot"]), &mut sums).await?;
    let cut = table_of(&cut, ["from_time", "to_time"]);
    add_deals(tx, &cut, &mut sums).await?;
    sums.entry(default.org_no).or_default().activities += sum_activities(tx, &cut).await?;
    Ok(sums)
}

async fn add_slots(tx: &TenantTx, ranges: &Table, sums: &mut HashMap<i32, Sums>) -> Result<()> {
    // A person's sums fit 64 bits wherever the rollup's own do; the database rejects overflow.
    let sql = "SELECT p.owner_id, p.org_no, CAST(SUM(p.deals_won) AS bigint), CAST(SUM(p.deals_lost) AS bigint), \
               CAST(SUM(p.revenue) AS bigint), CAST(SUM(p.activities) AS bigint) \
               FROM {keys} {each sales_performance p: p.owner_id = k.owner_id AND p.slot >= k.from_slot \
               AND p.slot < k.to_slot} GROUP BY p.owner_id, p.org_no";
    for row in tx.query_by_keys(sql, ranges).await? {
        let sum = sums.entry(get(&row, 1)?).or_default();
        sum.deals_won += i128::from(get::<i64>(&row, 2)?);
        sum.deals_lost += i128::from(get::<i64>(&row, 3)?);
        sum.revenue += i128::from(get::<i64>(&row, 4)?);
        sum.activities += i128::from(get::<i64>(&row, 5)?);
    }
    Ok(())
}

async fn add_deals(tx: &TenantTx, parts: &Table, sums: &mut HashMap<i32, Sums>) -> Result<()> {
    let sql = "SELECT d.org_no, d.is_won, d.amount FROM {keys} \
               {each deals d: d.owner_id = k.owner_id AND d.closed_at >= k.from_time AND d.closed_at < k.to_time}";
    for row in tx.query_by_keys(sql, parts).await? {
        let sum = sums.entry(get(&row, 0)?).or_default();
        if get(&row, 1)? {
            sum.deals_won += 1;
            sum.revenue += i128::from(get::<i64>(&row, 2)?);
        } else {
            sum.deals_lost += 1;
        }
    }
    Ok(())
}

async fn sum_activities(tx: &TenantTx, parts: &Table) -> Result<i128> {
    let sql = "SELECT a.count FROM {keys} \
               {each activities a: a.owner_id = k.owner_id AND a.happened_at >= k.from_time AND a.happened_at < k.to_time}";
    let rows = tx.query_by_keys(sql, parts).await?;
    rows.iter().map(|row| get::<i64>(row, 0).map(i128::from)).sum()
}

/// Owners, each with a range whose ends are named `ends`.
fn table_of(ranges: &[(Uuid, i64, i64)], ends: [&'static str; 2]) -> Table {
    Table::new()
        .with("owner_id", Column::Uuid(ranges.iter().map(|(owner, _, _)| *owner).collect()))
        .with(ends[0], Column::Int(ranges.iter().map(|(_, from, _)| *from).collect()))
        .with(ends[1], Column::Int(ranges.iter().map(|(_, _, to)| *to).collect()))
}
