//! The newest time of events that was known after a batch, noted with it. Of batches before it is not known, and looked for
//! among the events.

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
