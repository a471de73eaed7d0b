//! KPIs: metrics that tenants define by formulas.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, KPIS).await?;
        row_security::protect(manager, "kpis", "tenant_id", Rights::Change).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, "DROP TABLE IF EXISTS kpis").await
    }
}

const KPIS: &str = r#"
CREATE TABLE kpis (
    tenant_id UUID NOT NULL REFERENCES tenants (id), name STRING NOT NULL, formula STRING NOT NULL, description STRING,
    format STRING NOT NULL, decimals SMALL NOT NULL, created_at INT NOT NULL, updated_at INT NOT NULL,
    PRIMARY KEY (tenant_id, name)
) TABLE_END
"#;
