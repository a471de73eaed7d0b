//! Names of channels, regions and categories by number. A number is assigned once and keeps its name.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::Context;
use moka::sync::Cache;

use crate::db::{Column, Table, TenantId, TenantTx, get};
use crate::error::Result;
use crate::graphql::loader::{BatchLoad, load};
use crate::guard::Guard;

/// Names cached per process, across all tenants.
const REMEMBERED_MAX: u64 = 1_000_000;

/// Per-process cache of names by number, by tenant. Cheap to clone.
#[derive(Clone)]
pub struct DimensionNames(Cache<TenantId, Arc<HashMap<i64, String>>>);

impl Default for DimensionNames {
    fn default() -> Self {
        let weigh =
            |_: &TenantId, names: &Arc<HashMap<i64, String>>| u32::try_from(names.len() + 1).unwrap_or(u32::MAX);
        DimensionNames(Cache::builder().max_capacity(REMEMBERED_MAX).weigher(weigh).build())
    }
}

impl DimensionNames {
    /// The tenant's cached names, including those of `numbers`.
    pub async fn get(&self, tx: &TenantTx, numbers: impl Iterator<Item = i64>) -> Result<Arc<HashMap<i64, String>>> {
        let known = self.0.get(&tx.tenant().at(Guard::Names)).unwrap_or_default();
        let unknown: Vec<i64> = numbers.filter(|no| *no != 0 && !known.contains_key(no)).collect();
        if unknown.is_empty() {
            return Ok(known);
        }
        let mut names = HashMap::clone(&known);
        names.extend(DimensionName::load(tx, &unknown).await?);
        let names = Arc::new(names);
        // Not cached: a write transaction may still roll back.
        if !tx.may_write() {
            self.0.insert(tx.tenant().at(Guard::Names), Arc::clone(&names));
        }
        Ok(names)
    }
}

/// The name of a number; 0 has none.
pub async fn dimension_name(ctx: &Context<'_>, no: i32) -> Result<Option<String>> {
    if no == 0 { Ok(None) } else { load::<DimensionName>(ctx, no.into()).await }
}

/// Loads names by number.
struct DimensionName;

impl BatchLoad for DimensionName {
    type Key = i64;
    type Value = String;

    async fn load(tx: &TenantTx, keys: &[i64]) -> Result<HashMap<i64, String>> {
        let sql = "SELECT d.no, d.value FROM {keys} {each dimension_values d: d.kind IN (1, 2, 3) AND d.no = k.no}";
        let rows = tx.query_by_keys(sql, &Table::new().with("no", Column::Int(keys.to_vec()))).await?;
        rows.iter().map(|row| Ok((get::<i32>(row, 0)?.into(), get(row, 1)?))).collect()
    }
}
