//! SQLite: makes the audit log append-only by triggers. On PostgreSQL the server lacks the privileges to change it.

use sea_orm_migration::prelude::*;

use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if sql::is_postgres(manager) {
            return Ok(());
        }
        for change in CHANGES {
            let trigger = format!(
                "CREATE TRIGGER audit_logs_{change} BEFORE {change} ON audit_logs \
                 BEGIN SELECT RAISE(ABORT, 'what is in the audit log stays'); END"
            );
            manager.get_connection().execute_unprepared(&trigger).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if sql::is_postgres(manager) {
            return Ok(());
        }
        for change in CHANGES {
            let drop = format!("DROP TRIGGER IF EXISTS audit_logs_{change}");
            manager.get_connection().execute_unprepared(&drop).await?;
        }
        Ok(())
    }
}

const CHANGES: [&str; 2] = ["update", "delete"];
