//! Sealed personal data of customers, and the tenants' wrapped keys.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, UP).await?;
        row_security::protect(manager, "tenant_keys", "tenant_id", Rights::Change).await?;
        row_security::let_relay_see(manager, "tenant_keys", "tenant_id, version, kek, from_position, retired_at").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, DOWN).await
    }
}

/// `tenant_keys` has the data keys, from version 1, of which the one without `retired_at` seals, and as version 0 the
/// index key. `kek` is the prefix of `wrapped`: the wrapping key. `from_position` is the ledger position when the key
/// was created, which bounds what it has sealed. Plaintext in `customers` is dropped.
///
/// `customers.key_version` is the oldest data key used in a row. No row has an older one than
/// `ledger_heads.oldest_key`.
const UP: &str = "
CREATE TABLE tenant_keys (
    tenant_id UUID NOT NULL REFERENCES tenants (id), version INT NOT NULL, kek STRING NOT NULL, wrapped STRING NOT NULL,
    from_position INT NOT NULL, created_at INT NOT NULL, retired_at INT,
    PRIMARY KEY (tenant_id, version)
) TABLE_END;
ALTER TABLE tenants ADD COLUMN erased_at INT;
ALTER TABLE ledger_heads ADD COLUMN oldest_key INT NOT NULL DEFAULT 0;
ALTER TABLE ledger_heads ADD COLUMN erased_customers INT NOT NULL DEFAULT 0;
ALTER TABLE customers DROP COLUMN name;
ALTER TABLE customers DROP COLUMN email;
ALTER TABLE customers ADD COLUMN name BYTES;
ALTER TABLE customers ADD COLUMN email BYTES;
ALTER TABLE customers ADD COLUMN phone BYTES;
ALTER TABLE customers ADD COLUMN address BYTES;
ALTER TABLE customers ADD COLUMN email_index BYTES;
ALTER TABLE customers ADD COLUMN phone_index BYTES;
ALTER TABLE customers ADD COLUMN key_version INT;
ALTER TABLE customers ADD COLUMN erased_at INT;
CREATE INDEX customers_by_email ON customers (tenant_id, email_index);
CREATE INDEX customers_by_phone ON customers (tenant_id, phone_index);
CREATE INDEX customers_by_key ON customers (tenant_id, key_version, customer_no)
";

const DOWN: &str = "
DROP INDEX customers_by_key;
DROP INDEX customers_by_phone;
DROP INDEX customers_by_email;
ALTER TABLE customers DROP COLUMN erased_at;
ALTER TABLE customers DROP COLUMN key_version;
ALTER TABLE customers DROP COLUMN phone_index;
ALTER TABLE customers DROP COLUMN email_index;
ALTER TABLE customers DROP COLUMN address;
ALTER TABLE customers DROP COLUMN phone;
ALTER TABLE customers DROP COLUMN email;
ALTER TABLE customers DROP COLUMN name;
ALTER TABLE customers ADD COLUMN name STRING;
ALTER TABLE customers ADD COLUMN email STRING;
ALTER TABLE ledger_heads DROP COLUMN erased_customers;
ALTER TABLE ledger_heads DROP COLUMN oldest_key;
ALTER TABLE tenants DROP COLUMN erased_at;
DROP TABLE tenant_keys
";
