//! `metricsUpdated` and `alertTriggered`.

use std::sync::Arc;

use async_graphql::{Context, ID, Subscription};
use futures_util::Stream;

use super::{Follower, until};
use crate::alerts::graphql::Alert;
use crate::alerts::store;
use crate::app::App;
use crate::auth::{Caller, Permission};
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Needs, app, caller};
use crate::metrics::answer::{Answer, answer};
use crate::metrics::filter::MetricsFilters;
use crate::metrics::graphql::{SalesMetrics, plan_of};
use crate::metrics::input::{DateRange, PeriodPreset};
use crate::metrics::plan::Plan;

#[derive(Default)]
pub struct LiveSubscription;

#[Subscription]
impl LiveSubscription {
    /// The metrics of a period: first as they stand, then after each change. Errors: FORBIDDEN (another tenant).
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn metrics_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Must be the token's tenant.")] tenant_id: ID,
        #[graphql(desc = "The period watched; absent means today in the default organization's time zone.")]
        period: Option<DateRange>,
        #[graphql(desc = "Narrows the facts that count; absent means all.")] filters: Option<MetricsFilters>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<SalesMetrics>> + use<>> {
        let caller = check_tenant(ctx, &tenant_id)?.clone();
        let today = DateRange { preset: Some(PeriodPreset::Today), ..DateRange::default() };
        let plan =
            Plan { period: period.unwrap_or(today), filters: filters.unwrap_or_default(), ..plan_of(ctx.field())? };
        let app = app(ctx)?.clone();
        let follower = Follower::start(&app, caller.tenant).await?;
        let watch = Watch { app, caller, follower, plan, last: None };
        Ok(futures_util::stream::unfold(Some(watch), async |watch| {
            let mut watch = watch?;
            match watch.next().await {
                Ok(answer) => Some((Ok(SalesMetrics(answer)), Some(watch))),
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }

    /// Each alert as it is reported. Errors: FORBIDDEN (another tenant).
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn alert_triggered(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Must be the token's tenant.")] tenant_id: ID,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<Alert>> + use<>> {
        let caller = check_tenant(ctx, &tenant_id)?.clone();
        let app = app(ctx)?.clone();
        let mut follower = Follower::start(&app, caller.tenant).await?;
        let head = crate::ledger::store::read_head(&app.db.read(caller.tenant).await?).await?;
        follower.has_seen(head.position);
        let feed = AlertFeed { app, caller, follower, position: head.position, ready: Vec::new() };
        Ok(futures_util::stream::unfold(Some(feed), async |feed| {
            let mut feed = feed?;
            match feed.next().await {
                Ok(alert) => Some((Ok(alert), Some(feed))),
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }
}

/// The caller, if `tenant_id` is the token's tenant.
fn check_tenant<'a>(ctx: &Context<'a>, tenant_id: &ID) -> Result<&'a Caller> {
    let caller = caller(ctx)?;
    if uuid::Uuid::parse_str(tenant_id).is_ok_and(|id| id == caller.tenant.0) {
        Ok(caller)
    } else {
        Err(Error::new(Code::Forbidden, "tenantId is not the tenant of the token"))
    }
}

fn token_ended() -> Error {
    Error::new(Code::Unauthenticated, "the token has ended")
}

/// One `metricsUpdated`.
struct Watch {
    app: App,
    caller: Caller,
    follower: Follower,
    plan: Plan,
    last: Option<Arc<Answer>>,
}

impl Watch {
    /// The metrics as they stand, at first at once, then when they may have changed: the ledger has moved, or a bucket
    /// or a sliding period has ended.
    async fn next(&mut self) -> Result<Arc<Answer>> {
        if let Some(last) = &self.last {
            tokio::select! {
                moved = self.follower.moved() => if !moved {
                    return Err(Error::new(Code::ServiceUnavailable, "the stream has ended; subscribe again"));
                },
                () = until(&self.app, last.next_end()) => {}
                () = until(&self.app, Some(self.caller.expires_at())) => return Err(token_ended()),
            }
        }
        let tx = self.app.db.read(self.caller.tenant).await?;
        let answer = Arc::new(answer(&tx, &self.app.memory, &self.plan, self.app.clock.now()).await?);
        self.follower.has_seen(answer.as_of.position);
        self.last = Some(Arc::clone(&answer));
        Ok(answer)
    }
}

/// One `alertTriggered`.
struct AlertFeed {
    app: App,
    caller: Caller,
    follower: Follower,
    /// All alerts up to here were given or are ready.
    position: i64,
    /// To be given, the next one last.
    ready: Vec<Alert>,
}

impl AlertFeed {
    async fn next(&mut self) -> Result<Alert> {
        loop {
            if let Some(alert) = self.ready.pop() {
                return Ok(alert);
            }
            tokio::select! {
                moved = self.follower.moved() => if !moved {
                    return Err(Error::new(Code::ServiceUnavailable, "the stream has ended; subscribe again"));
                },
                () = until(&self.app, Some(self.caller.expires_at())) => return Err(token_ended()),
            }
            let tx = self.app.db.read(self.caller.tenant).await?;
            let head = crate::ledger::store::read_head(&tx).await?;
            self.ready = store::list_after(&tx, self.position).await?.into_iter().rev().map(Alert::from).collect();
            self.position = head.position;
            self.follower.has_seen(head.position);
        }
    }
}
