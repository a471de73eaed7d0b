//! The tables of the first version.

use sea_orm_migration::prelude::*;

use crate::row_security::{self, Rights};
use crate::{roles, sql};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        sql::run(manager, IDENTITY).await?;
        sql::run(manager, LEDGER).await?;
        sql::run(manager, if sql::is_postgres(manager) { ENTRIES_POSTGRES } else { ENTRIES_SQLITE }).await?;
        sql::run(manager, FACTS).await?;
        sql::run(manager, ROLLUPS).await?;
        if sql::is_postgres(manager) {
            sql::run(manager, ROLLUPS_POSTGRES).await?;
        }
        sql::run(manager, WORK).await?;
        if sql::is_postgres(manager) {
            wall_in(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drops: String = TABLES.iter().rev().map(|table| format!("DROP TABLE IF EXISTS {table};")).collect();
        sql::run(manager, &drops).await?;
        if sql::is_postgres(manager) {
            sql::run(manager, "DROP FUNCTION ledger_month(date)").await?;
        }
        Ok(())
    }
}

async fn wall_in(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    row_security::require_roles(manager).await?;
    for table in TABLES {
        let column = if table == "tenants" { "id" } else { "tenant_id" };
        let rights = if table == "audit_logs" { Rights::Append } else { Rights::Change };
        row_security::protect(manager, table, column, rights).await?;
    }
    for (table, columns) in [
        ("tenants", "id, slug, standing_epoch, standing_changed_at"),
        ("ledger_heads", "tenant_id, position, policy_epoch, last_alert_no, alerts_due_at"),
        ("deliveries", "tenant_id, id, next_at"),
    ] {
        row_security::let_relay_see(manager, table, columns).await?;
    }
    row_security::create_ledger_month(manager).await?;
    sql::run(manager, &format!("GRANT SELECT ON seaql_migrations TO {}", roles::APP)).await
}

/// Every table, in creation order.
const TABLES: [&str; 30] = [
    "tenants",
    "organizations",
    "users",
    "teams",
    "team_members",
    "ledger_heads",
    "ledger_batches",
    "ledger_events",
    "ledger_entries",
    "exchange_rates",
    "dimension_values",
    "customers",
    "products",
    "other_revenue",
    "orders",
    "order_lines",
    "refunds",
    "deals",
    "activities",
    "sales_metrics",
    "sales_metrics_base",
    "sales_performance",
    "quotas",
    "integrations",
    "data_sources",
    "dashboards",
    "alerts",
    "alert_events",
    "deliveries",
    "audit_logs",
];

const IDENTITY: &str = r#"
CREATE TABLE tenants (
    id UUID NOT NULL PRIMARY KEY, slug STRING NOT NULL UNIQUE, name STRING NOT NULL, created_at INT NOT NULL,
    standing_epoch INT NOT NULL DEFAULT 0, standing_changed_at INT NOT NULL DEFAULT 0
) TABLE_END;
CREATE INDEX tenants_by_standing ON tenants (standing_changed_at);
CREATE TABLE organizations (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL,
    org_no SMALL NOT NULL, slug STRING NOT NULL, name STRING NOT NULL, timezone STRING NOT NULL,
    currency STRING NOT NULL, is_default BOOL NOT NULL, created_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, slug), UNIQUE (tenant_id, org_no)
) TABLE_END;
CREATE TABLE users (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL,
    email STRING NOT NULL, name STRING NOT NULL, role STRING NOT NULL, is_active BOOL NOT NULL, created_at INT NOT NULL,
    password_hash STRING, tokens_from INT NOT NULL DEFAULT 0, invited_at INT,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email)
) TABLE_END;
CREATE TABLE teams (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, name STRING NOT NULL, created_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
) TABLE_END;
CREATE TABLE team_members (
    tenant_id UUID NOT NULL, team_id UUID NOT NULL, user_id UUID NOT NULL,
    PRIMARY KEY (tenant_id, team_id, user_id),
    FOREIGN KEY (tenant_id, team_id) REFERENCES teams (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE INDEX team_members_by_user ON team_members (tenant_id, user_id)
"#;

/// `ledger_heads` has the row that each write transaction locks: the newest position, the one up to which rollups are
/// the sums of entries (`folded`), the time of the newest event that counts (`watermark`), and the last numbers assigned.
const LEDGER: &str = r#"
CREATE TABLE ledger_heads (
    tenant_id UUID NOT NULL PRIMARY KEY REFERENCES tenants (id),
    position INT NOT NULL, watermark INT, policy_epoch INT NOT NULL,
    folded INT NOT NULL, largest_sum INT NOT NULL, tail_volume INT NOT NULL,
    last_customer_no INT NOT NULL, last_product_no INT NOT NULL, last_order_no INT NOT NULL, last_refund_no INT NOT NULL,
    last_dimension_no INT NOT NULL, last_alert_no INT NOT NULL, alerts_due_at INT, retained_from INT
) TABLE_END;
CREATE TABLE ledger_events (
    tenant_id UUID NOT NULL, event_id STRING NOT NULL, position INT NOT NULL, payload_hash BYTES NOT NULL,
    kind SMALL NOT NULL, is_superseded BOOL NOT NULL, occurred_at INT NOT NULL, received_at INT NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
) TABLE_END;
CREATE TABLE ledger_batches (
    tenant_id UUID NOT NULL REFERENCES tenants (id), last_position INT NOT NULL, recorded_at INT NOT NULL, is_backfill BOOL NOT NULL,
    PRIMARY KEY (tenant_id, last_position)
) TABLE_END;
CREATE INDEX ledger_batches_by_time ON ledger_batches (tenant_id, recorded_at);
CREATE INDEX ledger_heads_by_due ON ledger_heads (alerts_due_at);
CREATE TABLE exchange_rates (
    tenant_id UUID NOT NULL REFERENCES tenants (id), from_currency STRING NOT NULL, to_currency STRING NOT NULL,
    valid_from INT NOT NULL, rate INT NOT NULL,
    PRIMARY KEY (tenant_id, from_currency, to_currency, valid_from)
) TABLE_END
"#;

/// The ledger proper: signed, immutable entries. Rollups are sums of them.
const ENTRIES_POSTGRES: &str = r#"
CREATE TABLE ledger_entries (
    tenant_id UUID NOT NULL, position INT NOT NULL, entry_no SMALL NOT NULL, at INT NOT NULL,
    kind SMALL NOT NULL, sign SMALL NOT NULL, org_no SMALL NOT NULL,
    channel_no SMALL NOT NULL, region_no SMALL NOT NULL, segment SMALL NOT NULL, customer_no INT NOT NULL, order_no INT NOT NULL,
    currency STRING NOT NULL, amount_paid INT NOT NULL, amount INT NOT NULL, discount INT NOT NULL, units INT NOT NULL, lines STRING NOT NULL,
    PRIMARY KEY (tenant_id, position, entry_no, at)
) PARTITION BY RANGE (at);
CREATE INDEX ledger_entries_by_time ON ledger_entries (tenant_id, at)
"#;

const ENTRIES_SQLITE: &str = r#"
CREATE TABLE ledger_entries (
    tenant_id UUID NOT NULL, position INT NOT NULL, entry_no SMALL NOT NULL, at INT NOT NULL,
    kind SMALL NOT NULL, sign SMALL NOT NULL, org_no SMALL NOT NULL,
    channel_no SMALL NOT NULL, region_no SMALL NOT NULL, segment SMALL NOT NULL, customer_no INT NOT NULL, order_no INT NOT NULL,
    currency STRING NOT NULL, amount_paid INT NOT NULL, amount INT NOT NULL, discount INT NOT NULL, units INT NOT NULL, lines STRING NOT NULL,
    PRIMARY KEY (tenant_id, position, entry_no, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_entries_by_time ON ledger_entries (tenant_id, at)
"#;

/// The current state of the entities that entries refer to. `_no` are per-tenant sequence numbers; 0 stands for none.
/// Totals of customers and products are in the default organization's currency; `other_revenue` has the others.
const FACTS: &str = r#"
CREATE TABLE dimension_values (
    tenant_id UUID NOT NULL, kind SMALL NOT NULL, no SMALL NOT NULL, value STRING NOT NULL,
    PRIMARY KEY (tenant_id, kind, value), UNIQUE (tenant_id, kind, no)
) TABLE_END;
CREATE TABLE customers (
    tenant_id UUID NOT NULL, customer_no INT NOT NULL, external_id STRING NOT NULL, name STRING, email STRING,
    first_at INT, first_order_id STRING, last_at INT, orders_count INT NOT NULL, revenue INT NOT NULL,
    PRIMARY KEY (tenant_id, customer_no), UNIQUE (tenant_id, external_id)
) TABLE_END;
CREATE INDEX customers_by_revenue ON customers (tenant_id, revenue DESC, customer_no);
CREATE TABLE products (
    tenant_id UUID NOT NULL, product_no INT NOT NULL, sku STRING NOT NULL, title STRING, category_no SMALL NOT NULL,
    units INT NOT NULL, revenue INT NOT NULL, refunded INT NOT NULL, cost INT NOT NULL, revenue_with_cost INT NOT NULL,
    views INT NOT NULL, inventory INT,
    PRIMARY KEY (tenant_id, product_no), UNIQUE (tenant_id, sku)
) TABLE_END;
CREATE TABLE other_revenue (
    tenant_id UUID NOT NULL, holder SMALL NOT NULL, holder_no INT NOT NULL, currency STRING NOT NULL, amount INT NOT NULL,
    PRIMARY KEY (tenant_id, holder, holder_no, currency)
) TABLE_END;
CREATE TABLE orders (
    tenant_id UUID NOT NULL, order_no INT NOT NULL, external_id STRING NOT NULL, version INT NOT NULL,
    is_cancelled BOOL NOT NULL, org_no SMALL NOT NULL, placed_at INT NOT NULL, customer_no INT NOT NULL,
    channel_no SMALL NOT NULL, region_no SMALL NOT NULL, segment SMALL NOT NULL,
    currency STRING NOT NULL, rate INT NOT NULL, amount_paid INT NOT NULL, discount_paid INT NOT NULL, units INT NOT NULL,
    PRIMARY KEY (tenant_id, order_no), UNIQUE (tenant_id, external_id)
) TABLE_END;
CREATE INDEX orders_by_customer ON orders (tenant_id, customer_no, placed_at);
CREATE INDEX orders_by_time ON orders (tenant_id, placed_at, order_no);
CREATE TABLE order_lines (
    tenant_id UUID NOT NULL, order_no INT NOT NULL, line_no SMALL NOT NULL, product_no INT NOT NULL, category_no SMALL NOT NULL,
    quantity INT NOT NULL, amount_paid INT NOT NULL, discount_paid INT NOT NULL, cost_paid INT,
    PRIMARY KEY (tenant_id, order_no, line_no)
) TABLE_END;
CREATE TABLE refunds (
    tenant_id UUID NOT NULL, refund_no INT NOT NULL, external_id STRING NOT NULL, order_id STRING,
    org_no SMALL NOT NULL, issued_at INT NOT NULL, channel_no SMALL, region_no SMALL,
    currency STRING NOT NULL, rate INT NOT NULL, amount_paid INT NOT NULL, lines STRING NOT NULL,
    PRIMARY KEY (tenant_id, refund_no), UNIQUE (tenant_id, external_id)
) TABLE_END;
CREATE INDEX refunds_by_order ON refunds (tenant_id, order_id);
CREATE TABLE deals (
    tenant_id UUID NOT NULL, external_id STRING NOT NULL, version INT NOT NULL, owner_id UUID NOT NULL, org_no SMALL NOT NULL,
    is_won BOOL NOT NULL, closed_at INT NOT NULL, currency STRING NOT NULL, amount_paid INT NOT NULL, amount INT NOT NULL,
    PRIMARY KEY (tenant_id, external_id)
) TABLE_END;
CREATE INDEX deals_by_owner ON deals (tenant_id, owner_id, closed_at);
CREATE TABLE activities (
    tenant_id UUID NOT NULL, position INT NOT NULL, owner_id UUID NOT NULL, activity STRING NOT NULL,
    happened_at INT NOT NULL, count INT NOT NULL,
    PRIMARY KEY (tenant_id, position)
) TABLE_END;
CREATE INDEX activities_by_owner ON activities (tenant_id, owner_id, happened_at)
"#;

/// Sums of entries. `sales_metrics` has those of days: `level` says which dimensions a row is split by; the others are zero.
/// The sets hold what sums cannot express: distinct customers, distinct orders, order values. `sales_metrics_base`
/// has the 15-minute slots that days are made of, each with all its cells packed into one row.
const ROLLUPS: &str = r#"
CREATE TABLE sales_metrics (
    tenant_id UUID NOT NULL, level SMALL NOT NULL, org_no SMALL NOT NULL, slot SMALL NOT NULL,
    channel_no SMALL NOT NULL, region_no SMALL NOT NULL, segment SMALL NOT NULL, category_no SMALL NOT NULL, product_no INT NOT NULL,
    orders INT NOT NULL, gross INT NOT NULL, discount INT NOT NULL, units INT NOT NULL,
    refunds INT NOT NULL, refunds_by_order INT NOT NULL, visits INT NOT NULL,
    customer_set BYTES, order_set BYTES, order_values BYTES,
    PRIMARY KEY (tenant_id, level, org_no, slot, channel_no, region_no, segment, category_no, product_no)
) TABLE_END;
CREATE TABLE sales_metrics_base (
    tenant_id UUID NOT NULL, org_no SMALL NOT NULL, slot SMALL NOT NULL,
    orders BYTES NOT NULL, order_sets BYTES NOT NULL, lines BYTES NOT NULL, line_sets BYTES NOT NULL,
    PRIMARY KEY (tenant_id, org_no, slot)
) TABLE_END;
CREATE TABLE sales_performance (
    tenant_id UUID NOT NULL, owner_id UUID NOT NULL, org_no SMALL NOT NULL, slot SMALL NOT NULL,
    deals_won INT NOT NULL, deals_lost INT NOT NULL, revenue INT NOT NULL, activities INT NOT NULL,
    PRIMARY KEY (tenant_id, owner_id, org_no, slot)
) TABLE_END
"#;

/// Stores long sets out of line, so that reading sums touches few pages.
const ROLLUPS_POSTGRES: &str = r#"
ALTER TABLE sales_metrics SET (toast_tuple_target = 256, fillfactor = 80);
ALTER TABLE sales_metrics ALTER COLUMN customer_set SET STORAGE EXTERNAL;
ALTER TABLE sales_metrics ALTER COLUMN order_set SET STORAGE EXTERNAL;
ALTER TABLE sales_metrics ALTER COLUMN order_values SET STORAGE EXTERNAL;
ALTER TABLE sales_metrics_base SET (toast_tuple_target = 256, fillfactor = 80);
ALTER TABLE sales_metrics_base ALTER COLUMN orders SET STORAGE EXTERNAL;
ALTER TABLE sales_metrics_base ALTER COLUMN order_sets SET STORAGE EXTERNAL;
ALTER TABLE sales_metrics_base ALTER COLUMN lines SET STORAGE EXTERNAL;
ALTER TABLE sales_metrics_base ALTER COLUMN line_sets SET STORAGE EXTERNAL
"#;

const WORK: &str = r#"
CREATE TABLE quotas (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, user_id UUID, team_id UUID,
    start_day INT NOT NULL, end_day INT NOT NULL, amount INT NOT NULL,
    PRIMARY KEY (tenant_id, id), CHECK ((user_id IS NULL) <> (team_id IS NULL)),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id),
    FOREIGN KEY (tenant_id, team_id) REFERENCES teams (tenant_id, id) ON DELETE CASCADE
) TABLE_END;
CREATE INDEX quotas_by_user ON quotas (tenant_id, user_id, start_day);
CREATE INDEX quotas_by_team ON quotas (tenant_id, team_id, start_day);
CREATE TABLE integrations (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, kind STRING NOT NULL, name STRING NOT NULL,
    settings DOCUMENT NOT NULL, is_enabled BOOL NOT NULL, created_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
) TABLE_END;
CREATE TABLE data_sources (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, integration_id UUID, kind STRING NOT NULL, name STRING NOT NULL,
    last_sync_at INT, created_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integrations (tenant_id, id)
) TABLE_END;
CREATE TABLE dashboards (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, owner_id UUID NOT NULL, name STRING NOT NULL, description STRING,
    is_shared BOOL NOT NULL, is_default BOOL NOT NULL, columns SMALL NOT NULL, filters DOCUMENT, widgets DOCUMENT NOT NULL,
    created_at INT NOT NULL, updated_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, owner_id) REFERENCES users (tenant_id, id)
) TABLE_END;
CREATE INDEX dashboards_by_owner ON dashboards (tenant_id, owner_id);
CREATE TABLE alerts (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, name STRING NOT NULL, metric STRING NOT NULL, condition STRING NOT NULL,
    threshold INT NOT NULL, clear_threshold INT, window_minutes SMALL NOT NULL, for_minutes SMALL NOT NULL, counts_open BOOL NOT NULL,
    every_minutes SMALL, filters DOCUMENT, recipients DOCUMENT, is_enabled BOOL NOT NULL,
    state STRING NOT NULL, evaluated_to INT NOT NULL, holds_since INT, cause_start INT, cause_end INT, fired_at INT,
    created_at INT NOT NULL, updated_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) TABLE_END;
CREATE TABLE alert_events (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, alert_no INT NOT NULL, alert_id UUID NOT NULL, name STRING NOT NULL, metric STRING NOT NULL,
    state STRING NOT NULL, value INT, threshold INT NOT NULL, position INT NOT NULL, triggered_at INT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) TABLE_END;
CREATE UNIQUE INDEX alert_events_by_no ON alert_events (tenant_id, alert_no);
CREATE INDEX alert_events_by_rule ON alert_events (tenant_id, alert_id, id);
CREATE TABLE deliveries (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, alert_no INT, channel STRING NOT NULL, target STRING NOT NULL,
    secret STRING, subject STRING NOT NULL, text STRING NOT NULL, body STRING NOT NULL, state STRING NOT NULL, attempts SMALL NOT NULL,
    next_at INT, last_error STRING, created_at INT NOT NULL, delivered_at INT,
    PRIMARY KEY (tenant_id, id)
) TABLE_END;
CREATE INDEX deliveries_by_due ON deliveries (next_at);
CREATE TABLE audit_logs (
    tenant_id UUID NOT NULL REFERENCES tenants (id), id UUID NOT NULL, actor_id UUID, at INT NOT NULL, action STRING NOT NULL, subject STRING NOT NULL,
    before DOCUMENT, after DOCUMENT, through STRING, through_id UUID, address STRING,
    PRIMARY KEY (tenant_id, id)
) TABLE_END;
CREATE INDEX audit_logs_by_actor ON audit_logs (tenant_id, actor_id, id);
CREATE INDEX audit_logs_by_action ON audit_logs (tenant_id, action, id);
CREATE INDEX audit_logs_by_subject ON audit_logs (tenant_id, subject, id)
"#;
