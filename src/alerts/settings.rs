//! What rules refer to: whether they can be evaluated, and what their numbers mean.

use models::kpis::{Kpis, Unit};

use super::rule::{AlertProblem, Rule};
use super::store::Denomination;
use crate::db::TenantTx;
use crate::error::{Code, Result};
use crate::ledger::organization::{Organization, list_organizations};
use crate::metrics::filter::{Filter, MetricsFilters};
use crate::metrics::kpis::definitions::read_formulas;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::measured::Measured;

/// The tenant's organizations and KPIs.
pub struct Settings {
    organizations: Vec<Organization>,
    kpis: Kpis,
}

impl Settings {
    pub async fn read(tx: &TenantTx) -> Result<Self> {
        Ok(Settings { organizations: list_organizations(tx).await?, kpis: read_formulas(tx).await? })
    }

    /// What the rule's numbers mean now. The currency is unknown if the rule has a problem.
    pub async fn denomination(&self, tx: &TenantTx, rule: &Rule) -> Result<Denomination> {
        let unit = match &rule.measured {
            _ if rule.is_of_change() => Some(Unit::Ratio),
            Measured::Metric(metric) => Some(metric.unit()),
            Measured::Kpi(name) => {
                self.kpis.find(name).and_then(|formula| self.kpis.plan(formula).ok()).map(|plan| plan.unit())
            }
        };
        let is_money = unit == Some(Unit::Money);
        let filter = if is_money { self.filter(tx, rule, true).await?.ok() } else { None };
        let currency = filter.and_then(|filter| Some(filter.organizations.first()?.currency.clone()));
        Ok(Denomination { unit: unit.map(KpiUnit::from), currency })
    }

    /// Why the rule cannot be evaluated.
    pub async fn problem(&self, tx: &TenantTx, rule: &Rule) -> Result<Option<AlertProblem>> {
        Ok(self.filter(tx, rule, rule.measured.adds_amounts()).await?.err())
    }

    /// The organizations whose facts the rule counts.
    async fn filter(&self, tx: &TenantTx, rule: &Rule, adds_amounts: bool) -> Result<Result<Filter, AlertProblem>> {
        let organization_id = rule.filters.as_ref().and_then(|filters| filters.organization_id.clone());
        let names = MetricsFilters { organization_id, ..MetricsFilters::default() };
        match Filter::find(tx, &self.organizations, &names, adds_amounts).await {
            Ok(filter) => Ok(Ok(filter)),
            Err(error) if error.code == Code::NotFound => Ok(Err(AlertProblem::OrganizationNotFound)),
            Err(error) if error.code == Code::MixedCurrencies => Ok(Err(AlertProblem::MixedCurrencies)),
            Err(error) => Err(error),
        }
    }
}
