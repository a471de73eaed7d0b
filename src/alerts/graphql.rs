//! Alert rules, their history, and their mutations.

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{ComplexObject, Context, ID, Object, SimpleObject};
use uuid::Uuid;

use super::evaluate::resolve;
use super::explain::Examined;
use super::input::{AlertFrequency, AlertRuleInput};
use super::progress::Progress;
use super::rule::{AlertCondition, AlertProblem, AlertState, Frequency, Rule};
use super::settings::Settings;
use super::simulate::{simulate, turn};
use super::store::{self, Denomination, Transition, Watched};
use super::sweep::announce;
use crate::audit::{Entry, change};
use crate::auth::Permission;
use crate::auth::cursor::Mark;
use crate::connection;
use crate::db::TenantTx;
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Requires, app, caller, filter_id, operation, parse_id, read};
use crate::graphql::page::Page;
use crate::graphql::scalars::{Currency, Cursor, DateTime, Decimal, Json, Position};
use crate::graphql::size::counted;
use crate::ledger::organization::list_organizations;
use crate::ledger::store::{lock_head, read_head};
use crate::metrics::catalog::Metric;
use crate::metrics::filter::Filter;
use crate::metrics::kpis::definitions;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::period::Span;
use crate::outbox;
use crate::outbox::graphql::AlertRecipient;
use crate::predictions::anomalies::graphql::{AnomalyContribution, AnomalySensitivity};

#[derive(Default)]
pub struct AlertQuery;

#[Object]
impl AlertQuery {
    /// The tenant's alert rules, sorted by name; at most 100.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn alerts(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<AlertRule>> {
        let tx = read(ctx).await?;
        Ok(store::list(&tx).await?.into_iter().map(AlertRule::try_from).collect::<Result<_>>()?)
    }

    /// Backtests an alert rule: what it would have reported, and when, had it been created at `from`. Backfilled events are counted but do not trigger anything. Events are replayed in the order and at the times at which they were recorded, not at which they occurred; so nothing of an import exists before the import was made. Errors: BAD_USER_INPUT (`to` lies in the future, more than 31 days, too much to replay, or nothing had been recorded by `to`), NOT_FOUND (KPI, organization), MIXED_CURRENCIES, AS_OF_NOT_AVAILABLE (the months were dropped).
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn simulate_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule.")] input: AlertRuleInput,
        #[graphql(desc = "When the simulation starts.")] from: DateTime,
        #[graphql(desc = "When the simulation ends: at most 31 days later, and not in the future.")] to: DateTime,
    ) -> async_graphql::Result<Vec<SimulatedAlert>> {
        // Nobody is notified, and a secret may be known only to the stored rule.
        let rule = input.without_recipients().into_rule(Uuid::nil(), &[])?;
        let now = app(ctx)?.clock.now();
        if from.0 >= to.0 || to.0 > now {
            return Err(Error::bad_input("to", "must be after from and not in the future").into());
        }
        let period = Span { start: from.0, end: to.0 };
        let _turn = turn(caller(ctx)?.tenant).await?;
        let tx = read(ctx).await?;
        let changes = simulate(tx.as_ref(), &app(ctx)?.memory, &rule, period).await?;
        let Denomination { unit, currency } = settings(ctx)?.denomination(&tx, &rule).await?;
        let simulated = changes.into_iter().map(|(change, position)| SimulatedAlert {
            state: change.state,
            unit,
            currency: currency.clone().map(Currency),
            value: change.value.map(Decimal),
            expected: change.judgement.map(|judgement| Decimal(judgement.expected)),
            lower: change.judgement.map(|judgement| Decimal(judgement.lower)),
            upper: change.judgement.map(|judgement| Decimal(judgement.upper)),
            score: change.judgement.map(|judgement| Decimal(judgement.score)),
            position: Position(position),
            triggered_at: DateTime(change.at),
        });
        Ok(simulated.collect())
    }

    /// Alerts that have been reported, newest first.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn alert_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return at most this many items from the start of the list, 0 to 100; defaults to 20 if neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(
            desc = "Return at most this many items from the end of the list, 0 to 100; not together with `first`."
        )]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
        #[graphql(desc = "Only alerts of this rule.")] rule_id: Option<ID>,
    ) -> async_graphql::Result<AlertConnection> {
        let page = Page::new(first, after, last, before)?;
        let rule_id = rule_id.as_ref().map(filter_id);
        let listed = store::history(read(ctx).await?.as_ref(), &page, rule_id).await?;
        Ok(AlertConnection::new(&page, listed.map(Alert::from)))
    }

    /// The cursor of the end of the alert log, also while it is empty: `alertTriggered(after:)` continues from it with the first alert that is reported later. A client that subscribes from it misses nothing if it is cut off before its first alert. In one query with `alertHistory`, all that come after it are newer than that list.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn alert_cursor(&self, ctx: &Context<'_>) -> async_graphql::Result<Cursor> {
        let head = read_head(read(ctx).await?.as_ref()).await?;
        Ok(cursor_after(ctx, head.last_alert_no)?)
    }
}

#[derive(Default)]
pub struct AlertMutation;

#[Object]
impl AlertMutation {
    /// Creates an alert rule. Needs ANALYTICS_ADVANCED. Errors: NOT_FOUND (KPI, organization), MIXED_CURRENCIES (amounts or a KPI of organizations with different currencies; filter by one), CONFLICT (the limit of 100 is reached).
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn create_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule.")] input: AlertRuleInput,
    ) -> async_graphql::Result<AlertRule> {
        let rule = input.into_rule(Uuid::now_v7(), &[])?;
        let change = change(ctx).await?;
        lock_head(&change).await?;
        if store::count(&change).await? >= store::RULES_MAX {
            return Err(
                Error::new(Code::Conflict, format!("there are {} alert rules already", store::RULES_MAX)).into()
            );
        }
        let rule = check_named(&change, rule).await?;
        store::save(&change, &rule, app(ctx)?.clock.now()).await?;
        let after = change.see(&store::LOGGED, rule.id).await?;
        change.commit(Entry::of("alert.create", rule.id).after(after)).await?;
        Ok((rule, Progress::default()).try_into()?)
    }

    /// Replaces an alert rule and resets its state. Unlike other updates it replaces the whole: whatever `input` leaves out, or has null for, goes back to its default. If that changes nothing, the state stays too. A rule that was FIRING is first reported as RESOLVED. A webhook without a secret keeps the one stored for the same URL; with a new one, what it has not received yet is signed with that. Needs ANALYTICS_ADVANCED. Errors: NOT_FOUND (alert, KPI, organization), MIXED_CURRENCIES (amounts or a KPI of organizations with different currencies; filter by one).
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn update_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule's id.")] id: ID,
        #[graphql(desc = "The rule.")] input: AlertRuleInput,
    ) -> async_graphql::Result<AlertRule> {
        let rule_id = parse_id(&id, "alert")?;
        let (app, change) = (app(ctx)?, change(ctx).await?);
        let (mut head, now, tenant) = (lock_head(&change).await?, app.clock.now(), change.tenant());
        let watched = store::get_rule(&change, rule_id).await?;
        let rule = input.into_rule(rule_id, &watched.0.recipients)?;
        let before = change.see(&store::LOGGED, rule.id).await?;
        let rule = check_named(&change, rule).await?;
        if rule == watched.0 {
            return Ok(watched.try_into()?);
        }
        let has_resolved = resolve(&change, &mut head, &watched, now).await?;
        store::save(&change, &rule, now).await?;
        for recipient in rule.recipients.iter().filter(|recipient| !watched.0.recipients.contains(recipient)) {
            outbox::store::renew_secret(&change, rule.id, recipient).await?;
        }
        let after = change.see(&store::LOGGED, rule.id).await?;
        change.commit(Entry::of("alert.update", rule.id).before(before).after(after)).await?;
        if has_resolved {
            announce(app, tenant, &head).await;
        }
        Ok((rule, Progress::default()).try_into()?)
    }

    /// Deletes an alert rule and returns its id; its history stays. A rule that was FIRING is first reported as RESOLVED. Needs ANALYTICS_ADVANCED. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn delete_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let rule_id = parse_id(&id, "alert")?;
        let (app, change) = (app(ctx)?, change(ctx).await?);
        let (mut head, now, tenant) = (lock_head(&change).await?, app.clock.now(), change.tenant());
        let watched = store::get_rule(&change, rule_id).await?;
        let before = change.see(&store::LOGGED, rule_id).await?;
        let has_resolved = resolve(&change, &mut head, &watched, now).await?;
        store::delete(&change, rule_id).await?;
        change.commit(Entry::of("alert.delete", rule_id).before(before)).await?;
        if has_resolved {
            announce(app, tenant, &head).await;
        }
        Ok(id)
    }
}

/// A rule that watches a metric or a KPI, and reports when a condition holds.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct AlertRule {
    #[graphql(skip)]
    rule: Rule,
    /// The rule's id.
    id: ID,
    /// Its name.
    name: String,
    /// The metric watched; null if a KPI is.
    metric: Option<Metric>,
    /// The name of the KPI watched; null if a metric is.
    kpi: Option<String>,
    /// The condition on which it fires.
    condition: AlertCondition,
    /// For ANOMALY: how many buckets to report.
    sensitivity: AnomalySensitivity,
    /// The value that the condition compares with; meaningless for NO_DATA.
    threshold: Decimal,
    /// A firing rule resolves only once the value is back beyond this; null means beyond the threshold.
    clear_threshold: Option<Decimal>,
    /// The length of the window watched, in minutes.
    window_minutes: i32,
    /// For how many minutes the condition must hold before the rule fires.
    for_minutes: i32,
    /// Whether the window includes the current, incomplete 15 minutes; if not, it ends with the last complete ones.
    include_open: bool,
    /// How often it may fire.
    frequency: AlertFrequency,
    /// For AT_MOST_EVERY: the least number of minutes from one firing to the next.
    every_minutes: Option<i32>,
    #[graphql(skip)]
    filters: Option<serde_json::Value>,
    /// Whether it is evaluated at all.
    enabled: bool,
    /// Its current state.
    state: AlertState,
}

#[ComplexObject]
impl AlertRule {
    /// Which facts count, as JSON of `MetricsFilters`; null for all.
    async fn filters(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Json>> {
        Ok(counted(ctx, self.filters.as_ref())?)
    }

    /// Who is notified of each change of state. Null without ANALYTICS_ADVANCED, since a URL may be a secret.
    async fn recipients(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<AlertRecipient>>> {
        let recipients = || self.rule.recipients.iter().cloned().map(AlertRecipient::from).collect();
        Ok(caller(ctx)?.may(Permission::AnalyticsAdvanced).then(recipients))
    }

    /// The unit of the values that it compares, and of `threshold` and `clearThreshold` except for ANOMALY, whose thresholds are scores: RATIO for CHANGE_ABOVE and CHANGE_BELOW, otherwise that of the metric or KPI. Null only if the KPI's formula is no longer valid.
    async fn unit(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<KpiUnit>> {
        let tx = read(ctx).await?;
        Ok(settings(ctx)?.unit(&tx, &self.rule).await?)
    }

    /// The currency of these numbers if `unit` is MONEY; otherwise null, and null too if there is a `problem`.
    async fn currency(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Currency>> {
        let tx = read(ctx).await?;
        Ok(settings(ctx)?.denomination(&tx, &self.rule).await?.currency.map(Currency))
    }

    /// Why it cannot be evaluated at present, so that its state does not change; null if nothing is in the way.
    async fn problem(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<AlertProblem>> {
        let tx = read(ctx).await?;
        Ok(settings(ctx)?.problem(&tx, &self.rule).await?)
    }
}

/// The settings that a query has in its snapshot; a mutation reads them anew, as it may have changed them.
fn settings(ctx: &Context<'_>) -> Result<Arc<Settings>> {
    let is_query = ctx.query_env.operation.node.ty == OperationType::Query;
    Ok(if is_query { operation(ctx)?.loader(Settings::default) } else { Arc::default() })
}

impl TryFrom<Watched> for AlertRule {
    type Error = Error;

    fn try_from((rule, progress): Watched) -> Result<Self> {
        let (frequency, every_minutes) = match rule.frequency {
            Frequency::EveryTime => (AlertFrequency::EveryTime, None),
            Frequency::Once => (AlertFrequency::Once, None),
            Frequency::AtMostEvery(minutes) => (AlertFrequency::AtMostEvery, Some(minutes)),
        };
        Ok(AlertRule {
            id: rule.id.into(),
            name: rule.name.clone(),
            metric: rule.measured.metric(),
            kpi: rule.measured.kpi().map(str::to_owned),
            condition: rule.condition,
            sensitivity: rule.sensitivity,
            threshold: Decimal(rule.threshold),
            clear_threshold: rule.clear_threshold.map(Decimal),
            window_minutes: rule.window_minutes,
            for_minutes: rule.for_minutes,
            include_open: rule.counts_open,
            frequency,
            every_minutes,
            filters: rule.filters.as_ref().map(serde_json::to_value).transpose()?,
            enabled: rule.is_enabled,
            state: progress.state,
            rule,
        })
    }
}

/// Checks that the rule's KPI and organization exist, that the KPI may be watched by it, and that a single currency is
/// involved; gives the rule as it is to be stored.
async fn check_named(tx: &TenantTx, rule: Rule) -> Result<Rule> {
    let watched = definitions::find(tx, &rule.measured.kpis()).await.map_err(|error| error.about("kpi"))?;
    rule.check_views(&watched)?;
    let filters = rule.filters.clone().unwrap_or_default().to_be_stored(tx).await?;
    Filter::find(tx, &list_organizations(tx).await?, &filters, rule.measured.adds_amounts(), None).await?;
    Ok(Rule { filters: rule.filters.is_some().then_some(filters), ..rule })
}

/// A change of state that an alert rule would have reported.
#[derive(SimpleObject)]
struct SimulatedAlert {
    /// The state it would have changed to.
    state: AlertState,
    /// The unit of `value`, `expected`, `lower` and `upper`; see `AlertRule.unit`.
    unit: Option<KpiUnit>,
    /// The currency of these numbers if `unit` is MONEY; otherwise null.
    currency: Option<Currency>,
    /// The metric's value at that time, or its relative change; null if it had none.
    value: Option<Decimal>,
    /// For ANOMALY: what was expected; null if nothing was. For other conditions null, like the next three.
    expected: Option<Decimal>,
    /// The lower end of the range within which it would not have been an anomaly.
    lower: Option<Decimal>,
    /// The upper end of that range.
    upper: Option<Decimal>,
    /// How far it was from what was expected, in robust standard deviations, to hundredths; negative if below.
    score: Option<Decimal>,
    /// The position in the ledger that would have caused it.
    position: Position,
    /// When it would have been reported.
    triggered_at: DateTime,
}

/// A change of state of an alert rule.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct Alert {
    #[graphql(skip)]
    alert_no: i64,
    #[graphql(skip)]
    examined: Option<Examined>,
    /// The alert's id.
    id: ID,
    /// The rule's id; the rule may have been deleted since.
    rule_id: ID,
    /// The rule's name at that time.
    name: String,
    /// The metric watched; null if a KPI was.
    metric: Option<Metric>,
    /// The name of the KPI watched; null if a metric was.
    kpi: Option<String>,
    /// The rule's condition at that time; null only for an alert reported before the server stored it.
    condition: Option<AlertCondition>,
    /// The unit of `value`, `expected`, `lower` and `upper` at that time, and of `threshold` except for ANOMALY, whose threshold is a score: RATIO for CHANGE_ABOVE and CHANGE_BELOW, otherwise that of the metric or KPI. Null only for an alert reported before the server stored it.
    unit: Option<KpiUnit>,
    /// The currency of these numbers if `unit` is MONEY; otherwise null. Null too if organizations with different currencies had come to be counted.
    currency: Option<Currency>,
    /// The state it changed to.
    state: AlertState,
    /// The metric's value at that time, or its relative change; null if it had none.
    value: Option<Decimal>,
    /// For ANOMALY: what was expected; null if nothing was. For other conditions null, like the next three.
    expected: Option<Decimal>,
    /// The lower end of the range within which it would not have been an anomaly.
    lower: Option<Decimal>,
    /// The upper end of that range.
    upper: Option<Decimal>,
    /// How far it was from what was expected, in robust standard deviations, to hundredths; negative if below.
    score: Option<Decimal>,
    /// The threshold at that time.
    threshold: Decimal,
    /// The position in the ledger that caused it.
    position: Position,
    /// When it was reported.
    triggered_at: DateTime,
}

#[ComplexObject]
impl Alert {
    /// The cursor for `alertTriggered(after:)` to continue after this alert. It is not the cursor of an edge.
    async fn cursor(&self, ctx: &Context<'_>) -> async_graphql::Result<Cursor> {
        Ok(cursor_after(ctx, self.alert_no)?)
    }

    /// Which channels, regions and categories were behind an ANOMALY that is FIRING: what `anomalies` of `salesMetrics` tells of the metric in that hour or day, as of the alert's position and with the filters that the rule had. It is computed when it is selected, for at most 20 alerts of a request, each of which counts as 1000 fields. Empty for KPIs, and for metrics that are not sums. Null for other conditions and states, for an alert reported before the server stored what was watched, and if the bucket is none any more because the organization's time zone was changed. Null with an error: AS_OF_NOT_AVAILABLE (once something was recorded after that position: months were dropped, or more than 200000 entries would have to be read), BAD_USER_INPUT (more than 20 alerts), RATE_LIMITED, NOT_FOUND (organization), MIXED_CURRENCIES, AMOUNT_OUT_OF_RANGE.
    async fn contributions(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<AnomalyContribution>>> {
        let Some(examined) = &self.examined else { return Ok(None) };
        let (app, tenant, size) = (app(ctx)?, caller(ctx)?.tenant, operation(ctx)?.size());
        match ctx.query_env.operation.node.ty {
            // It sends one alert after the other, for as long as it is open.
            OperationType::Subscription => size.pay(EXPLANATION_VALUES)?,
            OperationType::Query | OperationType::Mutation => size.take(EXPLANATION_VALUES, 1, "first")?,
        }
        let explained = async { examined.explain(read(ctx).await?.as_ref(), &app.memory, app.clock.now()).await };
        let explained = app.alert_explanations.get(tenant, examined.alert, explained).await?;
        let told = explained.as_ref().as_ref().map(|parts| parts.iter().map(AnomalyContribution::new).collect());
        Ok(told.transpose()?)
    }
}

/// What an explanation counts as, among the values of a request.
const EXPLANATION_VALUES: usize = 10_000;

/// The cursor for `alertTriggered(after:)` to continue after the alert with this number.
fn cursor_after(ctx: &Context<'_>, alert_no: i64) -> Result<Cursor> {
    let mark = Mark { position: alert_no, part: 0, until: None };
    Ok(Cursor(app(ctx)?.tokens.cursors().write(caller(ctx)?.tenant, b"alertTriggered", mark)))
}

impl From<Transition> for Alert {
    fn from(transition: Transition) -> Self {
        Alert {
            alert_no: transition.alert_no,
            examined: Examined::by(&transition),
            id: transition.id.into(),
            rule_id: transition.rule_id.into(),
            name: transition.name,
            metric: transition.measured.metric(),
            kpi: transition.measured.kpi().map(str::to_owned),
            condition: transition.condition,
            unit: transition.denomination.unit,
            currency: transition.denomination.currency.map(Currency),
            state: transition.state,
            value: transition.value.map(Decimal),
            expected: transition.judgement.map(|judgement| Decimal(judgement.expected)),
            lower: transition.judgement.map(|judgement| Decimal(judgement.lower)),
            upper: transition.judgement.map(|judgement| Decimal(judgement.upper)),
            score: transition.judgement.map(|judgement| Decimal(judgement.score)),
            threshold: Decimal(transition.threshold),
            position: Position(transition.position),
            triggered_at: DateTime(transition.triggered_at),
        }
    }
}

connection!(AlertConnection, AlertEdge, Alert, "alerts");
