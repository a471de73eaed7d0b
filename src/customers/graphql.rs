//! `customers`, `customerAnalytics` and their types.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use super::store::{self, CustomersByNumber};
use crate::auth::Permission;
use crate::clock::{DAY, Timestamp};
use crate::connection;
use crate::currencies::other_revenue;
use crate::customer_value::PredictionFilter;
use crate::customer_value::forecasts::{CustomerForecasts, CustomerRfm};
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
        let customer_no = parse_number(&customer_id, "customer")?;
        let mut found = CustomersByNumber::load(read(ctx).await?.as_ref(), &[customer_no]).await?;
        let customer = found.remove(&customer_no).ok_or_else(|| Error::not_found("customer"))?;
        let is_of_one_currency = other_revenue(ctx, Holder::Customer, customer_no).await?.is_empty();
        let rfm = CustomerRfm::find(ctx, customer_no).await?;
        let forecasts = match include_forecasts {
            Some(true) => CustomerForecasts::find(ctx, customer_no).await?,
            _ => None,
        };
        let analytics = CustomerAnalytics::new(customer, is_of_one_currency, app(ctx)?.clock.now());
        Ok(CustomerAnalytics { rfm, forecasts, ..analytics })
    }

    /// Customers, ordered by id unless said otherwise.
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the contract")]
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
        #[graphql(desc = "Narrows the list to customers of whom this is predicted; absent means all.")] filter: Option<
            PredictionFilter,
        >,
    ) -> async_graphql::Result<CustomerConnection> {
        let page = Page::new(first, after, last, before)?;
        let order = order_by.unwrap_or(CustomerOrder::Id);
        let rows = store::list(read(ctx).await?.as_ref(), &page, order, filter.as_ref()).await?;
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
    /// By predicted churn of 90 days, highest first. Customers of whom nothing is predicted are left out.
    Churn,
    /// By predicted lifetime value of 36 months at 10 % a year, largest first. Customers of whom nothing is predicted are left out.
    LifetimeValue,
}

/// A buyer.
// Its orders and more are fields that `crate::orders` adds.
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
    /// Scores and segment; null while no model is fitted that knows the customer.
    rfm: Option<CustomerRfm>,
    /// Predicted figures; null unless asked for, or while no model is fitted that knows the customer.
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
            rfm: None,
            forecasts: None,
            customer,
        }
    }
}

connection!(CustomerConnection, CustomerEdge, Customer, "customers");
