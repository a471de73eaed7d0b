//! Integrations that receive: the secrets their senders sign with, and what was signed and not understood.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, UP).await?;
        row_security::protect(manager, "quarantine", "tenant_id", Rights::Change).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
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
