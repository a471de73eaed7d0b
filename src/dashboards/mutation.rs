//! Mutations of dashboards; everyone who may see sales can manage dashboards of their own.

use async_graphql::{Context, ID, Object};
use uuid::Uuid;

use super::graphql::Dashboard;
use super::input::{DashboardChanges, DashboardInput};
use super::store::{self, LOGGED};
use super::{self as dashboards, DashboardContent};
use crate::audit::{Change, Entry, change};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Requires, app, caller, parse_id};
use crate::graphql::scalars::DateTime;

#[derive(Default)]
pub struct DashboardMutation;

#[Object]
impl DashboardMutation {
    /// Creates a dashboard owned by the user. Needs SALES_VIEW. Errors: NOT_FOUND (organization, KPI), CONFLICT (the limit of 200 is reached).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn create_dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new dashboard.")] input: DashboardInput,
    ) -> async_graphql::Result<Dashboard> {
        let input = input.into_changes();
        let named = input.named(&DashboardContent::default());
        let content = input.apply(DashboardContent::default())?;
        let change = change(ctx).await?;
        let content = named.check(&change, content).await?;
        let (owner_id, now) = (caller(ctx)?.user_id, app(ctx)?.clock.now());
        if content.is_default {
            leave_default(&change, owner_id, now).await?;
        }
        let dashboard = store::create(&change, owner_id, content, now).await?;
        let after = change.see(&LOGGED, dashboard.id).await?;
        change.commit(Entry::of("dashboard.create", dashboard.id).after(after)).await?;
        Ok(dashboard.try_into()?)
    }

    /// Changes one of the user's own dashboards; what `input` leaves out stays as it is. KPIs and the organization must exist only where they are new: what refers to something that is gone can be saved again. Needs SALES_VIEW. Errors: NOT_FOUND (dashboard, organization, KPI), CONFLICT (changed since `ifUpdatedAt`).
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn update_dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dashboard's id.")] id: ID,
        #[graphql(desc = "What changes.")] input: DashboardChanges,
        #[graphql(
            desc = "Refuses the change unless this is when the dashboard was last changed, so that nobody's changes are overwritten unseen."
        )]
        if_updated_at: Option<DateTime>,
    ) -> async_graphql::Result<Dashboard> {
        let id = parse_id(&id, "dashboard")?;
        let change = change(ctx).await?;
        let before = change.see(&LOGGED, id).await?;
        let old = store::lock_own(&change, id, caller(ctx)?.user_id).await?;
        if if_updated_at.is_some_and(|at| at.0 != old.updated_at) {
            return Err(Error::new(Code::Conflict, "the dashboard has been changed in the meantime").into());
        }
        let named = input.named(&old.content);
        let content = named.check(&change, input.apply(old.content.clone())?).await?;
        if content == old.content {
            return Ok(dashboards::Dashboard { content, ..old }.try_into()?);
        }
        let now = app(ctx)?.clock.now();
        if content.is_default && !old.content.is_default {
            leave_default(&change, old.owner_id, now).await?;
        }
        let new = dashboards::Dashboard { updated_at: now, content, ..old };
        let dashboard = store::update(&change, new).await?;
        let after = change.see(&LOGGED, id).await?;
        change.commit(Entry::of("dashboard.update", id).before(before).after(after)).await?;
        Ok(dashboard.try_into()?)
    }

    /// Deletes one of the user's own dashboards and returns its id. Needs SALES_VIEW. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn delete_dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dashboard's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let dashboard_id = parse_id(&id, "dashboard")?;
        let change = change(ctx).await?;
        let before = change.see(&LOGGED, dashboard_id).await?;
        store::delete(&change, dashboard_id, caller(ctx)?.user_id).await?;
        change.commit(Entry::of("dashboard.delete", dashboard_id).before(before)).await?;
        Ok(id)
    }
}

/// Makes an owner's default dashboard an ordinary one, as another takes its place.
async fn leave_default(change: &Change, owner_id: Uuid, now: Timestamp) -> Result<()> {
    let Some(former) = store::find_default(change, owner_id).await? else { return Ok(()) };
    let before = change.see(&LOGGED, former.id).await?;
    let content = DashboardContent { is_default: false, ..former.content };
    let former = store::update(change, dashboards::Dashboard { updated_at: now, content, ..former }).await?;
    let after = change.see(&LOGGED, former.id).await?;
    change.log(Entry::of("dashboard.update", former.id).before(before).after(after)).await
}
