//! More aggregation levels of days. They cannot be derived from existing rollups, so a database that contains sales of
//! an earlier version is rejected, and one with sales cannot go back behind it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::Statement;

use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if has_sales(manager).await? {
            let message = "this database was filled by a state of SalesPulse before its release; make it anew";
            return Err(DbErr::Custom(message.into()));
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if has_sales(manager).await? {
            let message = "this migration cannot be reverted in a database with sales";
            return Err(DbErr::Custom(message.into()));
        }
        Ok(())
    }
}

async fn has_sales(manager: &SchemaManager<'_>) -> Result<bool, DbErr> {
    // Row-level security hides rows from the owner, but not the table's size.
    let sql = if sql::is_postgres(manager) {
        "SELECT 1 WHERE pg_relation_size('sales_metrics') > 0"
    } else {
        "SELECT 1 FROM sales_metrics LIMIT 1"
    };
    let connection = manager.get_connection();
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    Ok(connection.query_one_raw(statement).await?.is_some())
}
