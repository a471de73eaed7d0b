//! Tenant-owned entities and their tenant columns.

use super::TenantEntity;

macro_rules! tenant_entities {
    ($($table:ident),* $(,)?) => {
        $(impl TenantEntity for entity::$table::Entity {
            const TENANT: Self::Column = entity::$table::Column::TenantId;
        })*
    };
}

tenant_entities!(audit_logs, dashboards, data_sources, organizations, quotas, teams, users);
