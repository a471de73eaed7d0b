//! Roles and their permissions.

use async_graphql::Enum;
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};

use crate::db::get;
use crate::error::{Error, Result};

/// A permission of a user or an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enum, Serialize, Deserialize)]
pub enum Permission {
    /// Read sales and metrics (sales.view).
    #[serde(rename = "sales.view")]
    SalesView,
    /// Record and change sales (sales.edit).
    #[serde(rename = "sales.edit")]
    SalesEdit,
    /// Alerts and advanced analytics (analytics.advanced).
    #[serde(rename = "analytics.advanced")]
    AnalyticsAdvanced,
    /// Manage users, teams, organizations, quotas; read the audit log (users.manage).
    #[serde(rename = "users.manage")]
    UsersManage,
    /// Manage integrations and API keys, see data sources (integrations.manage).
    #[serde(rename = "integrations.manage")]
    IntegrationsManage,
    /// Reserved for exports of reports; nothing needs it yet (reports.export).
    #[serde(rename = "reports.export")]
    ReportsExport,
    /// See customers' personal data, and find customers by it (personal.view).
    #[serde(rename = "personal.view")]
    PersonalView,
    /// Export and erase customers, rotate the keys that encrypt their data (personal.manage).
    #[serde(rename = "personal.manage")]
    PersonalManage,
}

/// A user's role in a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// All permissions.
    Admin,
    /// SALES_VIEW, SALES_EDIT, ANALYTICS_ADVANCED, REPORTS_EXPORT and PERSONAL_VIEW: everything but managing users, teams, organizations, quotas, integrations and personal data.
    Manager,
    /// SALES_VIEW, ANALYTICS_ADVANCED and REPORTS_EXPORT: reads and analyses, without customers' personal data.
    Analyst,
    /// SALES_VIEW: reads, without customers' personal data.
    Viewer,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Admin, Role::Manager, Role::Analyst, Role::Viewer];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Manager => "manager",
            Role::Analyst => "analyst",
            Role::Viewer => "viewer",
        }
    }

    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The role in column `index`.
    pub fn get(row: &QueryResult, index: usize) -> Result<Role> {
        let name: String = get(row, index)?;
        Role::parse(&name).ok_or_else(|| Error::internal("a user with an unknown role"))
    }

    pub fn permissions(self) -> &'static [Permission] {
        use Permission::{
            AnalyticsAdvanced, IntegrationsManage, PersonalManage, PersonalView, ReportsExport, SalesEdit, SalesView,
            UsersManage,
        };
        match self {
            Role::Admin => &[
                SalesView,
                SalesEdit,
                AnalyticsAdvanced,
                UsersManage,
                IntegrationsManage,
                ReportsExport,
                PersonalView,
                PersonalManage,
            ],
            Role::Manager => &[SalesView, SalesEdit, AnalyticsAdvanced, ReportsExport, PersonalView],
            Role::Analyst => &[SalesView, AnalyticsAdvanced, ReportsExport],
            Role::Viewer => &[SalesView],
        }
    }
}
