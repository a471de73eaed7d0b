//! When an order was cancelled, instead of whether. Earlier cancellations are dated to when the order was placed:
//! treating such orders as never known changes no published result.

use sea_orm_migration::prelude::*;

use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, if sql::is_postgres(manager) { UP_POSTGRES } else { UP_SQLITE }).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, if sql::is_postgres(manager) { DOWN_POSTGRES } else { DOWN_SQLITE }).await
    }
}

/// Row-level security would hide the rows from an UPDATE by the owner, but not from this.
const UP_POSTGRES: &str = "
ALTER TABLE orders ALTER COLUMN is_cancelled DROP NOT NULL;
ALTER TABLE orders ALTER COLUMN is_cancelled TYPE INT USING CASE WHEN is_cancelled THEN placed_at END;
ALTER TABLE orders RENAME COLUMN is_cancelled TO cancelled_at
";

const DOWN_POSTGRES: &str = "
ALTER TABLE orders RENAME COLUMN cancelled_at TO is_cancelled;
ALTER TABLE orders ALTER COLUMN is_cancelled TYPE BOOL USING is_cancelled IS NOT NULL;
ALTER TABLE orders ALTER COLUMN is_cancelled SET NOT NULL
";

const UP_SQLITE: &str = "
ALTER TABLE orders ADD COLUMN cancelled_at INT;
UPDATE orders SET cancelled_at = placed_at WHERE is_cancelled;
ALTER TABLE orders DROP COLUMN is_cancelled
";

const DOWN_SQLITE: &str = "
ALTER TABLE orders ADD COLUMN is_cancelled BOOL NOT NULL DEFAULT 0;
UPDATE orders SET is_cancelled = cancelled_at IS NOT NULL;
ALTER TABLE orders DROP COLUMN cancelled_at
";
