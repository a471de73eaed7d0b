//! Rules and what they have reported, in the database.

use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::rule::{AlertCondition, AlertState, Rule};
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::page::{Cursor, KeyKind, Page, SortKey};
use crate::ledger::store::new_alert_no;
use crate::metrics::catalog::Metric;
use crate::money::Money;

/// Rules of one tenant.
pub const RULES_MAX: usize = 100;

/// A rule's change of state.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    pub id: Uuid,
    /// Its place in the tenant's log of alerts.
    pub alert_no: i64,
    pub rule_id: Uuid,
    pub name: String,
    pub metric: Metric,
    pub state: AlertState,
    pub value: Option<Money>,
    pub threshold: Money,
    pub position: i64,
    pub triggered_at: Timestamp,
}

const RULE_COLUMNS: &str = "id, name, metric, is_above, threshold, window_minutes, filters, is_enabled, is_firing";

pub async fn list(tx: &TenantTx) -> Result<Vec<Rule>> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM alerts WHERE tenant_id = $1 ORDER BY name, id LIMIT {RULES_MAX}");
    tx.query(&sql, []).await?.iter().map(rule_from).collect()
}

pub async fn list_enabled(tx: &TenantTx) -> Result<Vec<Rule>> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM alerts WHERE tenant_id = $1 AND is_enabled ORDER BY id");
    tx.query(&sql, []).await?.iter().map(rule_from).collect()
}

/// Error: NOT_FOUND.
pub async fn get_rule(tx: &TenantTx, id: Uuid) -> Result<Rule> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM alerts WHERE tenant_id = $1 AND id = $2");
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("alert"))?;
    rule_from(&row)
}

fn rule_from(row: &QueryResult) -> Result<Rule> {
    let filters: Option<serde_json::Value> = get(row, 6)?;
    Ok(Rule {
        id: get(row, 0)?,
        name: get(row, 1)?,
        metric: metric_from(row, 2)?,
        condition: if get(row, 3)? { AlertCondition::Above } else { AlertCondition::Below },
        threshold: Money(get(row, 4)?),
        window_minutes: get(row, 5)?,
        filters: filters.map(serde_json::from_value).transpose()?,
        is_enabled: get(row, 7)?,
        state: state_from(row, 8)?,
    })
}

fn metric_from(row: &QueryResult, index: usize) -> Result<Metric> {
    Ok(serde_json::from_value(serde_json::Value::String(get(row, index)?))?)
}

fn metric_text(metric: Metric) -> Result<Value> {
    match serde_json::to_value(metric)? {
        serde_json::Value::String(name) => Ok(name.into()),
        _ => Err(Error::internal("a metric that is not a word")),
    }
}

fn state_from(row: &QueryResult, index: usize) -> Result<AlertState> {
    Ok(if get(row, index)? { AlertState::Firing } else { AlertState::Ok })
}

/// Stores a new rule, or all but the id of one that is there.
pub async fn save(tx: &TenantTx, rule: &Rule, now: Timestamp) -> Result<()> {
    let filters = rule.filters.as_ref().map(serde_json::to_value).transpose()?;
    let values: [Value; 10] = [
        rule.id.into(),
        rule.name.clone().into(),
        metric_text(rule.metric)?,
        (rule.condition == AlertCondition::Above).into(),
        rule.threshold.0.into(),
        rule.window_minutes.into(),
        filters.into(),
        rule.is_enabled.into(),
        (rule.state == AlertState::Firing).into(),
        now.0.into(),
    ];
    let sql = "INSERT INTO alerts (tenant_id, id, name, metric, is_above, threshold, window_minutes, filters, \
               is_enabled, is_firing, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) \
               ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, metric = excluded.metric, \
               is_above = excluded.is_above, threshold = excluded.threshold, window_minutes = excluded.window_minutes, \
               filters = excluded.filters, is_enabled = excluded.is_enabled, is_firing = excluded.is_firing, \
               updated_at = excluded.updated_at";
    tx.execute(sql, values).await?;
    Ok(())
}

/// How many rules there are.
pub async fn count(tx: &TenantTx) -> Result<usize> {
    let row = tx.query_one("SELECT COUNT(*) FROM alerts WHERE tenant_id = $1", []).await?;
    let count: i64 = row.map(|row| get(&row, 0)).transpose()?.unwrap_or(0);
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid) -> Result<()> {
    let deleted = tx.execute("DELETE FROM alerts WHERE tenant_id = $1 AND id = $2", [id.into()]).await?;
    if deleted == 0 { Err(Error::not_found("alert")) } else { Ok(()) }
}

/// Logs that a rule went to `state`, and keeps the state with the rule; of a transaction that has locked the head.
pub async fn record_transition(
    tx: &TenantTx,
    rule: &Rule,
    state: AlertState,
    value: Option<Money>,
    position: i64,
    now: Timestamp,
) -> Result<()> {
    let is_firing = state == AlertState::Firing;
    let sql = "UPDATE alerts SET is_firing = $3 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, [rule.id.into(), is_firing.into()]).await?;
    let values: [Value; 10] = [
        Uuid::now_v7().into(),
        new_alert_no(tx).await?.into(),
        rule.id.into(),
        rule.name.clone().into(),
        metric_text(rule.metric)?,
        is_firing.into(),
        value.map(|value| value.0).into(),
        rule.threshold.0.into(),
        position.into(),
        now.0.into(),
    ];
    let sql = "INSERT INTO alert_events (tenant_id, id, alert_no, alert_id, name, metric, is_firing, value, threshold, \
               position, triggered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    tx.execute(sql, values).await?;
    Ok(())
}

const TRANSITION_COLUMNS: &str =
    "id, alert_id, name, metric, is_firing, value, threshold, position, triggered_at, alert_no";

/// The next of the log after a number, in order, at most `rows_max`.
pub async fn list_after(tx: &TenantTx, alert_no: i64, rows_max: i64) -> Result<Vec<Transition>> {
    let sql = format!(
        "SELECT {TRANSITION_COLUMNS} FROM alert_events WHERE tenant_id = $1 AND alert_no > $2 ORDER BY alert_no LIMIT $3"
    );
    tx.query(&sql, [alert_no.into(), rows_max.into()]).await?.iter().map(transition_from).collect()
}

/// A page of what was reported, newest first, of one rule or of all.
pub async fn history(tx: &TenantTx, page: &Page, rule_id: Option<Uuid>) -> Result<Vec<(Cursor, Transition)>> {
    const KEYS: [SortKey; 1] = [SortKey::descending("id", KeyKind::Uuid)];
    let mut values: Vec<Value> = rule_id.into_iter().map(Value::from).collect();
    let of_rule = if rule_id.is_some() { " AND alert_id = $2" } else { "" };
    let clauses = page.clauses(&KEYS, 2 + values.len())?;
    values.extend(clauses.values);
    let (filter, order) = (clauses.filter, clauses.order);
    let sql = format!("SELECT {TRANSITION_COLUMNS} FROM alert_events WHERE tenant_id = $1{of_rule}{filter}{order}");
    let rows = tx.query(&sql, values).await?;
    let transitions = rows.iter().map(transition_from).collect::<Result<Vec<_>>>()?;
    Ok(transitions.into_iter().map(|t| (Cursor(vec![t.id.to_string()]), t)).collect())
}

fn transition_from(row: &QueryResult) -> Result<Transition> {
    Ok(Transition {
        id: get(row, 0)?,
        rule_id: get(row, 1)?,
        name: get(row, 2)?,
        metric: metric_from(row, 3)?,
        state: state_from(row, 4)?,
        value: get::<Option<i64>>(row, 5)?.map(Money),
        threshold: Money(get(row, 6)?),
        position: get(row, 7)?,
        triggered_at: Timestamp(get(row, 8)?),
        alert_no: get(row, 9)?,
    })
}
