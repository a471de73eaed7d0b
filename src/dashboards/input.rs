//! Validation of dashboards.

use std::collections::BTreeSet;

use async_graphql::{InputObject, MaybeUndefined};
use serde_json::Value;

use super::graphql::DashboardSharing;
use super::{DashboardContent, Widget, WidgetKind, WidgetLayout};
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::graphql::given::{cleared, given};
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

/// The settings of a new dashboard.
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
    /// Columns of the grid, 1 to 48. All widgets must fit.
    #[graphql(default_with = "Some(12)")]
    columns: Option<i32>,
    /// The filters applied to all its widgets, at most 16384 bytes as JSON.
    filters: Option<MetricsFilters>,
    /// Its widgets, at most 50.
    #[graphql(default_with = "Some(Vec::new())")]
    widgets: Option<Vec<WidgetInput>>,
}

impl DashboardInput {
    /// The same as changes of a dashboard that has nothing yet.
    pub fn into_changes(self) -> DashboardChanges {
        fn of<T>(value: Option<T>) -> MaybeUndefined<T> {
            value.map_or(MaybeUndefined::Undefined, MaybeUndefined::Value)
        }
        DashboardChanges {
            name: MaybeUndefined::Value(self.name),
            description: of(self.description),
            sharing: of(self.sharing),
            is_default: of(self.is_default),
            columns: of(self.columns),
            filters: of(self.filters),
            widgets: of(self.widgets),
        }
    }
}

/// Changes of a dashboard. What is omitted stays as it is.
#[derive(InputObject)]
pub struct DashboardChanges {
    /// Its name, 1 to 200 characters.
    name: MaybeUndefined<String>,
    /// Its description; null for none.
    description: MaybeUndefined<String>,
    /// Who may see it.
    sharing: MaybeUndefined<DashboardSharing>,
    /// Whether it opens first for its owner, in place of the former default.
    is_default: MaybeUndefined<bool>,
    /// Columns of the grid, 1 to 48. All widgets must fit.
    columns: MaybeUndefined<i32>,
    /// The filters applied to all its widgets, at most 16384 bytes as JSON; null for none.
    filters: MaybeUndefined<MetricsFilters>,
    /// Its widgets, at most 50; they replace the ones before.
    widgets: MaybeUndefined<Vec<WidgetInput>>,
}

/// The settings of a widget.
#[derive(InputObject)]
struct WidgetInput {
    /// Identifies the widget within the dashboard, 1 to 100 characters.
    key: String,
    /// The kind of widget.
    kind: WidgetKind,
    /// Its title, 1 to 200 characters.
    title: String,
    /// The metrics it shows, each once.
    #[graphql(default_with = "Some(Vec::new())")]
    metrics: Option<Vec<Metric>>,
    /// The names of the KPIs it shows, at most 50, each once.
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
    /// The first row, from 0; a dashboard has at most 10000.
    y: i32,
    /// The width in columns, at least 1.
    width: i32,
    /// The height in rows, at least 1.
    height: i32,
}

impl DashboardChanges {
    /// Error: BAD_USER_INPUT.
    pub fn apply(self, old: DashboardContent) -> Result<DashboardContent> {
        let columns = given("columns", self.columns)?.unwrap_or(old.columns);
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(Error::bad_input("columns", format!("must be from 1 to {COLUMNS_MAX}")));
        }
        if let MaybeUndefined::Value(filters) = &self.filters {
            filters.check_stored()?;
        }
        let widgets = match given("widgets", self.widgets)? {
            Some(widgets) => check_widgets(widgets, columns)?,
            None if old.widgets.iter().any(|widget| check_layout(&widget.layout, columns).is_err()) => {
                return Err(Error::bad_input("columns", "the widgets would not fit"));
            }
            None => old.widgets,
        };
        Ok(DashboardContent {
            name: text::name("name", &given("name", self.name)?.unwrap_or(old.name), NAME_CHARS_MAX)?,
            description: cleared(self.description, old.description)
                .map(|text| text::prose("description", text, DESCRIPTION_CHARS_MAX))
                .transpose()?,
            is_shared: given("sharing", self.sharing)?
                .map_or(old.is_shared, |sharing| sharing == DashboardSharing::Tenant),
            is_default: given("isDefault", self.is_default)?.unwrap_or(old.is_default),
            columns,
            filters: cleared(self.filters, old.filters),
            widgets,
        })
    }

    /// The entities that the input refers to and `old` did not; what is gone may stay.
    pub fn named(&self, old: &DashboardContent) -> Named {
        let mut kpis = Vec::new();
        let before: BTreeSet<&String> = old.widgets.iter().flat_map(|widget| &widget.kpis).collect();
        let is_new = |name: &String| !before.contains(name);
        for (index, widget) in self.widgets.value().into_iter().flatten().enumerate() {
            let names = widget.kpis.iter().flatten().enumerate();
            kpis.extend(names.filter(|(_, name)| is_new(name)).map(|(place, name)| (index, place, name.clone())));
        }
        let organization_of = |filters: &MetricsFilters| filters.organization_id.clone();
        let before = old.filters.as_ref().and_then(organization_of);
        let filters = self.filters.value().filter(|filters| organization_of(filters) != before);
        Named { filters: filters.cloned(), kpis }
    }
}

/// Entities that a dashboard is to refer to.
pub struct Named {
    /// With another organization than before.
    filters: Option<MetricsFilters>,
    /// By the index of the widget, and the index within its list.
    kpis: Vec<(usize, usize, String)>,
}

impl Named {
    /// Checks that they exist, and gives `content` as it is to be stored. Error: NOT_FOUND.
    pub async fn check(&self, tx: &TenantTx, content: DashboardContent) -> Result<DashboardContent> {
        let known = if self.kpis.is_empty() { BTreeSet::new() } else { definitions::list_names(tx).await? };
        if let Some((widget, place, _)) = self.kpis.iter().find(|(_, _, name)| !known.contains(name)) {
            return Err(Error::not_found("KPI").of_element("kpis", *place).of_element("widgets", *widget));
        }
        match &self.filters {
            Some(filters) => Ok(DashboardContent { filters: Some(filters.to_be_stored(tx).await?), ..content }),
            None => Ok(content),
        }
    }
}

fn has_nul(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Error: BAD_USER_INPUT.
fn check_widgets(inputs: Vec<WidgetInput>, columns: i32) -> Result<Vec<Widget>> {
    if inputs.len() > WIDGETS_MAX {
        return Err(Error::bad_input("widgets", format!("more than {WIDGETS_MAX} widgets")));
    }
    let mut widgets: Vec<Widget> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let of_widget = |error: Error| error.of_element("widgets", index);
        let widget = input.check(columns).map_err(of_widget)?;
        if widgets.iter().any(|other| other.key == widget.key) {
            return Err(of_widget(Error::bad_input("key", "another widget has this key")));
        }
        widgets.push(widget);
    }
    Ok(widgets)
}

impl WidgetInput {
    fn check(self, columns: i32) -> Result<Widget> {
        let metrics = self.metrics.unwrap_or_default();
        if metrics.iter().collect::<BTreeSet<_>>().len() != metrics.len() {
            return Err(Error::bad_input("metrics", "a metric is listed twice"));
        }
        let kpis = self.kpis.unwrap_or_default();
        if kpis.len() > WIDGET_KPIS_MAX {
            return Err(Error::bad_input("kpis", format!("more than {WIDGET_KPIS_MAX} KPIs")));
        }
        if kpis.iter().collect::<BTreeSet<_>>().len() != kpis.len() {
            return Err(Error::bad_input("kpis", "a KPI is listed twice"));
        }
        let options = self.options.map(|Json(options)| options);
        if let Some(options) = &options {
            if options.to_string().len() > OPTIONS_BYTES_MAX {
                return Err(Error::bad_input("options", format!("more than {OPTIONS_BYTES_MAX} bytes as JSON")));
            }
            // PostgreSQL cannot store NUL in JSON.
            if has_nul(options) {
                return Err(Error::bad_input("options", "contains a NUL"));
            }
        }
        let layout = self.layout.into();
        check_layout(&layout, columns)?;
        Ok(Widget {
            key: text::name("key", &self.key, WIDGET_KEY_CHARS_MAX)?,
            kind: self.kind,
            title: text::name("title", &self.title, NAME_CHARS_MAX)?,
            metrics,
            kpis,
            layout,
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
