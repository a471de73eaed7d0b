//! The refunds of orders, as recorded.

use std::collections::HashMap;

use async_graphql::SimpleObject;

use crate::db::{Column, Table, TenantTx, get};
use crate::error::Result;
use crate::graphql::loader::BatchLoad;
use crate::graphql::scalars::{Currency, DateTime, Decimal};

/// Money given back for an order.
#[derive(Clone, SimpleObject)]
pub struct Refund {
    /// The source's id of the refund, else that of its event.
    external_id: String,
    /// When it was issued.
    issued_at: DateTime,
    /// The amount as it was paid, in `currency`; negative for a refund that was reversed.
    amount: Decimal,
    /// The currency it was paid in.
    currency: Currency,
}

/// Loads the refunds of orders, by the source's order id.
pub struct OrderRefunds;

impl BatchLoad for OrderRefunds {
    type Key = String;
    type Value = Vec<Refund>;

    async fn load(tx: &TenantTx, keys: &[String]) -> Result<HashMap<String, Vec<Refund>>> {
        let sql = "SELECT r.order_id, r.external_id, r.issued_at, r.amount_paid, r.currency FROM {keys} \
                   {each refunds r: r.order_id = k.order_id} ORDER BY r.issued_at, r.refund_no";
        let keys = Table::new().with("order_id", Column::Text(keys.to_vec()));
        let mut refunds: HashMap<String, Vec<Refund>> = HashMap::new();
        for row in tx.query_by_keys(sql, &keys).await? {
            refunds.entry(get(&row, 0)?).or_default().push(Refund {
                external_id: get(&row, 1)?,
                issued_at: DateTime(get(&row, 2)?),
                amount: Decimal(get(&row, 3)?),
                currency: Currency(get(&row, 4)?),
            });
        }
        Ok(refunds)
    }
}
