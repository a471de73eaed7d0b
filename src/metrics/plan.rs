//! The query over a period, built from arguments and the selected fields so that nothing else is computed.

use std::collections::BTreeSet;

use chrono_tz::Tz;

use super::catalog::{Metric, Needs};
use super::dimension::Dimension;
use super::filter::MetricsFilters;
use super::history::HistoryPlan;
use super::input::{
    BreakdownSort, ComparedValue, ComparisonPeriod, ComparisonSort, DateRange, Grain, SortDirection, Weekday,
};
use super::measured::Measured;
use crate::calendar::Step;
use crate::error::{Error, Result};

/// Maximum buckets per series.
pub const BUCKETS_MAX: usize = 10_000;
/// Maximum rows per breakdown, excluding the rest.
const ROWS_MAX: i32 = 1000;
const DIMENSIONS_MAX: usize = 3;

/// Everything one `salesMetrics` or `metricsUpdated` selects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub period: DateRange,
    pub filters: MetricsFilters,
    /// Position to answer as of; `None` means the newest.
    pub as_of: Option<i64>,
    /// What the period's total fields need; `None` if none is selected.
    pub totals: Option<Needs>,
    /// The currency is selected.
    pub has_currency: bool,
    /// The KPIs of the whole period.
    pub kpis: BTreeSet<String>,
    pub series: Vec<SeriesPlan>,
    pub breakdowns: Vec<BreakdownPlan>,
    pub comparisons: Vec<ComparisonPlan>,
    pub histories: Vec<HistoryPlan>,
}

/// The arguments of `series` and what its fields need.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPlan {
    /// The response key of the first field that asks for it.
    pub field: String,
    pub args: SeriesArgs,
    pub needs: Needs,
    pub kpis: BTreeSet<String>,
    /// Values per bucket, counting repeated selections.
    pub fields: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesArgs {
    pub grain: Grain,
    pub timezone: Option<Tz>,
    pub week_start: Weekday,
    pub by: Option<Dimension>,
}

impl SeriesArgs {
    pub fn step(&self) -> Step {
        self.grain.step(self.week_start)
    }
}

/// The arguments of `breakdown` and what its fields need.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakdownPlan {
    /// The response key of the first field that asks for it.
    pub field: String,
    pub args: BreakdownArgs,
    pub needs: Needs,
    pub kpis: BTreeSet<String>,
    /// Whether the rest is requested.
    pub has_other: bool,
    /// Values per row, counting repeated selections.
    pub fields: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BreakdownArgs {
    pub by: Vec<Dimension>,
    pub order: RowOrder,
    pub first: usize,
}

/// How rows are sorted.
#[derive(Clone, Debug, PartialEq)]
pub struct RowOrder {
    pub measured: Measured,
    /// Of rows that compare two periods, which value.
    pub of: ComparedValue,
    pub direction: SortDirection,
}

impl BreakdownArgs {
    /// Error: BAD_USER_INPUT.
    pub fn new(by: Vec<Dimension>, order: Option<impl Into<RowOrder>>, first: i32) -> Result<Self> {
        let is_repeated = by.iter().enumerate().any(|(i, dimension)| by[..i].contains(dimension));
        if by.is_empty() || by.len() > DIMENSIONS_MAX || is_repeated {
            return Err(Error::bad_input("by", format!("give one to {DIMENSIONS_MAX} dimensions, each once")));
        }
        let rows = usize::try_from(first).ok().filter(|_| (1..=ROWS_MAX).contains(&first));
        let first = rows.ok_or_else(|| Error::bad_input("first", format!("must be from 1 to {ROWS_MAX}")))?;
        Ok(BreakdownArgs { by, order: order.map(Into::into).unwrap_or_default(), first })
    }
}

impl Plan {
    /// Whether amounts of money are added up.
    pub fn adds_amounts(&self) -> bool {
        self.has_currency || !self.all_kpis().is_empty() || self.all_needs().any(|needs| needs.amounts)
    }

    /// Whether this process may have in memory all that it takes: sums as of now. What is behind an anomaly is read later,
    /// from the same snapshot, so histories are left out.
    pub fn may_be_remembered(&self) -> bool {
        let is_named = |dimension: &Dimension| !matches!(dimension, Dimension::Product | Dimension::Customer);
        let mut by = self.series.iter().filter_map(|part| part.args.by.as_ref());
        let mut by_rows = self.all_breakdowns().flat_map(|part| &part.args.by);
        self.as_of.is_none()
            && self.histories.is_empty()
            && !self.filters.has_names()
            && self.all_kpis().is_empty()
            && by.all(is_named)
            && by_rows.all(is_named)
            && !self.all_needs().any(|needs| needs.sets(false) || needs.first_customers)
    }

    fn all_needs(&self) -> impl Iterator<Item = Needs> {
        let series = self.series.iter().map(|part| part.needs);
        let breakdowns = self.all_breakdowns().map(BreakdownPlan::all_needs);
        let parts = series.chain(breakdowns).chain(self.comparisons.iter().map(|part| part.needs));
        parts.chain(self.histories.iter().map(|part| part.needs)).chain(self.totals)
    }

    /// The names of all requested KPIs.
    pub fn all_kpis(&self) -> BTreeSet<String> {
        let series = self.series.iter().map(|part| &part.kpis);
        let breakdowns = self.all_breakdowns().map(|part| &part.kpis);
        let parts = series.chain(breakdowns).chain(self.comparisons.iter().map(|part| &part.kpis));
        let parts = parts.chain(self.histories.iter().map(|part| &part.args.kpis));
        parts.chain([&self.kpis]).flatten().cloned().collect()
    }

    fn all_breakdowns(&self) -> impl Iterator<Item = &BreakdownPlan> {
        self.breakdowns.iter().chain(self.comparisons.iter().flat_map(|part| &part.breakdowns))
    }
}

impl BreakdownPlan {
    /// What its fields and its order need.
    pub fn all_needs(&self) -> Needs {
        self.needs.and(self.args.order.measured.needs())
    }
}

/// The arguments of `comparison` and what its fields need.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonPlan {
    /// The response key of the first field that asks for it.
    pub field: String,
    pub args: ComparisonArgs,
    pub needs: Needs,
    pub kpis: BTreeSet<String>,
    pub breakdowns: Vec<BreakdownPlan>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComparisonArgs {
    pub to: ComparisonPeriod,
    /// Set if and only if CUSTOM.
    pub period: Option<DateRange>,
}

impl ComparisonArgs {
    /// Error: BAD_USER_INPUT.
    pub fn new(to: Option<ComparisonPeriod>, period: Option<DateRange>) -> Result<Self> {
        let to = to.unwrap_or(match period {
            Some(_) => ComparisonPeriod::Custom,
            None => ComparisonPeriod::PreviousPeriod,
        });
        if (to == ComparisonPeriod::Custom) != period.is_some() {
            return Err(Error::bad_input("period", "give a period if, and only if, `to` is CUSTOM"));
        }
        Ok(ComparisonArgs { to, period })
    }
}

impl Default for RowOrder {
    fn default() -> Self {
        let measured = Measured::Metric(Metric::TotalRevenue);
        RowOrder { measured, of: ComparedValue::Current, direction: SortDirection::Desc }
    }
}

impl From<BreakdownSort> for RowOrder {
    fn from(BreakdownSort { metric, kpi, direction }: BreakdownSort) -> Self {
        RowOrder { measured: measured(metric, kpi), of: ComparedValue::Current, direction }
    }
}

impl From<ComparisonSort> for RowOrder {
    fn from(ComparisonSort { metric, kpi, of, direction }: ComparisonSort) -> Self {
        RowOrder { measured: measured(metric, kpi), of, direction }
    }
}

/// The KPI if one is named, otherwise the metric.
fn measured(metric: Metric, kpi: Option<String>) -> Measured {
    kpi.map_or(Measured::Metric(metric), Measured::Kpi)
}
