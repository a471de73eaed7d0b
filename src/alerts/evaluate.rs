//! Evaluates the tenant's rules in a transaction that holds the head lock, so that each state change is logged with the
//! position that caused it.

use std::sync::Arc;

use chrono_tz::Tz;
use sea_orm::ConnectionTrait;
use serde_json::json;

use super::progress::{Change, Measure, Progress};
use super::rule::{AlertCondition, AlertState, Judgement, Rule};
use super::settings::Settings;
use super::store::{self, Denomination, Watched};
use crate::clock::{DAY, Timestamp};
use crate::db::{TenantTx, word_text};
use crate::error::{Code, Error, Result};
use crate::graphql::scalars::DateTime;
use crate::graphql::size::Size;
use crate::ledger::entry::Entry;
use crate::ledger::memory::Memory;
use crate::ledger::store::Head;
use crate::ledger::tail::Chunk;
use crate::ledger::{BatchObserver, RecordedBatch};
use crate::metrics::answer::{Answer, answer};
use crate::metrics::cell::Values;
use crate::metrics::period::Span;
use crate::metrics::plan::Plan;
use crate::money::Money;
use crate::outbox::{self, Message};

/// After a longer outage of all processes, missed due times are not caught up.
const MADE_UP_FOR: i64 = DAY;

/// A few million rows no larger than this sum within 64 bits.
const LARGE_SUM: i64 = i64::MAX / 4_000_000;

/// Evaluates rules with each batch.
pub struct AlertObserver {
    pub memory: Memory,
}

#[async_trait::async_trait]
impl BatchObserver for AlertObserver {
    async fn batch_begins(&self, tx: &TenantTx, head: &mut Head, now: Timestamp) -> Result<()> {
        evaluate_due(tx, &self.memory, head, now).await
    }

    async fn batch_recorded(&self, tx: &TenantTx, head: &mut Head, batch: &RecordedBatch<'_>) -> Result<()> {
        if head.alerts_due_at.is_none() {
            return Ok(());
        }
        let rules = store::list_enabled(tx).await?;
        let news = batch.entries.iter().map(|(_, entry)| entry);
        let is_concerned =
            |(rule, progress): &(Rule, Progress)| progress.is_concerned_by(rule, batch.now, news.clone());
        let concerned: Vec<usize> = (0..rules.len()).filter(|index| is_concerned(&rules[*index])).collect();
        if concerned.is_empty() {
            return Ok(());
        }
        // Makes the batch's own entries visible to the rules without a read per rule.
        let chunk = Chunk { first: batch.first, last: head.position, entries: Arc::clone(batch.entries) };
        let tails = self.memory.tails.within(tx.tenant(), head.folded, chunk).complete(tx, &head.standing()).await?;
        let memory = Memory { tails, ..self.memory.clone() };
        let mut evaluation = Evaluation { tx, memory: &memory, head, rules };
        for index in concerned {
            evaluation.step(index, batch.now, Occasion::Batch(batch.entries)).await?;
        }
        evaluation.end().await
    }
}

/// Evaluates what was due up to `now`, in time order.
pub async fn evaluate_due(tx: &TenantTx, memory: &Memory, head: &mut Head, now: Timestamp) -> Result<()> {
    if head.alerts_due_at.is_none_or(|due| due > now.0) {
        return Ok(());
    }
    let mut rules = store::list_enabled(tx).await?;
    for (_, progress) in &mut rules {
        progress.evaluated_to = progress.evaluated_to.max(Timestamp(now.0 - MADE_UP_FOR));
    }
    let memory = Memory { tails: memory.tails.clone().complete(tx, &head.standing()).await?, ..memory.clone() };
    let mut evaluation = Evaluation { tx, memory: &memory, head, rules };
    while let Some((index, due)) = evaluation.next_due().filter(|(_, due)| *due <= now) {
        evaluation.step(index, due, Occasion::Due).await?;
    }
    evaluation.end().await
}

/// Why a rule is evaluated.
enum Occasion<'a> {
    /// Time alone may have changed it.
    Due,
    Batch(&'a [(i64, Entry)]),
}

struct Evaluation<'a> {
    tx: &'a TenantTx,
    memory: &'a Memory,
    head: &'a mut Head,
    rules: Vec<(Rule, Progress)>,
}

impl Evaluation<'_> {
    /// The rule due first, and when.
    fn next_due(&self) -> Option<(usize, Timestamp)> {
        let due = self.rules.iter().enumerate().map(|(index, (rule, progress))| (progress.due_at(rule), index));
        due.min().map(|(due, index)| (index, due))
    }

    /// Evaluates one rule and logs a change.
    async fn step(&mut self, index: usize, now: Timestamp, occasion: Occasion<'_>) -> Result<()> {
        let (rule, progress) = &mut self.rules[index];
        let before = *progress;
        // Clocks of servers differ: a batch by one that is behind is not evaluated before what was due.
        let now = now.max(progress.evaluated_to);
        let entries = match occasion {
            Occasion::Due => {
                progress.evaluated_to = now;
                &[]
            }
            Occasion::Batch(entries) => entries,
        };
        let mut measure = Live { tx: self.tx, memory: self.memory, head: self.head, now };
        let change = progress.step(rule, now, entries.iter().map(|(_, entry)| entry), &mut measure).await?;
        if let Some(change) = change {
            report(self.tx, self.head, rule, &change).await?;
        }
        if *progress != before {
            store::save_progress(self.tx, rule.id, progress).await?;
        }
        Ok(())
    }

    /// Stores the alert state of the head.
    async fn end(self) -> Result<()> {
        let due_at = self.next_due().map(|(_, due)| due.0);
        self.head.alerts_due_at = due_at;
        store::save_head(self.tx, self.head.last_alert_no, due_at).await
    }
}

/// Logs a change under the next number and enqueues the recipients' messages.
async fn report(tx: &TenantTx, head: &mut Head, rule: &Rule, change: &Change) -> Result<()> {
    head.last_alert_no += 1;
    let (alert_no, position) = (head.last_alert_no, head.position);
    let denomination = Settings::default().denomination(tx, rule).await?;
    store::log(tx, rule, change, &denomination, alert_no, position).await?;
    let message = message(tx, rule, change, &denomination, alert_no, position)?;
    outbox::store::add(tx, &rule.recipients, &message, change.at).await
}

/// Resolves a firing rule before it is changed or deleted: otherwise recipients would never learn that it no longer
/// fires. Returns whether it was firing. The transaction must have locked the head.
pub async fn resolve(tx: &TenantTx, head: &mut Head, (rule, progress): &Watched, now: Timestamp) -> Result<bool> {
    let is_firing = progress.state == AlertState::Firing;
    if is_firing {
        report(tx, head, rule, &Change { state: AlertState::Resolved, value: None, judgement: None, at: now }).await?;
        store::save_head(tx, head.last_alert_no, head.alerts_due_at).await?;
    }
    Ok(is_firing)
}

/// The message to recipients.
fn message(
    tx: &TenantTx,
    rule: &Rule,
    change: &Change,
    denomination: &Denomination,
    alert_no: i64,
    position: i64,
) -> Result<Message> {
    let (state, metric) = (word_text(change.state)?, word_text(&rule.measured)?);
    let value = change.value.map(|value| value.to_string());
    let at = DateTime(change.at).to_text().ok_or_else(|| Error::internal("a time outside of the calendar"))?;
    let currency = denomination.currency.as_deref();
    let with_currency = |number: String| currency.map_or(number.clone(), |currency| format!("{number} {currency}"));
    let shown = value.clone().map_or_else(|| "no value".to_owned(), with_currency);
    // A line break in a name would allow header injection.
    let name: String = rule.name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // For ANOMALY the threshold is one of scores, and mostly zero: the informative part is the range.
    let is_anomaly = rule.condition == AlertCondition::Anomaly;
    let judged = change.judgement.map(|Judgement { expected, lower, upper, score }| {
        let [expected, lower, upper] = [expected, lower, upper].map(|number| with_currency(number.to_string()));
        format!("Expected: {expected} ({lower} to {upper})\nScore: {score}\n")
    });
    let compared = judged.unwrap_or_else(|| {
        if is_anomaly { String::new() } else { format!("Threshold: {}\n", with_currency(rule.threshold.to_string())) }
    });
    let of_judgement = |of: fn(Judgement) -> Money| change.judgement.map(|judgement| of(judgement).to_string());
    let body = json!({
        "type": format!("alert.{}", state.to_lowercase()),
        "tenantId": tx.tenant(),
        "alert": {
            "number": alert_no.to_string(),
            "ruleId": rule.id,
            "name": rule.name,
            "metric": metric,
            "condition": rule.condition,
            "unit": denomination.unit,
            "currency": denomination.currency,
            "state": state,
            "value": value,
            "threshold": rule.threshold.to_string(),
            "expected": of_judgement(|judgement| judgement.expected),
            "lower": of_judgement(|judgement| judgement.lower),
            "upper": of_judgement(|judgement| judgement.upper),
            "score": of_judgement(|judgement| judgement.score),
            "position": position.to_string(),
            "triggeredAt": at,
        },
    });
    Ok(Message {
        alert_no: Some(alert_no),
        subject: format!("[{state}] {name}"),
        text: format!(
            "{name}: {state}\n\n{metric}: {shown}\n{compared}Window: {} minutes\nAt: {at}\nPosition: {position}\n",
            rule.window_minutes
        ),
        body: body.to_string(),
    })
}

/// Measures within the transaction, which sees its own writes.
struct Live<'a> {
    tx: &'a TenantTx,
    memory: &'a Memory,
    head: &'a Head,
    now: Timestamp,
}

impl Live<'_> {
    /// A rule that can no longer be answered must not block the recording of sales.
    async fn answer(&self, plan: &Plan) -> Result<Option<Answer>> {
        // An overflowing sum aborts PostgreSQL's transaction unless there is a savepoint.
        let may_fail = self.head.largest_sum > LARGE_SUM;
        if may_fail {
            self.tx.execute_unprepared("SAVEPOINT measured").await?;
        }
        let measured = match answer(self.tx, self.memory, plan, self.now, &Size::default()).await {
            Ok(answer) => Some(answer),
            Err(error) if error.is_passing() || error.code == Code::Internal => return Err(error),
            Err(_) => None,
        };
        if may_fail {
            let end = if measured.is_some() { "RELEASE SAVEPOINT measured" } else { "ROLLBACK TO SAVEPOINT measured" };
            self.tx.execute_unprepared(end).await?;
        }
        Ok(measured)
    }
}

impl Measure for Live<'_> {
    async fn values(&mut self, rule: &Rule, span: Span) -> Result<Option<Values>> {
        if span.start >= span.end {
            return Ok(None);
        }
        Ok(self.answer(&rule.plan(span)).await?.map(|answer| answer.totals))
    }

    async fn buckets(&mut self, rule: &Rule, boundaries: &[Timestamp]) -> Result<Option<Vec<Values>>> {
        let (Some(start), Some(end)) = (boundaries.first(), boundaries.last()) else { return Ok(None) };
        let Some(plan) = rule.buckets_plan(Span { start: *start, end: *end }) else { return Ok(None) };
        let mut answer = self.answer(&plan).await?;
        let series = answer.as_mut().and_then(|answer| answer.series.pop());
        Ok(series.map(|(_, buckets)| buckets.into_iter().map(|bucket| bucket.values).collect()))
    }

    async fn zone(&mut self, rule: &Rule) -> Result<Option<Tz>> {
        let organizations = self.memory.organizations.get(self.tx, self.head.policy_epoch).await?;
        Ok(rule.zone(&organizations))
    }
}
