//! `customers`, `customerAnalytics` and their types.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use super::identity::Identity;
use super::store::{self, CustomerFilter, get_customer};
use crate::auth::Permission;
use crate::clock::{DAY, Timestamp};
use crate::connection;
use crate::currencies::other_revenue;
use crate::customer_value::PredictionFilter;
use crate::customer_value::forecasts::{CustomerForecasts, CustomerRfm};
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Needs, app, caller, read};
use crate::graphql::node_id::Numbered;
use crate::graphql::page::Page;
use crate::graphql::scalars::{Count, DateTime, Decimal};
use crate::ledger::changes::Holder;
use crate::personal::{Access, Field, find_index};

#[derive(Default)]
pub struct CustomerQuery;

#[Object]
impl CustomerQuery {
    /// A customer. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] id: ID,
    ) -> async_graphql::Result<Customer> {
        Ok(get_customer(read(ctx).await?.as_ref(), Numbered::Customer.parse(&id)?).await?)
    }

    /// What is known of one customer. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn customer_analytics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] customer_id: ID,
        #[graphql(desc = "Adds predicted figures.", default_with = "Some(false)")] include_forecasts: Option<bool>,
    ) -> async_graphql::Result<CustomerAnalytics> {
        let customer_no = Numbered::Customer.parse(&customer_id)?;
        let customer = get_customer(read(ctx).await?.as_ref(), customer_no).await?;
        let is_of_one_currency = other_revenue(ctx, Holder::Customer, customer_no).await?.is_empty();
        let rfm = CustomerRfm::find(ctx, customer_no).await?;
        let forecasts = match include_forecasts {
            Some(true) => CustomerForecasts::find(ctx, customer_no).await?,
            _ => None,
        };
        let analytics = CustomerAnalytics::new(customer, is_of_one_currency, app(ctx)?.clock.now());
        Ok(CustomerAnalytics { rfm, forecasts, ..analytics })
    }

    /// Customers, ordered by id unless said otherwise. Names and addresses are stored sealed: customers are found by a whole e-mail address or phone number, for which one needs PERSONAL_VIEW, and by no part of them, and are not ordered by them. Errors: FORBIDDEN, SERVICE_UNAVAILABLE (such a search while the tenant's keys cannot be reached).
    #[graphql(guard = "Needs(Permission::SalesView)")]
    #[expect(clippy::too_many_arguments, reason = "the contract's")]
    async fn customers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most this many from the start, 0 to 100; 20 when neither `first` nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most this many from the end, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        #[graphql(desc = "The order of the list; ties are broken by id.", default_with = "Some(CustomerOrder::Id)")]
        order_by: Option<CustomerOrder>,
        #[graphql(desc = "Only those with this e-mail address, whatever its case.")] email: Option<String>,
        #[graphql(
            desc = "Only those with this phone number, however it is grouped. Error: BAD_USER_INPUT without a digit."
        )]
        phone: Option<String>,
        #[graphql(desc = "Narrows the list to customers of whom this is predicted; absent means all.")] filter: Option<
            PredictionFilter,
        >,
    ) -> async_graphql::Result<CustomerConnection> {
        let page = Page::new(first, after, last, before)?;
        let Some(identity) = find_filter(ctx, email.as_deref(), phone.as_deref()).await? else {
            return Ok(CustomerConnection::new(&page, Vec::new()));
        };
        let order = order_by.unwrap_or(CustomerOrder::Id);
        let rows = store::list(read(ctx).await?.as_ref(), &page, &identity, filter.as_ref(), order).await?;
        Ok(CustomerConnection::new(&page, rows))
    }
}

/// What the searched customers are found by; `None` where the tenant has no keys and so nobody to find.
async fn find_filter(ctx: &Context<'_>, email: Option<&str>, phone: Option<&str>) -> Result<Option<CustomerFilter>> {
    if email.is_none() && phone.is_none() {
        return Ok(Some(CustomerFilter::default()));
    }
    if !caller(ctx)?.may(Permission::PersonalView) {
        return Err(Error::new(
            Code::Forbidden,
            "your role does not allow to search customers by what identifies them",
        ));
    }
    let keys = &app(ctx)?.keys;
    let keys = match keys.find(caller(ctx)?.tenant) {
        Some(keys) => keys,
        None => match keys.load(read(ctx).await?.as_ref()).await? {
            Access::Keys(held) => held.keys,
            Access::Never | Access::Erased => return Ok(None),
        },
    };
    let index = |argument, field, value: Option<&str>| {
        let index = |value| find_index(&keys.index, field, value);
        value
            .map(|value| index(value).ok_or_else(|| Error::bad_input(argument, "has nothing to search by")))
            .transpose()
    };
    Ok(Some(CustomerFilter {
        email: index("email", Field::Email, email)?,
        phone: index("phone", Field::Phone, phone)?,
    }))
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
    /// By predicted churn of 90 days, to millionths, highest first. Customers of whom nothing is predicted are left out.
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
    /// The source's id of the customer; of one who was erased, something else in its place.
    pub external_id: String,
    #[graphql(flatten)]
    pub identity: Identity,
    /// When the customer first bought; null without a counting order.
    pub first_purchase_at: Option<DateTime>,
    /// When the customer last bought; null without a counting order.
    pub last_purchase_at: Option<DateTime>,
    /// Counting orders.
    pub orders_count: Count,
    /// Sum of the amounts of counting orders, less their refunds, in `currency`.
    pub revenue: Decimal,
    /// When what identified the customer was erased; null for all others.
    pub erased_at: Option<DateTime>,
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
