//! `salesMetrics` and its types.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql::{Context, InputType, Object, SelectionField, SimpleObject, Value};

use super::answer::{self, Answer, ComparedValues, answer};
use super::catalog::{Metric, Needs};
use super::cell::Values;
use super::filter::MetricsFilters;
use super::flat::FlatList;
use super::input::{BreakdownSort, ComparisonPeriod, ComparisonSort, DateRange, Grain, Weekday};
use super::labels::Name;
use super::measured::Measured;
use super::period::Span;
use super::plan::{
    BreakdownArgs, BreakdownPlan, ComparisonArgs, ComparisonPlan, Plan, RowOrder, SeriesArgs, SeriesPlan,
};
use super::read::Dimension;
use super::values::{BucketState, DimensionValue, MetricValues, MetricsBucket};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::graphql::context::{Needs as NeedsPermission, app, operation, read};
use crate::graphql::scalars::{Currency, DateTime, Decimal, Position, TimeZone};
use crate::predictions::graphql::{Predicted, history_of};

#[derive(Default)]
pub struct MetricsQuery;

#[Object]
impl MetricsQuery {
    /// Exact sales metrics for a period. Errors: BAD_USER_INPUT (period, time zone, filter), NOT_FOUND (organization, KPI), MIXED_CURRENCIES (amounts, the currency or KPIs of organizations with different currencies are selected or sorted by, which breakdowns are by default; filter by one).
    #[graphql(guard = "NeedsPermission(Permission::SalesView)")]
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
        let answer = answer(read(ctx).await?.as_ref(), &app.memory, &plan, now, operation.size()).await?;
        operation.depends_on(ctx.field(), answer.freshness());
        Ok(SalesMetrics(Arc::new(answer)))
    }
}

/// Number of values selected within a field.
fn values_of(field: SelectionField<'_>) -> usize {
    field.selection_set().map(|inner| values_of(inner).max(1).saturating_mul(names_count(inner))).sum()
}

/// The number of names that a field lists; 1 if it lists none.
fn names_count(field: SelectionField<'_>) -> usize {
    let arguments = field.arguments().unwrap_or_default();
    match arguments.into_iter().find(|(argument, _)| argument == "names") {
        Some((_, Value::List(names))) => names.len().max(1),
        _ => 1,
    }
}

/// What the selected fields of a `SalesMetrics` need; the field's own arguments are left to its resolver.
pub fn plan_of(field: SelectionField<'_>) -> Result<Plan> {
    let mut plan = Plan::default();
    for field in field.selection_set() {
        let within = |error: Error| error.in_field(key_of(field));
        match field.name() {
            "series" => add_series(&mut plan.series, field).map_err(within)?,
            "breakdown" => {
                let needs_and_kpis = |inner: SelectionField<'_>| Ok((needs_of(inner)?, kpis_of(inner)?));
                add_breakdown::<BreakdownSort>(&mut plan.breakdowns, field, needs_and_kpis).map_err(within)?;
            }
            "comparison" => add_comparison(&mut plan.comparisons, field).map_err(within)?,
            "forecast" | "anomalies" => {
                let Some(asked) = history_of(field)? else { continue };
                match plan.histories.iter_mut().find(|other| other.args == asked.args) {
                    Some(other) => other.needs = other.needs.and(asked.needs),
                    None => plan.histories.push(asked),
                }
            }
            "currency" => plan.has_currency = true,
            _ => {
                let metrics = metrics_of(field)?;
                if !metrics.is_empty() {
                    plan.totals = Some(plan.totals.unwrap_or_default().and(Needs::of(metrics)));
                }
            }
        }
    }
    plan.kpis = kpis_of(field)?;
    if !plan.kpis.is_empty() {
        plan.totals.get_or_insert_default();
    }
    Ok(plan)
}

fn key_of(field: SelectionField<'_>) -> &str {
    field.alias().unwrap_or_else(|| field.name())
}

fn add_series(plans: &mut Vec<SeriesPlan>, field: SelectionField<'_>) -> Result<()> {
    let (needs, kpis, fields) = (needs_of(field)?, kpis_of(field)?, values_of(field));
    let asked = SeriesPlan { field: key_of(field).to_owned(), args: SeriesArgs::of(field)?, needs, kpis, fields };
    match plans.iter_mut().find(|other| other.args == asked.args) {
        Some(other) => {
            other.needs = other.needs.and(asked.needs);
            other.kpis.extend(asked.kpis);
            other.fields += asked.fields;
        }
        None => plans.push(asked),
    }
    Ok(())
}

/// Adds a breakdown sorted by an `S`; `needs_of` tells what the selected fields of a row need.
fn add_breakdown<S: InputType + Into<RowOrder>>(
    plans: &mut Vec<BreakdownPlan>,
    field: SelectionField<'_>,
    needs_of: impl Fn(SelectionField<'_>) -> Result<(Needs, BTreeSet<String>)>,
) -> Result<()> {
    let args = BreakdownArgs::new(
        argument(field, "by")?,
        argument::<Option<S>>(field, "orderBy")?,
        argument::<Option<i32>>(field, "first")?.unwrap_or(10),
    )?;
    let inner = |name: &str| field.selection_set().filter(move |inner| inner.name() == name).collect::<Vec<_>>();
    let (rows, other) = (inner("rows"), inner("other"));
    let (mut needs, mut kpis) = (Needs::default(), args.order.measured.kpis());
    for inner in rows.iter().chain(&other) {
        let of_inner = needs_of(*inner)?;
        needs = needs.and(of_inner.0);
        kpis.extend(of_inner.1);
    }
    let fields = rows.iter().map(|inner| values_of(*inner)).sum();
    let key = key_of(field).to_owned();
    let asked = BreakdownPlan { field: key, args, needs, kpis, has_other: !other.is_empty(), fields };
    match plans.iter_mut().find(|other| other.args == asked.args) {
        Some(other) => {
            other.needs = other.needs.and(asked.needs);
            other.kpis.extend(asked.kpis);
            other.has_other |= asked.has_other;
            other.fields += asked.fields;
        }
        None => plans.push(asked),
    }
    Ok(())
}

fn add_comparison(plans: &mut Vec<ComparisonPlan>, field: SelectionField<'_>) -> Result<()> {
    let args = ComparisonArgs::new(argument(field, "to")?, argument(field, "period")?)?;
    let (needs, kpis) = compared_needs(field)?;
    let index = plans.iter().position(|other| other.args == args).unwrap_or_else(|| {
        let field = key_of(field).to_owned();
        let (needs, kpis, breakdowns) = (Needs::default(), BTreeSet::new(), Vec::new());
        plans.push(ComparisonPlan { field, args, needs, kpis, breakdowns });
        plans.len() - 1
    });
    let plan = &mut plans[index];
    plan.needs = plan.needs.and(needs);
    plan.kpis.extend(kpis);
    for inner in field.selection_set().filter(|inner| inner.name() == "breakdown") {
        add_breakdown::<ComparisonSort>(&mut plan.breakdowns, inner, compared_needs)
            .map_err(|error| error.in_field(key_of(inner)))?;
    }
    Ok(())
}

/// What the selected metrics and changes of two compared periods need, and their KPIs.
fn compared_needs(field: SelectionField<'_>) -> Result<(Needs, BTreeSet<String>)> {
    let (mut needs, mut kpis) = (Needs::default(), BTreeSet::new());
    for inner in field.selection_set() {
        match inner.name() {
            "change" => needs = needs.and(argument::<Metric>(inner, "metric")?.needs()),
            "kpiChange" => kpis.extend([argument::<String>(inner, "name")?]),
            "current" | "previous" => {
                needs = needs.and(needs_of(inner)?);
                kpis.extend(kpis_of(inner)?);
            }
            _ => {}
        }
    }
    Ok((needs, kpis))
}

/// The KPIs selected within a field.
fn kpis_of(field: SelectionField<'_>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for inner in field.selection_set() {
        match inner.name() {
            "kpi" => names.extend([argument::<String>(inner, "name")?]),
            "kpis" => names.extend(argument::<Vec<String>>(inner, "names")?),
            _ => {}
        }
    }
    Ok(names)
}

/// What the metrics selected within a field need.
fn needs_of(field: SelectionField<'_>) -> Result<Needs> {
    let mut needs = Needs::default();
    for inner in field.selection_set() {
        needs = needs.and(Needs::of(metrics_of(inner)?));
    }
    Ok(needs)
}

/// The metrics that a field shows: the one it is named for, or those that it lists.
fn metrics_of(field: SelectionField<'_>) -> Result<Vec<Metric>> {
    if field.name() != "metrics" {
        return Ok(Metric::of_field(field.name()).into_iter().collect());
    }
    let names: Vec<Metric> = argument(field, "names")?;
    if names.iter().enumerate().any(|(index, name)| names[..index].contains(name)) {
        return Err(Error::bad_input("names", "give each metric once"));
    }
    Ok(names)
}

impl SeriesArgs {
    fn of(field: SelectionField<'_>) -> Result<Self> {
        Ok(SeriesArgs {
            grain: argument(field, "grain")?,
            timezone: argument::<Option<TimeZone>>(field, "timezone")?.map(|zone| zone.0),
            week_start: argument::<Option<Weekday>>(field, "weekStart")?.unwrap_or(Weekday::Monday),
            by: argument(field, "by")?,
        })
    }
}

/// Looks ahead at a field's argument, before its resolver runs. Error: BAD_USER_INPUT.
pub fn argument<T: InputType>(field: SelectionField<'_>, name: &'static str) -> Result<T> {
    let arguments = field.arguments().map_err(|_| Error::bad_input(name, "cannot be read"))?;
    let value = arguments.into_iter().find(|(argument, _)| argument == name).map(|(_, value)| value);
    T::parse(value)
        .map_err(|error| Error::bad_input(name, error.into_server_error(async_graphql::Pos::default()).message))
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

    /// The state of the ledger these numbers were read from.
    async fn as_of(&self) -> AsOf {
        AsOf::from(self.0.as_of)
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
    start: DateTime,
    /// The end of the period (exclusive).
    end: DateTime,
    /// Whether the period is over.
    state: BucketState,
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
fn joined(names: &[Name]) -> String {
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

/// Two periods side by side. While the current one is still running, both are cut to the same elapsed part.
struct MetricsComparison {
    comparison: answer::Comparison,
    currency: Arc<str>,
    now: Timestamp,
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
    /// Current minus previous; null if either is null.
    absolute: Option<Decimal>,
    /// The absolute change divided by the previous value (0.1 is 10% more); null if the previous value is null or zero.
    relative: Option<f64>,
}
