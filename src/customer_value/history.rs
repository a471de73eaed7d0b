//! Purchase histories of customers, read page by page to bound memory.

use std::collections::HashMap;

use chrono_tz::Tz;
use models::value::{Order, PurchaseDays, Refund};
use sea_orm::Value;

use crate::calendar::day_of;
use crate::clock::Timestamp;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::ledger::organization::Organization;
use crate::ledger::state::RATE_DECIMALS;
use crate::money::Money;

/// Orders per statement.
const ROWS_MAX: usize = 5_000;

/// An identified customer's orders and refunds in the currency of the default organization, including cancelled orders,
/// which were orders until then. Days are counted from 1970-01-01 in the organization's time zone.
pub struct History {
    pub customer_no: i64,
    orders: Vec<Order>,
    refunds: Vec<Refund>,
}

impl History {
    /// `None` where the models cannot use it: purchases more than a century apart, or amounts too large.
    pub fn days(&self) -> Option<PurchaseDays> {
        PurchaseDays::new(self.orders.clone(), self.refunds.clone()).ok()
    }

    /// Amounts of orders that were not cancelled, by order day; refunds are negative.
    pub fn amounts(&self) -> impl Iterator<Item = (i32, i64)> {
        let orders = self.orders.iter().filter(|order| order.cancelled_on.is_none());
        let refunds = self.refunds.iter().filter(|refund| refund.cancelled_on.is_none());
        let refunds = refunds.map(|refund| (refund.of_day, refund.amount_minor.saturating_neg()));
        orders.map(|order| (order.day, order.amount_minor)).chain(refunds)
    }
}

/// Iterates over the customers of a snapshot by number.
pub struct Histories<'a> {
    tx: &'a TenantTx,
    /// Organizations with the currency.
    org_nos: Vec<i32>,
    zone: Tz,
    /// Sampling step: one of this many customers is taken.
    every: i64,
    after: OrderCursor,
    /// The customer whose orders may continue on the next page.
    open: Option<History>,
    is_done: bool,
}

/// The position of the last order read.
#[derive(Default)]
struct OrderCursor {
    customer_no: i64,
    placed_at: i64,
    order_no: i64,
}

impl<'a> Histories<'a> {
    pub fn new(tx: &'a TenantTx, organizations: &[Organization], home: &Organization, every: i64) -> Self {
        let same_currency = organizations.iter().filter(|organization| organization.currency == home.currency);
        let org_nos = same_currency.map(|organization| organization.org_no).collect();
        Histories { tx, org_nos, zone: home.timezone, every, after: OrderCursor::default(), open: None, is_done: false }
    }

    /// The next customers; `None` at the end. A page before it may be empty.
    pub async fn next(&mut self) -> Result<Option<Vec<History>>> {
        if self.is_done {
            return Ok(None);
        }
        let sql = "SELECT o.customer_no, o.placed_at, o.order_no, o.org_no, o.external_id, o.amount_paid, o.rate, o.cancelled_at FROM orders o \
                   WHERE o.tenant_id = $1 AND (o.customer_no, o.placed_at, o.order_no) > ($2, $3, $4) AND o.customer_no > 0 \
                   AND o.customer_no % $5 = 0 ORDER BY o.customer_no, o.placed_at, o.order_no LIMIT $6";
        let OrderCursor { customer_no, placed_at, order_no } = self.after;
        let limit = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX);
        let values: [Value; 5] =
            [customer_no.into(), placed_at.into(), order_no.into(), self.every.into(), limit.into()];
        let rows = self.tx.query(sql, values).await?;
        self.is_done = rows.len() < ROWS_MAX;
        let mut orders = Vec::with_capacity(rows.len());
        for row in &rows {
            self.after = OrderCursor { customer_no: get(row, 0)?, placed_at: get(row, 1)?, order_no: get(row, 2)? };
            if self.org_nos.contains(&get(row, 3)?) {
                let amount =
                    get::<Money>(row, 5)?.convert(get(row, 6)?, RATE_DECIMALS).ok_or_else(Error::sum_out_of_range)?;
                let day = |at: i64| day_of(Timestamp(at), self.zone);
                let order = Order {
                    day: day(self.after.placed_at),
                    amount_minor: amount.0,
                    cancelled_on: get::<Option<i64>>(row, 7)?.map(day),
                };
                orders.push((self.after.customer_no, get::<String>(row, 4)?, order));
            }
        }
        let ids: Vec<String> = orders.iter().map(|(_, id, ..)| id.clone()).collect();
        let mut refunds = load_refunds(self.tx, ids, &self.org_nos).await?;
        let mut complete = Vec::new();
        for (customer_no, id, order) in orders {
            if self.open.as_ref().is_none_or(|open| open.customer_no != customer_no) {
                complete.extend(self.open.replace(History { customer_no, orders: Vec::new(), refunds: Vec::new() }));
            }
            let Some(open) = &mut self.open else { continue };
            open.orders.push(order);
            let refund = |(issued_at, amount): (Timestamp, Money)| Refund {
                of_day: order.day,
                day: day_of(issued_at, self.zone),
                amount_minor: amount.0,
                cancelled_on: order.cancelled_on,
            };
            open.refunds.extend(refunds.remove(&id).into_iter().flatten().map(refund));
        }
        if self.is_done {
            complete.extend(self.open.take());
        }
        Ok(Some(complete))
    }
}

/// The refunds of orders, issued by the organizations `org_nos`, in whose currency they are added up, by the source's
/// order id: time and amount.
async fn load_refunds(
    tx: &TenantTx,
    order_ids: Vec<String>,
    org_nos: &[i32],
) -> Result<HashMap<String, Vec<(Timestamp, Money)>>> {
    let sql = "SELECT r.order_id, r.issued_at, r.org_no, r.amount_paid, r.rate FROM {keys} \
               {each refunds r: r.order_id = k.order_id}";
    let keys = Table::new().with("order_id", Column::Text(order_ids));
    let mut refunds: HashMap<String, Vec<_>> = HashMap::new();
    for row in tx.query_by_keys(sql, &keys).await? {
        if !org_nos.contains(&get(&row, 2)?) {
            continue;
        }
        // Each is rounded individually, like its ledger entry.
        let amount =
            get::<Money>(&row, 3)?.convert(get(&row, 4)?, RATE_DECIMALS).ok_or_else(Error::sum_out_of_range)?;
        refunds.entry(get(&row, 0)?).or_default().push((get(&row, 1)?, amount));
    }
    Ok(refunds)
}
