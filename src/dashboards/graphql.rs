//! `dashboard`, `dashboards` and their types.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, Object, SimpleObject};
use serde_json::Value;
use uuid::Uuid;

use super::widget::{self, WidgetKind, WidgetLayout};
use super::{Dashboard as StoredDashboard, store};
use crate::auth::Permission;
use crate::connection;
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, caller, read};
use crate::graphql::loader::{BatchLoad, load_known};
use crate::graphql::page::Page;
use crate::graphql::scalars::{DateTime, Json};
use crate::graphql::size::counted;
use crate::ledger::organization::{Organization, find_organization, list_organizations};
use crate::metrics::catalog::Metric;
use crate::metrics::kpis::definitions;
use crate::users::{User, UsersById};

#[derive(Default)]
pub struct DashboardQuery;

#[Object]
impl DashboardQuery {
    /// A dashboard that the user may see; null if there is none with this id.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn dashboard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dashboard's id.")] id: ID,
    ) -> async_graphql::Result<Option<Dashboard>> {
        let Ok(id) = Uuid::parse_str(&id) else { return Ok(None) };
        let found = store::find_visible(read(ctx).await?.as_ref(), id, caller(ctx)?.user_id).await?;
        Ok(found.map(Dashboard::try_from).transpose()?)
    }

    /// The dashboards the user may see, newest first.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn dashboards(
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
    ) -> async_graphql::Result<DashboardConnection> {
        let page = Page::new(first, after, last, before)?;
        let listed = store::list_visible(read(ctx).await?.as_ref(), &page, caller(ctx)?.user_id).await?;
        Ok(DashboardConnection::new(&page, listed.try_map(Dashboard::try_from)?))
    }
}

/// A page of numbers and charts.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct Dashboard {
    /// The dashboard's id.
    id: ID,
    /// Its name.
    name: String,
    /// Its description.
    description: Option<String>,
    #[graphql(skip)]
    owner_id: Uuid,
    #[graphql(skip)]
    organization_id: Option<ID>,
    /// Who may see it.
    sharing: DashboardSharing,
    /// Whether it opens first for its owner.
    is_default: bool,
    /// The number of columns of the grid on which widgets are placed.
    columns: i32,
    #[graphql(skip)]
    filters: Option<Value>,
    /// Its widgets.
    widgets: Vec<Widget>,
    /// When it was last changed.
    updated_at: DateTime,
}

#[ComplexObject]
impl Dashboard {
    /// The filters applied to all its widgets, as JSON of `MetricsFilters`.
    async fn filters(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Json>> {
        Ok(counted(ctx, self.filters.as_ref())?)
    }

    /// The user who owns it.
    async fn owner(&self, ctx: &Context<'_>) -> async_graphql::Result<User> {
        Ok(load_known::<UsersById>(ctx, self.owner_id).await?)
    }

    /// The `organizationId` of `filters`, if there is no such organization any more: then no widget can be filled. Null if there is, and if `filters` name none.
    async fn missing_organization_id(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<&ID>> {
        let Some(id) = &self.organization_id else { return Ok(None) };
        let organizations = load_known::<AllOrganizations>(ctx, ()).await?;
        Ok(find_organization(&organizations, Some(id)).is_none().then_some(id))
    }
}

impl TryFrom<StoredDashboard> for Dashboard {
    type Error = Error;

    fn try_from(StoredDashboard { id, owner_id, updated_at, content }: StoredDashboard) -> Result<Self> {
        Ok(Dashboard {
            id: id.into(),
            name: content.name,
            description: content.description,
            owner_id,
            sharing: if content.is_shared { DashboardSharing::Tenant } else { DashboardSharing::Private },
            is_default: content.is_default,
            columns: content.columns,
            organization_id: content.filters.as_ref().and_then(|filters| filters.organization_id.clone()),
            filters: content.filters.map(serde_json::to_value).transpose()?,
            widgets: content.widgets.into_iter().map(Widget::from).collect(),
            updated_at: DateTime(updated_at),
        })
    }
}

/// Who may see a dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum DashboardSharing {
    /// Its owner.
    Private,
    /// Everyone in the tenant.
    Tenant,
}

/// One tile of a dashboard.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
struct Widget {
    /// Identifies the widget within the dashboard.
    key: String,
    /// The kind of widget.
    kind: WidgetKind,
    /// Its title.
    title: String,
    /// The metrics it shows.
    metrics: Vec<Metric>,
    /// The names of the KPIs it shows; a KPI that was deleted since is still among them, and in `missingKpis`.
    kpis: Vec<String>,
    /// Its place and size on the grid.
    layout: WidgetLayout,
    #[graphql(skip)]
    options: Option<Value>,
}

#[ComplexObject]
impl Widget {
    /// Further settings, as JSON.
    async fn options(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Json>> {
        Ok(counted(ctx, self.options.as_ref())?)
    }

    /// The names among `kpis` of which there is no KPI any more: nothing can be asked about them.
    async fn missing_kpis(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<&String>> {
        if self.kpis.is_empty() {
            return Ok(Vec::new());
        }
        let known = load_known::<KpiNames>(ctx, ()).await?;
        Ok(self.kpis.iter().filter(|name| !known.contains(*name)).collect())
    }
}

/// Loads the names of all KPIs.
struct KpiNames;

impl BatchLoad for KpiNames {
    type Key = ();
    type Value = Arc<BTreeSet<String>>;

    async fn load(tx: &TenantTx, _: &[()]) -> Result<HashMap<(), Self::Value>> {
        Ok(HashMap::from([((), Arc::new(definitions::list_names(tx).await?))]))
    }
}

/// Loads the tenant's organizations.
struct AllOrganizations;

impl BatchLoad for AllOrganizations {
    type Key = ();
    type Value = Arc<Vec<Organization>>;

    async fn load(tx: &TenantTx, _: &[()]) -> Result<HashMap<(), Self::Value>> {
        Ok(HashMap::from([((), Arc::new(list_organizations(tx).await?))]))
    }
}

impl From<widget::Widget> for Widget {
    fn from(widget: widget::Widget) -> Self {
        Widget {
            key: widget.key,
            kind: widget.kind,
            title: widget.title,
            metrics: widget.metrics,
            kpis: widget.kpis,
            layout: widget.layout,
            options: widget.options,
        }
    }
}

connection!(DashboardConnection, DashboardEdge, Dashboard, "dashboards");
