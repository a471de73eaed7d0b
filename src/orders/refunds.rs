//! The refunds of orders, as recorded.

use std::collections::HashMap;

use async_graphql::SimpleObject;

use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::graphql::scalars::{Currency, DateTime, Decimal};
use crate::ledger::state::RATE_DECIMALS;
use crate::money::Money;

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

/// Loads the total refunded per order, in the currency of the order's organization. Refunds by organizations with
/// another currency are left out: they cannot be added.
pub struct RefundTotals;

impl BatchLoad for RefundTotals {
    type Key = String;
    type Value = Money;

    async fn load(tx: &TenantTx, keys: &[String]) -> Result<HashMap<String, Money>> {
        let sql = "SELECT r.order_id, r.amount_paid, r.rate FROM {keys} {each refunds r: r.order_id = k.order_id} \
                   {each orders o: o.external_id = k.order_id} {each organizations by_whom: by_whom.org_no = r.org_no} \
                   {each organizations whose: whose.org_no = o.org_no} WHERE by_whom.currency = whose.currency";
        let keys = Table::new().with("order_id", Column::Text(keys.to_vec()));
        let mut refunded: HashMap<String, Money> = HashMap::new();
        for row in tx.query_by_keys(sql, &keys).await? {
            let amount =
                get::<Money>(&row, 1)?.convert(get(&row, 2)?, RATE_DECIMALS).ok_or_else(Error::sum_out_of_range)?;
            let sum = refunded.entry(get(&row, 0)?).or_default();
            *sum = Money::from_sum(i128::from(sum.0) + i128::from(amount.0)).ok_or_else(Error::sum_out_of_range)?;
        }
        Ok(refunded)
    }
}
