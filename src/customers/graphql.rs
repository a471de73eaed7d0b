//! `customers`, `customerAnalytics` and their types.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use super::identity::Identity;
use super::store::{self, CustomerFilter, get_customer};
use crate::auth::{Caller, Permission};
use crate::clock::{DAY, Timestamp};
use crate::connection;
use crate::currencies::other_revenue;
use crate::customer_value::PredictionFilter;
use crate::customer_value::forecasts::{CustomerForecasts, CustomerRfm};
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Requires, app, caller, read};
use crate::graphql::page::{Listed, Page};
use crate::graphql::scalars::{Count, DateTime, Decimal};
use crate::ledger::changes::Holder;
use crate::ledger::dated::depends_on_head;
use crate::ledger::node_id::{Numbered, OneOf};
use crate::personal::{Access, Field, find_index};

#[derive(Default)]
pub struct CustomerQuery;

#[Object]
impl CustomerQuery {
    /// A customer by id or the source's id; null if there is none. Error: BAD_USER_INPUT (neither or both are given).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] id: Option<ID>,
        #[graphql(desc = "The source's id of the customer.")] external_id: Option<String>,
    ) -> async_graphql::Result<Option<Customer>> {
        let key = OneOf::new("id", Numbered::Customer, id, external_id)?;
        let tx = read(ctx).await?;
        depends_on_head(ctx, &tx).await?;
        Ok(store::find_customer(&tx, &key).await?)
    }

    /// Analytics for one customer. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn customer_analytics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] customer_id: ID,
        #[graphql(desc = "Whether to fill in `forecasts`.", default_with = "Some(false)")] include_forecasts: Option<
            bool,
        >,
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

    /// Customers, sorted by id unless `orderBy` says otherwise. Names and addresses are stored encrypted: customers can be found by a complete e-mail address or phone number (which needs PERSONAL_VIEW), but not by part of one, and cannot be sorted by name or address. Errors: FORBIDDEN; SERVICE_UNAVAILABLE (when searching by e-mail address or phone number while the tenant's encryption keys cannot be reached).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    #[expect(clippy::too_many_arguments, reason = "the contract's")]
    async fn customers(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return at most this many items from the start of the list, 0 to 100; defaults to 20 if neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(
            desc = "Return at most this many items from the end of the list, 0 to 100; not together with `first`."
        )]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
        #[graphql(desc = "How to sort the list; ties are broken by id.", default_with = "Some(CustomerSort::Id)")]
        order_by: Option<CustomerSort>,
        #[graphql(desc = "Only customers with this e-mail address, ignoring case.")] email: Option<String>,
        #[graphql(
            desc = "Only customers with this phone number, ignoring spaces and punctuation. Error: BAD_USER_INPUT if it contains no digit."
        )]
        phone: Option<String>,
        #[graphql(desc = "Only customers whose predictions match; omit for all customers.")] filter: Option<
            PredictionFilter,
        >,
    ) -> async_graphql::Result<CustomerConnection> {
        if email.is_some() || phone.is_some() {
            check_may_search(caller(ctx)?)?;
        }
        let page = Page::new(first, after, last, before)?;
        let Some(identity) = find_filter(ctx, email.as_deref(), phone.as_deref()).await? else {
            return Ok(CustomerConnection::new(&page, Listed::nothing()));
        };
        let order = order_by.unwrap_or(CustomerSort::Id);
        let tx = read(ctx).await?;
        if filter.is_none() && !order.is_predicted() {
            depends_on_head(ctx, &tx).await?;
        }
        let listed = store::list(&tx, &page, &identity, filter.as_ref(), order).await?;
        Ok(CustomerConnection::new(&page, listed))
    }
}

/// Error: FORBIDDEN.
fn check_may_search(caller: &Caller) -> Result<()> {
    if caller.may(Permission::PersonalView) {
        return Ok(());
    }
    Err(Error::new(Code::Forbidden, "searching by e-mail address or phone number needs PERSONAL_VIEW"))
}

/// The filter for a search by identity, which the caller may use; `None` if the tenant has no keys, and so nobody to find.
async fn find_filter(ctx: &Context<'_>, email: Option<&str>, phone: Option<&str>) -> Result<Option<CustomerFilter>> {
    if email.is_none() && phone.is_none() {
        return Ok(Some(CustomerFilter::default()));
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

/// How to sort customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CustomerSort {
    /// By id, that is, in the order of first appearance.
    Id,
    /// By revenue, largest first.
    Revenue,
    /// By last purchase, most recent first.
    LastPurchase,
    /// By predicted 90-day churn (rounded to six decimals), highest first. Customers without predictions are left out.
    Churn,
    /// By predicted lifetime value over 36 months at a discount rate of 10% a year, largest first. Customers without predictions are left out.
    LifetimeValue,
}

impl CustomerSort {
    /// Whether it sorts by predictions, which change with each fit.
    pub fn is_predicted(self) -> bool {
        matches!(self, CustomerSort::Churn | CustomerSort::LifetimeValue)
    }
}

/// A customer.
// `crate::orders` adds orders and further fields.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct Customer {
    /// The customer's id.
    pub id: ID,
    #[graphql(skip)]
    pub customer_no: i64,
    /// The source's id of the customer; a placeholder after the customer was erased.
    pub external_id: String,
    #[graphql(flatten)]
    pub identity: Identity,
    /// When the customer first bought; null without an order that counts.
    pub first_purchase_at: Option<DateTime>,
    /// When the customer last bought; null without an order that counts.
    pub last_purchase_at: Option<DateTime>,
    /// The number of orders, cancelled ones excluded.
    pub orders_count: Count,
    /// Net revenue: the amounts of orders that are not cancelled, less their refunds, in `currency`.
    pub revenue: Decimal,
    /// When the customer's personal data was erased; null if it was not.
    pub erased_at: Option<DateTime>,
}

/// Analytics for one customer.
#[derive(SimpleObject)]
struct CustomerAnalytics {
    /// The customer.
    customer: Customer,
    /// Days since the last purchase; null if there is none.
    recency_days: Option<i32>,
    /// The number of orders, cancelled ones excluded.
    frequency: Count,
    /// Revenue per order; null without orders, or if some are in other currencies than `revenue`.
    monetary_value: Option<Decimal>,
    /// Net revenue so far, in the customer's `currency`.
    revenue: Decimal,
    /// RFM scores and segment; null until a model that knows the customer has been fitted.
    rfm: Option<CustomerRfm>,
    /// Predictions; null unless `includeForecasts` is set, and until a model that knows the customer has been fitted.
    forecasts: Option<CustomerForecasts>,
}

impl CustomerAnalytics {
    fn new(customer: Customer, is_of_one_currency: bool, now: Timestamp) -> Self {
        // A purchase may be dated slightly in the future.
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
