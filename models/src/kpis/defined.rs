//! The KPIs of a tenant.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::compile::compile;
use super::error::FormulaError;
use super::formula::Formula;
use super::order::{Cycle, dependencies_first};
use super::parser::{KEYWORDS, function_names};
use super::plan::Plan;

/// Maximum length of a KPI's name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// KPIs by name. They may reference each other, but not cyclically.
#[derive(Clone, Debug)]
pub struct Kpis {
    catalog: Catalog,
    formulas: BTreeMap<String, Formula>,
}

/// Why a KPI cannot be saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    #[error(
        "a name has 1 to {NAME_CHARS_MAX} letters, digits and underscores (a-z, A-Z, 0-9, _), the first one no digit"
    )]
    MalformedName,
    #[error("`{0}` is a word of the language")]
    ReservedName(String),
    #[error("`{0}` is a metric")]
    MetricName(String),
    /// In the saved formula, or in another one that references it and would become invalid.
    #[error("{kpi}: {error}")]
    Formula { kpi: String, error: FormulaError },
}

impl Kpis {
    /// KPIs as stored.
    pub fn new(catalog: Catalog, formulas: BTreeMap<String, Formula>) -> Kpis {
        Kpis { catalog, formulas }
    }

    pub fn find(&self, name: &str) -> Option<&Formula> {
        self.formulas.get(name)
    }

    /// Compiles a formula that may reference these KPIs.
    pub fn plan(&self, formula: &Formula) -> Result<Plan, FormulaError> {
        compile(formula.root(), self.catalog, &self.formulas).map_err(|fault| formula.locate(fault))
    }

    /// These KPIs with one added or replaced. Checks its formula and those of all KPIs that depend on it.
    pub fn with(&self, name: &str, formula: Formula) -> Result<Kpis, SaveError> {
        self.check_name(name)?;
        let mut kpis = self.clone();
        kpis.formulas.insert(name.to_owned(), formula);
        let order = dependencies_first(&kpis.formulas, name)
            .map_err(|Cycle { kpi, error }| SaveError::Formula { kpi, error })?;
        let mut affected = BTreeSet::from([name]);
        for kpi in order {
            let Some(formula) = kpis.formulas.get(kpi) else { continue };
            if kpi == name || formula.names().iter().any(|named| affected.contains(named.value)) {
                affected.insert(kpi);
                kpis.plan(formula).map_err(|error| SaveError::Formula { kpi: kpi.to_owned(), error })?;
            }
        }
        Ok(kpis)
    }

    /// The KPIs that reference this one directly.
    pub fn users(&self, name: &str) -> impl Iterator<Item = &str> {
        let uses = move |formula: &Formula| formula.names().iter().any(|named| named.value == name);
        self.formulas.iter().filter(move |(_, formula)| uses(formula)).map(|(kpi, _)| kpi.as_str())
    }

    /// The KPIs that depend on this one, directly or indirectly.
    pub fn all_users(&self, name: &str) -> BTreeSet<&str> {
        let mut all = BTreeSet::new();
        let mut new: Vec<&str> = self.users(name).collect();
        while let Some(user) = new.pop() {
            if all.insert(user) {
                new.extend(self.users(user));
            }
        }
        all
    }

    fn check_name(&self, name: &str) -> Result<(), SaveError> {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins_well = name.starts_with(|c| is_letter(c) && !c.is_ascii_digit());
        if !begins_well || !name.chars().all(is_letter) || name.len() > NAME_CHARS_MAX {
            return Err(SaveError::MalformedName);
        }
        if KEYWORDS.into_iter().chain(function_names()).any(|word| word == name) {
            return Err(SaveError::ReservedName(name.to_owned()));
        }
        match self.catalog.find(name) {
            Some(_) => Err(SaveError::MetricName(name.to_owned())),
            None => Ok(()),
        }
    }
}
