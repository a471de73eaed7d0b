//! Sessions, keys and other credentials of people and programs.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, SIGN_IN).await?;
        for table in TABLES {
            row_security::protect(manager, table, "tenant_id", Rights::Change).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drops: String = TABLES.iter().rev().map(|table| format!("DROP TABLE IF EXISTS {table};")).collect();
        sql::run(manager, &drops).await
    }
}

const TABLES: [&str; 5] = ["sessions", "refresh_tokens", "mailed_tokens", "api_keys", "user_identities"];

/// Secrets are stored as hashes only (except that a pending mail still has its link in `deliveries`). The successor of
/// a refresh token is derived from it and `salt`. `refresh_tokens` has no foreign key to users: its sessions have.
const SIGN_IN: &str = r#"
CREATE TABLE sessions (
    tenant_id UUID NOT NULL, id UUID NOT NULL, user_id UUID NOT NULL, created_at INT NOT NULL, last_used_at INT NOT NULL,
    ends_at INT NOT NULL, revoked_at INT, address STRING, agent STRING,
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE INDEX sessions_by_user ON sessions (tenant_id, user_id, created_at);
CREATE INDEX sessions_by_end ON sessions (tenant_id, revoked_at);
CREATE TABLE refresh_tokens (
    tenant_id UUID NOT NULL, hash BYTES NOT NULL, session_id UUID NOT NULL, issued_at INT NOT NULL, used_at INT, salt BYTES NOT NULL,
    PRIMARY KEY (tenant_id, hash), FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id) ON DELETE CASCADE
) TABLE_END;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (tenant_id, session_id);
CREATE TABLE mailed_tokens (
    tenant_id UUID NOT NULL, hash BYTES NOT NULL, user_id UUID NOT NULL, purpose STRING NOT NULL, ends_at INT NOT NULL, used_at INT,
    PRIMARY KEY (tenant_id, hash), FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE INDEX mailed_tokens_by_user ON mailed_tokens (tenant_id, user_id);
CREATE TABLE api_keys (
    tenant_id UUID NOT NULL, id UUID NOT NULL, user_id UUID NOT NULL, name STRING NOT NULL, hash BYTES NOT NULL, hint STRING NOT NULL,
    permissions DOCUMENT NOT NULL, created_at INT NOT NULL, ends_at INT, revoked_at INT,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, hash), FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE TABLE user_identities (
    tenant_id UUID NOT NULL, issuer STRING NOT NULL, subject STRING NOT NULL, user_id UUID NOT NULL, created_at INT NOT NULL,
    PRIMARY KEY (tenant_id, issuer, subject), FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE INDEX user_identities_by_user ON user_identities (tenant_id, user_id)
"#;
