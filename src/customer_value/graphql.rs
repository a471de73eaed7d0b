//! `customerModel`, `customerSegments`, `customerRetention`.

use async_graphql::{Context, Object, SimpleObject};

use super::forecasts::RfmSegment;
use super::model::CustomerModel;
use super::retention;
use super::store::{self, Model, SegmentTotals, TheModel};
use crate::auth::Permission;
use crate::graphql::context::{Requires, read};
use crate::graphql::loader::load;
use crate::graphql::scalars::{Count, Date, Decimal};
use crate::metrics::cell::ratio;
use crate::money::Money;

#[derive(Default)]
pub struct CustomerValueQuery;

#[Object]
impl CustomerValueQuery {
    /// The model behind the predictions for customers; null until one has been fitted. It is refitted in the background once it is a day old or there are 5% more events (at least 50).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn customer_model(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<CustomerModel>> {
        Ok(load::<TheModel>(ctx, ()).await?.map(|model| CustomerModel::new(&model)))
    }

    /// Totals for each of the eight customer segments; empty until a model has been fitted.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn customer_segments(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<CustomerSegmentTotals>> {
        let Some(model) = load::<TheModel>(ctx, ()).await? else { return Ok(Vec::new()) };
        Ok(model.content.segments.iter().map(|totals| CustomerSegmentTotals::new(&model, totals)).collect())
    }

    /// Cohort retention: how many customers come back, by the month of their first purchase, up to the last complete month. It is computed in the background together with the customer model, and null until one has been fitted.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn customer_retention(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<CustomerRetention>> {
        let tx = read(ctx).await?;
        let Some(table) = store::find_retention(&tx).await? else { return Ok(None) };
        let Some(model) = load::<TheModel>(ctx, ()).await? else { return Ok(None) };
        Ok(Some(CustomerRetention {
            model: CustomerModel::new(&model),
            curve: table.curve.iter().enumerate().map(|(offset, point)| RetentionPoint::new(offset, point)).collect(),
            cohorts: table.cohorts.into_iter().map(RetentionCohort::from).collect(),
        }))
    }
}

/// Totals of the customers in one RFM segment.
#[derive(SimpleObject)]
struct CustomerSegmentTotals {
    /// The segment.
    segment: RfmSegment,
    /// The number of customers.
    customers_count: Count,
    /// Their share of all customers (0.1 is 10%).
    share: f64,
    /// Their revenue so far, less refunds.
    revenue: Decimal,
    /// The sum of their predicted lifetime values over 36 months at a discount rate of 10% a year.
    lifetime_value: Decimal,
    /// The model that assigned the segments.
    model: CustomerModel,
}

impl CustomerSegmentTotals {
    fn new(model: &Model, totals: &SegmentTotals) -> Self {
        CustomerSegmentTotals {
            segment: totals.segment.into(),
            customers_count: Count(totals.customers),
            share: ratio(totals.customers, model.content.customers).unwrap_or(0.0),
            revenue: Decimal(totals.revenue),
            lifetime_value: Decimal(totals.lifetime_value),
            model: CustomerModel::new(model),
        }
    }
}

/// How many customers come back. Months are calendar months in the default organization's time zone.
#[derive(SimpleObject)]
struct CustomerRetention {
    /// The cohorts by month of first purchase, oldest first.
    cohorts: Vec<RetentionCohort>,
    /// The retention curve: all cohorts together, by months since the first purchase.
    curve: Vec<RetentionPoint>,
    /// The model with which it was computed: it is as of the same position.
    model: CustomerModel,
}

/// The customers who first bought in one month.
#[derive(SimpleObject)]
struct RetentionCohort {
    /// The first day of the month.
    month: Date,
    /// The number of customers.
    customers_count: Count,
    /// Its months, beginning with that of the first purchase.
    months: Vec<RetentionMonth>,
}

/// A cohort in one month.
#[derive(SimpleObject)]
struct RetentionMonth {
    /// Months since the month of the first purchase, which is 0.
    offset: i32,
    /// Customers of the cohort who bought in this month.
    customers_count: Count,
    /// Their share of the cohort, 0 to 1.
    retention: f64,
    /// Revenue from the cohort in this month, less refunds of those orders.
    revenue: Decimal,
}

/// A point of the retention curve.
#[derive(SimpleObject)]
struct RetentionPoint {
    /// Months since the month of the first purchase, which is 0.
    offset: i32,
    /// Customers in the cohorts that are old enough to have such a month.
    customers_count: Count,
    /// The share of them who bought in that month, 0 to 1.
    retention: f64,
}

impl RetentionPoint {
    fn new(offset: usize, point: &retention::Point) -> Self {
        RetentionPoint {
            offset: i32::try_from(offset).unwrap_or(i32::MAX),
            customers_count: Count(point.customers),
            retention: point.retention,
        }
    }
}

impl From<retention::Cohort> for RetentionCohort {
    fn from(cohort: retention::Cohort) -> Self {
        let month = |(offset, (active, revenue)): (usize, &(i64, i64))| RetentionMonth {
            offset: i32::try_from(offset).unwrap_or(i32::MAX),
            customers_count: Count(*active),
            retention: ratio(*active, cohort.customers).unwrap_or(0.0),
            revenue: Decimal(Money(*revenue)),
        };
        RetentionCohort {
            month: Date(cohort.month),
            customers_count: Count(cohort.customers),
            months: cohort.cells.iter().enumerate().map(month).collect(),
        }
    }
}
