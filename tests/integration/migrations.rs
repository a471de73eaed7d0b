//! Migrations that break off, and several runs of them at once.

use std::process::{Command, Stdio};

use salespulse::commands::failure::{Exit, Failure};
use salespulse::db::{Owner, migrations};
use sea_orm::ConnectionTrait;

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
