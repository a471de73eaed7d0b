//! Metrics as GraphQL objects, and the buckets of a series.

use std::sync::Arc;

use async_graphql::{Enum, Object, ScalarType, SimpleObject, Value};

use super::answer;
use super::catalog::Metric;
use super::cell::Values;
use super::dimension::Dimension;
use super::flat::{Flat, SelectedField, object_of};
use super::input::RefundTime;
use super::kpis::graphql::KpiValue;
use super::labels::Name;
use super::named::MetricValue;
use crate::error::Result;
use crate::graphql::scalars::{Count, DateTime, Decimal};

/// Metrics alone; their period, currency and position are those of the answer around them.
pub struct MetricValues {
    pub values: Values,
    /// Of amounts.
    pub currency: Arc<str>,
}

/// Metrics alone; their period, currency and position are those of the answer around them.
#[Object]
impl MetricValues {
    /// Gross revenue less refunds.
    async fn total_revenue(&self) -> Decimal {
        Decimal(self.values.total_revenue)
    }

    /// Sum of the amounts of orders placed.
    async fn gross_revenue(&self) -> Decimal {
        Decimal(self.values.gross)
    }

    /// Sum of refunds.
    async fn refunds(
        &self,
        #[graphql(
            desc = "Whether a refund counts when it was issued or when its order was placed.",
            default_with = "Some(RefundTime::Refund)"
        )]
        by: Option<RefundTime>,
    ) -> Decimal {
        match by {
            Some(RefundTime::Order) => Decimal(self.values.refunds_by_order),
            _ => Decimal(self.values.refunds),
        }
    }

    /// Sum of discounts given; revenue is already net of them.
    async fn discounts(&self) -> Decimal {
        Decimal(self.values.discounts)
    }

    /// Orders placed.
    async fn orders_count(&self) -> Count {
        Count(self.values.orders)
    }

    /// Units sold.
    async fn units_sold(&self) -> Count {
        Count(self.values.units)
    }

    /// Gross revenue per order, rounded half to even at four decimals; null if there are no orders.
    async fn avg_order_value(&self) -> Option<Decimal> {
        self.values.avg_order_value().map(Decimal)
    }

    /// Orders per visit (0.05 is 5%); null if there are no visits, or if visits cannot be attributed (by category, product, segment or customer).
    async fn conversion_rate(&self) -> Option<f64> {
        self.values.conversion_rate()
    }

    /// Visits counted; null if they cannot be attributed (by category, product, segment or customer).
    async fn visits(&self) -> Option<Count> {
        self.values.visits.map(Count)
    }

    /// Customers whose first order ever is in the period and counted here. Under a filter or in a row, customers whose first order was elsewhere are not included, so rows add up, except where an order is in several of them (by product or category).
    async fn new_customers(&self) -> Count {
        Count(self.values.new_customers)
    }

    /// Customers who bought in the period and had bought before it, in whatever channel, region and so on.
    async fn returning_customers(&self) -> Count {
        Count(self.values.returning_customers)
    }

    /// Distinct customers who bought in the period.
    async fn unique_customers(&self) -> Count {
        Count(self.values.unique_customers)
    }

    /// Refunds divided by gross revenue; null if there is no gross revenue.
    async fn refund_rate(&self) -> Option<f64> {
        self.values.refund_rate()
    }

    /// Median order value, accurate to 1%; null if there are no orders, and by category or product.
    #[graphql(name = "orderValueP50")]
    async fn order_value_p50(&self) -> Option<Decimal> {
        self.values.order_value_p50.map(Decimal)
    }

    /// 95th percentile of order values, accurate to 1%: of n values in ascending order, the one at index ⌊0.95 (n - 1)⌋, counting from 0; null if there are no orders, and by category or product.
    #[graphql(name = "orderValueP95")]
    async fn order_value_p95(&self) -> Option<Decimal> {
        self.values.order_value_p95.map(Decimal)
    }

    /// The value of one of the tenant's KPIs. Error: NOT_FOUND, which fails the whole answer.
    async fn kpi(&self, #[graphql(desc = "The KPI's name.")] name: String) -> async_graphql::Result<KpiValue> {
        Ok(KpiValue::of(&self.values, &name)?)
    }

    /// The values of several of the tenant's KPIs, in the order of `names`. Error: NOT_FOUND, which fails the whole answer.
    async fn kpis(
        &self,
        #[graphql(desc = "The KPIs' names.")] names: Vec<String>,
    ) -> async_graphql::Result<Vec<KpiValue>> {
        Ok(names.iter().map(|name| KpiValue::of(&self.values, name)).collect::<Result<_>>()?)
    }

    /// The values of several metrics, in the order of `names`: the same as those of the fields named for them, for clients that learn only when they run which metrics to show, as from the widgets of a dashboard. REFUNDS are those issued in the time. Error: BAD_USER_INPUT, which fails the whole answer (a metric is named twice).
    async fn metrics(
        &self,
        #[graphql(desc = "The metrics, each at most once.")] names: Vec<Metric>,
    ) -> Vec<MetricValue> {
        names.into_iter().map(|metric| self.metric(metric)).collect()
    }
}

/// One value of one dimension.
#[derive(SimpleObject)]
pub struct DimensionValue {
    /// The dimension.
    dimension: Dimension,
    /// The value as `MetricsFilters` takes it (of an organization the slug, of a product the SKU); of days of the week `MONDAY` to `SUNDAY`, of hours `00` to `23`, which no filter takes; null if the source gave none.
    value: Option<String>,
    /// The text to display: a product's title, an organization's name, `Monday`, or `09:00`; the value if there is no such text, and "(none)" if there is no value.
    label: String,
}

impl From<Name> for DimensionValue {
    fn from(name: Name) -> Self {
        DimensionValue { dimension: name.dimension, value: name.value, label: name.label }
    }
}

/// Whether a bucket or period is over.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum BucketState {
    /// Not over yet: the numbers cover the part that has elapsed, which for a bucket in the future is nothing.
    Open,
    /// Over; only late events can change it.
    Closed,
}

impl BucketState {
    pub fn of(is_open: bool) -> Self {
        if is_open { BucketState::Open } else { BucketState::Closed }
    }
}

/// Metrics of one bucket of a series.
#[derive(SimpleObject)]
pub struct MetricsBucket {
    /// The start of the bucket, or of the period if that is later.
    start: DateTime,
    /// Its end (exclusive).
    end: DateTime,
    /// Whether the bucket is over.
    state: BucketState,
    /// Whether the bucket has begun; one that has not has no facts: its numbers are zero or null.
    has_begun: bool,
    /// The value of the dimension by which the series is split; null if it is not split.
    key: Option<DimensionValue>,
    #[graphql(flatten)]
    values: MetricValues,
}

impl MetricsBucket {
    pub fn new(bucket: answer::Bucket, currency: Arc<str>) -> Self {
        MetricsBucket {
            start: DateTime(bucket.span.start),
            end: DateTime(bucket.span.end),
            state: BucketState::of(bucket.is_open),
            has_begun: bucket.has_begun,
            key: bucket.key.map(DimensionValue::from),
            values: MetricValues { values: bucket.values, currency },
        }
    }
}

impl MetricValues {
    fn metric(&self, metric: Metric) -> MetricValue {
        MetricValue::of(metric, &self.values, &self.currency)
    }

    /// The metrics a field lists, as the resolver returns them.
    fn metric_leaves(&self, field: &SelectedField<'_>) -> Value {
        Value::List(field.metrics.iter().map(|metric| object_of(&self.metric(*metric), &field.fields)).collect())
    }

    /// The KPIs a field selects, as the resolvers return them.
    fn kpi_leaves(&self, field: &SelectedField<'_>) -> Value {
        let mut found = field.kpis.iter().map(|name| match KpiValue::of(&self.values, name) {
            Ok(number) => object_of(&number, &field.fields),
            // Unreachable: every selected name is planned.
            Err(_) => Value::Null,
        });
        if field.name == "kpi" { found.next().unwrap_or(Value::Null) } else { Value::List(found.collect()) }
    }

    /// Equivalent to the resolvers, without futures.
    fn leaf(&self, field: &SelectedField<'_>) -> Value {
        let (values, none) = (&self.values, Value::Null);
        let rate = |rate: Option<f64>| rate.map_or(Value::Null, Value::from);
        let money = |money| Decimal(money).to_value();
        let count = |n| Count(n).to_value();
        let Some(metric) = Metric::of_field(field.name) else { return none };
        match metric {
            Metric::TotalRevenue => money(values.total_revenue),
            Metric::GrossRevenue => money(values.gross),
            Metric::Refunds if field.refund_time == RefundTime::Order => money(values.refunds_by_order),
            Metric::Refunds => money(values.refunds),
            Metric::Discounts => money(values.discounts),
            Metric::OrdersCount => count(values.orders),
            Metric::UnitsSold => count(values.units),
            Metric::AvgOrderValue => values.avg_order_value().map_or(none, money),
            Metric::ConversionRate => rate(values.conversion_rate()),
            Metric::Visits => values.visits.map_or(none, count),
            Metric::NewCustomers => count(values.new_customers),
            Metric::ReturningCustomers => count(values.returning_customers),
            Metric::UniqueCustomers => count(values.unique_customers),
            Metric::RefundRate => rate(values.refund_rate()),
            Metric::OrderValueP50 => values.order_value_p50.map_or(none, money),
            Metric::OrderValueP95 => values.order_value_p95.map_or(none, money),
        }
    }
}

impl Flat for DimensionValue {
    fn leaf(&self, field: &SelectedField<'_>) -> Value {
        match field.name {
            "dimension" => async_graphql::resolver_utils::enum_value(self.dimension),
            "value" => self.value.clone().map_or(Value::Null, Value::String),
            _ => Value::String(self.label.clone()),
        }
    }
}

impl Flat for MetricsBucket {
    fn leaf(&self, field: &SelectedField<'_>) -> Value {
        match field.name {
            "start" => self.start.to_value(),
            "end" => self.end.to_value(),
            "state" => async_graphql::resolver_utils::enum_value(self.state),
            "hasBegun" => Value::Boolean(self.has_begun),
            _ => self.values.leaf(field),
        }
    }

    fn object(&self, field: &SelectedField<'_>) -> Value {
        match field.name {
            "kpi" | "kpis" => self.values.kpi_leaves(field),
            "metrics" => self.values.metric_leaves(field),
            _ => self.key.as_ref().map_or(Value::Null, |key| object_of(key, &field.fields)),
        }
    }
}
