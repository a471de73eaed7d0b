//! `customerModel`, `customerSegments`, `customerRetention`.

use async_graphql::{Context, Object, SimpleObject};

use super::forecasts::RfmSegment;
use super::model::CustomerModel;
use super::retention;
use super::store::{self, Model, SegmentTotals, TheModel};
use crate::auth::Permission;
use crate::graphql::context::{Needs, read};
use crate::graphql::loader::load;
use crate::graphql::scalars::{Count, Date, Decimal};
use crate::metrics::cell::ratio;
use crate::money::Money;

#[derive(Default)]
pub struct CustomerValueQuery;

#[Object]
impl CustomerValueQuery {
    /// The model that customers' predicted figures come from; null while none is fitted. It is fitted again, in the background, when it is a day old or there are 5 % more events, 50 at least.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn customer_model(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<CustomerModel>> {
        Ok(load::<TheModel>(ctx, ()).await?.map(|model| CustomerModel::new(&model)))
    }

    /// The customers by segment, all eight segments; empty while no model is fitted.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn customer_segments(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<CustomerSegmentTotals>> {
        let Some(model) = load::<TheModel>(ctx, ()).await? else { return Ok(Vec::new()) };
        Ok(model.content.segments.iter().map(|totals| CustomerSegmentTotals::new(&model, totals)).collect())
    }

    /// How many customers come back, by the month of their first purchase, up to the last month that is over; null while no model is fitted, in whose background work they are counted.
    #[graphql(guard = "Needs(Permission::SalesView)")]
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

/// The customers of one segment.
#[derive(SimpleObject)]
struct CustomerSegmentTotals {
    /// The segment.
    segment: RfmSegment,
    /// How many they are.
    customers_count: Count,
    /// Their share of all customers, 0.1 being 10 %.
    share: f64,
    /// What they have bought so far, less refunds.
    revenue: Decimal,
    /// What they are expected to be worth: the sum of their lifetime values of 36 months at 10 % a year.
    lifetime_value: Decimal,
    /// The model that told them apart.
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

/// How many customers come back. Months are the calendar's, in the default organization's zone.
#[derive(SimpleObject)]
struct CustomerRetention {
    /// The customers by the month of their first purchase, oldest first.
    cohorts: Vec<RetentionCohort>,
    /// All cohorts together, by months since the first.
    curve: Vec<RetentionPoint>,
    /// The model in whose background work they were counted: as of its position.
    model: CustomerModel,
}

/// The customers who first bought in one month.
#[derive(SimpleObject)]
struct RetentionCohort {
    /// The first day of the month.
    month: Date,
    /// How many they are.
    customers_count: Count,
    /// By months since the first, which is 0.
    months: Vec<RetentionMonth>,
}

/// A cohort in one month.
#[derive(SimpleObject)]
struct RetentionMonth {
    /// Months since the first.
    offset: i32,
    /// Customers of the cohort who bought in it.
    customers_count: Count,
    /// The share of the cohort that they are.
    retention: f64,
    /// What they bought, less refunds of those orders.
    revenue: Decimal,
}

/// A point of the retention curve.
#[derive(SimpleObject)]
struct RetentionPoint {
    /// Months since the first.
    offset: i32,
    /// Customers of all cohorts that have been followed for so long.
    customers_count: Count,
    /// The share of them who bought in that month.
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
