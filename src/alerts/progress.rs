//! The state machine of a rule. It knows neither database nor clock, so live evaluation and simulation on history go
//! through the same steps.
//!
//! A rule is evaluated when a batch is committed and when time alone may change it: at the end of each 15 minutes, and
//! once its condition has held long enough. What is due before a batch is evaluated before it.

use chrono_tz::Tz;

use super::anomaly;
use super::rule::{AlertCondition, AlertState, Frequency, Judgement, Reading, Rule};
use crate::clock::{MINUTE, Timestamp};
use crate::error::Result;
use crate::ledger::entry::Entry;
use crate::ledger::rollup::QUARTER_HOUR;
use crate::metrics::catalog::Metric;
use crate::metrics::cell::Values;
use crate::metrics::measured::Measured;
use crate::metrics::period::Span;
use crate::money::Money;

/// The state of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    pub state: AlertState,
    /// Everything due up to here was evaluated.
    pub evaluated_to: Timestamp,
    /// Since when the condition has held.
    pub holds_since: Option<Timestamp>,
    /// The part of the window in which the condition last held, usually ending when that was detected.
    pub cause: Option<Span>,
    pub fired_at: Option<Timestamp>,
}

/// A state change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub state: AlertState,
    pub value: Option<Money>,
    /// For ANOMALY; `None` without an expectation.
    pub judgement: Option<Judgement>,
    pub at: Timestamp,
}

/// Supplies the metrics of a period, in the ledger state under evaluation.
pub trait Measure {
    /// `None` if no longer available: the organization is gone, or currencies are mixed.
    fn values(&mut self, rule: &Rule, span: Span) -> impl Future<Output = Result<Option<Values>>> + Send;

    /// The same per bucket, between the given boundaries.
    fn buckets(
        &mut self,
        rule: &Rule,
        boundaries: &[Timestamp],
    ) -> impl Future<Output = Result<Option<Vec<Values>>>> + Send;

    /// The zone buckets are aligned to; `None` if the organization is gone.
    fn zone(&mut self, rule: &Rule) -> impl Future<Output = Result<Option<Tz>>> + Send;
}

impl Progress {
    /// Initial state of a rule created or changed at `now`. If 15 minutes end just then, that is still due.
    pub fn begin(now: Timestamp) -> Self {
        Progress { evaluated_to: Timestamp(now.0 - 1), ..Progress::default() }
    }

    /// When time alone may next change something.
    pub fn due_at(&self, rule: &Rule) -> Timestamp {
        let quarter_end = Timestamp((self.evaluated_to.0.div_euclid(QUARTER_HOUR) + 1) * QUARTER_HOUR);
        let later = |at: Option<Timestamp>, minutes: i32| at.map(|at| Timestamp(at.0 + i64::from(minutes) * MINUTE));
        let is_waiting = self.state != AlertState::Firing && self.holds_since.is_some();
        let held_long_enough = later(self.holds_since, rule.for_minutes).filter(|_| is_waiting);
        let may_fire_again = match rule.frequency {
            Frequency::AtMostEvery(minutes) => later(self.fired_at, minutes).filter(|_| is_waiting),
            Frequency::EveryTime | Frequency::Once => None,
        };
        let due = [held_long_enough, may_fire_again].into_iter().flatten().filter(|at| *at > self.evaluated_to);
        due.chain([quarter_end]).min().unwrap_or(quarter_end)
    }

    /// Whether a batch of `news` at `now` may change what the rule reads, or undo what made it fire. Otherwise what was
    /// evaluated when the last 15 minutes ended still stands. A refund undoes its order whenever it is issued, and has an
    /// entry at the time of its order.
    pub fn is_concerned_by<'e>(&self, rule: &Rule, now: Timestamp, news: impl Iterator<Item = &'e Entry>) -> bool {
        let is_evaluated = self.evaluated_to.0.rem_euclid(QUARTER_HOUR) == 0;
        if !is_evaluated || rule.bucket_grain().is_some() {
            return true;
        }
        let looked_at = evidence(rule, rule.window(now.max(self.evaluated_to)));
        let cause = self.cause.map(|cause| evidence(rule, cause));
        let holds = |at| looked_at.holds(at) || cause.is_some_and(|cause| cause.holds(at));
        news.into_iter().any(|entry| holds(entry.at))
    }

    /// Evaluates the rule at `now`. `news` are the entries since the last evaluation.
    pub async fn step<'e>(
        &mut self,
        rule: &Rule,
        now: Timestamp,
        news: impl Iterator<Item = &'e Entry>,
        measure: &mut impl Measure,
    ) -> Result<Option<Change>> {
        let window = match rule.bucket_grain() {
            None => rule.window(now),
            Some(grain) => match anomaly::ending(rule, grain, now, measure).await? {
                Some(bucket) => bucket,
                None => return Ok(None),
            },
        };
        let reading = match measured(rule, window, measure).await? {
            Some(reading) => reading,
            // Missing values change nothing; for buckets they mean there was no expectation.
            None if rule.bucket_grain().is_none() => return Ok(None),
            None => Reading::default(),
        };
        let change = |state| Some(Change { state, value: reading.value, judgement: reading.judgement, at: now });
        if reading.fires {
            self.holds_since.get_or_insert(now);
        } else {
            self.holds_since = None;
        }
        if self.state == AlertState::Firing {
            if reading.stays {
                if reading.fires {
                    self.hold_cause(rule, window, now, measure).await?;
                }
                return Ok(None);
            }
            self.state =
                if self.is_undone(rule, measure).await? { AlertState::Retracted } else { AlertState::Resolved };
            return Ok(change(self.state));
        }
        if reading.fires && self.may_fire(rule, now) {
            self.state = AlertState::Firing;
            self.cause = None;
            self.hold_cause(rule, window, now, measure).await?;
            self.fired_at = Some(now);
            return Ok(change(self.state));
        }
        // Nothing is evaluated between bucket ends, so at each of them it is unknown which entries arrived.
        let touches = |cause: Span| {
            let evidence = evidence(rule, cause);
            rule.bucket_grain().is_some() || news.into_iter().any(|entry| evidence.holds(entry.at))
        };
        if self.state == AlertState::Resolved
            && self.cause.is_some_and(touches)
            && self.is_undone(rule, measure).await?
        {
            self.state = AlertState::Retracted;
            return Ok(change(self.state));
        }
        Ok(None)
    }

    fn may_fire(&self, rule: &Rule, now: Timestamp) -> bool {
        let has_passed = |since: Option<Timestamp>, minutes: i32| {
            since.is_none_or(|since| now.0 - since.0 >= i64::from(minutes) * MINUTE)
        };
        has_passed(self.holds_since, rule.for_minutes)
            && match rule.frequency {
                Frequency::EveryTime => true,
                Frequency::Once => self.fired_at.is_none(),
                Frequency::AtMostEvery(minutes) => has_passed(self.fired_at, minutes),
            }
    }

    /// Records the cause, unless it does not support the rule by the measure of [`Progress::is_undone`]: with refunds that were
    /// issued outside of the window before, it never did, and could not be undone; with a new one, the former cause will be.
    async fn hold_cause(
        &mut self,
        rule: &Rule,
        window: Span,
        now: Timestamp,
        measure: &mut impl Measure,
    ) -> Result<()> {
        let new = cause(rule, window, now, measure).await?;
        let former = self.cause.replace(new);
        if by_order(rule) && self.is_undone(rule, measure).await? {
            self.cause = former;
        }
        Ok(())
    }

    /// Whether the ledger no longer supports what made the rule fire.
    async fn is_undone(&self, rule: &Rule, measure: &mut impl Measure) -> Result<bool> {
        let Some(cause) = self.cause else { return Ok(false) };
        if rule.bucket_grain().is_some() {
            let reading = measured(rule, cause, measure).await?;
            return Ok(reading.is_some_and(|reading| !reading.stays));
        }
        let Some(mut values) = measure.values(rule, cause).await? else { return Ok(false) };
        if by_order(rule) {
            // A refund undoes its order, whenever it was issued.
            values.total_revenue = Money(values.gross.0 - values.refunds.max(values.refunds_by_order).0);
        }
        let before = before(rule, cause, measure).await?;
        Ok(!rule.read(&values, before.as_ref()).fires)
    }
}

/// Where facts may change what is read of `span`.
fn evidence(rule: &Rule, span: Span) -> Span {
    let start = match rule.window_before(span) {
        // How far back a KPI looks is known to its formula alone.
        _ if rule.measured.kpi().is_some() => Timestamp(i64::MIN),
        Some(before) => before.start,
        None => span.start,
    };
    Span { start, end: span.end }
}

/// Whether refunds of what is watched undo the cause, whenever they are issued.
fn by_order(rule: &Rule) -> bool {
    let is_above = matches!(rule.condition, AlertCondition::Above | AlertCondition::ChangeAbove);
    rule.measured == Measured::Metric(Metric::TotalRevenue) && is_above
}

/// The span that made the condition hold: the window up to now, since facts added to an open window later were not part
/// of the evidence; or the whole window if that alone does not suffice, because some facts are dated slightly in the
/// future.
async fn cause(rule: &Rule, window: Span, now: Timestamp, measure: &mut impl Measure) -> Result<Span> {
    let seen = Span { start: window.start, end: window.end.min(now) };
    if seen == window || read(rule, seen, measure).await?.fires { Ok(seen) } else { Ok(window) }
}

async fn read(rule: &Rule, window: Span, measure: &mut impl Measure) -> Result<Reading> {
    Ok(measured(rule, window, measure).await?.unwrap_or_default())
}

/// `None` if no longer available.
async fn measured(rule: &Rule, window: Span, measure: &mut impl Measure) -> Result<Option<Reading>> {
    if let Some(grain) = rule.bucket_grain() {
        return anomaly::read(rule, grain, window.end, measure).await;
    }
    let Some(values) = measure.values(rule, window).await? else { return Ok(None) };
    let before = before(rule, window, measure).await?;
    Ok(Some(rule.read(&values, before.as_ref())))
}

async fn before(rule: &Rule, window: Span, measure: &mut impl Measure) -> Result<Option<Values>> {
    match rule.window_before(window) {
        Some(before) => measure.values(rule, before).await,
        None => Ok(None),
    }
}
