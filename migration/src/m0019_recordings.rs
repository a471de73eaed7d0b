//! Who recorded which events: a log that is only appended to, like the audit log; and which event brought an order.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, UP).await?;
        if !sql::is_postgres(manager) {
            for change in ["update", "delete"] {
                let trigger = format!(
                    "CREATE TRIGGER ledger_recordings_{change} BEFORE {change} ON ledger_recordings \
                     BEGIN SELECT RAISE(ABORT, 'who recorded something stays'); END"
                );
                manager.get_connection().execute_unprepared(&trigger).await?;
            }
        }
        row_security::protect(manager, "ledger_recordings", "tenant_id", Rights::Append).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, DOWN).await
    }
}

/// Of what was recorded before, neither is known.
const UP: &str = "
CREATE TABLE ledger_recordings (
    tenant_id UUID NOT NULL, first_position INT NOT NULL, last_position INT NOT NULL, recorded_at INT NOT NULL,
    actor_id UUID, through STRING, through_id UUID, address STRING,
    PRIMARY KEY (tenant_id, last_position)
) TABLE_END;
CREATE INDEX ledger_recordings_by_time ON ledger_recordings (tenant_id, recorded_at, last_position);
CREATE INDEX ledger_recordings_by_actor ON ledger_recordings (tenant_id, actor_id, recorded_at, last_position)
    WHERE actor_id IS NOT NULL;
CREATE INDEX ledger_recordings_by_means ON ledger_recordings (tenant_id, through_id, recorded_at, last_position)
    WHERE through_id IS NOT NULL;
ALTER TABLE orders ADD COLUMN position INT
";

const DOWN: &str = "
DROP TABLE ledger_recordings;
ALTER TABLE orders DROP COLUMN position
";
