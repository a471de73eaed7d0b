//! Widgets, as stored within their dashboard.

use async_graphql::{Enum, SimpleObject};
use serde::{Deserialize, Serialize};

use crate::metrics::catalog::Metric;

/// One tile of a dashboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Widget {
    #[serde(rename = "id")]
    pub key: String,
    pub kind: WidgetKind,
    pub title: String,
    pub metrics: Vec<Metric>,
    /// By name; any may have been deleted since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kpis: Vec<String>,
    pub layout: WidgetLayout,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Value>,
}

/// The kind of a widget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WidgetKind {
    /// A single number.
    Number,
    /// A line chart over time.
    Line,
    /// A bar chart.
    Bar,
    /// A table.
    Table,
    /// A list of alerts.
    Alerts,
}

/// A place and size on the grid, in columns and rows from the top left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct WidgetLayout {
    /// The first column, from 0.
    pub x: i32,
    /// The first row, from 0.
    pub y: i32,
    /// The width in columns.
    pub width: i32,
    /// The height in rows.
    pub height: i32,
}
