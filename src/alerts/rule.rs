//! What a rule says, and when it holds.

use async_graphql::Enum;
use uuid::Uuid;

use crate::clock::{MINUTE, Timestamp};
use crate::graphql::scalars::DateTime;
use crate::ledger::rollup::QUARTER_HOUR;
use crate::metrics::catalog::Metric;
use crate::metrics::filter::MetricsFilters;
use crate::metrics::input::DateRange;
use crate::metrics::plan::Plan;
use crate::money::Money;

/// When to report what.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub id: Uuid,
    pub name: String,
    pub metric: Metric,
    pub condition: AlertCondition,
    pub threshold: Money,
    pub window_minutes: i32,
    pub filters: Option<MetricsFilters>,
    pub is_enabled: bool,
    pub state: AlertState,
}

/// How a metric is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AlertCondition {
    /// Greater than the threshold.
    Above,
    /// Less than the threshold.
    Below,
}

/// The state of an alert rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AlertState {
    /// The condition does not hold.
    Ok,
    /// The condition holds.
    Firing,
}

impl Rule {
    /// The question whose answer is watched: the window up to the end of the running 15 minutes, so that whole rollup
    /// slots are read.
    pub fn plan(&self, now: Timestamp) -> Plan {
        let end = (now.0.div_euclid(QUARTER_HOUR) + 1) * QUARTER_HOUR;
        let start = end - i64::from(self.window_minutes) * MINUTE;
        let at = |micros| Some(DateTime(Timestamp(micros)));
        Plan {
            period: DateRange { start: at(start), end: at(end), ..DateRange::default() },
            filters: self.filters.clone().unwrap_or_default(),
            totals: Some(self.metric.needs()),
            ..Plan::default()
        }
    }

    /// A metric without a value is neither above nor below.
    pub fn state_at(&self, value: Option<Money>) -> AlertState {
        let holds = value.is_some_and(|value| match self.condition {
            AlertCondition::Above => value > self.threshold,
            AlertCondition::Below => value < self.threshold,
        });
        if holds { AlertState::Firing } else { AlertState::Ok }
    }
}
