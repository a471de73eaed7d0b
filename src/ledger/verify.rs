//! Recomputes every rollup from entries, or from deals and activities, plus the customer and product totals, and
//! compares.

use std::collections::BTreeSet;

use super::organization::list_organizations;
use super::rollup::{self, Key, Row, Rows};
use super::store::{ENTRY_COLUMNS, entry_from, read_head};
use super::verify_performance;
use super::verify_totals::{self, Totals};
use crate::db::{Db, TenantId, TenantTx};
use crate::error::Result;

/// Rows per page.
pub(super) const PAGE: i64 = 10_000;

/// Findings of [`verify`].
#[derive(Debug, Default)]
pub struct Report {
    pub position: i64,
    pub entries: u64,
    pub rows: u64,
    /// Human-readable descriptions of rows that are not the sum of their entries.
    pub differences: Vec<String>,
}

/// Compares all rollups of a tenant with the entries they sum, in one snapshot. Tail entries, not in the rollups yet,
/// are counted; they are checked once folded.
///
/// Months dropped by retention have no entries to compare with and are skipped; money sums of customers and products
/// are then skipped too.
pub async fn verify(db: &Db, tenant: TenantId) -> Result<Report> {
    let tx = db.read_patiently(tenant).await?;
    let head = read_head(&tx).await?;
    let mut report = Report { position: head.position, ..Report::default() };
    let organizations = list_organizations(&tx).await?;
    let zones: std::collections::HashMap<i32, chrono_tz::Tz> =
        organizations.iter().map(|o| (o.org_no, o.timezone)).collect();
    let mut totals = Totals::new(&organizations);
    let mut expected = Rows::default();
    let mut after = (0i64, -1i32);
    loop {
        let page = read_page(&tx, after).await?;
        let Some(last) = page.last() else { break };
        after = (last.0, last.1);
        for (position, _, entry) in &page {
            report.entries += 1;
            totals.add(entry);
            // A correction of an entry in a dropped month reverses what is gone.
            let is_dropped = head.retained_from.is_some_and(|from| entry.at.0 < from);
            if *position > head.folded || is_dropped {
                continue;
            }
            let zone = zones.get(&entry.org_no).copied().unwrap_or(chrono_tz::UTC);
            if let Err(error) = rollup::fold(entry, zone, &mut expected) {
                report.differences.push(format!("entries do not add up: {error}"));
            }
        }
    }
    compare(&tx, &mut report, expected, head.retained_from).await?;
    if head.retained_from.is_none() {
        totals.compare(&tx, &mut report).await?;
    }
    verify_totals::compare_orders(&tx, &mut report).await?;
    verify_performance::compare(&tx, &mut report).await?;
    Ok(report)
}

async fn read_page(tx: &TenantTx, after: (i64, i32)) -> Result<Vec<(i64, i32, super::entry::Entry)>> {
    let sql = format!(
        "SELECT {ENTRY_COLUMNS}, e.entry_no FROM ledger_entries e WHERE e.tenant_id = $1 \
         AND (e.position, e.entry_no) > ($2, $3) ORDER BY e.position, e.entry_no LIMIT {PAGE}"
    );
    let rows = tx.query(&sql, [after.0.into(), after.1.into()]).await?;
    rows.iter()
        .map(|row| {
            let (position, entry) = entry_from(row)?;
            Ok((position, crate::db::get(row, 16)?, entry))
        })
        .collect()
}

async fn compare(tx: &TenantTx, report: &mut Report, mut expected: Rows, retained_from: Option<i64>) -> Result<()> {
    rollup::for_each(tx, |key, stored| {
        let Ok(stored) = stored else {
            report.rows += 1;
            // What it should be is not reported once more as missing.
            let place = if key.level.by_day() {
                expected.remove(&key);
                format!("{key:?}")
            } else {
                expected
                    .retain(|other, _| (other.level, other.org_no, other.slot) != (key.level, key.org_no, key.slot));
                format!("{:?} of organization {}, slot {}", key.level, key.org_no, key.slot)
            };
            report.differences.push(format!("{place}: what is stored cannot be read"));
            return;
        };
        let computed = expected.remove(&key);
        if is_dropped(&key, retained_from) {
            return;
        }
        report.rows += 1;
        let computed = computed.unwrap_or_default();
        if computed != stored {
            report.differences.push(format!("{key:?}: stored {}, entries give {}", sums(&stored), sums(&computed)));
        }
    })
    .await?;
    let missing: BTreeSet<Key> = expected
        .iter()
        .filter(|(key, row)| **row != Row::default() && !is_dropped(key, retained_from))
        .map(|(key, _)| *key)
        .collect();
    report.differences.extend(missing.into_iter().map(|key| format!("{key:?}: not stored")));
    Ok(())
}

/// Whether the row's slot may reach into months without entries.
fn is_dropped(key: &Key, retained_from: Option<i64>) -> bool {
    let step = if key.level.by_day() { crate::clock::DAY } else { rollup::QUARTER_HOUR };
    // A local day begins up to 14 hours before the same UTC day.
    retained_from.is_some_and(|from| i64::from(key.slot) * step - crate::clock::DAY < from)
}

fn sums(row: &Row) -> String {
    format!(
        "orders {} gross {} discount {} units {} refunds {} by order {} visits {} customers {} order set {}",
        row.orders,
        row.gross,
        row.discount,
        row.units,
        row.refunds,
        row.refunds_by_order,
        row.visits,
        row.customers.members().len(),
        row.order_set.members().len()
    )
}
