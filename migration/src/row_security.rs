//! Row-level security, the second line of defence between tenants on PostgreSQL: whatever a statement omits, a
//! transaction sees and writes only rows of the tenant it was begun for. SQLite has no equivalent; there this does
//! nothing.

use sea_orm_migration::prelude::*;

use crate::{roles, sql};

/// The tenant of the current transaction. Once a transaction has set it, the setting is empty rather than null
/// afterwards, and an empty text is not a valid uuid.
pub const TENANT: &str = "(NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid";

/// Privileges on the rows of a table.
#[derive(Clone, Copy)]
pub enum Rights {
    Change,
    /// Insert only.
    Append,
}

/// Creates missing roles, which takes a privilege that the owner may not have.
pub async fn require_roles(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let [app, relay] = [roles::APP, roles::RELAY];
    let create = |role| format!("IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} NOLOGIN; END IF;");
    let sql = format!(
        "DO $$ BEGIN {} {} EXCEPTION WHEN insufficient_privilege THEN
           RAISE EXCEPTION 'the roles {app} and {relay} are missing: run scripts/roles.sql as a superuser first';
         END $$",
        create(app),
        create(relay)
    );
    run(manager, &sql).await
}

/// Enables row-level security on a table. `column` contains the row's tenant.
pub async fn protect(manager: &SchemaManager<'_>, table: &str, column: &str, rights: Rights) -> Result<(), DbErr> {
    let app = roles::APP;
    let rights = match rights {
        Rights::Change => "SELECT, INSERT, UPDATE, DELETE",
        Rights::Append => "SELECT, INSERT",
    };
    run(manager, &wall(table, column)).await?;
    run(manager, &format!("GRANT {rights} ON {table} TO {app}")).await
}

fn wall(table: &str, column: &str) -> String {
    let app = roles::APP;
    format!(
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
         ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
         CREATE POLICY tenant ON {table} AS PERMISSIVE FOR ALL TO {app}
           USING ({column} = {TENANT}) WITH CHECK ({column} = {TENANT});"
    )
}

/// Lets the server look for work in all tenants: it sees only these columns.
pub async fn let_relay_see(manager: &SchemaManager<'_>, table: &str, columns: &str) -> Result<(), DbErr> {
    let relay = roles::RELAY;
    run(manager, &format!("GRANT SELECT ({columns}) ON {table} TO {relay}")).await?;
    run(manager, &format!("CREATE POLICY relay ON {table} AS PERMISSIVE FOR SELECT TO {relay} USING (true)")).await
}

/// `ledger_month(first_day)` creates the ledger's partition of a month, which only the ledger's owner can do. It reads
/// no rows. The partition is filled through its parent: nobody has privileges on it directly. A table of that name which
/// is no partition is a month whose dropping was interrupted: it goes first. One that is being detached is left alone, as
/// dropping it would lock the whole ledger.
pub async fn create_ledger_month(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let app = roles::APP;
    let wall = wall("public.%1$I", "tenant_id").replace('\'', "''");
    let sql = format!(
        "CREATE OR REPLACE FUNCTION public.ledger_month(first_day date) RETURNS void
         LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
         DECLARE
           name text := 'ledger_entries_' || to_char(first_day, 'YYYY_MM');
           next_day date := first_day + interval '1 month';
         BEGIN
           IF first_day IS NULL OR first_day <> date_trunc('month', first_day) OR first_day NOT BETWEEN '1969-12-01' AND '2101-01-01' THEN
             RAISE EXCEPTION 'not the first day of a month that the ledger takes';
           END IF;
           PERFORM pg_advisory_xact_lock(hashtext('salespulse.ledger_months'));
           IF NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'public.ledger_entries'::regclass AND c.relname = name) THEN
             EXECUTE format('DROP TABLE IF EXISTS public.%I', name);
             EXECUTE format('CREATE TABLE public.%I (LIKE public.ledger_entries INCLUDING ALL)', name);
             EXECUTE format('{wall}', name);
             EXECUTE format('ALTER TABLE public.ledger_entries ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (%s)',
               name, extract(epoch FROM first_day)::bigint * 1000000, extract(epoch FROM next_day)::bigint * 1000000);
           END IF;
         END $$;
         REVOKE ALL ON FUNCTION public.ledger_month(date) FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION public.ledger_month(date) TO {app}"
    );
    run(manager, &sql).await
}

/// Runs the statements of `text` while `tables` show their owner all rows, which row-level security would hide.
pub async fn with_all_rows(manager: &SchemaManager<'_>, tables: &[&str], text: &str) -> Result<(), DbErr> {
    for table in tables {
        run(manager, &format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")).await?;
    }
    sql::run(manager, text).await?;
    for table in tables {
        run(manager, &format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY")).await?;
    }
    Ok(())
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    if sql::is_postgres(manager) {
        manager.get_connection().execute_unprepared(sql).await?;
    }
    Ok(())
}
