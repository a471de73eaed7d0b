//! The watermark after each batch: the newest event time known, recorded with the batch. For earlier batches it is
//! unknown, and determined from the events.

use sea_orm_migration::prelude::*;

use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, "ALTER TABLE ledger_batches ADD COLUMN watermark INT").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, "ALTER TABLE ledger_batches DROP COLUMN watermark").await
    }
}
