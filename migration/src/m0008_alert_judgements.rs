//! The expectation behind an alert that reports an anomaly.

use sea_orm_migration::prelude::*;

use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add: String =
            COLUMNS.iter().map(|name| format!("ALTER TABLE alert_events ADD COLUMN {name} INT;")).collect();
        sql::run(manager, &add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drops: String =
            COLUMNS.iter().map(|name| format!("ALTER TABLE alert_events DROP COLUMN {name};")).collect();
        sql::run(manager, &drops).await
    }
}

/// All or none are set in a row, in ten-thousandths: of the metric's unit, the score of a standard deviation.
const COLUMNS: [&str; 4] = ["expected", "expected_lower", "expected_upper", "score"];
