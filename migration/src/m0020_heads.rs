//! The server may see up to where all tenants' rollups are, and what else answers from memory need of a head.

use sea_orm_migration::prelude::*;

use crate::{roles, sql};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !sql::is_postgres(manager) {
            return Ok(());
        }
        sql::run(manager, &format!("GRANT SELECT ({COLUMNS}) ON ledger_heads TO {}", roles::RELAY)).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !sql::is_postgres(manager) {
            return Ok(());
        }
        sql::run(manager, &format!("REVOKE SELECT ({COLUMNS}) ON ledger_heads FROM {}", roles::RELAY)).await
    }
}

const COLUMNS: &str = "folded, watermark, retained_from, last_product_no, last_dimension_no";
