//! Storage of rollups: one row per cell for day levels, packed by slot for the base.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::QueryResult;

use super::packed::{Cells, Packed};
use super::set::CountedSet;
use super::sketch::Sketch;
use super::{BadBytes, Key, Level, Row, Rows, SlotRange};
use crate::db::{Column, OnConflict, Table, TenantTx, get};
use crate::error::{Error, Result};

const SUM_COLUMNS: &str = "m.level, m.org_no, m.slot, m.channel_no, m.region_no, m.segment, m.category_no, m.product_no, \
    m.orders, m.gross, m.discount, m.units, m.refunds, m.refunds_by_order, m.visits";

const SET_COLUMNS: &str = "m.customer_set, m.order_set, m.order_values";

const BASE_COLUMNS: &str = "b.org_no, b.slot, b.orders, b.order_sets, b.lines, b.line_sets";

const DAY_KEY: &str = "level, org_no, slot, channel_no, region_no, segment, category_no, product_no";

/// The stored rows of `keys`, plus all others in the same base slots. Rows not stored yet are absent.
pub async fn load(tx: &TenantTx, keys: &BTreeSet<Key>) -> Result<Rows> {
    let mut rows = Rows::default();
    let days: Vec<&Key> = keys.iter().filter(|key| key.level.by_day()).collect();
    let sql = format!(
        "SELECT {SUM_COLUMNS}, {SET_COLUMNS} FROM {{keys}} {{each sales_metrics m: m.level = k.level AND m.org_no = k.org_no \
         AND m.slot = k.slot AND m.channel_no = k.channel_no AND m.region_no = k.region_no AND m.segment = k.segment \
         AND m.category_no = k.category_no AND m.product_no = k.product_no}}"
    );
    for row in tx.query_by_keys(&sql, &day_table(&days)).await? {
        let (key, row) = day_row(&row)?;
        rows.insert(key, row?);
    }
    let slots: BTreeSet<(i32, i32)> = base_keys(keys.iter()).map(|key| (key.org_no, key.slot)).collect();
    let sql = format!(
        "SELECT {BASE_COLUMNS} FROM {{keys}} {{each sales_metrics_base b: b.org_no = k.org_no AND b.slot = k.slot}}"
    );
    for row in tx.query_by_keys(&sql, &slot_table(slots.iter())).await? {
        base_rows(&row, |key, row| {
            rows.insert(key, row?);
            Ok(())
        })?;
    }
    Ok(rows)
}

/// Upserts `rows` in key order. Base slots must be complete, as returned by [`load`].
pub async fn save(tx: &TenantTx, rows: &Rows) -> Result<()> {
    let sorted: BTreeMap<&Key, &Row> = rows.iter().collect();
    save_days(tx, sorted.iter().filter(|(key, _)| key.level.by_day()).map(|(key, row)| (*key, *row)).collect()).await?;
    let mut slots: BTreeMap<(i32, i32), [Packed; 2]> = BTreeMap::new();
    for key in base_keys(sorted.keys().copied()) {
        let row = sorted[key];
        let slot = slots.entry((key.org_no, key.slot)).or_default();
        if *row != Row::default() {
            slot[usize::from(key.level.by_line())].push(key, row);
        }
    }
    let bytes = |of: fn(&[Packed; 2]) -> &Vec<u8>| Column::Bytes(slots.values().map(|slot| of(slot).clone()).collect());
    let table = slot_table(slots.keys())
        .with("orders", bytes(|[orders, _]| &orders.sums))
        .with("order_sets", bytes(|[orders, _]| &orders.sets))
        .with("lines", bytes(|[_, lines]| &lines.sums))
        .with("line_sets", bytes(|[_, lines]| &lines.sets));
    tx.insert("sales_metrics_base", &table, OnConflict::Replace("org_no, slot")).await?;
    Ok(())
}

async fn save_days(tx: &TenantTx, rows: Vec<(&Key, &Row)>) -> Result<()> {
    let int = |of: fn(&Row) -> i64| Column::Int(rows.iter().map(|(_, row)| of(row)).collect());
    let bytes = |of: fn(&Row) -> Vec<u8>| Column::OptBytes(rows.iter().map(|(_, row)| of(row)).collect());
    let keys: Vec<&Key> = rows.iter().map(|(key, _)| *key).collect();
    let table = day_table(&keys)
        .with("orders", int(|r| r.orders))
        .with("gross", int(|r| r.gross))
        .with("discount", int(|r| r.discount))
        .with("units", int(|r| r.units))
        .with("refunds", int(|r| r.refunds))
        .with("refunds_by_order", int(|r| r.refunds_by_order))
        .with("visits", int(|r| r.visits))
        .with("customer_set", bytes(|r| r.customers.to_bytes()))
        .with("order_set", bytes(|r| r.order_set.to_bytes()))
        .with("order_values", bytes(|r| r.order_values.to_bytes()));
    tx.insert("sales_metrics", &table, OnConflict::Replace(DAY_KEY)).await?;
    Ok(())
}

/// Calls `found` with every stored row of the tenant, or with an error where its bytes cannot be decoded. In a base slot
/// that is the last row of its level, and the key has no dimensions.
pub async fn for_each(tx: &TenantTx, mut found: impl FnMut(Key, Result<Row, BadBytes>)) -> Result<()> {
    for level in Level::ALL.into_iter().filter(|level| level.by_day()) {
        let sql =
            format!("SELECT {SUM_COLUMNS}, {SET_COLUMNS} FROM sales_metrics m WHERE m.tenant_id = $1 AND m.level = $2");
        for row in tx.query(&sql, [(level as i32).into()]).await? {
            let (key, row) = day_row(&row)?;
            found(key, row);
        }
    }
    let sql = format!("SELECT {BASE_COLUMNS} FROM sales_metrics_base b WHERE b.tenant_id = $1");
    for row in tx.query(&sql, []).await? {
        base_rows(&row, |key, row| {
            found(key, row);
            Ok(())
        })?;
    }
    Ok(())
}

fn base_keys<'a>(keys: impl Iterator<Item = &'a Key>) -> impl Iterator<Item = &'a Key> {
    keys.filter(|key| !key.level.by_day())
}

fn day_table(keys: &[&Key]) -> Table {
    let int = |of: fn(&Key) -> i64| Column::Int(keys.iter().map(|key| of(key)).collect());
    Table::new()
        .with("level", int(|k| k.level as i64))
        .with("org_no", int(|k| k.org_no.into()))
        .with("slot", int(|k| k.slot.into()))
        .with("channel_no", int(|k| k.channel_no.into()))
        .with("region_no", int(|k| k.region_no.into()))
        .with("segment", int(|k| k.segment.into()))
        .with("category_no", int(|k| k.category_no.into()))
        .with("product_no", int(|k| k.product_no))
}

fn slot_table<'a>(slots: impl Iterator<Item = &'a (i32, i32)> + Clone) -> Table {
    Table::new()
        .with("org_no", Column::Int(slots.clone().map(|(org_no, _)| i64::from(*org_no)).collect()))
        .with("slot", Column::Int(slots.map(|(_, slot)| i64::from(*slot)).collect()))
}

/// Slot ranges as a statement's keys; rows of its `{each}` match by [`IN_RANGE`].
pub fn range_table<'a>(ranges: impl Iterator<Item = &'a SlotRange> + Clone) -> Table {
    let int = |of: fn(&SlotRange) -> i32| Column::Int(ranges.clone().map(|range| of(range).into()).collect());
    Table::new()
        .with("org_no", int(|range| range.org_no))
        .with("slot_from", int(|range| range.from))
        .with("slot_to", int(|range| range.to))
}

/// Condition that a row of the table aliased `m` lies in a range of [`range_table`].
pub const IN_RANGE: &str = "m.org_no = k.org_no AND m.slot >= k.slot_from AND m.slot < k.slot_to";

/// The first rows of ranges of days at a level, by organization and day, without their sets.
pub async fn load_sums(tx: &TenantTx, level: Level, ranges: &[SlotRange], rows_max: usize) -> Result<Vec<(Key, Row)>> {
    let sql = format!(
        "SELECT {SUM_COLUMNS} FROM {{keys}} {{each sales_metrics m: {IN_RANGE} AND m.level = {}}} \
         ORDER BY m.org_no, m.slot LIMIT $2",
        level as i32
    );
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let rows = tx.query_by_keys_after(&sql, vec![limit.into()], &range_table(ranges.iter())).await?;
    rows.iter().map(sums).collect()
}

/// Decodes a key and its row from [`SUM_COLUMNS`] and [`SET_COLUMNS`].
fn day_row(row: &QueryResult) -> Result<(Key, Result<Row, BadBytes>)> {
    let (key, sums) = sums(row)?;
    let bytes = |index| get::<Option<Vec<u8>>>(row, index).map(Option::unwrap_or_default);
    let (customers, order_set, order_values) = (bytes(15)?, bytes(16)?, bytes(17)?);
    let decode = || {
        Ok(Row {
            customers: CountedSet::from_bytes(&customers)?,
            order_set: CountedSet::from_bytes(&order_set)?,
            order_values: Sketch::from_bytes(&order_values)?,
            ..sums
        })
    };
    Ok((key, decode()))
}

/// Decodes a key and its row without sets from [`SUM_COLUMNS`].
fn sums(row: &QueryResult) -> Result<(Key, Row)> {
    let level = Level::from_repr(get(row, 0)?).ok_or_else(|| Error::internal("a rollup row of an unknown level"))?;
    let key = Key {
        level,
        org_no: get(row, 1)?,
        slot: get(row, 2)?,
        channel_no: get(row, 3)?,
        region_no: get(row, 4)?,
        segment: get(row, 5)?,
        category_no: get(row, 6)?,
        product_no: get(row, 7)?,
    };
    let sums = Row {
        orders: get(row, 8)?,
        gross: get(row, 9)?,
        discount: get(row, 10)?,
        units: get(row, 11)?,
        refunds: get(row, 12)?,
        refunds_by_order: get(row, 13)?,
        visits: get(row, 14)?,
        ..Row::default()
    };
    Ok((key, sums))
}

/// Decodes the cells of both levels of a slot from [`BASE_COLUMNS`]; what cannot be decoded is told as in [`for_each`].
fn base_rows(row: &QueryResult, mut found: impl FnMut(Key, Result<Row, BadBytes>) -> Result<()>) -> Result<()> {
    let (org_no, slot) = (get(row, 0)?, get(row, 1)?);
    for (level, index) in [(Level::Quarter, 2), (Level::QuarterLine, 4)] {
        let (sums, sets): (Vec<u8>, Vec<u8>) = (get(row, index)?, get(row, index + 1)?);
        for cell in Cells::new(level, org_no, slot, &sums, Some(&sets)) {
            match cell {
                Ok((key, row)) => found(key, Ok(row))?,
                Err(error) => found(Key::of_slot(level, org_no, slot), Err(error))?,
            }
        }
    }
    Ok(())
}
