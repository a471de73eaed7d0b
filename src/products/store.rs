//! Storage of products.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::MaybeUndefined;
use sea_orm::{QueryResult, Value};

use super::graphql::{Product, ProductSort};
use crate::audit::{AuditedTable, Shown};
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::ledger::changes::DimensionKind;
use crate::ledger::check::TEXT_CHARS_MAX;
use crate::ledger::node_id::OneOf;
use crate::ledger::store::{begin_policy_epoch, new_dimension_no, new_product_no};

const COLUMNS: &str = "p.product_no, p.sku, p.title, p.category_no, p.units, p.revenue, p.refunded, p.cost, \
    p.revenue_with_cost, p.views, p.inventory";

/// Which products are listed.
#[derive(Default)]
pub struct ProductFilter {
    pub category: Option<String>,
    /// Substring of the SKU or the title.
    pub search: Option<String>,
}

/// A page of products.
pub async fn list(tx: &TenantTx, page: &Page, filter: &ProductFilter, order: ProductSort) -> Result<Listed<Product>> {
    const BY_NUMBER: SortKey = SortKey::ascending("p.product_no", KeyKind::Int);
    let is_nowhere = |text: &String| text.contains('\0') || text.chars().count() > TEXT_CHARS_MAX;
    if [&filter.category, &filter.search].into_iter().flatten().any(is_nowhere) {
        return Ok(Listed::nothing());
    }
    let (name, keys) = match order {
        ProductSort::Id => ("products.id", vec![BY_NUMBER]),
        ProductSort::Revenue => ("products.revenue", vec![SortKey::descending("p.revenue", KeyKind::Int), BY_NUMBER]),
        ProductSort::Units => ("products.units", vec![SortKey::descending("p.units", KeyKind::Int), BY_NUMBER]),
    };
    let mut matching = Matching::of("products p WHERE p.tenant_id = $1");
    if filter.category.as_deref() == Some("") {
        matching.and("p.category_no =", 0);
    } else if let Some(category) = &filter.category {
        let (kind, value) = (matching.bind(DimensionKind::Category as i32), matching.bind(category.as_str()));
        matching.from.push_str(&format!(
            " AND p.category_no = (SELECT d.no FROM dimension_values d \
             WHERE d.tenant_id = $1 AND d.kind = {kind} AND d.value = {value})"
        ));
    }
    if let Some(search) = &filter.search {
        let search = matching.bind(like(search));
        let contains = |column| format!("{column} {} {search} ESCAPE '!'", tx.like_any_case());
        matching.from.push_str(&format!(" AND ({} OR {})", contains("p.sku"), contains("p.title")));
    }
    let item = |row: &QueryResult| {
        let product = product_from(row)?;
        let number = product.product_no.to_string();
        let values = match order {
            ProductSort::Id => vec![number],
            ProductSort::Revenue => vec![product.revenue.0.to_string(), number],
            ProductSort::Units => vec![product.units.to_string(), number],
        };
        Ok((values, product))
    };
    matching.page(tx, page, &SortOrder { name, keys: &keys }, COLUMNS, item).await
}

fn product_from(row: &QueryResult) -> Result<Product> {
    Ok(Product {
        product_no: get(row, 0)?,
        sku: get(row, 1)?,
        title: get(row, 2)?,
        category_no: get(row, 3)?,
        units: get(row, 4)?,
        revenue: get(row, 5)?,
        refunded: get(row, 6)?,
        cost: get(row, 7)?,
        revenue_with_cost: get(row, 8)?,
        views: get(row, 9)?,
        inventory: get(row, 10)?,
    })
}

/// The pattern matching texts that contain `text`, for `LIKE … ESCAPE '!'`.
fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if ['!', '%', '_'].contains(&letter) {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

/// A product by number or the source's id.
pub async fn find_product(tx: &TenantTx, key: &OneOf) -> Result<Option<Product>> {
    let Some((column, value)) = key.condition("product_no", "sku") else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM products p WHERE p.tenant_id = $1 AND p.{column} = $2");
    tx.query_one(&sql, [value]).await?.as_ref().map(product_from).transpose()
}

pub struct ProductsByNumber;

impl BatchLoad for ProductsByNumber {
    type Key = i64;
    type Value = Arc<Product>;

    async fn load(tx: &TenantTx, keys: &[i64]) -> Result<HashMap<i64, Arc<Product>>> {
        let sql = format!("SELECT {COLUMNS} FROM {{keys}} {{each products p: p.product_no = k.product_no}}");
        let keys = Table::new().with("product_no", Column::Int(keys.to_vec()));
        let rows = tx.query_by_keys(&sql, &keys).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, Arc::new(product_from(row)?)))).collect()
    }
}

// Named by its number below.
const _: () = assert!(DimensionKind::Category as i32 == 3);

/// Audited columns of products.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "products",
    key: "sku",
    columns: &[
        ("sku", "sku", Shown::Text),
        ("title", "title", Shown::Text),
        (
            "category",
            "(SELECT d.value FROM dimension_values d WHERE d.tenant_id = $1 AND d.kind = 3 AND d.no = category_no)",
            Shown::Text,
        ),
        ("inventory", "inventory", Shown::Number),
    ],
    members: None,
};

/// A validated change of a product.
pub struct ProductChange {
    pub sku: String,
    pub title: MaybeUndefined<String>,
    pub category: MaybeUndefined<String>,
    pub inventory: MaybeUndefined<i64>,
}

/// Updates a product, or creates one with a number of its own that later sales will use.
pub async fn save(tx: &TenantTx, change: ProductChange) -> Result<Product> {
    let known = find_no(tx, &change.sku).await?;
    // The epoch's head lock keeps the ledger from assigning the same numbers; answers with old titles are invalidated.
    // No cached answer contains stock.
    if known.is_none() || !change.title.is_undefined() || !change.category.is_undefined() {
        begin_policy_epoch(tx).await?;
    }
    let category_no = match &change.category {
        MaybeUndefined::Value(category) => Some(category_no(tx, category).await?),
        MaybeUndefined::Null => Some(0),
        MaybeUndefined::Undefined => None,
    };
    // It may have been sold before the lock was acquired.
    let known = if known.is_some() { known } else { find_no(tx, &change.sku).await? };
    let product_no = match known {
        Some(product_no) => product_no,
        None => create(tx, &change.sku).await?,
    };
    let values: [Value; 6] = [
        product_no.into(),
        change.title.is_null().into(),
        change.title.take().into(),
        category_no.into(),
        change.inventory.is_null().into(),
        change.inventory.take().into(),
    ];
    let sql = "UPDATE products SET title = CASE WHEN $3 THEN NULL ELSE COALESCE($4, title) END, \
               category_no = COALESCE($5, category_no), \
               inventory = CASE WHEN $6 THEN NULL ELSE COALESCE($7, inventory) END \
               WHERE tenant_id = $1 AND product_no = $2";
    tx.execute(sql, values).await?;
    let mut saved = ProductsByNumber::load(tx, &[product_no]).await?;
    let saved = saved.remove(&product_no).ok_or_else(|| Error::internal("a product that was just saved is gone"))?;
    Ok(Arc::unwrap_or_clone(saved))
}

async fn find_no(tx: &TenantTx, sku: &str) -> Result<Option<i64>> {
    let sql = "SELECT product_no FROM products WHERE tenant_id = $1 AND sku = $2";
    tx.query_one(sql, [sku.into()]).await?.map(|row| get(&row, 0)).transpose()
}

async fn create(tx: &TenantTx, sku: &str) -> Result<i64> {
    let product_no = new_product_no(tx).await?;
    let sql = "INSERT INTO products (tenant_id, product_no, sku, category_no, units, revenue, refunded, cost, \
               revenue_with_cost, views) VALUES ($1, $2, $3, 0, 0, 0, 0, 0, 0, 0)";
    tx.execute(sql, [product_no.into(), sku.into()]).await?;
    Ok(product_no)
}

async fn category_no(tx: &TenantTx, category: &str) -> Result<i32> {
    let kind = DimensionKind::Category as i32;
    let sql = "SELECT no FROM dimension_values WHERE tenant_id = $1 AND kind = $2 AND value = $3";
    if let Some(row) = tx.query_one(sql, [kind.into(), category.into()]).await? {
        return get(&row, 0);
    }
    let no = new_dimension_no(tx).await?;
    let sql = "INSERT INTO dimension_values (tenant_id, kind, no, value) VALUES ($1, $2, $3, $4)";
    tx.execute(sql, [kind.into(), no.into(), category.into()]).await?;
    Ok(no)
}
