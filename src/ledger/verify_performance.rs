//! Recomputes the salespeople rollup from deals and activities and compares.

use std::collections::BTreeMap;

use sea_orm::QueryResult;
use uuid::Uuid;

use super::rollup::quarter_slot;
use super::verify::Report;
use crate::db::{TenantTx, get};
use crate::error::Result;

/// Deals won and lost, and revenue, by owner, organization and slot; activities, which carry no organization, by owner
/// and slot.
#[derive(Default)]
struct Totals {
    deals: BTreeMap<(Uuid, i32, i32), [i128; 3]>,
    activities: BTreeMap<(Uuid, i32), i128>,
}

pub(super) async fn compare(tx: &TenantTx, report: &mut Report) -> Result<()> {
    let mut stored = Totals::default();
    let sql = "SELECT owner_id, org_no, slot, deals_won, deals_lost, revenue, activities FROM sales_performance \
               WHERE tenant_id = $1";
    for row in tx.query(sql, []).await? {
        let (owner, org_no, slot): (Uuid, i32, i32) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        report.rows += 1;
        stored.deals.insert((owner, org_no, slot), [wide(&row, 3)?, wide(&row, 4)?, wide(&row, 5)?]);
        *stored.activities.entry((owner, slot)).or_default() += wide(&row, 6)?;
    }
    let computed = compute(tx).await?;
    report.differences.extend(differences("deals", &stored.deals, &computed.deals));
    report.differences.extend(differences("activities", &stored.activities, &computed.activities));
    Ok(())
}

async fn compute(tx: &TenantTx) -> Result<Totals> {
    let mut totals = Totals::default();
    let sql = "SELECT owner_id, org_no, closed_at, is_won, amount FROM deals WHERE tenant_id = $1";
    for row in tx.query(sql, []).await? {
        let slot = quarter_slot(get(&row, 2)?);
        let sums = totals.deals.entry((get(&row, 0)?, get(&row, 1)?, slot)).or_default();
        if get(&row, 3)? {
            sums[0] += 1;
            sums[2] += wide(&row, 4)?;
        } else {
            sums[1] += 1;
        }
    }
    for row in tx.query("SELECT owner_id, happened_at, count FROM activities WHERE tenant_id = $1", []).await? {
        let slot = quarter_slot(get(&row, 1)?);
        *totals.activities.entry((get(&row, 0)?, slot)).or_default() += wide(&row, 2)?;
    }
    Ok(totals)
}

fn wide(row: &QueryResult, index: usize) -> Result<i128> {
    get::<i64>(row, index).map(i128::from)
}

/// A missing row is zero.
fn differences<K: Ord + Copy + std::fmt::Debug, V: Default + PartialEq + std::fmt::Debug>(
    what: &str,
    stored: &BTreeMap<K, V>,
    computed: &BTreeMap<K, V>,
) -> Vec<String> {
    let keys: std::collections::BTreeSet<K> = stored.keys().chain(computed.keys()).copied().collect();
    let zero = V::default();
    keys.into_iter()
        .filter_map(|key| {
            let (stored, computed) = (stored.get(&key).unwrap_or(&zero), computed.get(&key).unwrap_or(&zero));
            (stored != computed).then(|| format!("{what} of {key:?}: stored {stored:?}, facts give {computed:?}"))
        })
        .collect()
}
