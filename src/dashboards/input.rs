//! Validation of dashboards.

use std::collections::BTreeSet;

use async_graphql::{InputObject, MaybeUndefined};

use super::graphql::DashboardSharing;
use super::{NewDashboard, Widget, WidgetKind, WidgetLayout};
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::graphql::scalars::Json;
use crate::graphql::text;
use crate::metrics::catalog::Metric;
use crate::metrics::filter::MetricsFilters;
use crate::metrics::kpis::definitions;

const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 2000;
const COLUMNS_MAX: i32 = 48;
const WIDGETS_MAX: usize = 50;
const WIDGET_KPIS_MAX: usize = 50;
const WIDGET_KEY_CHARS_MAX: usize = 100;
const ROWS_MAX: i32 = 10_000;
const OPTIONS_BYTES_MAX: usize = 4096;

/// The settings of a dashboard. What is omitted stays as it is, or for a new dashboard takes its default.
#[derive(InputObject)]
pub struct DashboardInput {
    /// Its name, 1 to 200 characters; required for a new dashboard.
    name: Option<String>,
    /// Its description; null for none.
    description: MaybeUndefined<String>,
    /// Who may see it; by default PRIVATE.
    sharing: Option<DashboardSharing>,
    /// Whether it opens first for its owner, in place of the former default; by default false.
    is_default: Option<bool>,
    /// Columns of the grid, 1 to 48; by default 12. All widgets must fit.
    columns: Option<i32>,
    /// The filters applied to all its widgets; null for none.
    filters: MaybeUndefined<MetricsFilters>,
    /// Its widgets, at most 50; they replace the ones before.
    widgets: Option<Vec<WidgetInput>>,
}

/// The settings of a widget.
#[derive(InputObject)]
struct WidgetInput {
    /// Identifies the widget within the dashboard, 1 to 100 characters.
    key: String,
    /// The kind of widget.
    kind: WidgetKind,
    /// Its title.
    title: String,
    /// The metrics it shows.
    #[graphql(default_with = "Some(Vec::new())")]
    metrics: Option<Vec<Metric>>,
    /// The names of the KPIs it shows, at most 50.
    #[graphql(default_with = "Some(Vec::new())")]
    kpis: Option<Vec<String>>,
    /// Its place and size on the grid.
    layout: WidgetLayoutInput,
    /// Further settings, at most 4096 bytes as JSON.
    options: Option<Json>,
}

/// A place and size on the grid.
#[derive(InputObject)]
struct WidgetLayoutInput {
    /// The first column, from 0.
    x: i32,
    /// The first row, from 0.
    y: i32,
    /// The width in columns, at least 1.
    width: i32,
    /// The height in rows, at least 1.
    height: i32,
}

impl DashboardInput {
    /// Applies the change to `old`. Error: BAD_USER_INPUT.
    pub fn change(self, old: NewDashboard) -> Result<NewDashboard> {
        let columns = self.columns.unwrap_or(old.columns);
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(Error::bad_input("columns", format!("must be from 1 to {COLUMNS_MAX}")));
        }
        if let MaybeUndefined::Value(filters) = &self.filters {
            filters.check()?;
            check_storable("filters", &serde_json::to_value(filters)?)?;
        }
        let widgets = match self.widgets {
            None => old.widgets,
            Some(widgets) if widgets.len() > WIDGETS_MAX => {
                return Err(Error::bad_input("widgets", format!("more than {WIDGETS_MAX} widgets")));
            }
            Some(widgets) => widgets.into_iter().map(WidgetInput::check).collect::<Result<Vec<_>>>()?,
        };
        widgets.iter().try_for_each(|widget| check_layout(&widget.layout, columns))?;
        let keys: BTreeSet<&str> = widgets.iter().map(|widget| widget.key.as_str()).collect();
        if keys.len() != widgets.len() {
            return Err(Error::bad_input("widgets", "two widgets have the same key"));
        }
        Ok(NewDashboard {
            name: match self.name {
                None if !old.name.is_empty() => old.name,
                name => text::name("name", &name.unwrap_or_default(), NAME_CHARS_MAX)?,
            },
            description: match self.description {
                MaybeUndefined::Undefined => old.description,
                MaybeUndefined::Null => None,
                MaybeUndefined::Value(text) => Some(text::prose("description", text, DESCRIPTION_CHARS_MAX)?),
            },
            is_shared: self.sharing.map_or(old.is_shared, |sharing| sharing == DashboardSharing::Tenant),
            is_default: self.is_default.unwrap_or(old.is_default),
            columns,
            filters: match self.filters {
                MaybeUndefined::Undefined => old.filters,
                MaybeUndefined::Null => None,
                MaybeUndefined::Value(filters) => Some(filters),
            },
            widgets,
        })
    }

    /// The entities that the input refers to; references that stay unchanged may have gone stale.
    pub fn named(&self) -> Named {
        let kpis = self.widgets.iter().flatten().flat_map(|widget| widget.kpis.iter().flatten().cloned());
        Named { filters: self.filters.value().cloned(), kpis: kpis.collect() }
    }
}

/// Entities that a dashboard refers to.
pub struct Named {
    filters: Option<MetricsFilters>,
    kpis: BTreeSet<String>,
}

impl Named {
    /// Checks that they exist, and gives `content` as it is to be stored. Error: NOT_FOUND.
    pub async fn check(&self, tx: &TenantTx, content: NewDashboard) -> Result<NewDashboard> {
        definitions::find(tx, &self.kpis).await?;
        match &self.filters {
            Some(filters) => Ok(NewDashboard { filters: Some(filters.to_be_stored(tx).await?), ..content }),
            None => Ok(content),
        }
    }
}

impl WidgetInput {
    fn check(self) -> Result<Widget> {
        let metrics = self.metrics.unwrap_or_default();
        if metrics.iter().collect::<BTreeSet<_>>().len() != metrics.len() {
            return Err(Error::bad_input("metrics", "a metric is there twice"));
        }
        let kpis = self.kpis.unwrap_or_default();
        if kpis.len() > WIDGET_KPIS_MAX {
            return Err(Error::bad_input("kpis", format!("more than {WIDGET_KPIS_MAX} KPIs")));
        }
        if kpis.iter().collect::<BTreeSet<_>>().len() != kpis.len() {
            return Err(Error::bad_input("kpis", "a KPI is there twice"));
        }
        let options = self.options.map(|Json(options)| options);
        if let Some(options) = &options {
            if options.to_string().len() > OPTIONS_BYTES_MAX {
                return Err(Error::bad_input("options", format!("more than {OPTIONS_BYTES_MAX} bytes as JSON")));
            }
            check_storable("options", options)?;
        }
        Ok(Widget {
            key: text::name("key", &self.key, WIDGET_KEY_CHARS_MAX)?,
            kind: self.kind,
            title: text::name("title", &self.title, NAME_CHARS_MAX)?,
            metrics,
            kpis,
            layout: self.layout.into(),
            options,
        })
    }
}

impl From<WidgetLayoutInput> for WidgetLayout {
    fn from(WidgetLayoutInput { x, y, width, height }: WidgetLayoutInput) -> Self {
        WidgetLayout { x, y, width, height }
    }
}

/// Error: BAD_USER_INPUT if it exceeds the grid.
fn check_layout(layout: &WidgetLayout, columns: i32) -> Result<()> {
    let fits = |from: i32, length: i32, max: i32| from >= 0 && length >= 1 && from <= max && length <= max - from;
    if !fits(layout.x, layout.width, columns) {
        return Err(Error::bad_input("layout", format!("must lie within the {columns} columns")));
    }
    if !fits(layout.y, layout.height, ROWS_MAX) {
        return Err(Error::bad_input("layout", format!("must lie within {ROWS_MAX} rows")));
    }
    Ok(())
}

/// PostgreSQL cannot store NUL in JSON.
fn check_storable(argument: &'static str, json: &serde_json::Value) -> Result<()> {
    if json.to_string().contains("\\u0000") {
        return Err(Error::bad_input(argument, "holds a NUL"));
    }
    Ok(())
}
