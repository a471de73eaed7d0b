//! `customers`, `customerAnalytics` and their types.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use super::store::{self, CustomersByNumber};
use crate::auth::Permission;
use crate::clock::{DAY, Timestamp};
use crate::connection;
use crate::currencies::other_revenue;
use crate::error::Error;
use crate::graphql::context::{Needs, app, parse_number, read};
use crate::graphql::loader::Batch;
use crate::graphql::page::Page;
use crate::graphql::scalars::{Count, DateTime, Decimal};
use crate::ledger::changes::Holder;

#[derive(Default)]
pub struct CustomerQuery;

#[Object]
impl CustomerQuery {
    /// What is known of one customer. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn customer_analytics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] customer_id: ID,
        #[graphql(desc = "Adds predicted figures.", default_with = "Some(false)")] include_forecasts: Option<bool>,
    ) -> async_graphql::Result<CustomerAnalytics> {
        // Nothing is predicted while no model is fitted.
        let _ = include_forecasts;
        let customer_no = parse_number(&customer_id, "customer")?;
        let mut found = CustomersByNumber::load(read(ctx).await?.as_ref(), &[customer_no]).await?;
        let customer = found.remove(&customer_no).ok_or_else(|| Error::not_found("customer"))?;
        let is_of_one_currency = other_revenue(ctx, Holder::Customer, customer_no).await?.is_empty();
        Ok(CustomerAnalytics::new(customer, is_of_one_currency, app(ctx)?.clock.now()))
    }

    /// Customers, ordered by id unless said otherwise.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn customers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most this many from the start, 1 to 100; 20 when neither `first` nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most this many from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        #[graphql(desc = "The order of the list; ties are broken by id.", default_with = "Some(CustomerOrder::Id)")]
        order_by: Option<CustomerOrder>,
    ) -> async_graphql::Result<CustomerConnection> {
        let page = Page::new(first, after, last, before)?;
        let rows = store::list(read(ctx).await?.as_ref(), &page, order_by.unwrap_or(CustomerOrder::Id)).await?;
        Ok(CustomerConnection::new(&page, rows))
    }
}

/// What customers are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CustomerOrder {
    /// By id, that is by first appearance.
    Id,
    /// By revenue, largest first.
    Revenue,
    /// By the last purchase, newest first.
    LastPurchase,
}

/// A buyer.
// Its orders are a field that `crate::orders` adds.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct Customer {
    /// The customer's id.
    pub id: ID,
    #[graphql(skip)]
    pub customer_no: i64,
    /// The source's id of the customer.
    pub external_id: String,
    /// The customer's name.
    pub name: Option<String>,
    /// The customer's e-mail address.
    pub email: Option<String>,
    /// When the customer first bought; null without a counting order.
    pub first_purchase_at: Option<DateTime>,
    /// When the customer last bought; null without a counting order.
    pub last_purchase_at: Option<DateTime>,
    /// Counting orders.
    pub orders_count: Count,
    /// Sum of the amounts of counting orders, less their refunds, in `currency`.
    pub revenue: Decimal,
}

/// What is known of one customer.
#[derive(SimpleObject)]
struct CustomerAnalytics {
    /// The customer.
    customer: Customer,
    /// Days since the last purchase; null without one.
    recency_days: Option<i32>,
    /// Counting orders.
    frequency: Count,
    /// Revenue per counting order; null without one, or where orders are in other currencies than `revenue`.
    monetary_value: Option<Decimal>,
    /// Revenue so far, in the customer's `currency`.
    revenue: Decimal,
    /// Predicted figures; null unless asked for, or while no model is fitted.
    forecasts: Option<CustomerForecasts>,
}

impl CustomerAnalytics {
    fn new(customer: Customer, is_of_one_currency: bool, now: Timestamp) -> Self {
        // A purchase may be a little ahead of the clock.
        let days_since = |at: DateTime| i32::try_from((now.0 - at.0.0).max(0) / DAY).unwrap_or(i32::MAX);
        CustomerAnalytics {
            recency_days: customer.last_purchase_at.map(days_since),
            frequency: customer.orders_count,
            monetary_value: customer.revenue.0.per(customer.orders_count.0).filter(|_| is_of_one_currency).map(Decimal),
            revenue: customer.revenue,
            forecasts: None,
            customer,
        }
    }
}

/// Predicted figures of one customer.
#[derive(SimpleObject)]
struct CustomerForecasts {
    /// Revenue expected in the next 365 days.
    expected_revenue: Option<Decimal>,
}

connection!(CustomerConnection, CustomerEdge, Customer, "customers");
