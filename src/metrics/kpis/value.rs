//! The results of formulas.

use std::sync::Arc;

use models::kpis::{Absent, Number, Unit};

use crate::metrics::cell::Values;
use crate::money::Money;

/// A KPI's value in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct KpiValue {
    pub name: Arc<str>,
    pub unit: Unit,
    pub result: Result<Number, Absent>,
}

impl KpiValue {
    /// In ten-thousandths, as metrics are compared; `None` if undefined or beyond 64 bits.
    pub fn value(&self) -> Option<Money> {
        self.result.ok()?.ten_thousandths().map(Money)
    }
}

impl Values {
    /// The KPI with this name, if it was requested.
    pub fn kpi(&self, name: &str) -> Option<&KpiValue> {
        self.kpis.iter().find(|kpi| *kpi.name == *name)
    }
}
