//! `orders` and the type of orders.

use async_graphql::{Context, Enum, ID, Object};

use super::lines::{self, LinesByOrder, OrderLine};
use super::refunds::{OrderRefunds, Refund, RefundTotals};
use super::store::{self, OrderFilter};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::connection;
use crate::customers::{Customer, CustomersByNumber};
use crate::error::Error;
use crate::graphql::context::{Requires, app, operation, read};
use crate::graphql::eager::EagerList;
use crate::graphql::loader::load;
use crate::graphql::page::{Listed, Page};
use crate::graphql::scalars::{Count, Currency, DateTime, Decimal};
use crate::graphql::size::fields_within;
use crate::ledger::dated::depends_on_head;
use crate::ledger::dimensions::dimension_name;
use crate::ledger::node_id::{Numbered, OneOf};
use crate::ledger::organization::list_organizations;
use crate::metrics::filter::{Filter, MetricsFilters};
use crate::metrics::input::DateRange;
use crate::metrics::state::default_zone;
use crate::money::Money;
use crate::people::graphql::{Organization, OrganizationsByNumber};

#[derive(Default)]
pub struct OrderQuery;

#[Object]
impl OrderQuery {
    /// An order in its latest version, by its id or the source's id; null if there is none. Error: BAD_USER_INPUT (neither or both are given).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: Option<ID>,
        #[graphql(desc = "The source's id of the order.")] external_id: Option<String>,
    ) -> async_graphql::Result<Option<Order>> {
        let key = OneOf::new("id", Numbered::Order, id, external_id)?;
        let tx = read(ctx).await?;
        depends_on_head(ctx, &tx).await?;
        Ok(store::find_order(&tx, &key).await?)
    }

    /// Orders, most recently placed first. One of which only the cancellation was recorded is none.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    #[expect(clippy::too_many_arguments, reason = "the contract's")]
    async fn orders(
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
        #[graphql(desc = "Only orders placed in this period.")] period: Option<DateRange>,
        #[graphql(desc = "Only this customer's orders. An id of no customer gives an empty list.")] customer_id: Option<
            ID,
        >,
        #[graphql(desc = "Only orders with this status.")] status: Option<OrderStatus>,
        #[graphql(desc = "Only orders in this currency.")] currency: Option<Currency>,
        #[graphql(desc = "Only orders of at least this amount, each in its own currency.")] min_amount: Option<Decimal>,
        #[graphql(desc = "Only orders of at most this amount, each in its own currency.")] max_amount: Option<Decimal>,
        #[graphql(
            desc = "Only orders that `salesMetrics` would count with these filters; cancelled ones are listed as well, except with `customerSegment`: they are neither. With `productCategories` or `products`, orders that have such a line. Error: NOT_FOUND (organization)."
        )]
        filters: Option<MetricsFilters>,
    ) -> async_graphql::Result<OrderConnection> {
        let page = Page::new(first, after, last, before)?;
        if min_amount.zip(max_amount).is_some_and(|(min, max)| min.0 > max.0) {
            return Err(Error::bad_input("maxAmount", "must not be below minAmount").into());
        }
        let tx = read(ctx).await?;
        if period.as_ref().is_none_or(|period| period.preset.is_none()) {
            depends_on_head(ctx, &tx).await?;
        }
        let mut filter = OrderFilter {
            status,
            currency: currency.map(|currency| currency.0),
            min_amount: min_amount.map(|amount| amount.0),
            max_amount: max_amount.map(|amount| amount.0),
            ..OrderFilter::default()
        };
        if filters.is_some() || period.is_some() {
            let organizations = list_organizations(&tx).await?;
            let facts = Filter::find_any(&tx, &organizations, &filters.clone().unwrap_or_default()).await?;
            if let Some(period) = period {
                let zone = default_zone(&facts, &organizations);
                filter.span = Some(period.resolve("period", app(ctx)?.clock.now(), zone)?);
            }
            filter.facts = filters.is_some().then_some(facts);
        }
        if let Some(id) = customer_id {
            let Some(customer_no) = Numbered::Customer.find(&id) else {
                return Ok(OrderConnection::new(&page, Listed::nothing()));
            };
            filter.customer_no = Some(customer_no);
        }
        Ok(OrderConnection::new(&page, store::list(&tx, &page, &filter).await?))
    }
}

/// The status of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum OrderStatus {
    /// Placed; it counts.
    Placed,
    /// Cancelled; it no longer counts.
    Cancelled,
}

#[derive(Clone, Debug)]
pub struct Order {
    pub order_no: i64,
    pub external_id: String,
    pub version: i64,
    pub status: OrderStatus,
    pub placed_at: Timestamp,
    pub amount: Money,
    pub discount: Money,
    pub currency: String,
    pub channel_no: i32,
    pub region_no: i32,
    /// 0 for guests.
    pub customer_no: i64,
    /// The currency of its organization.
    pub home_currency: String,
    pub org_no: i32,
}

/// An order in its latest version.
#[Object]
impl Order {
    /// The order's id.
    async fn id(&self) -> ID {
        Numbered::Order.id(self.order_no)
    }

    /// The source's id of the order.
    async fn external_id(&self) -> &str {
        &self.external_id
    }

    /// Its version number.
    async fn version(&self) -> Count {
        Count(self.version)
    }

    /// Its status.
    async fn status(&self) -> OrderStatus {
        self.status
    }

    /// When it was placed.
    async fn placed_at(&self) -> DateTime {
        DateTime(self.placed_at)
    }

    /// The total of the order after discounts, in `currency`.
    async fn amount(&self) -> Decimal {
        Decimal(self.amount)
    }

    /// The discount, already deducted from the amount.
    async fn discount(&self) -> Decimal {
        Decimal(self.discount)
    }

    /// What was refunded of it so far, in `refundedCurrency`, which need not be `currency`. Refunds by organizations with other currencies are not included: `refunds` lists all, each in the currency it was paid in. 0 for cancelled orders.
    async fn refunded(&self, ctx: &Context<'_>) -> async_graphql::Result<Decimal> {
        // As in the metrics: refunds of an order that no longer counts do not count either.
        if self.status == OrderStatus::Cancelled {
            return Ok(Decimal(Money::ZERO));
        }
        Ok(Decimal(load::<RefundTotals>(ctx, self.external_id.clone()).await?.unwrap_or_default()))
    }

    /// The currency of `refunded`: that of the order's organization, into which refunds are converted at the rates of their days. It differs from `currency` if the customer paid in another one.
    async fn refunded_currency(&self) -> Currency {
        Currency(self.home_currency.clone())
    }

    /// The refunds of it, as they were recorded, in the order in which they were issued. Those of cancelled orders are listed, too, though they no longer count.
    async fn refunds(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Refund>> {
        let refunds = load::<OrderRefunds>(ctx, self.external_id.clone()).await?.unwrap_or_default();
        operation(ctx)?.size().take(refunds.len(), fields_within(ctx.field()), "first")?;
        Ok(refunds)
    }

    /// The currency it was paid in; that of `amount`, `discount` and `lines`.
    async fn currency(&self) -> Currency {
        Currency(self.currency.clone())
    }

    /// The organization that it belongs to.
    async fn organization(&self, ctx: &Context<'_>) -> async_graphql::Result<Organization> {
        let organization = load::<OrganizationsByNumber>(ctx, self.org_no).await?;
        Ok(organization.ok_or_else(|| Error::internal("an order of an unknown organization"))?)
    }

    /// The sales channel.
    async fn channel(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(dimension_name(ctx, self.channel_no).await?)
    }

    /// The region.
    async fn region(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(dimension_name(ctx, self.region_no).await?)
    }

    /// The customer; null for guests.
    async fn customer(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Customer>> {
        if self.customer_no == 0 {
            return Ok(None);
        }
        Ok(load::<CustomersByNumber>(ctx, self.customer_no).await?)
    }

    /// The order lines.
    async fn lines(&self, ctx: &Context<'_>) -> async_graphql::Result<EagerList<OrderLine>> {
        let mut lines = load::<LinesByOrder>(ctx, self.order_no).await?.unwrap_or_default();
        operation(ctx)?.size().take(lines.len(), fields_within(ctx.field()), "first")?;
        if ctx.look_ahead().field("product").exists() {
            lines::load_products(ctx, &mut lines).await?;
        }
        Ok(EagerList(lines))
    }
}

connection!(OrderConnection, OrderEdge, Order, "orders");
