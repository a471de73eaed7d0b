//! Rows of rollups in the database.

use sea_orm::QueryResult;

use super::set::CountedSet;
use super::sketch::Sketch;
use super::{Key, Level, Row, Rows};
use crate::db::{Column, OnConflict, Table, TenantTx, get};
use crate::error::{Error, Result};

/// What [`row_from`] reads, of a table named `m`.
pub const COLUMNS: &str = "m.level, m.org_no, m.slot, m.channel_no, m.region_no, m.segment, m.category_no, m.product_no, \
    m.orders, m.gross, m.discount, m.units, m.refunds, m.refunds_by_order, m.visits, \
    m.customer_set, m.order_set, m.order_values";

const KEY: &str = "level, org_no, slot, channel_no, region_no, segment, category_no, product_no";

/// The stored rows of `keys`; those that are not stored yet are left out.
pub async fn load(tx: &TenantTx, keys: &[Key]) -> Result<Rows> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {{keys}} {{each sales_metrics m: m.level = k.level AND m.org_no = k.org_no \
         AND m.slot = k.slot AND m.channel_no = k.channel_no AND m.region_no = k.region_no AND m.segment = k.segment \
         AND m.category_no = k.category_no AND m.product_no = k.product_no}}"
    );
    tx.query_by_keys(&sql, &key_table(keys.iter())).await?.iter().map(row_from).collect()
}

/// Stores `rows` as they are, in the order of their keys.
pub async fn save(tx: &TenantTx, rows: &Rows) -> Result<()> {
    let mut sorted: Vec<(&Key, &Row)> = rows.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| **key);
    let int = |of: fn(&Row) -> i64| Column::Int(sorted.iter().map(|(_, row)| of(row)).collect());
    let bytes = |of: fn(&Row) -> Vec<u8>| Column::OptBytes(sorted.iter().map(|(_, row)| of(row)).collect());
    let table = key_table(sorted.iter().map(|(key, _)| *key))
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
    tx.insert("sales_metrics", &table, OnConflict::Replace(KEY)).await?;
    Ok(())
}

fn key_table<'a>(keys: impl Iterator<Item = &'a Key> + Clone) -> Table {
    let int = |of: fn(&Key) -> i64| Column::Int(keys.clone().map(of).collect());
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

/// A key and its row from [`COLUMNS`].
pub fn row_from(row: &QueryResult) -> Result<(Key, Row)> {
    let level = Level::from_i32(get(row, 0)?).ok_or_else(|| Error::internal("a rollup row of an unknown level"))?;
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
    let bytes = |index| get::<Option<Vec<u8>>>(row, index).map(Option::unwrap_or_default);
    let sums = Row {
        orders: get(row, 8)?,
        gross: get(row, 9)?,
        discount: get(row, 10)?,
        units: get(row, 11)?,
        refunds: get(row, 12)?,
        refunds_by_order: get(row, 13)?,
        visits: get(row, 14)?,
        customers: CountedSet::from_bytes(&bytes(15)?).map_err(Error::internal)?,
        order_set: CountedSet::from_bytes(&bytes(16)?).map_err(Error::internal)?,
        order_values: Sketch::from_bytes(&bytes(17)?).map_err(Error::internal)?,
    };
    Ok((key, sums))
}
