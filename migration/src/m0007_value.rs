//! Customer value: a model per tenant, and predictions for each customer.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, VALUE).await?;
        for table in TABLES {
            row_security::protect(manager, table, "tenant_id", Rights::Change).await?;
        }
        row_security::let_relay_see(manager, "customer_models", "tenant_id, position, fitted_at, claimed_until").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drops: String = TABLES.iter().rev().map(|table| format!("DROP TABLE IF EXISTS {table};")).collect();
        sql::run(manager, &drops).await
    }
}

const TABLES: [&str; 2] = ["customer_models", "customer_predictions"];

/// `fit_no` is the published fit, 0 before the first; `claimed_no` the last one begun. `fitted_at` and `position` are
/// of the last one that ended, even if there were no customers to fit to. In `customer_predictions` a fit's rows are
/// written before it is published and removed after the next one is; amounts are in the currency of the model, `churn`
/// is in millionths.
const VALUE: &str = r#"
CREATE TABLE customer_models (
    tenant_id UUID NOT NULL PRIMARY KEY REFERENCES tenants (id), fit_no INT NOT NULL, position INT, fitted_at INT,
    model DOCUMENT, retention DOCUMENT, claimed_no INT NOT NULL, claimed_until INT NOT NULL
) TABLE_END;
CREATE TABLE customer_predictions (
    tenant_id UUID NOT NULL, fit_no INT NOT NULL, customer_no INT NOT NULL,
    repeats INT NOT NULL, recency_days INT NOT NULL, age_days INT NOT NULL, repeat_amount INT NOT NULL, total_amount INT NOT NULL,
    recency SMALL NOT NULL, frequency SMALL NOT NULL, monetary SMALL NOT NULL, segment STRING NOT NULL,
    churn INT NOT NULL, lifetime_value INT NOT NULL,
    PRIMARY KEY (tenant_id, fit_no, customer_no)
) TABLE_END;
CREATE INDEX customer_predictions_by_churn ON customer_predictions (tenant_id, fit_no, churn DESC, customer_no);
CREATE INDEX customer_predictions_by_value ON customer_predictions (tenant_id, fit_no, lifetime_value DESC, customer_no)
"#;
