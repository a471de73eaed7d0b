//! A backup that is restored is the same ledger: made as docs/operations.md says, while events come in.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use salespulse::db::wall::list_holes;
use salespulse::ledger::event::{Event, Fact, Outcome, RefundIssued};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::command_line::Program;
use crate::ledger::{event, money, order};
use crate::sales;
use crate::support::{SECRET, TestApp, TestTenant, Urls, with_database};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn succeed(program: &str, arguments: &[&str]) {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The owner's URL as another role.
fn url_of(test: &TestApp, role: &str) -> String {
    test.owner_url().replace("salespulse_owner@", &format!("{role}@"))
}

/// Backs the database up into `folder`.
async fn back_up(test: &TestApp, folder: &Path) {
    let file = folder.join("backup").display().to_string();
    if test.app.db.is_postgres() {
        let url = url_of(test, "salespulse_backup");
        return succeed("pg_dump", &["--format=custom", &format!("--file={file}"), &format!("--dbname={url}")]);
    }
    let owner = test.owner().await;
    owner.connection().execute_unprepared(&format!("VACUUM INTO '{file}'")).await.expect("backed up");
}

/// A server over what was in `folder`.
async fn restore(test: &TestApp, folder: &Path) -> (TestApp, String) {
    let file = folder.join("backup").display().to_string();
    let urls = if test.app.db.is_postgres() {
        let name = format!("restored_{}", Uuid::now_v7().simple());
        test.owner().await.connection().execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("made");
        let owner = with_database(test.owner_url(), &name);
        succeed("pg_restore", &["--exit-on-error", "--single-transaction", &format!("--dbname={owner}"), &file]);
        Urls { owner, server: with_database(&url_of(test, "salespulse"), &name) }
    } else {
        let url = format!("sqlite://{file}");
        Urls { owner: url.clone(), server: url }
    };
    let server = urls.server.clone();
    (TestApp::over(urls, None).await, server)
}

/// Sales of two weeks, a newer version of an order, a refund, a cancellation.
async fn sell(acme: &TestTenant<'_>) {
    sales::record(acme, 20, 10).await;
    let at = "2026-06-14T10:00:00Z";
    let refund = RefundIssued {
        refund_id: Some("r".into()),
        order_id: Some("o1-1".into()),
        amount: Some(money("0.50")),
        ..RefundIssued::default()
    };
    let facts = [Fact::OrderPlaced(order("o1-2", 2, "c1", "7.00")), Fact::RefundIssued(refund)];
    let events = facts.into_iter().enumerate().map(|(n, fact)| event(&format!("more-{n}"), at, fact));
    acme.apply(events.collect()).await;
}

/// What a tenant is told as of a position.
async fn answers(tenant: &TestTenant<'_>, position: &Value) -> Value {
    let query = "query($asOf: Position) { salesMetrics(period: {start: \"2026-06-01T00:00:00Z\", end: \"2026-07-01T00:00:00Z\"}, asOf: $asOf) \
                 { grossRevenue refunds ordersCount uniqueCustomers newCustomers unitsSold series(grain: DAY) { start totalRevenue ordersCount } \
                   breakdown(by: [PRODUCT_CATEGORY]) { rows { key totalRevenue } } } }";
    tenant.admin().query_with(query, json!({ "asOf": position })).await
}

async fn position(tenant: &TestTenant<'_>) -> Value {
    let query = "{ salesMetrics(period: {preset: TODAY}) { asOf { position } } }";
    tenant.admin().query(query).await["salesMetrics"]["asOf"]["position"].clone()
}

fn later(n: usize) -> Event {
    event(&format!("later-{n}"), "2026-06-15T09:00:00Z", Fact::OrderPlaced(order(&format!("l{n}"), 1, "c1", "1.00")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_events_come_in_is_the_ledger_of_one_moment() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    sell(&acme).await;
    sales::record(&other, 3, 3).await;
    let before = position(&acme).await;

    let (is_done, folder) = (AtomicBool::new(false), tempfile::tempdir().expect("a folder"));
    let recorded = async {
        let mut n = 0;
        while !is_done.load(Ordering::Relaxed) {
            acme.apply(vec![later(n)]).await;
            n += 1;
        }
        n
    };
    let backed_up = async {
        back_up(&test, folder.path()).await;
        is_done.store(true, Ordering::Relaxed);
    };
    let (recorded, ()) = tokio::join!(recorded, backed_up);
    assert!(recorded > 0, "events came in meanwhile");
    let (restored, url) = restore(&test, folder.path()).await;

    assert_eq!(list_holes(&restored.app.db).await.expect("checked"), [""; 0]);
    let settings = [("DATABASE_URL", url.as_str()), ("SALESPULSE_JWT_SECRET", SECRET)];
    let verified = Program::new().command(&["verify"], &settings).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success() && said.matches(" 0 differ").count() == 2, "{verified:?}");

    let [then, other_then] = [&acme, &other].map(|t| t.of(&restored));
    let at = position(&then).await;
    let number = |position: &Value| position.as_str().and_then(|text| text.parse::<i64>().ok()).expect("a position");
    assert!((number(&before)..=number(&position(&acme).await)).contains(&number(&at)), "{at}");
    assert_eq!(answers(&then, &at).await, answers(&acme, &at).await);
    assert_eq!(position(&other_then).await, position(&other).await);
    assert_eq!(answers(&other_then, &Value::Null).await, answers(&other, &Value::Null).await);

    // It goes on where it stands: what was lost can be sent again, what was not is known.
    let answer =
        then.record((0..recorded).map(later).collect::<Vec<_>>().split_off(recorded.saturating_sub(900))).await;
    assert!(
        answer.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { .. } | Outcome::Repeated { .. }))
    );
    let answer = then.record(sales_again()).await;
    assert!(matches!(answer.outcomes[..], [Outcome::Repeated { position: 1 }]), "{answer:?}");
    then.verified().await;
}

/// The first of [`sales::record`].
fn sales_again() -> Vec<Event> {
    vec![sales::order(0, 0)]
}

#[tokio::test]
async fn only_those_who_see_all_rows_can_make_a_backup() {
    let test = TestApp::start().await;
    if !test.app.db.is_postgres() {
        return;
    }
    test.tenant("acme").await;
    for role in ["salespulse_owner", "salespulse"] {
        let url = url_of(&test, role);
        let output = run("pg_dump", &["--file=/dev/null", &format!("--dbname={url}")]);
        assert!(!output.status.success(), "a dump as {role} would be without rows");
    }
    // And they can do no more than that.
    let url = url_of(&test, "salespulse_backup");
    let output = run("psql", &["--no-psqlrc", &format!("--dbname={url}"), "--command=DELETE FROM users"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("permission denied")
            || String::from_utf8_lossy(&output.stderr).contains("read-only"),
        "{output:?}"
    );
}
