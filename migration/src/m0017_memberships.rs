//! When salespeople belonged to teams: since when members do, and from when to when those did who have left.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, UP).await?;
        row_security::protect(manager, "past_team_members", "tenant_id", Rights::Change).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, DOWN).await
    }
}

/// Until now a team's sales were those of its members at any time, so its members have belonged to it always.
const UP: &str = "
ALTER TABLE team_members ADD COLUMN joined_at INT NOT NULL DEFAULT 0;
CREATE TABLE past_team_members (
    tenant_id UUID NOT NULL, team_id UUID NOT NULL, user_id UUID NOT NULL, joined_at INT NOT NULL, left_at INT NOT NULL,
    PRIMARY KEY (tenant_id, team_id, user_id, joined_at),
    FOREIGN KEY (tenant_id, team_id) REFERENCES teams (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE INDEX past_team_members_by_user ON past_team_members (tenant_id, user_id)
";

const DOWN: &str = "
DROP TABLE past_team_members;
ALTER TABLE team_members DROP COLUMN joined_at
";
