//! Alert rules and when they hold.

use std::cmp::Ordering;

use async_graphql::Enum;
use models::kpis::Number;
use uuid::Uuid;

use crate::clock::{MINUTE, Timestamp};
use crate::graphql::scalars::DateTime;
use crate::ledger::rollup::QUARTER_HOUR;
use crate::metrics::catalog::Needs;
use crate::metrics::cell::Values;
use crate::metrics::filter::MetricsFilters;
use crate::metrics::input::DateRange;
use crate::metrics::measured::Measured;
use crate::metrics::period::Span;
use crate::metrics::plan::Plan;
use crate::money::Money;
use crate::outbox::Recipient;
use crate::predictions::anomalies::graphql::AnomalySensitivity;

/// A rule that watches a metric or a KPI, and reports when a condition holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub id: Uuid,
    pub name: String,
    /// The watched metric or KPI.
    pub measured: Measured,
    pub condition: AlertCondition,
    /// For ANOMALY: how many buckets to report.
    pub sensitivity: AnomalySensitivity,
    pub threshold: Money,
    /// Hysteresis: a firing rule clears beyond this; `None` means the threshold.
    pub clear_threshold: Option<Money>,
    pub window_minutes: i32,
    /// For how many minutes the condition must hold before the rule fires.
    pub for_minutes: i32,
    /// The current 15 minutes belong to the window.
    pub counts_open: bool,
    pub frequency: Frequency,
    pub filters: Option<MetricsFilters>,
    /// Notified of each change.
    pub recipients: Vec<Recipient>,
    pub is_enabled: bool,
}

/// The condition on which an alert rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertCondition {
    /// The value is greater than the threshold.
    Above,
    /// The value is less than the threshold.
    Below,
    /// The relative change from the window immediately before is greater than the threshold (0.1 is 10% more).
    ChangeAbove,
    /// The relative change from the window immediately before is less than the threshold (-0.1 is 10% less).
    ChangeBelow,
    /// There is no order or visit in the window, and refunds of no amount. The threshold is ignored.
    NoData,
    /// The last complete hour or day was not as expected from those before it.
    Anomaly,
}

/// The state of an alert rule, or what an alert reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertState {
    /// It has not fired yet.
    #[default]
    Ok,
    /// The condition holds.
    Firing,
    /// It fired, and the condition no longer holds, or the rule was changed, disabled or deleted.
    Resolved,
    /// It fired, and facts that arrived later (a late event, a cancellation, a refund) removed the cause.
    Retracted,
}

/// Why a rule cannot be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AlertProblem {
    /// There is no organization with the id or slug of its filters.
    OrganizationNotFound,
    /// It adds up amounts, and the organizations that it counts have come to have different currencies; filter by one.
    MixedCurrencies,
}

/// How often a rule may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequency {
    EveryTime,
    /// Only once, until the rule is changed.
    Once,
    /// Minimum number of minutes after it last fired.
    AtMostEvery(i32),
}

/// The result of a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The metric, or its relative change; `None` if undefined.
    pub value: Option<Money>,
    /// For ANOMALY; `None` without an expectation.
    pub judgement: Option<Judgement>,
    /// The condition holds.
    pub fires: bool,
    /// A firing rule keeps firing.
    pub stays: bool,
}

/// A bucket compared with its expectation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    pub expected: Money,
    /// The range that would not have been anomalous.
    pub lower: Money,
    pub upper: Money,
    /// How far it is from the expected value, in robust standard deviations; negative if below.
    pub score: Money,
}

impl Rule {
    pub fn needs(&self) -> Needs {
        Needs { orders: true, ..self.measured.needs() }
    }

    /// The window watched at `now`: whole rollup slots, up to the end of the current or the last closed one.
    pub fn window(&self, now: Timestamp) -> Span {
        let running = i64::from(self.counts_open);
        let end = (now.0.div_euclid(QUARTER_HOUR) + running) * QUARTER_HOUR;
        Span { start: Timestamp(end - i64::from(self.window_minutes) * MINUTE), end: Timestamp(end) }
    }

    /// Whether it compares changes, instead of values.
    pub fn is_of_change(&self) -> bool {
        matches!(self.condition, AlertCondition::ChangeAbove | AlertCondition::ChangeBelow)
    }

    /// The preceding window, if the condition compares with it.
    pub fn window_before(&self, window: Span) -> Option<Span> {
        let start = Timestamp(window.start.0 - i64::from(self.window_minutes) * MINUTE);
        self.is_of_change().then_some(Span { start, end: window.start })
    }

    /// The plan whose answer is watched.
    pub fn plan(&self, span: Span) -> Plan {
        Plan {
            period: DateRange {
                start: Some(DateTime(span.start)),
                end: Some(DateTime(span.end)),
                ..DateRange::default()
            },
            filters: self.filters.clone().unwrap_or_default(),
            totals: Some(self.needs()),
            kpis: self.measured.kpis(),
            ..Plan::default()
        }
    }

    /// Evaluates the condition. An undefined metric is neither above nor below, and does not change.
    pub fn read(&self, values: &Values, before: Option<&Values>) -> Reading {
        let clear = self.clear_threshold.unwrap_or(self.threshold);
        let metric = self.measured.value(values);
        let exact = self.measured.exact(values);
        let change = || exact?.change_since(self.measured.exact(before?)?);
        // Before the value is rounded: a small rate is not what it is shown as.
        let compared = |exact: Option<Number>, is_above: bool| {
            let wanted = if is_above { Ordering::Greater } else { Ordering::Less };
            let beyond = |limit: Money| exact.is_some_and(|exact| exact.compare(Number::money(limit.0)) == wanted);
            Reading {
                value: exact.and_then(Number::ten_thousandths).map(Money),
                judgement: None,
                fires: beyond(self.threshold),
                stays: beyond(self.threshold) || beyond(clear),
            }
        };
        match self.condition {
            AlertCondition::Above => compared(exact, true),
            AlertCondition::Below => compared(exact, false),
            AlertCondition::ChangeAbove => compared(change(), true),
            AlertCondition::ChangeBelow => compared(change(), false),
            // Needs many buckets: `anomaly::read`.
            AlertCondition::Anomaly => Reading { value: metric, ..Reading::default() },
            AlertCondition::NoData => {
                let has_refunds = values.refunds != Money::ZERO || values.refunds_by_order != Money::ZERO;
                let is_silent = values.orders == 0 && !has_refunds && values.visits.unwrap_or(0) == 0;
                Reading { value: metric, judgement: None, fires: is_silent, stays: is_silent }
            }
        }
    }
}
