//! Refunds by order.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::ledger::state::RATE_DECIMALS;
use crate::money::Money;

/// Loads the refunds of orders in their organizations' currency, by the source's order id: time and amount.
pub struct RefundsByOrder;

impl BatchLoad for RefundsByOrder {
    type Key = String;
    type Value = Vec<(Timestamp, Money)>;

    async fn load(tx: &TenantTx, keys: &[String]) -> Result<HashMap<String, Self::Value>> {
        let sql = "SELECT r.order_id, r.issued_at, r.amount_paid, r.rate FROM {keys} {each refunds r: r.order_id = k.order_id}";
        let keys = Table::new().with("order_id", Column::Text(keys.to_vec()));
        let mut refunds: HashMap<String, Self::Value> = HashMap::new();
        for row in tx.query_by_keys(sql, &keys).await? {
            // Each is rounded individually, like its ledger entry.
            let amount =
                get::<Money>(&row, 2)?.convert(get(&row, 3)?, RATE_DECIMALS).ok_or_else(Error::sum_out_of_range)?;
            refunds.entry(get(&row, 0)?).or_default().push((get(&row, 1)?, amount));
        }
        Ok(refunds)
    }
}

/// Loads the total refunded per order, in the currency of the order's organization. Refunds by organizations with
/// another currency are left out: they cannot be added.
pub struct RefundedByOrder;

impl BatchLoad for RefundedByOrder {
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
