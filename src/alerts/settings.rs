//! What rules refer to: whether they can be evaluated, and what their numbers mean.

use models::kpis::{Kpis, Unit};
use tokio::sync::OnceCell;

use super::rule::{AlertProblem, Rule};
use super::store::Denomination;
use crate::db::TenantTx;
use crate::error::{Code, Result};
use crate::ledger::organization::{Organization, list_organizations};
use crate::metrics::filter::{Filter, MetricsFilters};
use crate::metrics::kpis::definitions::read_formulas;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::measured::Measured;

/// The tenant's organizations and KPIs, each read when they are first needed.
#[derive(Default)]
pub struct Settings {
    organizations: OnceCell<Vec<Organization>>,
    kpis: OnceCell<Kpis>,
    /// The organizations of rules that add up amounts of all of them.
    of_all: OnceCell<Result<Filter, AlertProblem>>,
}

impl Settings {
    /// What the rule's numbers mean now. The currency is unknown if the rule has a problem.
    pub async fn denomination(&self, tx: &TenantTx, rule: &Rule) -> Result<Denomination> {
        let unit = self.unit(tx, rule).await?;
        let currency = if unit == Some(KpiUnit::Money) { self.currency(tx, rule).await? } else { None };
        Ok(Denomination { unit, currency })
    }

    /// The unit of the rule's numbers.
    pub async fn unit(&self, tx: &TenantTx, rule: &Rule) -> Result<Option<KpiUnit>> {
        let unit = match &rule.measured {
            _ if rule.is_of_change() => Some(Unit::Ratio),
            Measured::Metric(metric) => Some(metric.unit()),
            Measured::Kpi(name) => {
                let kpis = self.kpis.get_or_try_init(|| read_formulas(tx)).await?;
                kpis.find(name).and_then(|formula| kpis.plan(formula).ok()).map(|plan| plan.unit())
            }
        };
        Ok(unit.map(KpiUnit::from))
    }

    async fn currency(&self, tx: &TenantTx, rule: &Rule) -> Result<Option<String>> {
        let filter = self.filter(tx, rule, true).await?;
        Ok(filter.ok().and_then(|filter| Some(filter.organizations.first()?.currency.clone())))
    }

    /// Why the rule cannot be evaluated.
    pub async fn problem(&self, tx: &TenantTx, rule: &Rule) -> Result<Option<AlertProblem>> {
        Ok(self.filter(tx, rule, rule.measured.adds_amounts()).await?.err())
    }

    /// The organizations whose facts the rule counts.
    async fn filter(&self, tx: &TenantTx, rule: &Rule, adds_amounts: bool) -> Result<Result<Filter, AlertProblem>> {
        let organization_id = rule.filters.as_ref().and_then(|filters| filters.organization_id.clone());
        let is_of_all = organization_id.is_none() && adds_amounts;
        let names = MetricsFilters { organization_id, ..MetricsFilters::default() };
        let find = async || {
            let organizations = self.organizations.get_or_try_init(|| list_organizations(tx)).await?;
            match Filter::find(tx, organizations, &names, adds_amounts, None).await {
                Ok(filter) => Ok(Ok(filter)),
                Err(error) if error.code == Code::NotFound => Ok(Err(AlertProblem::OrganizationNotFound)),
                Err(error) if error.code == Code::MixedCurrencies => Ok(Err(AlertProblem::MixedCurrencies)),
                Err(error) => Err(error),
            }
        };
        if is_of_all { self.of_all.get_or_try_init(find).await.cloned() } else { find().await }
    }
}
