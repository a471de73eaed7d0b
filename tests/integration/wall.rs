//! The second wall between tenants: row-level security, on PostgreSQL alone.

use migration::row_security::TENANT;
use salespulse::auth::Role;
use salespulse::db::{ConnectError, Db, Owner, get, wall::list_holes};
use salespulse::ledger::event::{Fact, VisitsCounted};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::command_line::Program;
use crate::ledger::event;
use crate::support::{TestApp, in_time, with_database};

/// A test over an empty database of PostgreSQL that sends all statements, as the database's own wall is tested; nothing elsewhere.
async fn walled() -> Option<TestApp> {
    let mut test = TestApp::start().await;
    test.app.db.give_up_scoping();
    test.app.db.is_postgres().then_some(test)
}

async fn texts(test: &TestApp, sql: &str) -> Vec<String> {
    let owner = test.owner().await;
    let rows = owner.connection().query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.expect("read");
    rows.iter().map(|row| get(row, 0).expect("text")).collect()
}

#[tokio::test]
async fn every_table_of_tenants_has_the_wall_and_keys_that_begin_with_the_tenant() {
    let Some(test) = walled().await else { return };
    test.app.db.ensure_months([1_781_524_800_000_000].into_iter()).await.expect("a partition");
    let all = "SELECT c.oid, c.relname, c.relispartition FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace \
               AND c.relkind IN ('r', 'p') AND c.relname <> 'seaql_migrations'";
    let tables = format!("{all} AND c.relname <> 'tenants'");
    // Nothing but the list of migrations and the tenants themselves is without a tenant.
    let sql = format!(
        "SELECT relname::text FROM ({tables}) t WHERE NOT EXISTS \
         (SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant_id' AND a.attnotnull)"
    );
    assert_eq!(texts(&test, &sql).await, [""; 0]);
    // Of the tenants, each sees itself.
    let own =
        format!("'(' || CASE relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END || ' = ' || $${TENANT}$$ || ')'");
    let sql = format!(
        "SELECT relname::text FROM ({all}) t WHERE (SELECT count(*) FROM pg_policy p WHERE p.polrelid = t.oid AND p.polpermissive \
         AND p.polname = 'tenant' AND p.polcmd = '*' AND p.polroles = ARRAY['salespulse_app'::regrole::oid] \
         AND pg_get_expr(p.polqual, p.polrelid) = {own} AND pg_get_expr(p.polwithcheck, p.polrelid) = {own}) <> 1"
    );
    assert_eq!(texts(&test, &sql).await, [""; 0]);
    // Other policies let the relay look, and nobody else do anything.
    let sql = "SELECT polrelid::regclass::text FROM pg_policy WHERE polname <> 'tenant' \
               AND NOT (polcmd = 'r' AND polroles = ARRAY['salespulse_relay'::regrole::oid])";
    assert_eq!(texts(&test, sql).await, [""; 0]);
    // Keys, foreign keys and indexes begin with the tenant, but for those by which due work is found.
    let sql = format!(
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN ({tables}) t ON t.oid = i.indrelid \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0] WHERE a.attname <> 'tenant_id' ORDER BY 1"
    );
    assert_eq!(texts(&test, &sql).await, ["deliveries_by_due", "ledger_heads_by_due"]);
    let sql = format!(
        "SELECT k.conname::text FROM pg_constraint k JOIN ({tables}) t ON t.oid = k.conrelid \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.conkey[1] WHERE k.contype = 'f' AND a.attname <> 'tenant_id'"
    );
    assert_eq!(texts(&test, &sql).await, [""; 0]);
}

#[tokio::test]
async fn a_server_has_no_rights_around_the_wall() {
    let Some(test) = walled().await else { return };
    test.app.db.ensure_months([1_781_524_800_000_000].into_iter()).await.expect("a partition");
    let privileges = "SELECT g.table_name::text || ' ' || g.privilege_type FROM information_schema.role_table_grants g \
                      WHERE g.grantee IN ('salespulse_app', 'salespulse_relay', 'salespulse', 'PUBLIC') AND g.table_schema = 'public'";
    let more = format!("{privileges} AND g.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')");
    assert_eq!(texts(&test, &more).await, [""; 0]);
    let partitions = format!("{privileges} AND g.table_name LIKE 'ledger_entries_%'");
    assert_eq!(texts(&test, &partitions).await, [""; 0]);
    // What was done stays told.
    for log in ["audit_logs", "ledger_recordings"] {
        let granted = format!("{privileges} AND g.table_name = '{log}' ORDER BY 1");
        assert_eq!(texts(&test, &granted).await, [format!("{log} INSERT"), format!("{log} SELECT")]);
    }
    // Functions and views that see more than their caller: one, which makes partitions and reads nothing.
    let definers = "SELECT proname::text FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace";
    assert_eq!(texts(&test, definers).await, ["ledger_month"]);
    let views =
        "SELECT relname::text FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace";
    assert_eq!(texts(&test, views).await, [""; 0]);
    // The relay sees where there is work, and not what.
    let relay = "SELECT table_name || '.' || column_name FROM information_schema.column_privileges \
                 WHERE grantee = 'salespulse_relay' AND table_schema = 'public' ORDER BY 1";
    let seen = texts(&test, relay).await;
    assert!(seen.iter().all(|column| {
        ["tenants", "tenant_keys", "ledger_heads", "deliveries", "customer_models"]
            .iter()
            .any(|t| column.starts_with(t))
    }));
    assert!(
        !seen.iter().any(|column| ["target", "secret", "wrapped"].iter().any(|hidden| column.contains(hidden))),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_statement_that_forgets_the_tenant_reaches_its_own_rows_only() {
    let Some(test) = walled().await else { return };
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let forgetful = |sql: &str| format!("{sql} AND $1::uuid IS NOT NULL");
    let users = tx.query(&forgetful("SELECT id FROM users WHERE true"), []).await.expect("read");
    assert_eq!(users.len(), Role::ALL.len());
    let renamed = tx.execute(&forgetful("UPDATE users SET name = 'x' WHERE true"), []).await.expect("written");
    assert_eq!(renamed, Role::ALL.len() as u64);
    let moved = tx.execute(&forgetful("DELETE FROM users WHERE tenant_id = $2"), [other.id().0.into()]).await;
    assert_eq!(moved.expect("written"), 0);
    let planted = "INSERT INTO teams (tenant_id, id, name, created_at) SELECT $2, $1, 'x', 0";
    let error = tx.execute(planted, [other.id().0.into()]).await.expect_err("refused");
    assert!(error.source.expect("a source").to_string().contains("row-level security"));
}

#[tokio::test]
async fn a_hole_in_the_wall_is_found_before_anything_is_served() {
    let Some(test) = walled().await else { return };
    test.tenant("acme").await;
    assert_eq!(list_holes(&test.app.db).await.expect("checked"), [""; 0]);
    for (make, mend, hole) in [
        (
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
            "the table orders has no forced row-level security",
        ),
        (
            "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE orders FORCE ROW LEVEL SECURITY",
            "the table orders has no forced row-level security",
        ),
        (
            "CREATE POLICY wide ON users TO salespulse_app USING (true)",
            "DROP POLICY wide ON users",
            "the table users is readable without a tenant",
        ),
        (
            "CREATE TABLE forgotten (tenant_id uuid)",
            "DROP TABLE forgotten",
            "the table forgotten has no forced row-level security",
        ),
    ] {
        let owner = test.owner().await;
        owner.connection().execute_unprepared(make).await.expect("made");
        assert_eq!(list_holes(&test.app.db).await.expect("checked"), [hole]);
        owner.connection().execute_unprepared(mend).await.expect("mended");
    }
    // Whoever owns the tables may not even take the part of a server.
    let (_, location) = test.server_url().rsplit_once('@').expect("a login");
    let stranger = Db::connect(&format!("postgres://nobody@{location}"), 1).await.map(drop).expect_err("refused");
    let why = stranger.to_string();
    assert!(
        why.starts_with("cannot connect to the database: no pg_hba.conf entry") && !why.contains(" at line "),
        "{why}"
    );
    let refused = Db::connect(test.owner_url(), 1).await.map(drop).expect_err("refused");
    assert!(matches!(refused, ConnectError::NotGranted("salespulse_app")), "{refused}");
}

/// Roles are those of the whole cluster, which other tests use meanwhile: this is about one of its own.
#[tokio::test]
async fn a_login_that_stands_above_the_wall_serves_nobody() {
    let Some(test) = walled().await else { return };
    let superuser = std::env::var("TEST_SUPERUSER_URL").expect("as tests/servers.sh sets it");
    let (_, database) = test.server_url().rsplit_once('/').expect("a database");
    let superuser = with_database(&superuser, database);
    let above = Owner::connect(&superuser).await.expect("connected");
    let run = async |sql: &str| above.connection().execute_unprepared(sql).await.expect(sql);
    let login = format!("hole_{}", uuid::Uuid::now_v7().simple());
    run(&format!("CREATE ROLE {login} LOGIN NOINHERIT IN ROLE salespulse_app, salespulse_relay")).await;
    let url = superuser.replacen("//postgres@", &format!("//{login}@"), 1);
    let db = Db::connect(&url, 1).await.expect("connected");
    assert_eq!(list_holes(&db).await.expect("checked"), [""; 0]);
    for (make, mend, above) in [
        (format!("ALTER ROLE {login} BYPASSRLS"), format!("ALTER ROLE {login} NOBYPASSRLS"), login.as_str()),
        (format!("ALTER ROLE {login} SUPERUSER"), format!("ALTER ROLE {login} NOSUPERUSER"), login.as_str()),
        (
            format!("GRANT salespulse_owner TO {login}"),
            format!("REVOKE salespulse_owner FROM {login}"),
            "salespulse_owner",
        ),
    ] {
        run(&make).await;
        let hole = format!("the role {login} is above row-level security, or a member of {above}");
        assert_eq!(list_holes(&db).await.expect("checked"), [hole.as_str()], "{make}");
        let said = Program::new().fail(2, &["serve"], &[("DATABASE_URL", &url)]);
        assert!(said.contains(&format!("tenants are not kept apart: {hole} (see")), "{said}");
        run(&mend).await;
    }
    assert_eq!(list_holes(&db).await.expect("checked"), [""; 0]);
    db.close().await.expect("closed");
    run(&format!("DROP ROLE {login}")).await;
}

/// Builds for production do not look.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_connection_that_comes_back_with_a_tenant_is_closed() {
    let Some(test) = walled().await else { return };
    let acme = test.tenant("acme").await.id();
    let mut db = Db::connect(test.server_url(), 1).await.expect("connected");
    db.give_up_scoping();
    // Which connection it was, of the only one that there is at a time.
    let run = async |sql: &str| {
        let tx = db.read(acme).await.expect("begun");
        tx.execute_unprepared(sql).await.expect("run");
        let row = tx.query_one("SELECT pg_backend_pid() WHERE $1::uuid IS NOT NULL", []).await.expect("asked");
        let process: i32 = get(&row.expect("a row"), 0).expect("a number");
        tx.commit().await.expect("ended");
        process
    };
    let first = run("SELECT 1").await;
    assert_eq!(run(&format!("SET app.tenant_id = '{}'", acme.0)).await, first);
    let next = run("SELECT 1").await;
    assert_ne!(next, first);
    assert_eq!(run("SELECT 1").await, next);
}

/// A client that goes away while its transaction begins may not leave it open on the connection that others get then.
#[tokio::test]
async fn who_goes_before_a_transaction_has_begun_leaves_no_old_snapshot() {
    let Some(test) = walled().await else { return };
    let acme = test.tenant("acme").await;
    let db = Db::connect(test.server_url(), 1).await.expect("connected");
    let position = async || {
        let tx = db.read(acme.id()).await.expect("begun");
        let row = tx.query_one("SELECT position FROM ledger_heads WHERE tenant_id = $1", []).await.expect("asked");
        tx.commit().await.expect("ended");
        get::<i64>(&row.expect("a row"), 0).expect("a number")
    };
    let is_idle = async || {
        while !db.list_pools().iter().any(|(name, _, idle)| *name == "read" && *idle == 1) {
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(position().await, 0);
    in_time(is_idle()).await;
    loop {
        let mut given_up = Box::pin(db.read(acme.id()));
        let polled = futures_util::poll!(given_up.as_mut());
        let is_pending = polled.is_pending();
        drop((polled, given_up));
        in_time(is_idle()).await;
        // The database may have been faster.
        if is_pending {
            break;
        }
    }
    let visits = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
    acme.apply(vec![event("visit", "2026-06-02T10:00:00Z", visits)]).await;
    assert_eq!(position().await, 1);
}

/// A database that was restarted has ended all connections of the pools: nobody is refused for it.
#[tokio::test]
async fn connections_that_died_while_idle_are_passed_over() {
    let Some(test) = walled().await else { return };
    let acme = test.tenant("acme").await;
    let db = Db::connect(test.server_url(), 3).await.expect("connected");
    let begin = async || db.read(acme.id()).await.expect("begun");
    let (one, two, three) = tokio::join!(begin(), begin(), begin());
    let mut pids = Vec::new();
    for tx in [one, two, three] {
        let row = tx.query_one("SELECT pg_backend_pid() WHERE $1 IS NOT NULL", []).await.expect("asked");
        pids.push(get::<i32>(&row.expect("a row"), 0).expect("a number"));
        tx.commit().await.expect("ended");
    }
    in_time(async {
        while !db.list_pools().iter().any(|(name, _, idle)| *name == "read" && *idle == 3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let login = Owner::connect(test.server_url()).await.expect("connected");
    for pid in pids {
        let sql = format!("SELECT pg_terminate_backend({pid}, 5000)");
        let row = login.connection().query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
        assert!(get::<bool>(&row.expect("asked").expect("a row"), 0).expect("a truth"));
    }
    begin().await.query_one("SELECT 1 WHERE $1 IS NOT NULL", []).await.expect("asked").expect("a row");
    // Nor for those of the pool of all tenants.
    let across = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    db.head(acme.id()).await.expect("asked");
    login.connection().query_all_raw(Statement::from_string(DbBackend::Postgres, across)).await.expect("ended");
    assert_eq!(db.head(acme.id()).await.expect("asked").map(|head| head.position), Some(0));
}

/// The first load of a new installation is not to read all customers for each one: PostgreSQL plans by indexes alone then.
#[tokio::test]
async fn customers_are_found_by_their_ids_before_anything_is_known_of_the_table() {
    let Some(test) = walled().await else { return };
    let acme = test.tenant("acme").await;
    let tx = test.app.db.read(acme.id()).await.expect("begun");
    let sql = "EXPLAIN SELECT 1 FROM customers c WHERE c.tenant_id = $1 AND c.external_id = 'a'";
    let rows = tx.query(sql, []).await.expect("explained");
    let plan: Vec<String> = rows.iter().map(|row| salespulse::db::get(row, 0).expect("text")).collect();
    assert!(plan.join("\n").contains("customers_by_external_id"), "{plan:#?}");
}
