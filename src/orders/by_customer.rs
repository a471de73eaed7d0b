//! Customer fields beyond the customer's own columns: predictions, and the newest orders of many customers in one
//! statement.

use std::collections::HashMap;

use async_graphql::{ComplexObject, Context};

use super::graphql::Order;
use super::store::{COLUMNS, COLUMNS_COUNT, order_from};
use crate::currencies::{CurrencyAmount, home_currency, other_revenue};
use crate::customer_value::forecasts::{CustomerForecasts, CustomerRfm};
use crate::customers::Customer;
use crate::db::{Column, FirstRows, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::eager::EagerList;
use crate::graphql::loader::{BatchLoad, load};
use crate::graphql::scalars::Currency;
use crate::ledger::changes::Holder;

const ORDERS_MAX: i64 = 100;

#[ComplexObject]
impl Customer {
    /// The currency of `revenue`: the default organization's.
    async fn currency(&self, ctx: &Context<'_>) -> async_graphql::Result<Currency> {
        Ok(home_currency(ctx).await?)
    }

    /// Revenue in organizations with other currencies, which is not included in `revenue`.
    async fn other_revenue(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<CurrencyAmount>> {
        Ok(other_revenue(ctx, Holder::Customer, self.customer_no).await?)
    }

    /// RFM scores and segment; null until a model that knows the customer has been fitted.
    async fn rfm(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<CustomerRfm>> {
        Ok(CustomerRfm::find(ctx, self.customer_no).await?)
    }

    /// Predictions; null until a model that knows the customer has been fitted.
    async fn forecasts(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<CustomerForecasts>> {
        Ok(CustomerForecasts::find(ctx, self.customer_no).await?)
    }

    /// The customer's most recent orders.
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 1 to 100.", default_with = "Some(5)")] first: Option<i32>,
    ) -> async_graphql::Result<EagerList<Order>> {
        let first = i64::from(first.unwrap_or(5));
        if !(1..=ORDERS_MAX).contains(&first) {
            return Err(Error::bad_input("first", format!("must be from 1 to {ORDERS_MAX}")).into());
        }
        Ok(EagerList(load::<OrdersByCustomer>(ctx, (self.customer_no, first)).await?.unwrap_or_default()))
    }
}

/// Loads the newest orders of customers, by customer number and limit.
struct OrdersByCustomer;

impl BatchLoad for OrdersByCustomer {
    type Key = (i64, i64);
    type Value = Vec<Order>;

    async fn load(tx: &TenantTx, keys: &[(i64, i64)]) -> Result<HashMap<(i64, i64), Vec<Order>>> {
        let columns = format!("{COLUMNS}, k.rows_max AS wanted");
        let rows = FirstRows {
            columns: &columns,
            table: "orders o",
            matching: "o.tenant_id = $1 AND o.customer_no = k.customer_no",
            key: "k.customer_no",
            order: "o.placed_at DESC, o.order_no DESC",
        };
        let table = Table::new()
            .with("customer_no", Column::Int(keys.iter().map(|(customer_no, _)| *customer_no).collect()))
            .with("rows_max", Column::Int(keys.iter().map(|(_, rows_max)| *rows_max).collect()));
        let mut orders: HashMap<(i64, i64), Vec<Order>> = HashMap::new();
        for row in tx.query_first_by_keys(&rows, &table).await? {
            let order = order_from(&row)?;
            orders.entry((order.customer_no, get(&row, COLUMNS_COUNT)?)).or_default().push(order);
        }
        for orders in orders.values_mut() {
            orders.sort_unstable_by_key(|order| std::cmp::Reverse((order.placed_at, order.order_no)));
        }
        Ok(orders)
    }
}
