//! What is measured: a catalog metric or a KPI.

use std::collections::BTreeSet;

use models::kpis::Number;
use serde::{Deserialize, Serialize};

use super::catalog::{Metric, Needs};
use super::cell::Values;
use crate::money::Money;

/// Prefix of KPI names in the textual form. Metric names contain no colon.
const KPI: &str = "kpi:";

/// A catalog metric, or a KPI by name. Textual form: `TOTAL_REVENUE` or `kpi:margin`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "serde_json::Value")]
pub enum Measured {
    Metric(Metric),
    Kpi(String),
}

impl Measured {
    /// `None` if neither or both are given.
    pub fn of(metric: Option<Metric>, kpi: Option<String>) -> Option<Measured> {
        match (metric, kpi) {
            (Some(metric), None) => Some(Measured::Metric(metric)),
            (None, Some(kpi)) => Some(Measured::Kpi(kpi)),
            _ => None,
        }
    }

    pub fn metric(&self) -> Option<Metric> {
        match self {
            Measured::Metric(metric) => Some(*metric),
            Measured::Kpi(_) => None,
        }
    }

    pub fn kpi(&self) -> Option<&str> {
        match self {
            Measured::Metric(_) => None,
            Measured::Kpi(name) => Some(name),
        }
    }

    /// What it needs, apart from the KPI's own formula.
    pub fn needs(&self) -> Needs {
        self.metric().map(Metric::needs).unwrap_or_default()
    }

    /// Whether amounts are added up for it: for a KPI, whatever its formula, it is taken to be so.
    pub fn adds_amounts(&self) -> bool {
        self.metric().is_none_or(|metric| metric.needs().amounts)
    }

    /// The names of the KPIs it needs.
    pub fn kpis(&self) -> BTreeSet<String> {
        self.kpi().map(str::to_owned).into_iter().collect()
    }

    /// The value in ten-thousandths; `None` if undefined or not among the requested `values`.
    pub fn value(&self, values: &Values) -> Option<Money> {
        match self {
            Measured::Metric(metric) => metric.value(values),
            Measured::Kpi(name) => values.kpi(name)?.value(),
        }
    }

    /// The exact value, in currency units, pieces, fractions of one, or seconds; `None` if undefined or not
    /// representable for display.
    pub fn exact(&self, values: &Values) -> Option<Number> {
        match self {
            Measured::Metric(metric) => metric.number(values),
            Measured::Kpi(name) => values.kpi(name).filter(|kpi| kpi.value().is_some())?.result.ok(),
        }
    }

    /// The value as models consume it.
    pub fn number(&self, values: &Values) -> Option<f64> {
        self.exact(values).map(Number::to_f64)
    }
}

impl From<Measured> for serde_json::Value {
    fn from(measured: Measured) -> Self {
        match measured {
            Measured::Metric(metric) => serde_json::to_value(metric).unwrap_or_default(),
            Measured::Kpi(name) => format!("{KPI}{name}").into(),
        }
    }
}

impl TryFrom<serde_json::Value> for Measured {
    type Error = serde_json::Error;

    fn try_from(word: serde_json::Value) -> Result<Self, Self::Error> {
        match word.as_str().and_then(|word| word.strip_prefix(KPI)) {
            Some(name) => Ok(Measured::Kpi(name.to_owned())),
            None => serde_json::from_value(word).map(Measured::Metric),
        }
    }
}
