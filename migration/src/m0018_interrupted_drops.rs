//! The function that creates a month's partition replaces a table that an interrupted retention left behind.

use sea_orm_migration::prelude::*;

use crate::row_security;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        row_security::create_ledger_month(manager).await
    }

    /// The function stays: it does for the earlier schema what it did.
    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}
