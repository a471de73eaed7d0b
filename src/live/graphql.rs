//! `metricsUpdated` and `alertTriggered`.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql::{Context, ID, Subscription};
use futures_util::Stream;
use uuid::Uuid;

use super::alerts::AlertLog;
use super::watch::Watch;
use crate::alerts::graphql::Alert;
use crate::alerts::store::RULES_MAX;
use crate::auth::cursor::Mark;
use crate::auth::{Caller, Permission};
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Requires, app, caller, operation, parse_id};
use crate::graphql::scalars::Cursor;
use crate::guard::Guard;
use crate::metrics::filter::MetricsFilters;
use crate::metrics::graphql::SalesMetrics;
use crate::metrics::input::{DateRange, PeriodPreset};
use crate::metrics::look_ahead::plan_of;
use crate::metrics::plan::Plan;

#[derive(Default)]
pub struct LiveSubscription;

#[Subscription]
impl LiveSubscription {
    /// Live metrics for a period: first the current state, then the newest state after each change, at most ten times a second. `extensions` has the `cursor` of each result; `skipped`, if states before it were not sent because the client was slow; and `reset`, if it does not continue from `after`. Errors: FORBIDDEN (another tenant), and those of `salesMetrics`, with which it also ends if they arise later: an organization with another currency records its first sale, or a KPI is deleted.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn metrics_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Must be the token's tenant.")] tenant_id: ID,
        #[graphql(
            desc = "The period to watch; omit for today in the time zone of the filter's organization or, without one, of the default organization."
        )]
        period: Option<DateRange>,
        #[graphql(desc = "Which facts to count; omit for all.")] filters: Option<MetricsFilters>,
        #[graphql(
            desc = "The cursor of the last result received: nothing is sent until something has changed since then. If the cursor is no longer valid, the first result has `extensions.reset`."
        )]
        after: Option<Cursor>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<SalesMetrics>> + use<>> {
        // Not part of the plan: equal subscriptions share one, regardless of each client's cursor.
        drop(after);
        let caller = check_tenant(ctx, &tenant_id)?;
        let today = DateRange { preset: Some(PeriodPreset::Today), ..DateRange::default() };
        let plan =
            Plan { period: period.unwrap_or(today), filters: filters.unwrap_or_default(), ..plan_of(ctx.field())? };
        let operation = Arc::clone(operation(ctx)?);
        let watch = Watch::start(app(ctx)?, caller.tenant, plan, Arc::clone(operation.size())).await?;
        Ok(futures_util::stream::unfold(Some((watch, operation)), async |state| {
            let (mut watch, operation) = state?;
            match watch.next().await {
                Ok(answer) => {
                    operation.stands_at(answer.mark());
                    Some((Ok(SalesMetrics(answer)), Some((watch, operation))))
                }
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }

    /// Every alert as it is reported, without gaps. Errors: FORBIDDEN (another tenant), BAD_USER_INPUT (more than 100 `ruleIds`), NOT_FOUND (one of them is no id), RESUME_GAP (the cursor does not belong to this subscription, alerts after it are no longer kept, also if they are of other rules, or the log ends before it because the ledger was restored to an earlier state; the last may also end the subscription later).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn alert_triggered(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Must be the token's tenant.")] tenant_id: ID,
        #[graphql(
            desc = "The cursor of the last alert received, or `alertCursor` before the first: alerts after it are sent first. Omit for alerts from now on, without those of a time between two connections."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "Only alerts of these rules, at most 100; omit for all. An id that no rule has matches nothing. A cursor is valid with any rules."
        )]
        rule_ids: Option<Vec<ID>>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<Alert>> + use<>> {
        // The cursor was validated before the operation began.
        drop(after);
        let caller = check_tenant(ctx, &tenant_id)?;
        let operation = Arc::clone(operation(ctx)?);
        let rules = rule_ids.map(parse_rule_ids).transpose()?;
        let log = AlertLog::start(app(ctx)?, caller.tenant, operation.after(), rules).await?;
        Ok(futures_util::stream::unfold(Some((log, operation)), async |state| {
            let (mut log, operation) = state?;
            match log.next().await {
                Ok(alert) => {
                    operation.stands_at(Mark { position: alert.alert_no, part: 0, until: None });
                    Some((Ok(Alert::from(alert)), Some((log, operation))))
                }
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }
}

fn parse_rule_ids(ids: Vec<ID>) -> Result<BTreeSet<Uuid>> {
    if ids.len() > RULES_MAX {
        return Err(Error::bad_input("ruleIds", format!("more than {RULES_MAX} rules")));
    }
    let rule = |(index, id)| parse_id(id, "alert").map_err(|error: Error| error.of_element("ruleIds", index));
    ids.iter().enumerate().map(rule).collect()
}

/// The caller, if `tenant_id` is the token's tenant.
fn check_tenant<'a>(ctx: &Context<'a>, tenant_id: &ID) -> Result<&'a Caller> {
    let caller = caller(ctx)?;
    let of = |id| Guard::Argument.of(id);
    if Uuid::parse_str(tenant_id).is_ok_and(|id| of(id) == of(caller.tenant.0)) {
        Ok(caller)
    } else {
        Err(Error::new(Code::Forbidden, "tenantId is not the tenant of the token"))
    }
}
