//! What a rule watched when it reported an alert, from which an anomaly is explained: the rule may have been changed or
//! deleted since.

use sea_orm_migration::prelude::*;

use crate::row_security;
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, ADD).await?;
        row_security::with_all_rows(manager, &["alert_events", "alerts"], FILL).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, DROP).await
    }
}

const ADD: &str = "
ALTER TABLE alert_events ADD COLUMN window_minutes SMALL;
ALTER TABLE alert_events ADD COLUMN filters DOCUMENT
";

/// Alerts from before get what is certain: that of a rule that has not been changed since.
const FILL: &str = "
UPDATE alert_events SET (window_minutes, filters) = (
    SELECT a.window_minutes, a.filters FROM alerts a
    WHERE a.tenant_id = alert_events.tenant_id AND a.id = alert_events.alert_id AND a.updated_at < alert_events.triggered_at)
";

const DROP: &str = "
ALTER TABLE alert_events DROP COLUMN window_minutes;
ALTER TABLE alert_events DROP COLUMN filters
";
