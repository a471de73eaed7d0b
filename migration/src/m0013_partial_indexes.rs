//! Partial indexes on the optional look-up columns of customers. They are small where few customers have a value, and
//! without statistics on the table PostgreSQL would scan all of the tenant through one to find a customer by id.

use sea_orm_migration::prelude::*;

use crate::sql;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, DOWN).await
    }
}

const UP: &str = "
DROP INDEX customers_by_email;
DROP INDEX customers_by_phone;
DROP INDEX customers_by_key;
CREATE INDEX customers_by_email ON customers (tenant_id, email_index) WHERE email_index IS NOT NULL;
CREATE INDEX customers_by_phone ON customers (tenant_id, phone_index) WHERE phone_index IS NOT NULL;
CREATE INDEX customers_by_key ON customers (tenant_id, key_version, customer_no) WHERE key_version IS NOT NULL
";

const DOWN: &str = "
DROP INDEX customers_by_email;
DROP INDEX customers_by_phone;
DROP INDEX customers_by_key;
CREATE INDEX customers_by_email ON customers (tenant_id, email_index);
CREATE INDEX customers_by_phone ON customers (tenant_id, phone_index);
CREATE INDEX customers_by_key ON customers (tenant_id, key_version, customer_no)
";
