//! Migrations that break off, several runs of them at once, and their way back.

use std::process::{Command, Stdio};

use salespulse::commands::failure::{Exit, Failure};
use salespulse::db::{Owner, migrations};
use sea_orm::{ConnectionTrait, Statement};

use crate::command_line::Program;
use crate::support::{TestApp, with_database};

#[test]
fn migrations_that_break_off_leave_nothing_behind() {
    let program = Program::new();
    let migrate = program.command(&["migrate"], &[]);
    let mut failed = 0;
    // A write beyond the limit fails, as on a full disk.
    for limit_kib in (64..4_096).step_by(48) {
        let mut limited = Command::new("bash");
        limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {limit_kib}; exec \"$0\" migrate")]);
        limited.arg(migrate.get_program()).current_dir(program.path()).env_clear();
        limited.envs(migrate.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = limited.output().expect("bash runs");
        if output.status.success() {
            break;
        }
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("the disk of the database is full or read-only"), "{message}");
        failed += 1;
        assert!(!program.succeed(&["migrate", "--status"]).contains("applied"));
    }
    assert!(failed > 3, "it failed {failed} times");
    assert!(!program.succeed(&["migrate", "--status"]).contains("pending"));
    program.succeed(&["tenant", "create", "acme"]);
}

#[test]
fn processes_that_migrate_at_once_do_not_disturb_each_other() {
    let program = Program::new();
    let start = || program.command(&["migrate"], &[]).stderr(Stdio::piped()).spawn().expect("started");
    let started: Vec<_> = (0..6).map(|_| start()).collect();
    for process in started {
        let output = process.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert!(!program.succeed(&["migrate", "--status"]).contains("pending"));
}

#[tokio::test]
async fn owners_that_migrate_at_once_do_not_disturb_each_other() {
    let test = TestApp::start().await;
    if !test.app.db.is_postgres() {
        return;
    }
    let name = format!("at_once_{}", uuid::Uuid::now_v7().simple());
    test.owner().await.connection().execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("made");
    let url = with_database(test.owner_url(), &name);
    let migrate = async || migrations::up(&Owner::connect(&url).await.expect("connected")).await;
    let (one, two, three) = tokio::join!(migrate(), migrate(), migrate());
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    let all = migrations::list(&Owner::connect(&url).await.expect("connected")).await.expect("listed");
    assert!(all.iter().all(|(_, is_applied)| *is_applied));
}

#[tokio::test]
async fn a_login_that_does_not_own_the_tables_is_told_of_the_one_that_does() {
    let test = TestApp::start().await;
    if !test.app.db.is_postgres() {
        return;
    }
    let login = Owner::connect(test.server_url()).await.expect("connected");
    let Failure { exit, message } = migrations::up(&login).await.expect_err("it may not").into();
    assert_eq!(exit, Exit::BadConfig);
    assert!(message.contains("set SALESPULSE_OWNER_URL to the login that owns the tables"), "{message}");
}

/// What the catalog has of everything that migrations make, one line for each.
async fn catalog(owner: &Owner) -> Vec<String> {
    let connection = owner.connection();
    let backend = connection.get_database_backend();
    let sql = if backend == sea_orm::DbBackend::Postgres { CATALOG_OF_POSTGRES } else { CATALOG_OF_SQLITE };
    let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await.expect("the catalog");
    let mut lines: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).expect("a line")).collect();
    lines.sort();
    lines
}

const CATALOG_OF_SQLITE: &str = "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_master";
const CATALOG_OF_POSTGRES: &str = "
    WITH ours AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace)
    SELECT format('%s %s: %s %s %s %s %s', relkind, relname, relrowsecurity, relforcerowsecurity, relacl, reloptions,
                  pg_get_expr(relpartbound, oid)) FROM ours
    UNION ALL SELECT format('column %s.%s: %s %s %s %s %s %s', c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
                            a.attnotnull, a.attstorage, a.attacl, pg_get_expr(d.adbin, d.adrelid))
        FROM ours c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL SELECT format('index %s', pg_get_indexdef(oid)) FROM ours WHERE relkind IN ('i', 'I')
    UNION ALL SELECT format('constraint %s.%s: %s', c.relname, k.conname, pg_get_constraintdef(k.oid))
        FROM ours c JOIN pg_constraint k ON k.conrelid = c.oid
    UNION ALL SELECT format('policy %s.%s: %s %s %s %s %s', c.relname, p.polname, p.polcmd, p.polpermissive,
                            ARRAY(SELECT r.rolname FROM pg_roles r WHERE r.oid = ANY (p.polroles) ORDER BY 1),
                            pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM ours c JOIN pg_policy p ON p.polrelid = c.oid
    UNION ALL SELECT format('trigger %s', pg_get_triggerdef(t.oid))
        FROM ours c JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
    UNION ALL SELECT format('function %s: %s %s', p.oid::regprocedure, p.proacl, pg_get_functiondef(p.oid))
        FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
    UNION ALL SELECT format('type %s', t.typname) FROM pg_type t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typrelid = 0 AND t.typelem = 0";

#[tokio::test]
async fn all_migrations_go_back_and_come_again_to_the_same_catalog() {
    let test = TestApp::start().await;
    let owner = test.owner().await;
    let made = catalog(&owner).await;
    assert!(made.len() > 100, "{made:#?}");
    let steps = u32::try_from(migrations::list(&owner).await.expect("listed").len()).expect("few");
    migrations::down(&owner, steps).await.expect("reverted");
    let left = catalog(&owner).await;
    assert!(left.iter().all(|line| line.contains("seaql_migrations")), "{left:#?}");
    migrations::up(&owner).await.expect("applied");
    let again = catalog(&owner).await;
    let of_one = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    assert_eq!(of_one(&made, &again), of_one(&again, &made));
    test.tenant("acme").await;
}
