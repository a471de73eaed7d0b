//! Changes of dashboards; everyone who may see sales arranges dashboards of her own.

use async_graphql::{Context, ID, Object};

use super::NewDashboard;
use super::graphql::Dashboard;
use super::input::DashboardInput;
use super::store::{self, LOGGED};
use crate::audit::{Entry, change};
use crate::auth::Permission;
use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::context::{Needs, app, caller, parse_id};
use crate::metrics::kpis::definitions;

#[derive(Default)]
pub struct DashboardMutation;

#[Object]
impl DashboardMutation {
    /// Creates a dashboard owned by the user. Needs SALES_VIEW. Errors: NOT_FOUND (organization, KPI), CONFLICT (the limit of 200 is reached).
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn create_dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new dashboard.")] input: DashboardInput,
    ) -> async_graphql::Result<Dashboard> {
        let content = input.check()?;
        let change = change(ctx).await?;
        check_named(&change, &content).await?;
        let dashboard = store::create(&change, caller(ctx)?.user_id, content, app(ctx)?.clock.now()).await?;
        let after = change.see(&LOGGED, dashboard.id).await?;
        change.commit(Entry::of("dashboard.create", dashboard.id).after(after)).await?;
        Ok(dashboard.try_into()?)
    }

    /// Replaces one of the user's own dashboards: whatever `input` leaves out goes back to its default. Needs SALES_VIEW. Error: NOT_FOUND (dashboard, organization, KPI).
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn update_dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dashboard's id.")] id: ID,
        #[graphql(desc = "The dashboard as it should be from now on.")] input: DashboardInput,
    ) -> async_graphql::Result<Dashboard> {
        let id = parse_id(&id, "dashboard")?;
        let content = input.check()?;
        let change = change(ctx).await?;
        check_named(&change, &content).await?;
        let before = change.before(&LOGGED, id).await?;
        let dashboard = store::update(&change, id, caller(ctx)?.user_id, content, app(ctx)?.clock.now()).await?;
        let after = change.see(&LOGGED, id).await?;
        change.commit(Entry::of("dashboard.update", id).before(before).after(after)).await?;
        Ok(dashboard.try_into()?)
    }

    /// Deletes one of the user's own dashboards and returns its id. Needs SALES_VIEW. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn delete_dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dashboard's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let dashboard_id = parse_id(&id, "dashboard")?;
        let change = change(ctx).await?;
        let before = change.before(&LOGGED, dashboard_id).await?;
        store::delete(&change, dashboard_id, caller(ctx)?.user_id).await?;
        change.commit(Entry::of("dashboard.delete", dashboard_id).before(before)).await?;
        Ok(id)
    }
}

/// What a dashboard names must be there. Error: NOT_FOUND.
async fn check_named(tx: &TenantTx, content: &NewDashboard) -> Result<()> {
    if let Some(filters) = &content.filters {
        filters.check_organization(tx).await?;
    }
    let kpis = content.widgets.iter().flat_map(|widget| widget.kpis.iter().cloned()).collect();
    definitions::find(tx, &kpis).await?;
    Ok(())
}
