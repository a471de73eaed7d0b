//! Dashboards: pages of widgets, private to a user or shared with the tenant.

pub mod graphql;
pub mod input;
pub mod mutation;
mod store;
mod widget;

pub use widget::{Widget, WidgetKind, WidgetLayout};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::metrics::filter::MetricsFilters;

/// Grid columns of a new dashboard.
const COLUMNS: i32 = 12;

/// Validated content of a dashboard.
#[derive(Clone, Debug, PartialEq)]
pub struct DashboardContent {
    pub name: String,
    pub description: Option<String>,
    pub is_shared: bool,
    pub is_default: bool,
    pub columns: i32,
    pub filters: Option<MetricsFilters>,
    pub widgets: Vec<Widget>,
}

impl Default for DashboardContent {
    /// An empty, private dashboard.
    fn default() -> Self {
        DashboardContent {
            name: String::new(),
            description: None,
            is_shared: false,
            is_default: false,
            columns: COLUMNS,
            filters: None,
            widgets: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dashboard {
    pub id: Uuid,
    pub owner_id: Uuid,
    pub updated_at: Timestamp,
    pub content: DashboardContent,
}
