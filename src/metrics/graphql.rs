//! `salesMetrics` and its types.

use std::sync::Arc;

use async_graphql::{Context, Object, SimpleObject};

use super::answer::{self, Answer, answer, remembered_answer};
use super::cell::Values;
use super::comparison::MetricsComparison;
use super::dimension::Dimension;
use super::filter::MetricsFilters;
use super::flat::FlatList;
use super::input::{BreakdownSort, ComparisonPeriod, DateRange, Grain, Weekday};
use super::labels::Name;
use super::look_ahead::plan_of;
use super::period::Span;
use super::plan::{BreakdownArgs, ComparisonArgs, Plan, SeriesArgs};
use super::values::{BucketState, DimensionValue, MetricValues, MetricsBucket};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, app, caller, operation, read};
use crate::graphql::scalars::{Currency, Cursor, DateTime, Position, TimeZone};
use crate::predictions::graphql::Predicted;

#[derive(Default)]
pub struct MetricsQuery;

#[Object]
impl MetricsQuery {
    /// Exact sales metrics for a period. Errors: BAD_USER_INPUT (period, time zone, filter), NOT_FOUND (organization, KPI), MIXED_CURRENCIES (amounts, the currency or KPIs of organizations with different currencies are selected or sorted by, which breakdowns are by default; filter by one).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn sales_metrics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The period to report on; its end is exclusive.")] period: DateRange,
        #[graphql(desc = "Which facts to count; omit for all.")] filters: Option<MetricsFilters>,
        #[graphql(
            desc = "Answer from the ledger as it stood at this position; omit for the current state. Error: AS_OF_NOT_AVAILABLE."
        )]
        as_of: Option<Position>,
    ) -> async_graphql::Result<SalesMetrics> {
        let plan = Plan {
            period,
            filters: filters.unwrap_or_default(),
            as_of: as_of.map(|position| position.0),
            ..plan_of(ctx.field())?
        };
        let (app, operation) = (app(ctx)?, operation(ctx)?);
        let now = app.clock.now();
        let (memory, size) = (&app.memory, operation.size());
        let remembered = if operation.is_single_query() {
            remembered_answer((&app.db, caller(ctx)?.tenant), memory, &plan, now, size).await?
        } else {
            None
        };
        let answer = match remembered {
            Some(answer) => answer,
            None => answer(read(ctx).await?.as_ref(), memory, &plan, now, size).await?,
        };
        operation.depends_on(ctx.field(), answer.freshness());
        Ok(SalesMetrics(Arc::new(answer)))
    }
}

/// Sales metrics for a period, at one position of the ledger.
pub struct SalesMetrics(pub Arc<Answer>);

/// Sales metrics for a period, at one position of the ledger.
#[Object]
impl SalesMetrics {
    /// The period, resolved to exact times.
    async fn period(&self) -> Period {
        Period::new(self.0.span, self.0.now)
    }

    /// The time zone in which the period's days begin: that of the period if it has one, else that of the organization that is filtered by, else that of the default one. Buckets begin in it too, unless `series` has another.
    async fn timezone(&self) -> TimeZone {
        TimeZone(self.0.zone)
    }

    /// The state of the ledger these numbers were read from.
    async fn as_of(&self) -> AsOf {
        AsOf::from(self.0.as_of)
    }

    /// In `metricsUpdated`, the cursor for `after` to continue after this state, as in `extensions.cursor`; null in queries.
    async fn cursor(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Cursor>> {
        Ok(operation(ctx)?.cursor().map(|cursor| Cursor(cursor.to_string())))
    }

    /// The currency of all amounts.
    async fn currency(&self) -> Currency {
        Currency(self.0.currency.to_string())
    }

    #[graphql(flatten)]
    async fn values(&self) -> MetricValues {
        MetricValues { values: self.0.totals.clone(), currency: Arc::clone(&self.0.currency) }
    }

    /// The period split into buckets, including empty ones unless `by` is given. Error: BAD_USER_INPUT (more than 10000 buckets, unknown time zone; `argument` is `by` if only the split by it makes too many).
    async fn series(
        &self,
        #[graphql(desc = "The length of a bucket.")] grain: Grain,
        #[graphql(
            desc = "The time zone in which buckets begin; omit for that of the period, else the organization's."
        )]
        timezone: Option<TimeZone>,
        #[graphql(desc = "The first day of the week, for WEEK buckets.", default_with = "Some(Weekday::Monday)")]
        week_start: Option<Weekday>,
        #[graphql(desc = "Gives one series per value of this dimension; buckets without facts are then omitted.")]
        by: Option<Dimension>,
    ) -> async_graphql::Result<FlatList<MetricsBucket>> {
        let week_start = week_start.unwrap_or(Weekday::Monday);
        let args = SeriesArgs { grain, timezone: timezone.map(|zone| zone.0), week_start, by };
        let buckets = prepared(&self.0.series, &args)?;
        let bucket = |bucket: &answer::Bucket| MetricsBucket::new(bucket.clone(), Arc::clone(&self.0.currency));
        Ok(FlatList(buckets.iter().map(bucket).collect()))
    }

    /// The period split by dimensions: the first rows in the order asked for, and the rest combined in `other`.
    async fn breakdown(
        &self,
        #[graphql(desc = "One to three different dimensions.")] by: Vec<Dimension>,
        #[graphql(desc = "How to sort the rows, by default by total revenue, largest first; ties are broken by key.")]
        order_by: Option<BreakdownSort>,
        #[graphql(
            desc = "How many rows to return, 1 to 1000; all others are combined in `other`.",
            default_with = "Some(10)"
        )]
        first: Option<i32>,
    ) -> async_graphql::Result<Breakdown> {
        let args = BreakdownArgs::new(by, order_by, first.unwrap_or(10))?;
        let breakdown = prepared(&self.0.breakdowns, &args)?.clone();
        Ok(Breakdown { breakdown, currency: Arc::clone(&self.0.currency) })
    }

    /// This period compared with another one. While this period is still running, both are cut to the same elapsed part.
    async fn comparison(
        &self,
        #[graphql(desc = "What to compare with: by default `period` if it is given, else PREVIOUS_PERIOD.")] to: Option<
            ComparisonPeriod,
        >,
        #[graphql(desc = "The period to compare with; for CUSTOM, and only then.")] period: Option<DateRange>,
    ) -> async_graphql::Result<MetricsComparison> {
        let args = ComparisonArgs::new(to, period)?;
        let comparison = prepared(&self.0.comparisons, &args)?.clone();
        Ok(MetricsComparison { comparison, currency: Arc::clone(&self.0.currency), now: self.0.now })
    }

    #[graphql(flatten)]
    async fn predicted(&self) -> Predicted {
        Predicted(Arc::clone(&self.0))
    }
}

/// The part of an answer that was planned for these arguments.
pub fn prepared<'a, A: PartialEq, T>(parts: &'a [(A, T)], args: &A) -> Result<&'a T> {
    let found = parts.iter().find(|(other, _)| other == args).map(|(_, part)| part);
    found.ok_or_else(|| Error::internal("a part of the answer was not planned"))
}

/// A period with an inclusive start and an exclusive end.
#[derive(SimpleObject)]
pub struct Period {
    /// The beginning of the period (inclusive).
    pub start: DateTime,
    /// The end of the period (exclusive).
    pub end: DateTime,
    /// Whether the period is over.
    pub state: BucketState,
}

impl Period {
    pub fn new(span: Span, now: Timestamp) -> Self {
        Period { start: DateTime(span.start), end: DateTime(span.end), state: BucketState::of(span.is_open(now)) }
    }
}

/// A state of the ledger. A query as of the same position gives the same numbers again.
#[derive(SimpleObject)]
pub struct AsOf {
    /// The last position that is included.
    position: Position,
    /// The latest time at which an included event occurred; null for an empty ledger.
    watermark: Option<DateTime>,
}

impl From<answer::AsOf> for AsOf {
    fn from(as_of: answer::AsOf) -> Self {
        AsOf { position: Position(as_of.position), watermark: as_of.watermark.map(DateTime) }
    }
}

/// A period split by dimensions.
struct Breakdown {
    breakdown: answer::Breakdown,
    currency: Arc<str>,
}

/// A period split by dimensions.
#[Object]
impl Breakdown {
    /// The first rows in the order asked for.
    async fn rows(&self) -> Vec<BreakdownRow> {
        let row = |(names, values): &(Vec<Name>, Values)| BreakdownRow {
            key: joined(names),
            keys: names.iter().cloned().map(DimensionValue::from).collect(),
            values: MetricValues { values: values.clone(), currency: Arc::clone(&self.currency) },
        };
        self.breakdown.rows.iter().map(row).collect()
    }

    /// All further rows combined, each order and customer counted once; null if there are none.
    async fn other(&self) -> Option<MetricValues> {
        let values = self.breakdown.other.clone()?;
        Some(MetricValues { values, currency: Arc::clone(&self.currency) })
    }

    /// The total number of rows.
    async fn rows_count(&self) -> usize {
        self.breakdown.rows_count
    }
}

/// The text to display for a combination of dimension values.
pub fn joined(names: &[Name]) -> String {
    names.iter().map(|name| name.label.as_str()).collect::<Vec<_>>().join(" / ")
}

/// Metrics of one combination of dimension values.
#[derive(SimpleObject)]
struct BreakdownRow {
    /// The values, in the order of `by`.
    keys: Vec<DimensionValue>,
    /// The text to display for the row: its labels, joined.
    key: String,
    #[graphql(flatten)]
    values: MetricValues,
}
