//! Inputs of predictions beyond the ledger.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, CALENDAR).await?;
        sql::run(manager, SENSITIVITY).await?;
        row_security::protect(manager, "calendar_events", "tenant_id", Rights::Change).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, "DROP TABLE IF EXISTS calendar_events; ALTER TABLE alerts DROP COLUMN sensitivity").await
    }
}

/// Unusual days: `days` has the first and last day of each occurrence.
const CALENDAR: &str = r#"
CREATE TABLE calendar_events (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, name STRING NOT NULL, days DOCUMENT NOT NULL,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
) TABLE_END
"#;

/// How many buckets an anomaly rule reports.
const SENSITIVITY: &str = "ALTER TABLE alerts ADD COLUMN sensitivity STRING NOT NULL DEFAULT 'MEDIUM'";
