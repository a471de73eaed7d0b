use sea_orm::DatabaseBackend::{Postgres, Sqlite};
use uuid::Uuid;

use super::*;

fn places(sql: &str) -> Vec<usize> {
    tenant_places(Postgres, sql).unwrap_or_else(|why| panic!("{why}: {sql}"))
}

#[test]
fn statements_whose_tables_are_all_narrowed_pass() {
    for sql in [
        "SELECT 1",
        "SELECT sku FROM products WHERE tenant_id = $1 AND (sku = $2 OR title = $2)",
        "SELECT k.key FROM tenants t LEFT JOIN tenant_keys k ON k.tenant_id = t.id WHERE t.id = $1",
        "SELECT o.id FROM unnest($2::bigint[]) AS k(no) JOIN orders o ON o.tenant_id = $1 AND o.order_no = k.no",
        "SELECT (SELECT c.name FROM customers c WHERE c.tenant_id = o.tenant_id AND c.no = o.customer_no) \
         FROM orders o WHERE o.tenant_id = $1 ORDER BY (SELECT count(*) FROM refunds r WHERE r.tenant_id = $1)",
        "SELECT a.id FROM teams a JOIN LATERAL (SELECT * FROM team_members m WHERE m.tenant_id = a.tenant_id LIMIT 1) b \
         ON true WHERE a.tenant_id = $1",
        "WITH sold AS (SELECT no FROM orders WHERE tenant_id = $1) SELECT s.no FROM sold s, products p WHERE p.tenant_id = $1",
        "SELECT 1 FROM orders WHERE tenant_id = $1 UNION ALL SELECT 2 FROM refunds WHERE $1 = tenant_id",
        "INSERT INTO kpis (tenant_id, name) VALUES ($1, $2) ON CONFLICT (tenant_id, name) DO UPDATE SET name = excluded.name",
        "INSERT INTO kpis (name, tenant_id) SELECT k.name, CAST($1 AS uuid) FROM unnest($2::text[]) AS k(name) WHERE true",
        "UPDATE orders o SET is_first = false FROM customers c WHERE o.tenant_id = $1 AND c.tenant_id = o.tenant_id",
        "DELETE FROM teams WHERE tenant_id = $1 AND id IN (SELECT team_id FROM team_members WHERE tenant_id = $1) RETURNING id",
        "WITH gone AS (DELETE FROM kpis WHERE tenant_id = $1 RETURNING name) SELECT name FROM gone",
        "SELECT position FROM ledger_heads WHERE tenant_id = $1 FOR NO KEY UPDATE",
        "SAVEPOINT measured",
    ] {
        assert!(places(sql).iter().all(|place| *place == 0), "{sql}");
    }
    // What sea-orm writes for SQLite, and our joins there.
    let sql = r#"UPDATE "teams" SET "name" = ? WHERE "teams"."tenant_id" = ? AND "teams"."id" = ?"#;
    assert_eq!(tenant_places(Sqlite, sql), Ok(vec![1]));
    let sql =
        "SELECT l.no FROM (SELECT value ->> 0 AS no FROM json_each($2)) AS k CROSS JOIN lines l ON l.tenant_id = $1";
    assert_eq!(tenant_places(Sqlite, sql), Ok(vec![0]));
}

#[test]
fn statements_that_may_reach_other_rows_are_refused() {
    for (sql, why) in [
        ("SELECT sku FROM products", "table products"),
        ("SELECT sku FROM products WHERE $1 IS NOT NULL", "table products"),
        ("SELECT sku FROM products WHERE tenant_id = $1 OR sku = $2", "table products"),
        ("SELECT sku FROM products WHERE NOT (tenant_id = $1)", "table products"),
        ("SELECT o.id FROM orders o JOIN customers c ON c.no = o.customer_no WHERE o.tenant_id = $1", "table c"),
        ("SELECT o.id FROM orders o LEFT JOIN customers c ON o.tenant_id = $1 AND c.tenant_id = $1", "table o"),
        ("SELECT o.id FROM orders o, customers c WHERE o.tenant_id = c.tenant_id", "table o"),
        (
            "SELECT id FROM teams WHERE tenant_id = $1 AND id IN (SELECT team_id FROM team_members)",
            "table team_members",
        ),
        ("SELECT (SELECT c.name FROM customers c WHERE c.tenant_id = k.tenant_id) FROM unnest($1) AS k", "table c"),
        ("SELECT 1 FROM orders WHERE tenant_id = $1 UNION ALL SELECT 2 FROM refunds", "table refunds"),
        ("INSERT INTO kpis (name) VALUES ($1)", "table kpis, no tenant"),
        ("INSERT INTO kpis (tenant_id, name) VALUES ($1, $2), ('00', $3)", "table kpis, something else"),
        ("INSERT INTO kpis (tenant_id) SELECT k.tenant_id FROM kpis k WHERE k.tenant_id = $1", "table kpis, something"),
        (
            "INSERT INTO kpis (tenant_id, id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET id = 1",
            "table kpis, a conflict",
        ),
        ("UPDATE kpis SET name = $2", "table kpis"),
        ("UPDATE kpis SET tenant_id = $2 WHERE tenant_id = $1", "table kpis, the tenant"),
        ("UPDATE kpis SET name = (SELECT name FROM teams LIMIT 1) WHERE tenant_id = $1", "table teams"),
        ("DELETE FROM kpis USING teams WHERE kpis.tenant_id = $1", "table teams"),
        ("WITH gone AS (DELETE FROM kpis RETURNING name) SELECT name FROM gone", "table kpis"),
        ("SELECT sku FROM other.products WHERE tenant_id = $1", "a name with several parts"),
        ("SELECT o.id FROM orders o RIGHT JOIN kpis k ON k.tenant_id = $1 WHERE o.tenant_id = $1", "a kind of join"),
        ("INSERT INTO kpis (id, tenant_id) SELECT k.*, $1 FROM unnest($2) AS k", "table kpis, something else"),
        ("UPDATE kpis SET Tenant_ID = $2 WHERE tenant_id = $1", "table kpis, the tenant"),
        ("WITH a AS (WITH kpis AS (SELECT 1) SELECT * FROM kpis) SELECT 1 FROM kpis, a", "table kpis"),
        ("WITH kpis AS (SELECT name FROM kpis) SELECT name FROM kpis", "two tables kpis"),
        (
            "SELECT (SELECT c.name FROM (SELECT 1) o JOIN customers c ON c.tenant_id = o.tenant_id) \
             FROM orders o WHERE o.tenant_id = $1",
            "table c",
        ),
        ("TRUNCATE kpis", "a kind of statement"),
        ("SELECT FROM WHERE", "sql parser error"),
    ] {
        let found = tenant_places(Postgres, sql).expect_err(sql);
        assert!(found.starts_with(why), "{sql}: {found}");
    }
    for sql in [
        "INSERT OR REPLACE INTO kpis (tenant_id, name) VALUES ($1, $2)",
        "REPLACE INTO kpis (tenant_id, name) VALUES ($1, $2)",
        "UPDATE OR REPLACE tenants SET slug = $2 WHERE id = $1",
    ] {
        let found = tenant_places(Sqlite, sql).expect_err(sql);
        assert!(found.ends_with("that replaces"), "{sql}: {found}");
    }
}

#[test]
fn the_value_must_be_the_tenant_of_the_transaction() {
    let ([own, other], scoping) = ([1, 2].map(Uuid::from_u128), Scoping::new(Postgres));
    let sql = "SELECT sku FROM products WHERE tenant_id = $2 AND sku = $1";
    let of = |tenant: Uuid| Statement::from_sql_and_values(Postgres, sql, ["tea".into(), tenant.into()]);
    for _ in 0..2 {
        assert!(scoping.check(&of(own), TenantId(own)).is_ok());
        assert!(scoping.check(&of(other), TenantId(own)).is_err());
        assert!(scoping.check(&Statement::from_string(Postgres, sql), TenantId(own)).is_err());
    }
}
