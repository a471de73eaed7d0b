//! What the ledger does with events: positions, repeats, versions, refunds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use salespulse::app::App;
use salespulse::audit::By;
use salespulse::clock::ManualClock;
use salespulse::db::{Db, get};
use salespulse::error::Code;
use salespulse::ledger::event::{
    Customer, Event, Fact, Line, OrderCancelled, OrderPlaced, Outcome, RefundIssued, RefusalCode, VisitsCounted,
};
use salespulse::ledger::store::lock_head;
use salespulse::money::Money;
use salespulse::stream::memory::MemoryStream;
use salespulse::tenancy::find_tenant;

use crate::command_line::Program;
use crate::support::{TestApp, at, kek};

pub fn money(text: &str) -> Money {
    text.parse().expect("an amount")
}

pub fn event(id: &str, when: &str, fact: Fact) -> Event {
    Event { event_id: id.into(), occurred_at: at(when), organization: None, fact }
}

pub fn order(id: &str, version: i64, customer: &str, amount: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: id.into(),
        version,
        channel: Some("web".into()),
        region: Some("North".into()),
        customer: Some(Customer { id: customer.into(), ..Customer::default() }),
        lines: vec![Line {
            product_id: "tea".into(),
            category: Some("drinks".into()),
            quantity: 2,
            amount: money(amount),
            ..Line::default()
        }],
        ..OrderPlaced::default()
    }
}

#[tokio::test]
async fn versions_are_as_large_as_json_has_whole_numbers() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let sale =
        |id: &str, version| event(id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(order(id, version, "c", "1.00")));
    let answer = acme.record(vec![sale("a", 1 << 53), sale("b", (1 << 53) + 1), sale("c", -1)]).await;
    assert!(matches!(answer.outcomes[0], Outcome::Applied { .. }));
    for outcome in &answer.outcomes[1..] {
        assert!(matches!(outcome, Outcome::Refused(refusal) if refusal.code == RefusalCode::BadUserInput));
    }
    let shown = acme.viewer().query(r#"{ order(externalId: "a") { version } }"#).await;
    assert_eq!(shown["order"]["version"], 9_007_199_254_740_992_i64);
}

#[tokio::test]
async fn sums_that_would_leave_64_bits_refuse_the_events_that_do_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // Sums are in ten thousandths: 2^63 of them are 922.3 times the largest amount.
    let placed = |n: u32| OrderPlaced {
        order_id: format!("o{n}"),
        version: 1,
        amount: Some(money("1000000000000.00")),
        ..OrderPlaced::default()
    };
    let sale = |n: u32| event(&format!("e{n}"), "2026-06-01T10:00:00Z", Fact::OrderPlaced(placed(n)));
    let answer = acme.record((0..930).map(sale).collect()).await;
    let refused: Vec<bool> = answer
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Applied { .. } => false,
            Outcome::Refused(refusal) => refusal.code == RefusalCode::AmountOutOfRange,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(refused.iter().filter(|is_refused| **is_refused).count(), 8);
    assert!(refused[922..].iter().all(|is_refused| *is_refused), "those that came first are in");
    acme.verified().await;
    // Others still go in.
    let small = OrderPlaced { amount: Some(money("1.00")), ..placed(1000) };
    acme.apply(vec![event("small", "2026-06-02T10:00:00Z", Fact::OrderPlaced(small))]).await;
    acme.verified().await;
}

/// Of PostgreSQL; SQLite has one writer.
#[tokio::test]
async fn batches_go_in_while_the_tail_is_folded_unless_they_must_be_folded_too() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let db = &test.app.db;
    if !db.is_postgres() {
        return;
    }
    let sale = |n: u32, amount: &str| {
        let placed = OrderPlaced { order_id: n.to_string(), amount: Some(money(amount)), ..OrderPlaced::default() };
        event(&n.to_string(), "2026-06-01T10:00:00Z", Fact::OrderPlaced(placed))
    };
    // One more of them, and their sum would no longer fit.
    acme.apply((0..922).map(|n| sale(n, "1000000000000.00")).collect()).await;
    let folding = db.write(acme.id()).await.expect("a transaction");
    folding.lock_rollups().await.expect("locked");
    assert_eq!(acme.apply(vec![sale(1000, "1.00")]).await.position, 923);
    let ended = async {
        let waiting = "SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                       WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
        while get::<i64>(&db.query_all_tenants(waiting, []).await.expect("counted")[0], 0).expect("a number") == 0 {}
        folding.commit().await.expect("ended");
    };
    let (answer, ()) = tokio::join!(acme.record(vec![sale(1001, "1000000000000.00"), sale(1002, "2.00")]), ended);
    assert!(matches!(&answer.outcomes[0], Outcome::Refused(refusal) if refusal.code == RefusalCode::AmountOutOfRange));
    assert!(matches!(answer.outcomes[1], Outcome::Applied { position: 924 }), "{:?}", answer.outcomes);
    acme.verified().await;
}

#[tokio::test]
async fn one_connection_is_enough_for_tenants_that_begin_new_months() {
    let test = TestApp::start().await;
    let tenants = [test.tenant("one").await.id(), test.tenant("two").await.id(), test.tenant("three").await.id()];
    let db = Db::connect(test.server_url(), 1).await.expect("connect");
    let clock = Arc::<ManualClock>::clone(&test.clock);
    let app = App::new(db, clock, Arc::new(MemoryStream::default()), test.app.tokens.clone(), kek());
    let visits = |n: u32| {
        let fact = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
        event(&format!("v{n}"), &format!("2026-0{n}-15T10:00:00Z"), fact)
    };
    let recorded = tenants.map(|tenant| app.ledger.record(tenant, By::default(), (1..=5).map(visits).collect(), false));
    for answer in join_all(recorded).await {
        assert_eq!(answer.expect("recorded").position, 5);
    }
}

/// A fold that takes longer than a connection is waited for. On SQLite nothing holds up a fold but other writers.
#[tokio::test]
async fn with_one_connection_events_wait_for_the_fold() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    if !test.app.db.is_postgres() {
        return;
    }
    let db = Db::connect(test.server_url(), 1).await.expect("connect");
    let clock = Arc::<ManualClock>::clone(&test.clock);
    let app = App::new(db, clock, Arc::new(MemoryStream::default()), test.app.tokens.clone(), kek());
    let visits = |n: i64| {
        let fact = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
        event(&n.to_string(), "2026-06-01T10:00:00Z", fact)
    };
    let folding = test.app.db.write(acme.id()).await.expect("a transaction");
    folding.lock_rollups().await.expect("locked");
    for n in 0..5 {
        let events = (n * 1000..(n + 1) * 1000).map(visits).collect();
        app.ledger.record(acme.id(), By::default(), events, false).await.expect("recorded");
    }
    let mut record = std::pin::pin!(app.ledger.record(acme.id(), By::default(), vec![visits(5000)], false));
    let waits = tokio::time::timeout(Duration::from_secs(3), record.as_mut()).await;
    assert!(waits.is_err(), "{waits:?}");
    folding.commit().await.expect("ended");
    assert_eq!(record.await.expect("recorded").position, 5001);
}

#[tokio::test]
async fn who_waits_too_long_is_given_up_and_holds_up_nobody() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let db = &test.app.db;
    let stuck = async {
        let tx = db.write(acme.id()).await?;
        lock_head(&tx).await?;
        std::future::pending::<salespulse::error::Result<()>>().await
    };
    let given_up = db.within(Duration::from_millis(500), stuck).await;
    assert_eq!(given_up.expect_err("given up").code, Code::ServiceUnavailable);
    let visits = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
    acme.apply(vec![event("v", "2026-06-01T10:00:00Z", visits)]).await;
}

#[tokio::test]
async fn verify_finds_rollups_and_totals_that_are_not_the_sum_of_what_was_recorded() {
    let test = TestApp::start().await;
    let changes = [
        "UPDATE sales_metrics SET orders = orders + 1",
        "UPDATE sales_metrics SET gross = gross + 1",
        "UPDATE sales_metrics SET discount = discount + 1",
        "UPDATE sales_metrics SET units = units + 1",
        "UPDATE sales_metrics SET refunds = refunds + 1",
        "UPDATE sales_metrics SET refunds_by_order = refunds_by_order + 1",
        "UPDATE sales_metrics SET visits = visits + 1",
        "UPDATE sales_metrics SET customer_set = NULL",
        "UPDATE sales_metrics SET order_set = NULL",
        "UPDATE sales_metrics SET order_values = NULL",
        "UPDATE sales_metrics SET slot = slot + 1000",
        "UPDATE sales_metrics SET level = 100 + level",
        "DELETE FROM sales_metrics",
        "UPDATE sales_metrics_base SET orders = substr(orders, 1, 0), order_sets = substr(order_sets, 1, 0)",
        "UPDATE sales_metrics_base SET lines = substr(lines, 1, 0), line_sets = substr(line_sets, 1, 0)",
        "UPDATE sales_metrics_base SET slot = slot + 1",
        "DELETE FROM sales_metrics_base",
        "UPDATE customer_totals SET orders_count = orders_count + 1",
        "UPDATE customer_totals SET revenue = revenue + 1",
        "UPDATE customer_totals SET magnitude = magnitude + 1",
        "UPDATE customer_totals SET first_at = first_at - 1",
        "UPDATE customer_totals SET last_at = last_at + 1",
        "UPDATE customer_totals SET first_order_id = 'x'",
        "UPDATE orders SET segment = 3 - segment",
        "UPDATE products SET units = units + 1",
        "UPDATE products SET revenue = revenue + 1",
        "UPDATE products SET refunded = refunded + 1",
        "UPDATE products SET cost = cost + 1",
        "UPDATE products SET revenue_with_cost = revenue_with_cost + 1",
        "UPDATE other_revenue SET amount = amount + 1",
        "DELETE FROM other_revenue",
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let acme = test.tenant(&format!("acme-{n}")).await;
        acme.organization("us", chrono_tz::UTC, "USD").await;
        let mut orders = [order("A", 1, "c", "10.00"), order("B", 1, "c", "5.00"), order("C", 1, "d", "7.00")];
        orders[0].lines[0].cost = Some(money("3.00"));
        let lines = orders[1].lines.clone();
        let refund = RefundIssued { order_id: Some("B".into()), lines, ..RefundIssued::default() };
        let [a, b, c] = orders.map(Fact::OrderPlaced);
        acme.apply(vec![
            event("e1", "2026-06-01T10:00:00Z", a),
            event("e2", "2026-06-02T10:00:00Z", b),
            Event { organization: Some("us".into()), ..event("e3", "2026-06-03T10:00:00Z", c) },
            event("e4", "2026-06-04T10:00:00Z", Fact::RefundIssued(refund)),
        ])
        .await;
        acme.verified().await;
        let tx = test.app.db.write(acme.id()).await.expect("a transaction");
        let changed = tx.execute(&format!("{change} WHERE tenant_id = $1"), []).await.expect("changed");
        tx.commit().await.expect("committed");
        let report = salespulse::ledger::verify::verify(&test.app.db, acme.id()).await.expect("verify runs");
        assert!(changed > 0 && !report.differences.is_empty(), "{change}");
    }
}

#[tokio::test]
async fn verify_reports_what_cannot_be_read_and_goes_on() {
    let test = TestApp::start().await;
    // 2026-06-01T10:00:00Z as a day and as a quarter of an hour.
    let (day, quarter) = (20_605, 1_978_120);
    let of_base = |level: &str| format!("{level} of organization 1, slot {quarter}: what is stored cannot be read");
    let of_days = format!("org_no: 1, slot: {day}, ");
    for (n, (table, column, place, count)) in [
        ("sales_metrics_base", "orders", of_base("Quarter"), 1),
        ("sales_metrics_base", "order_sets", of_base("Quarter"), 1),
        ("sales_metrics_base", "lines", of_base("QuarterLine"), 1),
        ("sales_metrics_base", "line_sets", of_base("QuarterLine"), 1),
        ("sales_metrics", "customer_set", of_days.clone(), 7),
        ("sales_metrics", "order_set", of_days.clone(), 7),
        ("sales_metrics", "order_values", of_days, 7),
    ]
    .into_iter()
    .enumerate()
    {
        let acme = test.tenant(&format!("acme-{n}")).await;
        let placed = Fact::OrderPlaced(order("A", 1, "c", "10.00"));
        acme.apply(vec![event("e", "2026-06-01T10:00:00Z", placed)]).await;
        acme.verified().await;
        let tx = test.app.db.write(acme.id()).await.expect("a transaction");
        let corrupt = format!("UPDATE {table} SET {column} = $2 WHERE tenant_id = $1");
        tx.execute(&corrupt, [vec![0x80_u8].into()]).await.expect("changed");
        tx.execute("UPDATE customer_totals SET revenue = revenue + 1 WHERE tenant_id = $1", []).await.expect("changed");
        tx.commit().await.expect("committed");
        let report = salespulse::ledger::verify::verify(&test.app.db, acme.id()).await.expect("verify runs");
        let (unread, others): (Vec<_>, Vec<_>) =
            report.differences.iter().partition(|difference| difference.ends_with("what is stored cannot be read"));
        assert_eq!(unread.len(), count, "{column}: {unread:?}");
        assert!(unread.iter().all(|difference| difference.contains(&place)), "{column}: {unread:?}");
        // What comes after it is compared, and nothing is reported twice.
        assert!(others.len() == 1 && others[0].starts_with("customer "), "{column}: {others:?}");
    }
}

#[tokio::test]
async fn verify_ends_with_1_where_a_rollup_is_wrong() {
    let program = Program::new();
    let mapping = "name = \"shop\"\n[[feeds]]\nname = \"orders\"\nfact = \"order\"\nfile = { path = \"orders.csv\" }\n\
                   id = \"{#}\"\ntime = \"{time}\"\namount = \"{amount}\"\n";
    program.write("shop.toml", mapping);
    program.write("orders.csv", "time,amount\n2026-01-01,1\n");
    program.succeed(&["migrate"]);
    program.succeed(&["import", "--tenant", "acme", "--create-tenant", "shop.toml"]);
    assert!(program.succeed(&["verify"]).contains(", 0 differ"));
    let db = program.database().await;
    let acme = find_tenant(&db, "acme").await.expect("a query").expect("a tenant");
    for change in ["gross = gross + 1", "customer_set = $2"] {
        let tx = db.write(acme).await.expect("a transaction");
        let change = format!("UPDATE sales_metrics SET {change} WHERE tenant_id = $1");
        let values = change.contains("$2").then(|| vec![0x80_u8].into());
        tx.execute(&change, values).await.expect("changed");
        tx.commit().await.expect("committed");
        assert!(program.fail(1, &["verify"], &[]).contains("rows differ"), "{change}");
    }
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_other_content_is_a_conflict() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let first = event("e1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 1, "c", "10.00")));
    let answer = acme.record(vec![first.clone(), first.clone()]).await;
    assert_eq!(answer.outcomes, [Outcome::Applied { position: 1 }, Outcome::Repeated { position: 1 }]);
    let other = event("e1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 1, "c", "10.01")));
    let answer = acme.record(vec![other, first]).await;
    assert!(matches!(&answer.outcomes[0], Outcome::Refused(r) if r.code == RefusalCode::IdempotencyConflict));
    assert_eq!((&answer.outcomes[1], answer.position), (&Outcome::Repeated { position: 1 }, 1));
    acme.verified().await;
}

#[tokio::test]
async fn a_blank_text_repeats_one_that_is_not_given_and_the_other_way_round() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let sale = |id: &str, channel: Option<&str>, email: Option<&str>| {
        let customer = Customer { id: "c".into(), email: email.map(str::to_owned), ..Customer::default() };
        let placed =
            OrderPlaced { channel: channel.map(str::to_owned), customer: Some(customer), ..order(id, 1, "c", "10.00") };
        event(id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(placed))
    };
    acme.apply(vec![sale("A", Some(""), Some(" ")), sale("B", None, None)]).await;
    let again =
        acme.record(vec![sale("A", None, None), sale("A", Some(" "), None), sale("B", Some(""), Some(""))]).await;
    let repeated = |position| Outcome::Repeated { position };
    assert_eq!(again.outcomes, [repeated(1), repeated(1), repeated(2)]);
    acme.verified().await;
}

#[tokio::test]
async fn versions_refunds_and_cancellations_add_up() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let refund = RefundIssued { order_id: Some("A".into()), amount: Some(money("4.00")), ..RefundIssued::default() };
    acme.apply(vec![event("r1", "2026-06-03T10:00:00Z", Fact::RefundIssued(refund))]).await;
    acme.apply(vec![event("e2", "2026-06-02T10:00:00Z", Fact::OrderPlaced(order("B", 1, "c", "5.00")))]).await;
    acme.apply(vec![event("e1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 1, "c", "10.00")))]).await;
    acme.verified().await;
    acme.apply(vec![event("e3", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 2, "c", "12.00")))]).await;
    let older =
        acme.record(vec![event("e4", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 2, "c", "13.00")))]).await;
    assert!(matches!(older.outcomes[0], Outcome::Superseded { position: 5 }));
    acme.verified().await;
    let cancelled = OrderCancelled { order_id: "A".into(), version: 3 };
    acme.apply(vec![event("e5", "2026-06-05T10:00:00Z", Fact::OrderCancelled(cancelled))]).await;
    acme.verified().await;
}
