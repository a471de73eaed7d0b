//! What a dashboard may be.

use std::collections::BTreeSet;

use async_graphql::InputObject;

use super::graphql::DashboardSharing;
use super::{NewDashboard, Widget, WidgetKind, WidgetLayout};
use crate::error::{Error, Result};
use crate::graphql::scalars::Json;
use crate::graphql::text;
use crate::metrics::catalog::Metric;
use crate::metrics::filter::MetricsFilters;

const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 2000;
const COLUMNS_MAX: i32 = 48;
const WIDGETS_MAX: usize = 50;
const WIDGET_KPIS_MAX: usize = 50;
const WIDGET_KEY_CHARS_MAX: usize = 100;
const ROWS_MAX: i32 = 10_000;
const OPTIONS_BYTES_MAX: usize = 4096;

/// The settings of a dashboard.
#[derive(InputObject)]
pub struct DashboardInput {
    /// Its name, 1 to 200 characters.
    name: String,
    /// Its description.
    description: Option<String>,
    /// Who may see it.
    #[graphql(default_with = "Some(DashboardSharing::Private)")]
    sharing: Option<DashboardSharing>,
    /// Whether it opens first for its owner, in place of the former default.
    #[graphql(default_with = "Some(false)")]
    is_default: Option<bool>,
    /// Columns of the grid, 1 to 48.
    #[graphql(default_with = "Some(12)")]
    columns: Option<i32>,
    /// The filters applied to all its widgets.
    filters: Option<MetricsFilters>,
    /// Its widgets, at most 50.
    #[graphql(default_with = "Some(Vec::new())")]
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
    /// Error: BAD_USER_INPUT.
    pub fn check(self) -> Result<NewDashboard> {
        let columns = self.columns.unwrap_or(12);
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(Error::bad_input("columns", format!("must be from 1 to {COLUMNS_MAX}")));
        }
        if let Some(filters) = &self.filters {
            filters.check()?;
            check_storable("filters", &serde_json::to_value(filters)?)?;
        }
        let widgets = self.widgets.unwrap_or_default();
        if widgets.len() > WIDGETS_MAX {
            return Err(Error::bad_input("widgets", format!("more than {WIDGETS_MAX} widgets")));
        }
        let widgets = widgets.into_iter().map(|widget| widget.check(columns)).collect::<Result<Vec<_>>>()?;
        let keys: BTreeSet<&str> = widgets.iter().map(|widget| widget.key.as_str()).collect();
        if keys.len() != widgets.len() {
            return Err(Error::bad_input("widgets", "two widgets have the same key"));
        }
        let description = self.description.map(|text| text::prose("description", text, DESCRIPTION_CHARS_MAX));
        Ok(NewDashboard {
            name: text::name("name", &self.name, NAME_CHARS_MAX)?,
            description: description.transpose()?,
            is_shared: self.sharing == Some(DashboardSharing::Tenant),
            is_default: self.is_default.unwrap_or(false),
            columns,
            filters: self.filters,
            widgets,
        })
    }
}

impl WidgetInput {
    fn check(self, columns: i32) -> Result<Widget> {
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
            layout: self.layout.check(columns)?,
            options,
        })
    }
}

impl WidgetLayoutInput {
    fn check(self, columns: i32) -> Result<WidgetLayout> {
        let WidgetLayoutInput { x, y, width, height } = self;
        let fits = |from: i32, length: i32, max: i32| from >= 0 && length >= 1 && from <= max && length <= max - from;
        if !fits(x, width, columns) {
            return Err(Error::bad_input("layout", format!("must lie within the {columns} columns")));
        }
        if !fits(y, height, ROWS_MAX) {
            return Err(Error::bad_input("layout", format!("must lie within {ROWS_MAX} rows")));
        }
        Ok(WidgetLayout { x, y, width, height })
    }
}

/// PostgreSQL stores no NUL in JSON.
fn check_storable(argument: &'static str, json: &serde_json::Value) -> Result<()> {
    if json.to_string().contains("\\u0000") {
        return Err(Error::bad_input(argument, "holds a NUL"));
    }
    Ok(())
}
