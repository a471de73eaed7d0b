//! Webhook integrations: the senders' signing secrets, and authenticated requests that could not be processed. Also
//! recreates the index for looking up customers, as the newest of its table.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, UP).await?;
        if sql::is_postgres(manager) {
            sql::run(manager, NEWEST).await?;
        }
        row_security::protect(manager, "quarantine", "tenant_id", Rights::Change).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if sql::is_postgres(manager) {
            sql::run(manager, NO_LONGER_NEWEST).await?;
        }
        sql::run(manager, DOWN).await
    }
}

/// `secrets` and `body` are sealed, with the key of `key_version`; `fingerprint` is a keyed hash of the body.
const UP: &str = r#"
ALTER TABLE integrations ADD COLUMN secrets BYTES;
ALTER TABLE integrations ADD COLUMN key_version INT;
CREATE TABLE quarantine (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, integration_id UUID NOT NULL,
    delivery_id STRING NOT NULL, topic STRING NOT NULL, code STRING NOT NULL, reason STRING NOT NULL,
    body BYTES NOT NULL, fingerprint BYTES NOT NULL, key_version INT NOT NULL, happened_at INT NOT NULL, received_at INT NOT NULL, tried_at INT,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, integration_id, delivery_id, fingerprint),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integrations (tenant_id, id) ON DELETE CASCADE
) TABLE_END
"#;

const DOWN: &str = r#"
DROP TABLE IF EXISTS quarantine;
ALTER TABLE integrations DROP COLUMN key_version;
ALTER TABLE integrations DROP COLUMN secrets
"#;

/// Without statistics on a table, PostgreSQL estimates the same cost for all indexes that begin with the tenant, and
/// takes the newest: then every look-up of a customer would read all customers of the tenant.
const NEWEST: &str = r#"
CREATE UNIQUE INDEX customers_by_external_id ON customers (tenant_id, external_id);
ALTER TABLE customers DROP CONSTRAINT customers_tenant_id_external_id_key
"#;

const NO_LONGER_NEWEST: &str = r#"
ALTER TABLE customers ADD CONSTRAINT customers_tenant_id_external_id_key UNIQUE (tenant_id, external_id);
DROP INDEX customers_by_external_id
"#;
