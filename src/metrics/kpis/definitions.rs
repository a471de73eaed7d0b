//! The formulas of a tenant, as they are stored, and the plans made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models::kpis::{Filter, Formula, Kpis, Plan, SALES, Shift};

use crate::db::{TenantTx, get};
use crate::error::{Error, Result};
use crate::metrics::catalog::{Metric, Needs};

/// Filters and earlier times that one formula may ask for, each of which is read by itself.
pub const VIEWS_MAX: usize = 16;

/// A KPI that can be computed.
#[derive(Debug)]
pub struct Definition {
    pub name: Arc<str>,
    pub plan: Plan,
}

/// KPIs by name.
pub type Definitions = BTreeMap<String, Arc<Definition>>;

/// Under which filter and of which time a metric is asked.
pub type View = (Filter, Shift);

impl Definition {
    /// What the formula needs of the cells beside which it stands, without a filter or time of its own.
    pub fn own_needs(&self) -> Needs {
        Needs::of(self.plan.questions().iter().filter(|q| is_own(&q.filter, q.shift)).filter_map(metric_of))
    }

    /// The filters and times that it asks for beyond those, and what it needs there.
    pub fn views(&self) -> Vec<(View, Needs)> {
        let mut views: Vec<(View, Needs)> = Vec::new();
        for question in self.plan.questions().iter().filter(|q| !is_own(&q.filter, q.shift)) {
            let view = (question.filter.clone(), question.shift);
            let needs = metric_of(question).map(Metric::needs).unwrap_or_default();
            match views.iter_mut().find(|(other, _)| *other == view) {
                Some((_, other)) => *other = other.and(needs),
                None => views.push((view, needs)),
            }
        }
        views
    }
}

/// What the KPIs of `names` need of the cells beside which they stand.
pub fn own_needs(definitions: &Definitions, names: &BTreeSet<String>) -> Needs {
    let asked = names.iter().filter_map(|name| definitions.get(name));
    asked.fold(Needs::default(), |needs, definition| needs.and(definition.own_needs()))
}

/// The metric that a question is about. The catalog of formulas has the names of this one's.
pub fn metric_of(question: &models::kpis::Question) -> Option<Metric> {
    Metric::of_field(question.metric)
}

fn is_own(filter: &Filter, shift: Shift) -> bool {
    *filter == Filter::default() && shift == Shift::default()
}

/// All formulas of the tenant.
pub async fn read_formulas(tx: &TenantTx) -> Result<Kpis> {
    let rows = tx.query("SELECT name, formula FROM kpis WHERE tenant_id = $1", []).await?;
    let formula = |row| Ok((get(row, 0)?, Formula::parse(&get::<String>(row, 1)?).map_err(Error::internal)?));
    Ok(Kpis::new(SALES, rows.iter().map(formula).collect::<Result<_>>()?))
}

/// The KPIs of these names. Error: NOT_FOUND.
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
