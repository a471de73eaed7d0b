//! What an alert's numbers mean, as of when it was reported: the rule may have been changed or deleted since, and so may
//! the formula of its KPI.

use sea_orm_migration::prelude::*;

use crate::row_security;
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, ADD).await?;
        row_security::with_all_rows(manager, &["alert_events", "alerts", "organizations"], FILL).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, DROP).await
    }
}

const ADD: &str = "
ALTER TABLE alert_events ADD COLUMN condition STRING;
ALTER TABLE alert_events ADD COLUMN unit STRING;
ALTER TABLE alert_events ADD COLUMN currency STRING
";

/// Alerts from before get what is certain: the condition of a rule that has not been changed since, the unit of a metric,
/// the currency of a tenant that has only one. The rest stays null.
const FILL: &str = "
UPDATE alert_events SET condition = (
    SELECT a.condition FROM alerts a
    WHERE a.tenant_id = alert_events.tenant_id AND a.id = alert_events.alert_id AND a.updated_at < alert_events.triggered_at);
UPDATE alert_events SET condition = 'ANOMALY' WHERE score IS NOT NULL;
UPDATE alert_events SET unit = CASE
    WHEN condition IN ('CHANGE_ABOVE', 'CHANGE_BELOW') OR metric IN ('CONVERSION_RATE', 'REFUND_RATE') THEN 'RATIO'
    WHEN metric IN ('TOTAL_REVENUE', 'GROSS_REVENUE', 'REFUNDS', 'DISCOUNTS', 'AVG_ORDER_VALUE', 'ORDER_VALUE_P50', 'ORDER_VALUE_P95') THEN 'MONEY'
    WHEN metric NOT LIKE 'kpi:%' THEN 'COUNT' END
    WHERE condition IS NOT NULL;
UPDATE alert_events SET currency = (
    SELECT MIN(o.currency) FROM organizations o WHERE o.tenant_id = alert_events.tenant_id HAVING COUNT(DISTINCT o.currency) = 1)
    WHERE unit = 'MONEY'
";

const DROP: &str = "
ALTER TABLE alert_events DROP COLUMN condition;
ALTER TABLE alert_events DROP COLUMN unit;
ALTER TABLE alert_events DROP COLUMN currency
";
