//! Two periods side by side, as GraphQL objects.

use std::sync::Arc;

use async_graphql::{Object, SimpleObject};

use super::answer::{self, ComparedValues};
use super::catalog::Metric;
use super::dimension::Dimension;
use super::graphql::{Period, joined, prepared};
use super::input::ComparisonSort;
use super::labels::Name;
use super::measured::Measured;
use super::plan::BreakdownArgs;
use super::values::{BucketState, DimensionValue, MetricValues};
use crate::clock::Timestamp;
use crate::graphql::scalars::Decimal;

/// Two periods side by side. While the current one is still running, both are cut to the same elapsed part.
pub struct MetricsComparison {
    pub comparison: answer::Comparison,
    /// Of amounts.
    pub currency: Arc<str>,
    pub now: Timestamp,
}

/// Two periods side by side. While the current one is still running, both are cut to the same elapsed part.
#[Object]
impl MetricsComparison {
    /// The part of the current period that is compared.
    async fn current_period(&self) -> Period {
        let state = BucketState::of(self.comparison.is_open);
        Period { state, ..Period::new(self.comparison.current_span, self.now) }
    }

    /// The part of the other period that it is compared with.
    async fn previous_period(&self) -> Period {
        Period::new(self.comparison.previous_span, self.now)
    }

    #[graphql(flatten)]
    async fn whole(&self) -> ComparisonValues {
        ComparisonValues { values: self.comparison.whole.clone(), currency: Arc::clone(&self.currency) }
    }

    /// Both periods split by dimensions, row by row: the first rows in the order asked for, and the rest combined in `other`.
    async fn breakdown(
        &self,
        #[graphql(desc = "One to three different dimensions.")] by: Vec<Dimension>,
        #[graphql(
            desc = "How to sort the rows, by default by total revenue of the current period, largest first; ties are broken by key."
        )]
        order_by: Option<ComparisonSort>,
        #[graphql(
            desc = "How many rows to return, 1 to 1000; all others are combined in `other`.",
            default_with = "Some(10)"
        )]
        first: Option<i32>,
    ) -> async_graphql::Result<ComparisonBreakdown> {
        let args = BreakdownArgs::new(by, order_by, first.unwrap_or(10))?;
        let breakdown = prepared(&self.comparison.breakdowns, &args)?.clone();
        Ok(ComparisonBreakdown { breakdown, currency: Arc::clone(&self.currency) })
    }
}

/// Metrics of two compared periods.
struct ComparisonValues {
    values: ComparedValues,
    currency: Arc<str>,
}

/// Metrics of two compared periods.
#[Object]
impl ComparisonValues {
    /// The metrics of `currentPeriod`.
    async fn current(&self) -> MetricValues {
        MetricValues { values: self.values.current.clone(), currency: Arc::clone(&self.currency) }
    }

    /// The metrics of `previousPeriod`.
    async fn previous(&self) -> MetricValues {
        MetricValues { values: self.values.previous.clone(), currency: Arc::clone(&self.currency) }
    }

    /// How one metric changed.
    async fn change(&self, #[graphql(desc = "The metric.")] metric: Metric) -> MetricChange {
        let measured = Measured::Metric(metric);
        MetricChange {
            metric,
            absolute: self.values.absolute_change(&measured).map(Decimal),
            relative: self.values.relative_change(&measured),
        }
    }

    /// How one KPI changed. Error: NOT_FOUND.
    async fn kpi_change(&self, #[graphql(desc = "The KPI's name.")] name: String) -> KpiChange {
        let measured = Measured::Kpi(name.clone());
        KpiChange {
            absolute: self.values.absolute_change(&measured).map(Decimal),
            relative: self.values.relative_change(&measured),
            name,
        }
    }
}

/// Two periods split by dimensions.
struct ComparisonBreakdown {
    breakdown: answer::Breakdown<ComparedValues>,
    currency: Arc<str>,
}

/// Two periods split by dimensions.
#[Object]
impl ComparisonBreakdown {
    /// The first rows in the order asked for. There is a row for whatever has facts in either period.
    async fn rows(&self) -> Vec<ComparisonRow> {
        let row = |(names, values): &(Vec<Name>, ComparedValues)| ComparisonRow {
            key: joined(names),
            keys: names.iter().cloned().map(DimensionValue::from).collect(),
            values: ComparisonValues { values: values.clone(), currency: Arc::clone(&self.currency) },
        };
        self.breakdown.rows.iter().map(row).collect()
    }

    /// All further rows combined, each order and customer counted once; null if there are none.
    async fn other(&self) -> Option<ComparisonValues> {
        let values = self.breakdown.other.clone()?;
        Some(ComparisonValues { values, currency: Arc::clone(&self.currency) })
    }

    /// The total number of rows.
    async fn rows_count(&self) -> usize {
        self.breakdown.rows_count
    }
}

/// Metrics of one combination of dimension values in two periods.
#[derive(SimpleObject)]
struct ComparisonRow {
    /// The values, in the order of `by`.
    keys: Vec<DimensionValue>,
    /// The text to display for the row: its labels, joined.
    key: String,
    #[graphql(flatten)]
    values: ComparisonValues,
}

/// How a KPI changed from the previous period to the current one.
#[derive(SimpleObject)]
struct KpiChange {
    /// The KPI's name.
    name: String,
    /// Current minus previous, in the KPI's unit to four decimals; null if either is null.
    absolute: Option<Decimal>,
    /// The absolute change divided by the previous value (0.1 is 10% more); null if the previous value is null or zero.
    relative: Option<f64>,
}

/// How a metric changed from the previous period to the current one.
#[derive(SimpleObject)]
struct MetricChange {
    /// The metric.
    metric: Metric,
    /// Current minus previous, rounded to four decimals; null if either is null.
    absolute: Option<Decimal>,
    /// The absolute change, before it is rounded, divided by the previous value (0.1 is 10% more); null if the previous value is null or zero.
    relative: Option<f64>,
}
