//! A tenant's stored formulas and the plans compiled from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models::kpis::{Filter, Formula, Kpis, Plan, Question, SALES, Shift};

use crate::db::{TenantTx, get};
use crate::error::{Error, Result};
use crate::metrics::catalog::{Metric, Needs};

/// Filters and shifts per formula, each of which is a separate read.
pub const VIEWS_MAX: usize = 16;

/// A computable KPI.
#[derive(Debug)]
pub struct Definition {
    pub name: Arc<str>,
    pub plan: Plan,
}

/// KPIs by name.
pub type Definitions = BTreeMap<String, Arc<Definition>>;

/// Operations of a formula that cost as much as another value in a response.
const OPERATIONS_OF_VALUE: usize = 16;

/// The filter and shift a metric is evaluated under.
pub type View = (Filter, Shift);

impl Definition {
    /// What the formula needs of the surrounding cells, without its own filter or shift.
    pub fn own_needs(&self) -> Needs {
        Needs::of(self.plan.questions().iter().filter(|q| is_own(q)).filter_map(metric_of))
    }

    /// The other filters and shifts it asks for, and what it needs there.
    pub fn views(&self) -> Vec<(View, Needs)> {
        let mut views: Vec<(View, Needs)> = Vec::new();
        for question in self.plan.questions().iter().filter(|q| !is_own(q)) {
            let view = (question.filter.clone(), question.shift.clone());
            let needs = metric_of(question).map(Metric::needs).unwrap_or_default();
            match views.iter_mut().find(|(other, _)| *other == view) {
                Some((_, other)) => *other = other.and(needs),
                None => views.push((view, needs)),
            }
        }
        views
    }
}

/// What the KPIs `names` need of the surrounding cells.
pub fn own_needs(definitions: &Definitions, names: &BTreeSet<String>) -> Needs {
    let asked = names.iter().filter_map(|name| definitions.get(name));
    asked.fold(Needs::default(), |needs, definition| needs.and(definition.own_needs()))
}

/// What it costs to evaluate the KPIs `names` once, in values of a response, beyond what it costs to show them.
pub fn cost(definitions: &Definitions, names: &BTreeSet<String>) -> usize {
    let asked = names.iter().filter_map(|name| definitions.get(name));
    asked.map(|definition| definition.plan.operations() / OPERATIONS_OF_VALUE).sum()
}

/// The metric a question is about. The formula catalog uses this catalog's names.
pub fn metric_of(question: &Question) -> Option<Metric> {
    Metric::of_field(question.metric)
}

fn is_own(question: &Question) -> bool {
    question.filter == Filter::default() && question.shift == Shift::default()
}

/// All formulas of the tenant.
pub async fn read_formulas(tx: &TenantTx) -> Result<Kpis> {
    let rows = tx.query("SELECT name, formula FROM kpis WHERE tenant_id = $1", []).await?;
    let formula = |row| Ok((get(row, 0)?, Formula::parse(&get::<String>(row, 1)?).map_err(Error::internal)?));
    Ok(Kpis::new(SALES, rows.iter().map(formula).collect::<Result<_>>()?))
}

/// The names of all KPIs of the tenant.
pub async fn list_names(tx: &TenantTx) -> Result<BTreeSet<String>> {
    let rows = tx.query("SELECT name FROM kpis WHERE tenant_id = $1", []).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The KPIs with these names. Error: NOT_FOUND.
pub async fn find(tx: &TenantTx, names: &BTreeSet<String>) -> Result<Definitions> {
    if names.is_empty() {
        return Ok(Definitions::new());
    }
    let kpis = read_formulas(tx).await?;
    let definition = |name: &String| {
        let formula = kpis.find(name).ok_or_else(|| Error::not_found("KPI"))?;
        let plan = kpis.plan(formula).map_err(Error::internal)?;
        Ok((name.clone(), Arc::new(Definition { name: name.as_str().into(), plan })))
    };
    names.iter().map(definition).collect()
}
