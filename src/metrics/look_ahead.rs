//! Looks ahead at the selected fields and their arguments, before any resolver runs, so that only what is selected is
//! computed.

use std::collections::BTreeSet;

use async_graphql::{InputType, SelectionField, Value};

use super::catalog::{Metric, Needs};
use super::input::{BreakdownSort, ComparisonSort, Weekday};
use super::plan::{
    BreakdownArgs, BreakdownPlan, ComparisonArgs, ComparisonPlan, Plan, RowOrder, SeriesArgs, SeriesPlan,
};
use crate::error::{Error, Result};
use crate::graphql::scalars::TimeZone;
use crate::predictions::graphql::history_of;

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
