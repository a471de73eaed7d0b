//! What an alert rule may be.

use async_graphql::{Enum, InputObject};
use uuid::Uuid;

use super::anomaly::{DAY_MINUTES, HOUR_MINUTES};
use super::rule::{AlertCondition, Frequency, Rule};
use crate::error::{Error, Result};
use crate::graphql::scalars::Decimal;
use crate::metrics::catalog::Metric;
use crate::metrics::filter::MetricsFilters;
use crate::metrics::measured::Measured;
use crate::money::Money;
use crate::outbox::graphql::AlertRecipientInput;
use crate::outbox::{RECIPIENTS_MAX, Recipient};
use crate::predictions::anomalies::graphql::AnomalySensitivity;

const NAME_CHARS_MAX: usize = 200;
const WINDOW_STEP_MINUTES: i32 = 15;
/// 31 days.
const MONTH_MINUTES: i32 = 44_640;
/// A week.
const FOR_MINUTES_MAX: i32 = 10_080;

/// The settings of an alert rule.
#[derive(InputObject)]
pub struct AlertRuleInput {
    /// Its name, 1 to 200 characters.
    name: String,
    /// The metric to watch; give either this or `kpi`.
    metric: Option<Metric>,
    /// The name of the KPI to watch. Errors: NOT_FOUND; BAD_USER_INPUT with the `formulaCode` TOO_MANY_VIEWS for an hourly ANOMALY rule on a KPI with more than 4 different filters and periods.
    kpi: Option<String>,
    /// The condition on which it fires.
    condition: AlertCondition,
    /// For ANOMALY: how many buckets to report.
    #[graphql(default_with = "Some(AnomalySensitivity::Medium)")]
    sensitivity: Option<AnomalySensitivity>,
    /// The value that the condition compares with: for changes a ratio (0.1 is 10%), for ANOMALY the lowest score that counts, in robust standard deviations, by default 0. Ignored for NO_DATA, required otherwise.
    threshold: Option<Decimal>,
    /// A firing rule resolves only once the value is back beyond this, so that values close to the threshold do not make it fire over and over; omit for the threshold itself. It may not be above the threshold for ABOVE and CHANGE_ABOVE, nor below it for BELOW and CHANGE_BELOW; other conditions have none.
    clear_threshold: Option<Decimal>,
    /// The length of the window watched, in minutes: 15 to 44640, in steps of 15; for ANOMALY 60 (an hour) or 1440 (a day in the organization's time zone).
    #[graphql(default_with = "Some(60)")]
    window_minutes: Option<i32>,
    /// For how many minutes the condition must hold before the rule fires, 0 to 10080.
    #[graphql(default_with = "Some(0)")]
    for_minutes: Option<i32>,
    /// Whether the window includes the current, incomplete 15 minutes. BELOW and NO_DATA would then fire while these are still filling up.
    #[graphql(default_with = "Some(false)")]
    include_open: Option<bool>,
    /// How often it may fire.
    #[graphql(default_with = "Some(AlertFrequency::EveryTime)")]
    frequency: Option<AlertFrequency>,
    /// For AT_MOST_EVERY, and only then: the least number of minutes from one firing to the next, 1 to 44640.
    every_minutes: Option<i32>,
    /// Which facts count, at most 16384 bytes as JSON; omit for all.
    filters: Option<MetricsFilters>,
    /// Who is notified of each change of state, at most 10.
    recipients: Option<Vec<AlertRecipientInput>>,
    /// Whether it is evaluated at all.
    #[graphql(default_with = "Some(true)")]
    enabled: Option<bool>,
}

impl AlertRuleInput {
    /// An ANOMALY is only evaluated at bucket ends. Error: BAD_USER_INPUT.
    fn check_anomaly(&self, window_minutes: i32) -> Result<()> {
        if ![HOUR_MINUTES, DAY_MINUTES].contains(&window_minutes) {
            let message = format!("must be {HOUR_MINUTES} or {DAY_MINUTES} for ANOMALY");
            return Err(Error::bad_input("windowMinutes", message));
        }
        if self.for_minutes.is_some_and(|minutes| minutes != 0) {
            return Err(Error::bad_input("forMinutes", "must be 0 for ANOMALY"));
        }
        if self.include_open == Some(true) {
            return Err(Error::bad_input("includeOpen", "must be false for ANOMALY"));
        }
        if self.threshold.is_some_and(|threshold| threshold.0.is_negative()) {
            return Err(Error::bad_input("threshold", "must not be negative for ANOMALY"));
        }
        Ok(())
    }

    pub fn without_recipients(self) -> Self {
        AlertRuleInput { recipients: None, ..self }
    }

    /// Secrets may be omitted for recipients in `known`. Error: BAD_USER_INPUT.
    pub fn into_rule(self, id: Uuid, known: &[Recipient]) -> Result<Rule> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.contains('\0') {
            return Err(Error::bad_input("name", format!("must have 1 to {NAME_CHARS_MAX} characters")));
        }
        let measured = Measured::of(self.metric, self.kpi.clone());
        let measured = measured.ok_or_else(|| Error::bad_input("metric", "give either a metric or a KPI"))?;
        let window_minutes = self.window_minutes.unwrap_or(60);
        if !(WINDOW_STEP_MINUTES..=MONTH_MINUTES).contains(&window_minutes) || window_minutes % WINDOW_STEP_MINUTES != 0
        {
            let message =
                format!("must be from {WINDOW_STEP_MINUTES} to {MONTH_MINUTES} in steps of {WINDOW_STEP_MINUTES}");
            return Err(Error::bad_input("windowMinutes", message));
        }
        if self.condition == AlertCondition::Anomaly {
            self.check_anomaly(window_minutes)?;
        }
        let for_minutes = self.for_minutes.unwrap_or(0);
        if !(0..=FOR_MINUTES_MAX).contains(&for_minutes) {
            return Err(Error::bad_input("forMinutes", format!("must be from 0 to {FOR_MINUTES_MAX}")));
        }
        let frequency = match (self.frequency.unwrap_or(AlertFrequency::EveryTime), self.every_minutes) {
            (AlertFrequency::EveryTime, None) => Frequency::EveryTime,
            (AlertFrequency::Once, None) => Frequency::Once,
            (AlertFrequency::AtMostEvery, Some(minutes)) if (1..=MONTH_MINUTES).contains(&minutes) => {
                Frequency::AtMostEvery(minutes)
            }
            _ => {
                let message = format!("must be from 1 to {MONTH_MINUTES}, and given only with AT_MOST_EVERY");
                return Err(Error::bad_input("everyMinutes", message));
            }
        };
        let threshold = match (self.threshold, self.condition) {
            (Some(threshold), _) => threshold.0,
            (None, AlertCondition::NoData | AlertCondition::Anomaly) => Money::ZERO,
            (None, _) => return Err(Error::bad_input("threshold", "is required for this condition")),
        };
        let clear_threshold = self.clear_threshold.map(|threshold| threshold.0);
        if let Some(clear) = clear_threshold {
            let is_good = match self.condition {
                AlertCondition::Above | AlertCondition::ChangeAbove => clear <= threshold,
                AlertCondition::Below | AlertCondition::ChangeBelow => clear >= threshold,
                AlertCondition::NoData | AlertCondition::Anomaly => {
                    return Err(Error::bad_input("clearThreshold", "is not allowed for this condition"));
                }
            };
            if !is_good {
                return Err(Error::bad_input("clearThreshold", "is on the wrong side of the threshold"));
            }
        }
        if let Some(filters) = &self.filters {
            filters.check_stored()?;
        }
        let mut recipients: Vec<Recipient> = self.recipients.into_iter().flatten().map(Recipient::from).collect();
        if recipients.len() > RECIPIENTS_MAX {
            return Err(Error::bad_input("recipients", format!("at most {RECIPIENTS_MAX}")));
        }
        for recipient in recipients.iter_mut().filter(|recipient| recipient.secret.is_none()) {
            let same = known.iter().find(|one| (one.channel, &one.target) == (recipient.channel, &recipient.target));
            recipient.secret = same.and_then(|one| one.secret.clone());
        }
        for (index, recipient) in recipients.iter().enumerate() {
            let is_same = |one: &Recipient| (one.channel, &one.target) == (recipient.channel, &recipient.target);
            if recipients[..index].iter().any(is_same) {
                return Err(Error::bad_input("target", "is given twice").of_element("recipients", index));
            }
            recipient.check().map_err(|error| error.of_element("recipients", index))?;
        }
        Ok(Rule {
            id,
            name: name.to_owned(),
            measured,
            condition: self.condition,
            sensitivity: self.sensitivity.unwrap_or(AnomalySensitivity::Medium),
            threshold,
            clear_threshold,
            window_minutes,
            for_minutes,
            counts_open: self.include_open.unwrap_or(false),
            frequency,
            filters: self.filters,
            recipients,
            is_enabled: self.enabled.unwrap_or(true),
        })
    }
}

/// How often a rule may fire.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum AlertFrequency {
    /// Every time the condition begins to hold.
    EveryTime,
    /// Once, until the rule is changed.
    Once,
    /// No sooner than `everyMinutes` after it last fired.
    AtMostEvery,
}
