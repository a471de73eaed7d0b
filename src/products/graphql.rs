//! `products` and the type of products.

use async_graphql::{Context, Enum, ID, Object};

use super::store::{self, ProductFilter};
use crate::auth::Permission;
use crate::connection;
use crate::currencies::{CurrencyAmount, home_currency, other_revenue};
use crate::graphql::context::{Requires, operation, read};
use crate::graphql::page::Page;
use crate::graphql::scalars::{Count, Currency, Decimal};
use crate::ledger::changes::Holder;
use crate::ledger::dated::depends_on_head;
use crate::ledger::dimensions::dimension_name;
use crate::ledger::node_id::{Numbered, OneOf};
use crate::money::Money;

#[derive(Default)]
pub struct ProductQuery;

#[Object]
impl ProductQuery {
    /// A product by its id or its SKU; null if there is none. Error: BAD_USER_INPUT (neither or both are given).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id.")] id: Option<ID>,
        #[graphql(desc = "The product's SKU: its id in the source.")] sku: Option<String>,
    ) -> async_graphql::Result<Option<Product>> {
        let key = OneOf::new("id", Numbered::Product, id, sku)?;
        let tx = read(ctx).await?;
        depends_on_head(ctx, &tx).await?;
        Ok(store::find_product(&tx, &key).await?)
    }

    /// Products, sorted by id unless `orderBy` says otherwise.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    #[expect(clippy::too_many_arguments, reason = "the contract's")]
    async fn products(
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
        #[graphql(desc = "How to sort the list; ties are broken by id.", default_with = "Some(ProductSort::Id)")]
        order_by: Option<ProductSort>,
        #[graphql(
            desc = "Only products of this category, as they were last sold or set; an empty text means those without one."
        )]
        category: Option<String>,
        #[graphql(
            desc = "Only products whose SKU or title contains this text, ignoring case (on SQLite that of ASCII letters only)."
        )]
        search: Option<String>,
    ) -> async_graphql::Result<ProductConnection> {
        let page = Page::new(first, after, last, before)?;
        let filter = ProductFilter { category, search };
        let order = order_by.unwrap_or(ProductSort::Id);
        let tx = read(ctx).await?;
        depends_on_head(ctx, &tx).await?;
        let listed = store::list(&tx, &page, &filter, order).await?;
        Ok(ProductConnection::new(&page, listed))
    }
}

/// How to sort products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum ProductSort {
    /// By id, that is, in the order of first appearance.
    Id,
    /// By revenue, largest first.
    Revenue,
    /// By units sold, most first.
    Units,
}

/// A product's totals over all counting orders.
#[derive(Clone, Debug)]
pub struct Product {
    pub product_no: i64,
    pub sku: String,
    pub title: Option<String>,
    pub category_no: i32,
    pub units: i64,
    pub revenue: Money,
    pub refunded: Money,
    /// Cost of the lines whose cost is known, and their revenue.
    pub cost: Money,
    pub revenue_with_cost: Money,
    pub views: i64,
    pub inventory: Option<i64>,
}

/// A product.
#[Object]
impl Product {
    /// The product's id.
    async fn id(&self) -> ID {
        Numbered::Product.id(self.product_no)
    }

    /// The source's id of the product, often its SKU.
    async fn sku(&self) -> &str {
        &self.sku
    }

    /// The product's title.
    async fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Its category, as last recorded (with a sale or refund) or set.
    async fn category(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(dimension_name(ctx, self.category_no).await?)
    }

    /// Units sold in orders that are not cancelled.
    async fn units_sold(&self) -> Count {
        Count(self.units)
    }

    /// Gross revenue: the line amounts of orders that are not cancelled, refunds not deducted, in `currency`.
    async fn revenue(&self) -> Decimal {
        Decimal(self.revenue)
    }

    /// The currency of `revenue`: the default organization's.
    async fn currency(&self, ctx: &Context<'_>) -> async_graphql::Result<Currency> {
        Ok(home_currency(ctx).await?)
    }

    /// Revenue in organizations with other currencies, which is not included in `revenue`, `margin` and `returnRate`.
    async fn other_revenue(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<CurrencyAmount>> {
        Ok(other_revenue(ctx, Holder::Product, self.product_no).await?)
    }

    /// Page views counted.
    async fn views(&self) -> Count {
        Count(self.views)
    }

    /// Gross margin: revenue less cost, divided by revenue (0.4 is 40%), of the lines whose cost is known; null if there are none.
    async fn margin(&self) -> Option<f64> {
        let revenue = self.revenue_with_cost.0;
        (revenue != 0).then(|| (i128::from(revenue) - i128::from(self.cost.0)) as f64 / revenue as f64)
    }

    /// Refunds divided by `revenue`; null without revenue.
    async fn return_rate(&self) -> Option<f64> {
        (self.revenue.0 != 0).then(|| self.refunded.0 as f64 / self.revenue.0 as f64)
    }

    /// Units in stock; null if unknown.
    async fn inventory(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Count>> {
        // Setting the stock changes neither the ledger nor the settings.
        operation(ctx)?.depends_on_more();
        Ok(self.inventory.map(Count))
    }
}

connection!(ProductConnection, ProductEdge, Product, "products");
