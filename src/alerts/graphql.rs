//! Alert rules, their history, and their mutations.

use async_graphql::{ComplexObject, Context, ID, InputObject, Object, SimpleObject};
use uuid::Uuid;

use super::rule::{AlertCondition, AlertState, Rule};
use super::store::{self, Transition};
use crate::audit;
use crate::auth::Permission;
use crate::connection;
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Needs, app, caller, parse_id, read, write};
use crate::graphql::cursor::Mark;
use crate::graphql::page::Page;
use crate::graphql::scalars::{Cursor, DateTime, Decimal, Json, Position};
use crate::metrics::catalog::Metric;
use crate::metrics::filter::MetricsFilters;

const NAME_CHARS_MAX: usize = 200;
const WINDOW_STEP_MINUTES: i32 = 15;
/// 31 days.
const WINDOW_MINUTES_MAX: i32 = 44_640;

#[derive(Default)]
pub struct AlertQuery;

#[Object]
impl AlertQuery {
    /// The tenant's alert rules, by name; at most 100.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn alerts(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<AlertRule>> {
        let tx = read(ctx).await?;
        Ok(store::list(&tx).await?.into_iter().map(AlertRule::try_from).collect::<Result<_>>()?)
    }

    /// What alerts have reported, newest first.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn alert_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most this many from the start, 1 to 100; 20 when neither `first` nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most this many from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        #[graphql(desc = "Only of this rule.")] rule_id: Option<ID>,
    ) -> async_graphql::Result<AlertConnection> {
        let page = Page::new(first, after, last, before)?;
        let rule_id = rule_id.map(|id| parse_id(&id, "alert")).transpose()?;
        let rows = store::history(read(ctx).await?.as_ref(), &page, rule_id).await?;
        Ok(AlertConnection::new(&page, rows.into_iter().map(|(cursor, t)| (cursor, t.into())).collect()))
    }
}

#[derive(Default)]
pub struct AlertMutation;

#[Object]
impl AlertMutation {
    /// Creates an alert rule. Needs ANALYTICS_ADVANCED.
    #[graphql(guard = "Needs(Permission::AnalyticsAdvanced)")]
    async fn create_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule.")] input: AlertRuleInput,
    ) -> async_graphql::Result<AlertRule> {
        let rule = input.into_rule(Uuid::now_v7())?;
        let tx = write(ctx).await?;
        if store::count(&tx).await? >= store::RULES_MAX {
            return Err(
                Error::new(Code::Conflict, format!("there are {} alert rules already", store::RULES_MAX)).into()
            );
        }
        store::save(&tx, &rule, app(ctx)?.clock.now()).await?;
        audit::record(ctx, &tx, "alert.create", rule.id).await?;
        tx.commit().await?;
        Ok(rule.try_into()?)
    }

    /// Replaces an alert rule; its state starts anew. Needs ANALYTICS_ADVANCED. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::AnalyticsAdvanced)")]
    async fn update_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule's id.")] id: ID,
        #[graphql(desc = "The rule.")] input: AlertRuleInput,
    ) -> async_graphql::Result<AlertRule> {
        let rule = input.into_rule(parse_id(&id, "alert")?)?;
        let tx = write(ctx).await?;
        store::get_rule(&tx, rule.id).await?;
        store::save(&tx, &rule, app(ctx)?.clock.now()).await?;
        audit::record(ctx, &tx, "alert.update", rule.id).await?;
        tx.commit().await?;
        Ok(rule.try_into()?)
    }

    /// Deletes an alert rule; its history stays. Gives its id. Needs ANALYTICS_ADVANCED. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::AnalyticsAdvanced)")]
    async fn delete_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let rule_id = parse_id(&id, "alert")?;
        let tx = write(ctx).await?;
        store::delete(&tx, rule_id).await?;
        audit::record(ctx, &tx, "alert.delete", rule_id).await?;
        tx.commit().await?;
        Ok(id)
    }
}

/// When to report what.
#[derive(SimpleObject)]
pub struct AlertRule {
    /// The rule's id.
    id: ID,
    /// Its name.
    name: String,
    /// The metric watched.
    metric: Metric,
    /// Above or below.
    condition: AlertCondition,
    /// The value it is compared with.
    threshold: Decimal,
    /// The length of the period watched, up to now.
    window_minutes: i32,
    /// What counts.
    filters: Option<Json>,
    /// Whether it is evaluated.
    enabled: bool,
    /// Whether it holds now.
    state: AlertState,
}

impl TryFrom<Rule> for AlertRule {
    type Error = Error;

    fn try_from(rule: Rule) -> Result<Self> {
        Ok(AlertRule {
            id: rule.id.into(),
            name: rule.name,
            metric: rule.metric,
            condition: rule.condition,
            threshold: Decimal(rule.threshold),
            window_minutes: rule.window_minutes,
            filters: rule.filters.map(serde_json::to_value).transpose()?.map(Json),
            enabled: rule.is_enabled,
            state: rule.state,
        })
    }
}

/// What an alert rule is to be.
#[derive(InputObject)]
struct AlertRuleInput {
    /// Its name, 1 to 200 characters.
    name: String,
    /// The metric watched.
    metric: Metric,
    /// Above or below.
    condition: AlertCondition,
    /// The value it is compared with.
    threshold: Decimal,
    /// The length of the period watched, up to now: 15 to 44640, in steps of 15.
    #[graphql(default_with = "Some(60)")]
    window_minutes: Option<i32>,
    /// What counts.
    filters: Option<MetricsFilters>,
    /// Whether it is evaluated.
    #[graphql(default_with = "Some(true)")]
    enabled: Option<bool>,
}

impl AlertRuleInput {
    fn into_rule(self, id: Uuid) -> Result<Rule> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.contains('\0') {
            return Err(Error::bad_input("name", format!("must have 1 to {NAME_CHARS_MAX} characters")));
        }
        let window_minutes = self.window_minutes.unwrap_or(60);
        if !(WINDOW_STEP_MINUTES..=WINDOW_MINUTES_MAX).contains(&window_minutes)
            || window_minutes % WINDOW_STEP_MINUTES != 0
        {
            let message =
                format!("must be from {WINDOW_STEP_MINUTES} to {WINDOW_MINUTES_MAX} in steps of {WINDOW_STEP_MINUTES}");
            return Err(Error::bad_input("windowMinutes", message));
        }
        if let Some(filters) = &self.filters {
            filters.check()?;
        }
        Ok(Rule {
            id,
            name: name.to_owned(),
            metric: self.metric,
            condition: self.condition,
            threshold: self.threshold.0,
            window_minutes,
            filters: self.filters,
            is_enabled: self.enabled.unwrap_or(true),
            state: AlertState::Ok,
        })
    }
}

/// A rule's change of state.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct Alert {
    #[graphql(skip)]
    alert_no: i64,
    /// The alert's id.
    id: ID,
    /// The rule's id; the rule may be deleted since.
    rule_id: ID,
    /// The rule's name then.
    name: String,
    /// The metric watched.
    metric: Metric,
    /// The state it went to.
    state: AlertState,
    /// The metric's value then; null where it had none.
    value: Option<Decimal>,
    /// The threshold then.
    threshold: Decimal,
    /// The position of the ledger that caused it.
    position: Position,
    /// When it was reported.
    triggered_at: DateTime,
}

#[ComplexObject]
impl Alert {
    /// For `alertTriggered(after:)`: from this alert on.
    async fn cursor(&self, ctx: &Context<'_>) -> async_graphql::Result<Cursor> {
        let mark = Mark { position: self.alert_no, part: 0, until: None };
        Ok(Cursor(app(ctx)?.tokens.cursors().write(caller(ctx)?.tenant, b"alertTriggered", mark)))
    }
}

impl From<Transition> for Alert {
    fn from(transition: Transition) -> Self {
        Alert {
            alert_no: transition.alert_no,
            id: transition.id.into(),
            rule_id: transition.rule_id.into(),
            name: transition.name,
            metric: transition.metric,
            state: transition.state,
            value: transition.value.map(Decimal),
            threshold: Decimal(transition.threshold),
            position: Position(transition.position),
            triggered_at: DateTime(transition.triggered_at),
        }
    }
}

connection!(AlertConnection, AlertEdge, Alert, "alerts");
