//! Order lines.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, Object};

use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::eager::Eager;
use crate::graphql::loader::{BatchLoad, load_many};
use crate::graphql::scalars::{Count, Decimal};
use crate::ledger::dimensions::dimension_name;
use crate::money::Money;
use crate::products::{Product, ProductsByNumber};

/// Amounts are in the order's currency.
#[derive(Clone, Debug)]
pub struct OrderLine {
    product_no: i64,
    /// `None` until [`load_products`].
    product: Option<Arc<Product>>,
    category_no: i32,
    quantity: i64,
    amount: Money,
    discount: Money,
}

/// One line of an order.
#[Object]
impl OrderLine {
    /// The product.
    async fn product(&self) -> async_graphql::Result<Eager<Arc<Product>>> {
        let product = self.product.as_ref().ok_or_else(|| Error::internal("the product of a line was not loaded"))?;
        Ok(Eager(Arc::clone(product)))
    }

    /// The category under which the product was sold.
    async fn category(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(dimension_name(ctx, self.category_no).await?)
    }

    /// Units.
    async fn quantity(&self) -> Count {
        Count(self.quantity)
    }

    /// The total of the line after discounts, in the order's currency.
    async fn amount(&self) -> Decimal {
        Decimal(self.amount)
    }

    /// The discount, already deducted from the amount.
    async fn discount(&self) -> Decimal {
        Decimal(self.discount)
    }
}

/// Loads the products of `lines`, all at once: for each line by itself it would take longer than all the rest.
pub async fn load_products(ctx: &Context<'_>, lines: &mut [OrderLine]) -> Result<()> {
    let products = load_many::<ProductsByNumber>(ctx, lines.iter().map(|line| line.product_no)).await?;
    for line in lines {
        line.product = products.get(&line.product_no).cloned();
    }
    Ok(())
}

/// Loads the lines of orders, by order number.
pub struct LinesByOrder;

impl BatchLoad for LinesByOrder {
    type Key = i64;
    type Value = Vec<OrderLine>;

    async fn load(tx: &TenantTx, keys: &[i64]) -> Result<HashMap<i64, Vec<OrderLine>>> {
        let sql = "SELECT l.order_no, l.product_no, l.category_no, l.quantity, l.amount_paid, l.discount_paid \
                   FROM {keys} {each order_lines l: l.order_no = k.order_no} ORDER BY l.order_no, l.line_no";
        let keys = Table::new().with("order_no", Column::Int(keys.to_vec()));
        let mut lines: HashMap<i64, Vec<OrderLine>> = HashMap::new();
        for row in tx.query_by_keys(sql, &keys).await? {
            lines.entry(get(&row, 0)?).or_default().push(OrderLine {
                product_no: get(&row, 1)?,
                product: None,
                category_no: get(&row, 2)?,
                quantity: get(&row, 3)?,
                amount: get(&row, 4)?,
                discount: get(&row, 5)?,
            });
        }
        Ok(lines)
    }
}
