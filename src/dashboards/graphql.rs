//! `dashboard`, `dashboards` and their types.

use async_graphql::{ComplexObject, Context, Enum, ID, Object, SimpleObject};
use uuid::Uuid;

use super::widget::{self, WidgetKind, WidgetLayout};
use super::{Dashboard as StoredDashboard, store};
use crate::auth::Permission;
use crate::connection;
use crate::error::{Error, Result};
use crate::graphql::context::{Needs, caller, read};
use crate::graphql::loader::load_known;
use crate::graphql::page::Page;
use crate::graphql::scalars::{DateTime, Json};
use crate::metrics::catalog::Metric;
use crate::users::{User, UsersById};

#[derive(Default)]
pub struct DashboardQuery;

#[Object]
impl DashboardQuery {
    /// One dashboard that the user may see; null when there is none.
    #[graphql(guard = "Needs(Permission::SalesView)")]
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
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn dashboards(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most this many from the start, 0 to 100; 20 when neither `first` nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most this many from the end, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<DashboardConnection> {
        let page = Page::new(first, after, last, before)?;
        let rows = store::list_visible(read(ctx).await?.as_ref(), &page, caller(ctx)?.user_id).await?;
        let nodes = rows.into_iter().map(|(cursor, row)| Ok((cursor, row.try_into()?))).collect::<Result<_>>()?;
        Ok(DashboardConnection::new(&page, nodes))
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
    /// What it is about.
    description: Option<String>,
    #[graphql(skip)]
    owner_id: Uuid,
    /// Who may see it.
    sharing: DashboardSharing,
    /// Whether it opens first for its owner.
    is_default: bool,
    /// Columns of the grid that widgets lie on.
    columns: i32,
    /// Filters of all its widgets, as JSON of MetricsFilters.
    filters: Option<Json>,
    /// What it shows.
    widgets: Vec<Widget>,
    /// When it was last changed.
    updated_at: DateTime,
}

#[ComplexObject]
impl Dashboard {
    /// Whose it is.
    async fn owner(&self, ctx: &Context<'_>) -> async_graphql::Result<User> {
        Ok(load_known::<UsersById>(ctx, self.owner_id).await?)
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
            filters: content.filters.map(serde_json::to_value).transpose()?.map(Json),
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
struct Widget {
    /// Tells it from the other widgets of the dashboard.
    key: String,
    /// What it draws.
    kind: WidgetKind,
    /// Its heading.
    title: String,
    /// The metrics it shows.
    metrics: Vec<Metric>,
    /// The KPIs it shows, by name; one that was deleted since stays.
    kpis: Vec<String>,
    /// Where and how large it is on the grid.
    layout: WidgetLayout,
    /// Further settings, as JSON.
    options: Option<Json>,
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
            options: widget.options.map(Json),
        }
    }
}

connection!(DashboardConnection, DashboardEdge, Dashboard, "dashboards");
