//! Validation of formulas before saving, and the errors reported.

use std::collections::BTreeSet;

use models::kpis::{Formula, FormulaError, Kpis, Plan, SaveError, Unit};

use crate::alerts::{AlertCondition, HOURLY_VIEWS_MAX, Rule};
use crate::error::{Code, Error, Result};
use crate::metrics::kpis::definitions::{Definition, VIEWS_MAX};

/// Maximum KPIs per tenant.
const KPIS_MAX: usize = 200;

/// A validated formula.
pub struct Checked {
    pub unit: Unit,
    /// In canonical form.
    pub formula: String,
    /// The tenant's KPIs including this one.
    pub kpis: Kpis,
}

/// Validates a formula under a name, along with the KPIs that build on it; `hourly` are those an alert watches hourly.
pub fn check(kpis: &Kpis, hourly: &BTreeSet<String>, name: &str, text: &str) -> Result<Checked, Mistake> {
    let formula = Formula::parse(text).map_err(|error| Mistake::Formula { kpi: name.to_owned(), error })?;
    let (canonical, saved) = (formula.to_string(), kpis.with(name, formula)?);
    let affected = std::iter::once(name).chain(saved.all_users(name));
    let mut unit = Unit::Ratio;
    for kpi in affected {
        let Some(formula) = saved.find(kpi) else { continue };
        let plan: Plan = saved.plan(formula).map_err(|error| Mistake::Formula { kpi: kpi.to_owned(), error })?;
        if kpi == name {
            unit = plan.unit();
        }
        let is_hourly = hourly.contains(kpi);
        let views_max = if is_hourly { HOURLY_VIEWS_MAX } else { VIEWS_MAX };
        if (Definition { name: kpi.into(), plan }).views().len() > views_max {
            return Err(Mistake::TooManyViews { kpi: kpi.to_owned(), is_hourly });
        }
    }
    Ok(Checked { unit, formula: canonical, kpis: saved })
}

/// Why a formula cannot be saved.
pub enum Mistake {
    Name(String),
    Formula {
        kpi: String,
        error: FormulaError,
    },
    /// The KPI uses too many filters and shifts.
    TooManyViews {
        kpi: String,
        /// The limit for KPIs an alert watches hourly applies.
        is_hourly: bool,
    },
}

pub fn too_many_views(is_hourly: bool) -> String {
    if is_hourly {
        format!(
            "more than {HOURLY_VIEWS_MAX} different filters and times of a KPI that an hourly ANOMALY alert watches"
        )
    } else {
        format!("more than {VIEWS_MAX} different filters and times")
    }
}

impl From<SaveError> for Mistake {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Formula { kpi, error } => Mistake::Formula { kpi, error },
            error => Mistake::Name(error.to_string()),
        }
    }
}

/// The client-visible error, with the location in the formula. Error: BAD_USER_INPUT.
impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Self {
        match mistake {
            Mistake::Name(message) => Error::bad_input("name", message),
            Mistake::TooManyViews { kpi, is_hourly } => Error {
                details: vec![("kpi", kpi.into()), ("formulaCode", "TOO_MANY_VIEWS".into())],
                ..Error::bad_input("formula", too_many_views(is_hourly))
            },
            Mistake::Formula { kpi, error } => Error {
                details: vec![
                    ("kpi", kpi.into()),
                    ("formulaCode", error.code.as_str().into()),
                    ("line", error.line.into()),
                    ("column", error.column.into()),
                    ("length", error.length.into()),
                    ("suggestion", error.suggestion.into()),
                ],
                ..Error::bad_input("formula", error.message)
            },
        }
    }
}

/// Checks that no alert compares the KPI, or one that builds on it, with a threshold in a unit other than its new one.
/// Error: CONFLICT.
pub fn check_units<'a>(before: &Kpis, after: &Kpis, name: &str, rules: impl Iterator<Item = &'a Rule>) -> Result<()> {
    let unit = |kpis: &Kpis, kpi: &str| Some(kpis.plan(kpis.find(kpi)?).ok()?.unit());
    let affected: BTreeSet<&str> = after.all_users(name).into_iter().chain([name]).collect();
    let stands_against = |rule: &&Rule| {
        let compares = matches!(rule.condition, AlertCondition::Above | AlertCondition::Below);
        let kpi = rule.measured.kpi().filter(|kpi| compares && affected.contains(kpi));
        kpi.is_some_and(|kpi| unit(before, kpi).is_some_and(|unit_before| unit(after, kpi) != Some(unit_before)))
    };
    let alerts: Vec<&str> = rules.filter(stands_against).map(|rule| rule.name.as_str()).collect();
    if alerts.is_empty() {
        return Ok(());
    }
    let message = format!("the unit would differ from that of these alerts' thresholds: {}", alerts.join(", "));
    Err(Error::new(Code::Conflict, message))
}

/// Error: CONFLICT.
pub fn check_count(count: usize) -> Result<()> {
    if count < KPIS_MAX {
        return Ok(());
    }
    Err(Error::new(Code::Conflict, format!("there are {KPIS_MAX} KPIs already")))
}
