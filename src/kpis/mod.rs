//! KPI definitions of tenants. Their values are computed by `metrics::kpis`, wherever metrics are.

pub mod graphql;
pub mod mutation;
mod save;
mod store;

use async_graphql::Enum;

use crate::clock::Timestamp;

/// How a KPI should be displayed; its values are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KpiFormat {
    /// As a plain number.
    Plain,
    /// As a percentage: 0.05 as 5%.
    Percent,
}

/// A KPI as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Kpi {
    pub name: String,
    pub formula: String,
    pub description: Option<String>,
    pub format: KpiFormat,
    pub decimals: i32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
