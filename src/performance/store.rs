//! Sums of deals and activities: whole 15-minute slots from the rollup, partial slots from the facts.

use std::collections::HashMap;

use uuid::Uuid;

use crate::clock::Timestamp;
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

/// Sums by organization number; activities in partial slots count to `default`, since they have no amount.
pub async fn read(tx: &TenantTx, owners: &[Uuid], span: Span, default: &Organization) -> Result<HashMap<i32, Sums>> {
    // Slots are the same for all organizations, so one organization's ranges serve for all.
    let ranges = ranges(&[span.start, span.end], std::slice::from_ref(default), false);
    let mut sums: HashMap<i32, Sums> = HashMap::new();
    for range in &ranges.slots {
        add_slots(tx, owners, range.from, range.to, &mut sums).await?;
    }
    add_deals(tx, owners, &ranges.cut, &mut sums).await?;
    let activities = sum_activities(tx, owners, &ranges.cut).await?;
    sums.entry(default.org_no).or_default().activities += activities;
    Ok(sums)
}

async fn add_slots(tx: &TenantTx, owners: &[Uuid], from: i32, to: i32, sums: &mut HashMap<i32, Sums>) -> Result<()> {
    // A person's sums fit 64 bits wherever the rollup's own do; the database rejects overflow.
    let sql = "SELECT p.owner_id, p.org_no, CAST(SUM(p.deals_won) AS bigint), CAST(SUM(p.deals_lost) AS bigint), \
               CAST(SUM(p.revenue) AS bigint), CAST(SUM(p.activities) AS bigint) \
               FROM {keys} {each sales_performance p: p.owner_id = k.owner_id AND p.slot >= k.from_slot \
               AND p.slot < k.to_slot} GROUP BY p.owner_id, p.org_no";
    let keys = Table::new()
        .with("owner_id", Column::Uuid(owners.to_vec()))
        .with("from_slot", Column::Int(vec![from.into(); owners.len()]))
        .with("to_slot", Column::Int(vec![to.into(); owners.len()]));
    for row in tx.query_by_keys(sql, &keys).await? {
        let sum = sums.entry(get(&row, 1)?).or_default();
        sum.deals_won += i128::from(get::<i64>(&row, 2)?);
        sum.deals_lost += i128::from(get::<i64>(&row, 3)?);
        sum.revenue += i128::from(get::<i64>(&row, 4)?);
        sum.activities += i128::from(get::<i64>(&row, 5)?);
    }
    Ok(())
}

async fn add_deals(tx: &TenantTx, owners: &[Uuid], parts: &[Span], sums: &mut HashMap<i32, Sums>) -> Result<()> {
    let sql = "SELECT d.org_no, d.is_won, d.amount FROM {keys} \
               {each deals d: d.owner_id = k.owner_id AND d.closed_at >= k.from_time AND d.closed_at < k.to_time}";
    for row in tx.query_by_keys(sql, &parts_table(owners, parts)).await? {
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

async fn sum_activities(tx: &TenantTx, owners: &[Uuid], parts: &[Span]) -> Result<i128> {
    let sql = "SELECT a.count FROM {keys} \
               {each activities a: a.owner_id = k.owner_id AND a.happened_at >= k.from_time AND a.happened_at < k.to_time}";
    let rows = tx.query_by_keys(sql, &parts_table(owners, parts)).await?;
    rows.iter().map(|row| get::<i64>(row, 0).map(i128::from)).sum()
}

/// The cross product of owners and partial slots.
fn parts_table(owners: &[Uuid], parts: &[Span]) -> Table {
    let each = || owners.iter().flat_map(|owner| parts.iter().map(move |part| (*owner, part)));
    let time = |of: fn(&Span) -> Timestamp| Column::Int(each().map(|(_, part)| of(part).0).collect());
    Table::new()
        .with("owner_id", Column::Uuid(each().map(|(owner, _)| owner).collect()))
        .with("from_time", time(|part| part.start))
        .with("to_time", time(|part| part.end))
}
