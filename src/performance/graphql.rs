//! `salesPerformance`.

use async_graphql::{Context, ID, Object};

use super::{Performance, performance};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::graphql::context::{Requires, app, read};
use crate::graphql::scalars::{Count, Currency, Decimal};
use crate::metrics::graphql::Period;
use crate::metrics::input::DateRange;
use crate::people::quotas::Holder;

#[derive(Default)]
pub struct PerformanceQuery;

#[Object]
impl PerformanceQuery {
    /// Deals and activities of one salesperson or one team in a period; a team's are those of each member while belonging to it. Give exactly one of `userId` and `teamId`. Errors: BAD_USER_INPUT; NOT_FOUND; MIXED_CURRENCIES, if amounts are selected and the deals, or the deals and the quota, are of several.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn sales_performance(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The period to report on; its end is exclusive.")] period: DateRange,
        #[graphql(desc = "The salesperson.")] user_id: Option<ID>,
        #[graphql(desc = "The team.")] team_id: Option<ID>,
        #[graphql(
            desc = "The organization whose deals count, by id or slug; omit for all. Quotas and activities are for all organizations together: with one, there is no quota, and activities are the same."
        )]
        organization_id: Option<ID>,
    ) -> async_graphql::Result<SalesPerformance> {
        let holder = Holder::parse(user_id, team_id)?;
        let now = app(ctx)?.clock.now();
        let performance =
            performance(read(ctx).await?.as_ref(), holder, &period, organization_id.as_ref(), now).await?;
        let amounts = ["currency", "revenue", "quota", "quotaAttainment", "averageDealSize"];
        if amounts.iter().any(|field| ctx.look_ahead().field(field).exists()) {
            performance.amounts()?;
        }
        Ok(SalesPerformance { performance, now })
    }
}

/// Deals and activities of a person or a team in a period; a team's are those of each member while belonging to it.
struct SalesPerformance {
    performance: Performance,
    now: Timestamp,
}

/// Deals and activities of a person or a team in a period; a team's are those of each member while belonging to it.
#[Object]
impl SalesPerformance {
    /// The period, resolved to exact times.
    async fn period(&self) -> Period {
        Period::new(self.performance.span, self.now)
    }

    /// The currency of the amounts.
    async fn currency(&self) -> async_graphql::Result<Currency> {
        Ok(Currency(self.performance.amounts()?.currency.clone()))
    }

    /// Deals won.
    async fn deals_won(&self) -> Count {
        Count(self.performance.deals_won)
    }

    /// Deals won or lost.
    async fn deals_closed(&self) -> Count {
        Count(self.performance.deals_won + self.performance.deals_lost)
    }

    /// Sum of the amounts of deals won.
    async fn revenue(&self) -> async_graphql::Result<Decimal> {
        Ok(Decimal(self.performance.amounts()?.revenue))
    }

    /// Revenue divided by `quota`; null without a quota.
    async fn quota_attainment(&self) -> async_graphql::Result<Option<f64>> {
        Ok(self.performance.amounts()?.quota_attainment())
    }

    /// The quota for this period: quotas that lie in it only in part count by the share of their days, and overlapping ones are added. Null without one.
    async fn quota(&self) -> async_graphql::Result<Option<Decimal>> {
        Ok(self.performance.amounts()?.quota.map(Decimal))
    }

    /// Calls, e-mails, meetings and the like.
    async fn activities(&self) -> Count {
        Count(self.performance.activities)
    }

    /// Win rate: deals won divided by deals closed; null if none were closed.
    async fn conversion_rate(&self) -> Option<f64> {
        self.performance.conversion_rate()
    }

    /// Revenue per deal won; null if none were won.
    async fn average_deal_size(&self) -> async_graphql::Result<Option<Decimal>> {
        Ok(self.performance.average_deal_size()?.map(Decimal))
    }
}
