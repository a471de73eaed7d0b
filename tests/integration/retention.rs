//! Dropping old months leaves the metrics as they are, and old events cannot come again.

use std::collections::BTreeSet;

use salespulse::db::LazyTx;
use salespulse::graphql::size::Size;
use salespulse::ledger::event::{Fact, OrderCancelled, Outcome, RefusalCode};
use salespulse::ledger::retention::{Dropped, close_before, count_before, cut, drop_before};
use salespulse::metrics::answer::answer;
use salespulse::metrics::catalog::Metric;
use salespulse::metrics::dimension::Dimension;
use salespulse::metrics::history::{HistoryArgs, HistoryPlan, Split};
use salespulse::metrics::input::{DateRange, Grain, PeriodPreset, Weekday};
use salespulse::metrics::plan::Plan;
use salespulse::tenancy::list_tenants;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::command_line::Program;
use crate::ledger::{event, order};
use crate::support::{NOW, TestApp, in_time};

#[tokio::test]
async fn metrics_outlive_the_entries_of_dropped_months() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let old = event("e1", "2026-03-31T23:59:59Z", Fact::OrderPlaced(order("A", 1, "c", "10.00")));
    let new = event("e2", "2026-04-01T00:00:00Z", Fact::OrderPlaced(order("B", 1, "c", "5.00")));
    for tenant in [&acme, &other] {
        tenant.apply(vec![old.clone(), new.clone()]).await;
    }
    let query = "{ salesMetrics(period: {start: \"2026-03-01T00:00:00Z\", end: \"2026-05-01T00:00:00Z\"}) \
                 { grossRevenue ordersCount newCustomers returningCustomers series(grain: MONTH) { grossRevenue } \
                 breakdown(by: [DAY_OF_WEEK, HOUR_OF_DAY]) { rows { key grossRevenue } } } }";
    let before = acme.viewer().query(query).await;

    let cut = cut(NOW, 2).expect("a day");
    let one = Dropped { entries: 1, events: 1 };
    let db = &test.app.db;
    assert_eq!(count_before(db, acme.id(), cut).await.expect("counted"), one);
    close_before(db, acme.id(), cut).await.expect("closed");
    assert_eq!(drop_before(db, acme.id(), cut).await.expect("dropped"), one);
    assert_eq!(drop_before(db, acme.id(), cut).await.expect("dropped"), Dropped::default());

    assert_eq!(acme.viewer().query(query).await, before);
    // Who recorded it is known as long as the order is.
    let recorded = r#"{ recordings(filter: { orderId: "o1" }) { nodes { lastPosition } } }"#;
    let recorded = acme.admin().query(recorded).await["recordings"]["nodes"].take();
    assert_eq!(recorded, serde_json::json!([{ "lastPosition": "2" }]));
    let answer = acme.record(vec![old, new.clone()]).await;
    assert!(matches!(&answer.outcomes[0], Outcome::Refused(r) if r.code == RefusalCode::TimeOutOfRange));
    assert_eq!(answer.outcomes[1], Outcome::Repeated { position: 2 });
    acme.verified().await;
    assert_eq!(count_before(db, other.id(), cut).await.expect("counted"), one);
    other.verified().await;
}

#[tokio::test]
async fn a_history_of_dropped_months_can_be_split_after_something_has_come() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let sale = |n: u8, at: &str| event(&n.to_string(), at, Fact::OrderPlaced(order(&n.to_string(), 1, "c", "10.00")));
    acme.apply(vec![sale(1, "2026-03-31T12:00:00Z"), sale(2, "2026-06-01T12:00:00Z")]).await;
    let (db, memory) = (&test.app.db, &test.app.memory);
    close_before(db, acme.id(), cut(NOW, 2).expect("a day")).await.expect("closed");
    drop_before(db, acme.id(), cut(NOW, 2).expect("a day")).await.expect("dropped");
    let args = HistoryArgs {
        grain: Grain::Day,
        timezone: None,
        week_start: Weekday::Monday,
        window: 100,
        covers_period: true,
        kpis: BTreeSet::new(),
    };
    let period = DateRange { preset: Some(PeriodPreset::Last90Days), ..DateRange::default() };
    let histories = vec![HistoryPlan { args, needs: Metric::TotalRevenue.needs() }];
    let plan = Plan { period, histories, ..Plan::default() };
    let tx = db.read(acme.id()).await.expect("a snapshot");
    let (_, history) = answer(&tx, memory, &plan, NOW, &Size::default()).await.expect("an answer").histories.remove(0);
    drop(tx);
    acme.apply(vec![sale(3, "2026-06-02T12:00:00Z")]).await;
    let later = db.read(acme.id()).await.expect("a snapshot");
    let split = Split { dimension: Dimension::Channel, wanted: vec![(0, Metric::TotalRevenue)] };
    let members = history.get().expect("a history").split(&LazyTx::Begun(&later), memory, split).await;
    let sums: Vec<f64> = members.expect("read").expect("few").iter().map(|member| member.sum(0)).collect();
    assert_eq!(sums.len(), 1);
    assert!(sums[0] > 0.0, "{sums:?}");
}

#[tokio::test]
async fn of_dropped_months_a_quarter_of_an_hour_counts_at_its_beginning() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let placed = |id: &str, at: &str, amount: &str| event(id, at, Fact::OrderPlaced(order(id, 1, "c", amount)));
    acme.apply(vec![
        placed("A", "2026-03-10T10:03:00Z", "100.00"),
        placed("B", "2026-03-10T10:16:00Z", "10.00"),
        placed("C", "2026-04-10T10:03:00Z", "1.00"),
    ])
    .await;
    let cut = cut(NOW, 2).expect("a day");
    close_before(&test.app.db, acme.id(), cut).await.expect("closed");
    drop_before(&test.app.db, acme.id(), cut).await.expect("dropped");
    let gross = async |start: &str, end: &str| {
        let query = format!(
            "{{ salesMetrics(period: {{ start: \"2026-03-10T{start}Z\", end: \"2026-03-10T{end}Z\" }}) {{ grossRevenue ordersCount }} }}"
        );
        acme.viewer().query(&query).await["salesMetrics"]["grossRevenue"].take()
    };
    assert_eq!(gross("10:00:00", "10:30:00").await, "110.00");
    // Periods that follow each other have it once, wherever they meet.
    assert_eq!(
        (gross("09:00:00", "10:02:00").await, gross("10:02:00", "10:30:00").await),
        ("100.00".into(), "10.00".into())
    );
    assert_eq!(gross("10:02:00", "10:05:00").await, "0.00");
    // Taken back, it is gone from there too.
    let cancel = OrderCancelled { order_id: "A".into(), version: 2 };
    acme.apply(vec![event("x", "2026-06-01T00:00:00Z", Fact::OrderCancelled(cancel))]).await;
    assert_eq!(
        (gross("09:00:00", "10:02:00").await, gross("10:02:00", "10:30:00").await),
        ("0.00".into(), "10.00".into())
    );
    acme.verified().await;
    // An earlier state of what is gone cannot be told, not even in a comparison.
    let before = r#"{ salesMetrics(period: { start: "2026-04-01T00:00:00Z", end: "2026-05-01T00:00:00Z", timezone: "UTC" }, asOf: "3") {
        grossRevenue comparison(to: PREVIOUS_PERIOD) { change(metric: GROSS_REVENUE) { relative } } } }"#;
    assert_eq!(acme.viewer().error_code(before).await, "AS_OF_NOT_AVAILABLE");
    let by_customer = r#"{ salesMetrics(period: { start: "2026-03-01T00:00:00Z", end: "2026-06-02T00:00:00Z" }) {
        breakdown(by: [CUSTOMER]) { rowsCount } } }"#;
    assert_eq!(acme.viewer().error_code(by_customer).await, "AS_OF_NOT_AVAILABLE");
}

#[tokio::test]
async fn whole_months_of_all_tenants_are_dropped_at_once_where_they_are_tables() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let orders = [("A", "2026-01-10T00:00:00Z"), ("B", "2026-03-10T00:00:00Z"), ("C", "2026-05-10T00:00:00Z")];
    let placed = |(id, at)| event(id, at, Fact::OrderPlaced(order(id, 1, "c", "5.00")));
    acme.apply(orders.map(placed).into()).await;
    let cut = cut(NOW, 2).expect("a day");
    close_before(&test.app.db, acme.id(), cut).await.expect("closed");
    let dropped = test.owner().await.drop_months(cut).await.expect("dropped");
    let expected: &[&str] =
        if test.app.db.is_postgres() { &["ledger_entries_2026_01", "ledger_entries_2026_03"] } else { &[] };
    assert_eq!(dropped, expected);
    drop_before(&test.app.db, acme.id(), cut).await.expect("dropped");
    assert_eq!(count_before(&test.app.db, acme.id(), cut).await.expect("counted"), Dropped::default());
    acme.verified().await;
    // What corrects an order of a dropped month begins that month anew, though it was known to be there before.
    acme.apply(vec![event("A2", "2026-05-11T00:00:00Z", Fact::OrderPlaced(order("A", 2, "c", "6.00")))]).await;
    acme.verified().await;
    // So does what a tenant that has kept all has to say of one.
    let other = test.tenant("other").await;
    other.apply(vec![placed(("B", "2026-03-10T00:00:00Z"))]).await;
    other.verified().await;
}

#[tokio::test]
async fn a_month_whose_dropping_was_interrupted_can_be_written_and_dropped_again() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let placed = |id: &str, at: &str| event(id, at, Fact::OrderPlaced(order(id, 1, "c", "5.00")));
    acme.apply(vec![placed("A", "2026-01-10T00:00:00Z"), placed("B", "2026-02-10T00:00:00Z")]).await;
    let cut = cut(NOW, 2).expect("a day");
    close_before(&test.app.db, acme.id(), cut).await.expect("closed");
    let owner = test.owner().await;
    if test.app.db.is_postgres() {
        for month in ["2026_01", "2026_02"] {
            let detach = format!("ALTER TABLE ledger_entries DETACH PARTITION ledger_entries_{month}");
            owner.connection().execute_unprepared(&detach).await.expect("detached");
        }
    }
    other.apply(vec![placed("A", "2026-01-11T00:00:00Z")]).await;
    other.verified().await;
    close_before(&test.app.db, other.id(), cut).await.expect("closed");
    let dropped = owner.drop_months(cut).await.expect("dropped");
    let expected: &[&str] =
        if test.app.db.is_postgres() { &["ledger_entries_2026_01", "ledger_entries_2026_02"] } else { &[] };
    assert_eq!(dropped, expected);
    assert_eq!(owner.drop_months(cut).await.expect("dropped"), [""; 0]);
    for tenant in [&acme, &other] {
        drop_before(&test.app.db, tenant.id(), cut).await.expect("dropped");
        tenant.verified().await;
    }
}

#[tokio::test]
async fn no_tenant_is_created_while_months_of_all_are_dropped() {
    let test = TestApp::start().await;
    if !test.app.db.is_postgres() {
        return;
    }
    let (owner, watcher) = (test.owner().await, test.owner().await);
    owner.block_new_tenants().await.expect("blocked");
    let dropping = async {
        let waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let waiting = Statement::from_string(DbBackend::Postgres, waiting);
        in_time(async { while watcher.connection().query_one_raw(waiting.clone()).await.expect("locks").is_none() {} })
            .await;
        let all = list_tenants(&test.app.db).await.expect("tenants");
        owner.close().await.expect("closed");
        all
    };
    let (created, seen) = tokio::join!(test.tenant("acme"), dropping);
    assert!(seen.is_empty(), "it was created under the lock");
    created.verified().await;
}

/// Counting the rows of a large ledger takes PostgreSQL longer than a request may.
#[cfg(debug_assertions)]
#[tokio::test]
async fn what_would_be_dropped_is_counted_without_a_time_limit() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    if !test.app.db.is_postgres() {
        return;
    }
    let mut db = test.app.db.clone();
    let timeout = "SELECT CAST(current_setting('statement_timeout') = '0' AS int)::bigint \
                   WHERE $1::uuid IS NOT NULL AND $2::bigint IS NOT NULL";
    db.mutate(move |sql| sql.starts_with("SELECT COUNT(*)").then(|| timeout.to_owned()));
    let counted = count_before(&db, acme.id(), cut(NOW, 2).expect("a day")).await.expect("counted");
    assert_eq!(counted, Dropped { entries: 1, events: 1 });
}

#[tokio::test]
async fn what_is_dropped_of_all_tenants_is_counted_while_it_is_there() {
    let test = TestApp::start().await;
    let (acme, _other) = (test.tenant("acme").await, test.tenant("other").await);
    let placed = |id: &str, at: &str| event(id, at, Fact::OrderPlaced(order(id, 1, "c", "5.00")));
    acme.apply(vec![placed("A", "2020-01-10T00:00:00Z"), placed("B", "2026-06-01T00:00:00Z")]).await;
    let settings = [("DATABASE_URL", test.server_url()), ("SALESPULSE_OWNER_URL", test.owner_url())];
    let program = Program::new();
    // Of another database nothing is dropped, and none is closed to what another has dropped.
    let other = TestApp::start().await;
    let elsewhere = [settings[0], ("SALESPULSE_OWNER_URL", other.owner_url())];
    for arguments in [
        &["retention", "--all", "--keep-months", "60"][..],
        &["retention", "--all", "--keep-months", "60", "--dry-run"],
    ] {
        let refused = program.fail(2, arguments, &elsewhere);
        assert!(refused.contains("are different databases"), "{refused}");
        if test.app.db.is_postgres() {
            let refused = program.fail(2, arguments, &settings[..1]);
            assert!(refused.contains("set SALESPULSE_OWNER_URL"), "{refused}");
        }
    }
    let mut command = program.command(&["retention", "--all", "--keep-months", "60"], &settings);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(printed.contains("acme: 1 entries and 1 event ids before "), "{printed}");
    assert!(printed.contains("other: 0 entries and 0 event ids before "), "{printed}");
    let log = acme.admin().query("{ auditLog(first: 1) { nodes { action after } } }").await["auditLog"]["nodes"].take();
    assert_eq!(
        (&log[0]["action"], &log[0]["after"]["entries"], &log[0]["after"]["events"]),
        (&"retention".into(), &1.into(), &1.into())
    );
    acme.verified().await;
}
