//! Storage of rules and of what they reported.

use std::collections::BTreeSet;

use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::progress::{Change, Progress};
use super::rule::{AlertCondition, AlertState, Frequency, Judgement, Rule};
use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::{TenantTx, find_word, get, get_word, word, word_text};
use crate::error::{Error, Result};
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::metrics::filter::MetricsFilters;
use crate::metrics::input::Grain;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::measured::Measured;
use crate::metrics::period::Span;
use crate::money::Money;

/// Maximum rules per tenant.
pub const RULES_MAX: usize = 100;

/// Audited columns of rules. Of recipients only the count is shown: they may be persons, or URLs that are secrets.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "alerts",
    key: "id",
    columns: &[
        ("name", "name", Shown::Text),
        ("metric", "metric", Shown::Text),
        ("condition", "condition", Shown::Text),
        ("sensitivity", "sensitivity", Shown::Text),
        ("threshold", "threshold", Shown::Amount),
        ("clearThreshold", "clear_threshold", Shown::Amount),
        ("windowMinutes", "CAST(window_minutes AS BIGINT)", Shown::Number),
        ("forMinutes", "CAST(for_minutes AS BIGINT)", Shown::Number),
        ("includeOpen", "counts_open", Shown::Flag),
        ("everyMinutes", "CAST(every_minutes AS BIGINT)", Shown::Number),
        ("filters", "filters", Shown::Document),
        ("recipients", "recipients", Shown::Count),
        ("enabled", "is_enabled", Shown::Flag),
    ],
    members: None,
};

/// A change of state of an alert rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    pub id: Uuid,
    /// Its number in the tenant's alert log.
    pub alert_no: i64,
    pub rule_id: Uuid,
    pub name: String,
    pub measured: Measured,
    /// `None` if it was reported by a version that did not store it.
    pub condition: Option<AlertCondition>,
    pub denomination: Denomination,
    pub state: AlertState,
    pub value: Option<Money>,
    pub judgement: Option<Judgement>,
    pub threshold: Money,
    pub position: i64,
    pub triggered_at: Timestamp,
    /// `None` if it was reported by a version that did not store it.
    pub window_minutes: Option<i32>,
    /// Which facts counted.
    pub filters: Option<MetricsFilters>,
}

/// What the numbers of an alert mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Denomination {
    /// `None` if it is not known.
    pub unit: Option<KpiUnit>,
    /// For money; `None` if it is not known or there are several.
    pub currency: Option<String>,
}

const RULE_COLUMNS: &str = "id, name, metric, condition, threshold, clear_threshold, window_minutes, for_minutes, \
    counts_open, every_minutes, filters, is_enabled, state, evaluated_to, holds_since, cause_start, cause_end, fired_at, recipients, sensitivity";

/// A rule and its state.
pub type Watched = (Rule, Progress);

pub async fn list(tx: &TenantTx) -> Result<Vec<Watched>> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM alerts WHERE tenant_id = $1 ORDER BY name, id LIMIT {RULES_MAX}");
    tx.query(&sql, []).await?.iter().map(watched_from).collect()
}

pub async fn list_enabled(tx: &TenantTx) -> Result<Vec<Watched>> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM alerts WHERE tenant_id = $1 AND is_enabled ORDER BY id");
    tx.query(&sql, []).await?.iter().map(watched_from).collect()
}

/// The name of a rule that watches this, if any.
pub async fn find_watching(tx: &TenantTx, measured: &Measured) -> Result<Option<String>> {
    let sql = "SELECT name FROM alerts WHERE tenant_id = $1 AND metric = $2 ORDER BY id LIMIT 1";
    let row = tx.query_one(sql, [word(measured)?]).await?;
    row.map(|row| get(&row, 0)).transpose()
}

/// The KPIs watched hourly for anomalies.
pub async fn list_hourly_kpis(tx: &TenantTx) -> Result<BTreeSet<String>> {
    let rules = list(tx).await?.into_iter().map(|(rule, _)| rule);
    Ok(rules.filter(|rule| rule.bucket_grain() == Some(Grain::Hour)).flat_map(|rule| rule.measured.kpis()).collect())
}

/// Error: NOT_FOUND.
pub async fn get_rule(tx: &TenantTx, id: Uuid) -> Result<Watched> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM alerts WHERE tenant_id = $1 AND id = $2");
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("alert"))?;
    watched_from(&row)
}

fn watched_from(row: &QueryResult) -> Result<Watched> {
    let document = |index| get::<Option<serde_json::Value>>(row, index);
    let frequency = match get::<Option<i32>>(row, 9)? {
        None => Frequency::EveryTime,
        Some(0) => Frequency::Once,
        Some(minutes) => Frequency::AtMostEvery(minutes),
    };
    let rule = Rule {
        id: get(row, 0)?,
        name: get(row, 1)?,
        measured: get_word(row, 2)?,
        condition: get_word(row, 3)?,
        sensitivity: get_word(row, 19)?,
        threshold: get(row, 4)?,
        clear_threshold: get(row, 5)?,
        window_minutes: get(row, 6)?,
        for_minutes: get(row, 7)?,
        counts_open: get(row, 8)?,
        frequency,
        filters: document(10)?.map(serde_json::from_value).transpose()?,
        recipients: document(18)?.map(serde_json::from_value).transpose()?.unwrap_or_default(),
        is_enabled: get(row, 11)?,
    };
    let progress = Progress {
        state: get_word(row, 12)?,
        evaluated_to: get(row, 13)?,
        holds_since: get(row, 14)?,
        cause: get::<Option<Timestamp>>(row, 15)?.zip(get(row, 16)?).map(|(start, end)| Span { start, end }),
        fired_at: get(row, 17)?,
    };
    Ok((rule, progress))
}

/// Upserts a rule by id; its state is reset as of `now`. The transaction must have locked the head.
pub async fn save(tx: &TenantTx, rule: &Rule, now: Timestamp) -> Result<()> {
    let filters = rule.filters.as_ref().map(serde_json::to_value).transpose()?;
    let every_minutes = match rule.frequency {
        Frequency::EveryTime => None,
        Frequency::Once => Some(0),
        Frequency::AtMostEvery(minutes) => Some(minutes),
    };
    let recipients = serde_json::to_value(&rule.recipients)?;
    let values: [Value; 15] = [
        rule.id.into(),
        rule.name.clone().into(),
        word(&rule.measured)?,
        word(rule.condition)?,
        rule.threshold.into(),
        rule.clear_threshold.map(|threshold| threshold.0).into(),
        rule.window_minutes.into(),
        rule.for_minutes.into(),
        rule.counts_open.into(),
        every_minutes.into(),
        filters.into(),
        rule.is_enabled.into(),
        now.into(),
        recipients.into(),
        word(rule.sensitivity)?,
    ];
    let sql = "INSERT INTO alerts (tenant_id, id, name, metric, condition, threshold, clear_threshold, window_minutes, \
               for_minutes, counts_open, every_minutes, filters, is_enabled, state, evaluated_to, created_at, updated_at, \
               recipients, sensitivity) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'OK', $14, $14, $14, $15, $16) \
               ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, metric = excluded.metric, \
               condition = excluded.condition, threshold = excluded.threshold, clear_threshold = excluded.clear_threshold, \
               window_minutes = excluded.window_minutes, for_minutes = excluded.for_minutes, \
               counts_open = excluded.counts_open, every_minutes = excluded.every_minutes, filters = excluded.filters, \
               is_enabled = excluded.is_enabled, recipients = excluded.recipients, \
               sensitivity = excluded.sensitivity, updated_at = excluded.updated_at";
    tx.execute(sql, values).await?;
    save_progress(tx, rule.id, &Progress::begin(now)).await?;
    refresh_due(tx).await
}

/// Stores a rule's state.
pub async fn save_progress(tx: &TenantTx, id: Uuid, progress: &Progress) -> Result<()> {
    let sql = "UPDATE alerts SET state = $3, evaluated_to = $4, holds_since = $5, cause_start = $6, cause_end = $7, \
               fired_at = $8 WHERE tenant_id = $1 AND id = $2";
    let time = |at: Option<Timestamp>| Value::from(at.map(|at| at.0));
    let values: [Value; 7] = [
        id.into(),
        word(progress.state)?,
        progress.evaluated_to.into(),
        time(progress.holds_since),
        time(progress.cause.map(|cause| cause.start)),
        time(progress.cause.map(|cause| cause.end)),
        time(progress.fired_at),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Stores the next due time after rules were changed; the transaction must have locked the head.
async fn refresh_due(tx: &TenantTx) -> Result<()> {
    let rules = list_enabled(tx).await?;
    let due_at = rules.iter().map(|(rule, progress)| progress.due_at(rule).0).min();
    let sql = "UPDATE ledger_heads SET alerts_due_at = $2 WHERE tenant_id = $1";
    tx.execute(sql, [due_at.into()]).await?;
    Ok(())
}

/// Stores the alert state of the head.
pub async fn save_head(tx: &TenantTx, last_alert_no: i64, due_at: Option<i64>) -> Result<()> {
    let sql = "UPDATE ledger_heads SET last_alert_no = $2, alerts_due_at = $3 WHERE tenant_id = $1";
    tx.execute(sql, [last_alert_no.into(), due_at.into()]).await?;
    Ok(())
}

/// The number of rules.
pub async fn count(tx: &TenantTx) -> Result<usize> {
    let count = tx.count("SELECT COUNT(*) FROM alerts WHERE tenant_id = $1", []).await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid) -> Result<()> {
    let deleted = tx.execute("DELETE FROM alerts WHERE tenant_id = $1 AND id = $2", [id.into()]).await?;
    if deleted == 0 {
        return Err(Error::not_found("alert"));
    }
    refresh_due(tx).await
}

/// Logs a rule's change under the given number.
pub async fn log(
    tx: &TenantTx,
    rule: &Rule,
    change: &Change,
    denomination: &Denomination,
    alert_no: i64,
    position: i64,
) -> Result<()> {
    let of_judgement = |of: fn(Judgement) -> Money| Value::from(change.judgement.map(|judgement| of(judgement).0));
    let values: [Value; 19] = [
        Uuid::now_v7().into(),
        alert_no.into(),
        rule.id.into(),
        rule.name.clone().into(),
        word(&rule.measured)?,
        word(change.state)?,
        change.value.map(|value| value.0).into(),
        rule.threshold.into(),
        position.into(),
        change.at.into(),
        of_judgement(|judgement| judgement.expected),
        of_judgement(|judgement| judgement.lower),
        of_judgement(|judgement| judgement.upper),
        of_judgement(|judgement| judgement.score),
        word(rule.condition)?,
        denomination.unit.map(word_text).transpose()?.into(),
        denomination.currency.clone().into(),
        rule.window_minutes.into(),
        rule.filters.as_ref().map(serde_json::to_value).transpose()?.into(),
    ];
    let sql = "INSERT INTO alert_events (tenant_id, id, alert_no, alert_id, name, metric, state, value, threshold, \
               position, triggered_at, expected, expected_lower, expected_upper, score, condition, unit, currency, \
               window_minutes, filters) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    tx.execute(sql, values).await?;
    Ok(())
}

const TRANSITION_COLUMNS: &str = "id, alert_id, name, metric, state, value, threshold, position, triggered_at, alert_no, \
    expected, expected_lower, expected_upper, score, condition, unit, currency, window_minutes, filters";

/// The log after a number, in order, at most `rows_max` entries.
pub async fn list_after(tx: &TenantTx, alert_no: i64, rows_max: i64) -> Result<Vec<Transition>> {
    let sql = format!(
        "SELECT {TRANSITION_COLUMNS} FROM alert_events WHERE tenant_id = $1 AND alert_no > $2 ORDER BY alert_no LIMIT $3"
    );
    tx.query(&sql, [alert_no.into(), rows_max.into()]).await?.iter().map(transition_from).collect()
}

/// The number of the oldest alert kept.
pub async fn find_oldest(tx: &TenantTx) -> Result<Option<i64>> {
    let row = tx.query_one("SELECT min(alert_no) FROM alert_events WHERE tenant_id = $1", []).await?;
    row.map_or(Ok(None), |row| get(&row, 0))
}

/// A page of reported changes, newest first, of one rule or all.
pub async fn history(tx: &TenantTx, page: &Page, rule_id: Option<Uuid>) -> Result<Listed<Transition>> {
    const ORDER: SortOrder<'_> =
        SortOrder { name: "alertHistory", keys: &[SortKey::descending("alert_no", KeyKind::Int)] };
    let mut matching = Matching::of("alert_events WHERE tenant_id = $1");
    if let Some(id) = rule_id {
        matching.and("alert_id =", id);
    }
    let item = |row: &QueryResult| {
        let transition = transition_from(row)?;
        Ok((vec![transition.alert_no.to_string()], transition))
    };
    matching.page(tx, page, &ORDER, TRANSITION_COLUMNS, item).await
}

fn transition_from(row: &QueryResult) -> Result<Transition> {
    let judgement = match (get(row, 10)?, get(row, 11)?, get(row, 12)?, get(row, 13)?) {
        (Some(expected), Some(lower), Some(upper), Some(score)) => Some(Judgement { expected, lower, upper, score }),
        _ => None,
    };
    let denomination = Denomination { unit: find_word(row, 15)?, currency: get(row, 16)? };
    Ok(Transition {
        id: get(row, 0)?,
        rule_id: get(row, 1)?,
        name: get(row, 2)?,
        measured: get_word(row, 3)?,
        condition: find_word(row, 14)?,
        denomination,
        state: get_word(row, 4)?,
        value: get(row, 5)?,
        judgement,
        threshold: get(row, 6)?,
        position: get(row, 7)?,
        triggered_at: get(row, 8)?,
        alert_no: get(row, 9)?,
        window_minutes: get(row, 17)?,
        filters: get::<Option<serde_json::Value>>(row, 18)?.map(serde_json::from_value).transpose()?,
    })
}
