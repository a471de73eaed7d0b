//! Subscriptions over a real WebSocket, end to end.

use std::num::NonZeroU32;
use std::time::Duration;

use salespulse::audit::By;
use salespulse::auth::cursor::Mark;
use salespulse::clock::Timestamp;
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::ledger::event::{Event, Fact, Line, OrderCancelled, OrderPlaced};
use salespulse::live::feed::VALUES_MAX;
use salespulse::server::Options;
use serde_json::{Value, json};

use crate::ledger::{event, money, order};
use crate::monitor::Scrape;
use crate::socket::Socket;
use crate::support::{Server, TestApp, TestTenant, at};

fn sale(n: u32) -> Event {
    event(&format!("e{n}"), "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(&format!("o{n}"), 1, "c", "10.00")))
}

const WATCH: &str =
    "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant) { ordersCount totalRevenue asOf { position } } }";
const ALERTS: &str = "subscription ($tenant: ID!) { alertTriggered(tenantId: $tenant) { name state value position } }";

/// Waits until a subscription of `socket` follows the tenant.
async fn followed(tenant: &TestTenant<'_>, socket: &mut Socket) {
    while !tenant.test.app.feeds.list_places().iter().any(|(other, _)| *other == tenant.id()) {
        socket.ready().await;
    }
}

#[tokio::test]
async fn metrics_come_first_as_they_stand_then_after_each_change() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale(1)]).await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    socket.subscribe("1", WATCH, json!({ "tenant": acme.id().0 })).await;
    let first = socket.next("1").await;
    assert_eq!(
        first["data"]["metricsUpdated"],
        json!({ "ordersCount": 1, "totalRevenue": "10.00", "asOf": { "position": "1" } })
    );

    acme.apply(vec![sale(2), sale(3)]).await;
    let second = socket.next("1").await;
    assert_eq!(
        second["data"]["metricsUpdated"],
        json!({ "ordersCount": 3, "totalRevenue": "30.00", "asOf": { "position": "3" } })
    );
    server.stop().await;
}

#[tokio::test]
async fn the_cursor_stands_in_the_data_too_and_continues() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let watch = "subscription ($tenant: ID!, $after: Cursor) { \
                 metricsUpdated(tenantId: $tenant, after: $after) { ordersCount cursor } }";
    socket.subscribe("1", watch, json!({ "tenant": acme.id().0 })).await;
    let first = socket.next("1").await;
    let cursor = &first["data"]["metricsUpdated"]["cursor"];
    assert!(cursor.is_string() && *cursor == first["extensions"]["cursor"], "{first}");

    acme.apply(vec![sale(1)]).await;
    socket.subscribe("2", watch, json!({ "tenant": acme.id().0, "after": cursor })).await;
    let second = socket.next("2").await;
    assert_eq!(
        (&second["data"]["metricsUpdated"]["ordersCount"], &second["extensions"]["reset"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(second["data"]["metricsUpdated"]["cursor"], second["extensions"]["cursor"]);
    assert_ne!(second["data"]["metricsUpdated"]["cursor"], *cursor);

    let asked = acme.viewer().query("{ salesMetrics(period: { preset: TODAY }) { ordersCount cursor } }").await;
    assert_eq!(asked["salesMetrics"], json!({ "ordersCount": 1, "cursor": null }));
    server.stop().await;
}

#[tokio::test]
async fn alerts_of_some_rules_come_alone_and_the_cursor_continues_after_them() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut ids = Vec::new();
    for threshold in [0, 1, 2] {
        let create = format!(
            r#"mutation {{ createAlert(input: {{ name: "Over {threshold}", metric: ORDERS_COUNT, condition: ABOVE,
            threshold: "{threshold}", windowMinutes: 120 }}) {{ id }} }}"#
        );
        ids.push(acme.admin().query(&create).await["createAlert"]["id"].clone());
    }
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let alerts = "subscription ($tenant: ID!, $rules: [ID!], $after: Cursor) { \
                  alertTriggered(tenantId: $tenant, ruleIds: $rules, after: $after) { name cursor } }";
    let asked = |rules: &[Value], after: &Value| json!({ "tenant": acme.id().0, "rules": rules, "after": after });
    socket.subscribe("1", alerts, asked(&ids[1..], &Value::Null)).await;
    followed(&acme, &mut socket).await;
    for n in 1..=3 {
        acme.apply(vec![sale(n)]).await;
    }
    let first = socket.next("1").await["data"]["alertTriggered"].clone();
    assert_eq!(first["name"], "Over 1");
    assert_eq!(socket.next("1").await["data"]["alertTriggered"]["name"], "Over 2");
    // A cursor is one of the log, whatever the rules.
    socket.subscribe("2", alerts, asked(&ids[..1], &first["cursor"])).await;
    socket.subscribe("3", alerts, asked(&ids[2..], &first["cursor"])).await;
    assert_eq!(socket.next("3").await["data"]["alertTriggered"]["name"], "Over 2");
    for (id, rules, code) in
        [("4", vec![json!("nonsense")], "NOT_FOUND"), ("5", vec![ids[0].clone(); 101], "BAD_USER_INPUT")]
    {
        socket.subscribe(id, alerts, asked(&rules, &Value::Null)).await;
        assert_eq!(socket.next(id).await["errors"][0]["extensions"]["code"], code);
    }
    server.stop().await;
}

/// Whoever subscribed first may have nothing left; the others' answers are the same.
#[tokio::test]
async fn equal_subscriptions_are_not_refused_for_one_user_s_budget() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { user_fields: NonZeroU32::new(30), ..Limits::default() };
    let api = Settings { limits, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let by_hour = "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: { preset: LAST_7_DAYS }) { \
                   series(grain: HOUR) { ordersCount totalRevenue } } }";
    let create = r#"mutation { createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { secret } }"#;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let key = acme.admin().query(create).await["createApiKey"]["secret"].take();
        sockets.push(Socket::open(&server, key.as_str().expect("a secret")).await);
    }
    sockets[0].subscribe("spent", "{ a: me { id name email role } b: me { id name email role } }", Value::Null).await;
    assert!(sockets[0].next("spent").await["data"].is_object());
    for socket in &mut sockets {
        socket.subscribe("1", by_hour, json!({ "tenant": acme.id().0 })).await;
    }
    for socket in &mut sockets {
        let answer = socket.next("1").await;
        assert!(answer["data"]["metricsUpdated"]["series"].is_array(), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_begin_says_why() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let by_nothing = "metricsUpdated(tenantId: $tenant) { breakdown(by: []) { rowsCount } }";
    let of_nothing = r#"alertTriggered(tenantId: $tenant, ruleIds: ["x"]) { id }"#;
    for (id, field, code, argument) in
        [("1", by_nothing, "BAD_USER_INPUT", "by"), ("2", of_nothing, "NOT_FOUND", "ruleIds.0")]
    {
        let document = format!("subscription ($tenant: ID!) {{ {field} }}");
        socket.subscribe(id, &document, json!({ "tenant": acme.id().0 })).await;
        let error = socket.next(id).await["errors"][0].take();
        assert_eq!(error["extensions"], json!({ "code": code, "argument": argument }), "{error}");
    }
    server.stop().await;
}

#[tokio::test]
async fn no_more_values_are_watched_of_a_tenant_than_may_be() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let (_follows, followed) = test.app.feeds.follow(acme.id()).await.expect("followed");
    let others = followed.values.acquire_many(VALUES_MAX as u32 - 23).await.expect("taken");
    let by_hour =
        "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant) { series(grain: HOUR) { ordersCount } } }";
    socket.subscribe("1", by_hour, json!({ "tenant": acme.id().0 })).await;
    assert_eq!(socket.next("1").await["errors"][0]["extensions"]["code"], "RATE_LIMITED");
    drop(others);
    socket.subscribe("2", by_hour, json!({ "tenant": acme.id().0 })).await;
    let first = socket.next("2").await;
    assert_eq!(first["data"]["metricsUpdated"]["series"].as_array().map(Vec::len), Some(24), "{first}");
    assert_eq!(followed.values.available_permits(), VALUES_MAX - 24);
    server.stop().await;
}

#[tokio::test]
async fn another_tenant_is_neither_watched_nor_named() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.admin().token()).await;
    for (id, query) in [("1", WATCH), ("2", ALERTS)] {
        socket.subscribe(id, query, json!({ "tenant": other.id().0 })).await;
        let answer = socket.next(id).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
        // It has not begun: there is no data, not even null.
        assert_eq!(answer.get("data"), None, "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_alert_reaches_its_subscriber_with_the_position_that_caused_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = r#"mutation { createAlert(input: { name: "Busy", metric: ORDERS_COUNT, condition: ABOVE,
        threshold: "2", windowMinutes: 120 }) { state } }"#;
    assert_eq!(acme.admin().query(create).await, json!({ "createAlert": { "state": "OK" } }));
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    socket.subscribe("1", ALERTS, json!({ "tenant": acme.id().0 })).await;
    followed(&acme, &mut socket).await;
    acme.apply(vec![sale(1), sale(2)]).await;
    acme.apply(vec![sale(3)]).await;
    let alert = socket.next("1").await["data"]["alertTriggered"].clone();
    assert_eq!(alert, json!({ "name": "Busy", "state": "FIRING", "value": "3.00", "position": "3" }));

    let history = acme.viewer().query("{ alertHistory { nodes { state position } } alerts { state } }").await;
    assert_eq!(
        history,
        json!({ "alertHistory": { "nodes": [{ "state": "FIRING", "position": "3" }] }, "alerts": [{ "state": "FIRING" }] })
    );
    server.stop().await;
}

#[tokio::test]
async fn a_firing_rule_that_is_changed_or_deleted_is_reported_as_resolved() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let input = |enabled: bool| {
        format!(
            r#"input: {{ name: "Busy", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 120,
            recipients: [{{ channel: EMAIL, target: "someone@example.com" }}], enabled: {enabled} }}"#
        )
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let create = format!("mutation {{ createAlert({}) {{ id }} }}", input(true));
        ids.push(acme.admin().query(&create).await["createAlert"]["id"].clone());
    }
    acme.apply(vec![sale(1)]).await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    socket.subscribe("1", ALERTS, json!({ "tenant": acme.id().0 })).await;
    followed(&acme, &mut socket).await;
    let disable = format!("mutation {{ updateAlert(id: {}, {}) {{ state }} }}", ids[0], input(false));
    let delete = format!("mutation {{ deleteAlert(id: {}) }}", ids[1]);
    let resolved = json!({ "name": "Busy", "state": "RESOLVED", "value": null, "position": "1" });
    for change in [&disable, &delete] {
        acme.admin().query(change).await;
        assert_eq!(socket.next("1").await["data"]["alertTriggered"], resolved);
    }
    // A rule at rest has nothing to tell.
    acme.admin().query(&disable).await;
    let shown = acme.admin().query("{ alertHistory { nodes { state } } alertDeliveries { nodes { state } } }").await;
    let states: Vec<_> = ["RESOLVED", "RESOLVED", "FIRING", "FIRING"].map(|state| json!({ "state": state })).into();
    assert_eq!(shown["alertHistory"]["nodes"], json!(states));
    assert_eq!(shown["alertDeliveries"]["nodes"].as_array().map(Vec::len), Some(4));
    server.stop().await;
}

/// A rule that any sale makes fire.
const ANY_SALE: &str = r#"mutation { createAlert(input: { name: "Busy", metric: ORDERS_COUNT, condition: ABOVE,
    threshold: "0", windowMinutes: 120 }) { id } }"#;

#[tokio::test]
async fn a_backfill_fires_no_alert() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.admin().query(ANY_SALE).await;
    test.app.ledger.record(acme.id(), By::default(), vec![sale(1)], true).await.expect("recorded");
    let history = acme.viewer().query("{ alertHistory { nodes { state } } }").await;
    assert_eq!(history, json!({ "alertHistory": { "nodes": [] } }));
}

#[tokio::test]
async fn a_socket_without_a_good_token_is_closed() {
    let test = TestApp::start().await;
    let server = Server::start(&test).await;
    for payload in [Value::Null, json!({ "Authorization": "Bearer nonsense" })] {
        assert!(Socket::try_open(&server, payload).await.is_none());
    }
    server.stop().await;
}

#[tokio::test]
async fn alert_rules_are_checked_and_guarded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = |input: &str| {
        format!("mutation {{ createAlert(input: {{ metric: VISITS, condition: BELOW, {input} }}) {{ id }} }}")
    };
    let good = create(r#"name: "Quiet", threshold: "5""#);
    assert_eq!(acme.viewer().error_code(&good).await, "FORBIDDEN");
    let id = acme.admin().query(&good).await["createAlert"]["id"].as_str().expect("an id").to_owned();
    for bad in [
        r#"name: " ", threshold: "5""#,
        r#"name: "x", threshold: "five""#,
        r#"name: "x""#,
        r#"name: "x", threshold: "5", windowMinutes: 20"#,
    ] {
        assert_eq!(acme.admin().error_code(&create(bad)).await, "BAD_USER_INPUT", "{bad}");
    }
    let update = |id: &str| {
        format!(
            r#"mutation {{ updateAlert(id: "{id}", input: {{ name: "Q", metric: VISITS, condition: BELOW, threshold: "6", filters: {{ channels: ["web"] }} }}) {{ name filters }} }}"#
        )
    };
    let other = test.tenant("other").await;
    assert_eq!(other.admin().error_code(&update(&id)).await, "NOT_FOUND");
    assert_eq!(other.admin().error_code(&format!(r#"mutation {{ deleteAlert(id: "{id}") }}"#)).await, "NOT_FOUND");
    let updated = acme.admin().query(&update(&id)).await;
    assert_eq!(updated, json!({ "updateAlert": { "name": "Q", "filters": { "channels": ["web"] } } }));
    acme.admin().query(&format!(r#"mutation {{ deleteAlert(id: "{id}") }}"#)).await;
    assert_eq!(acme.admin().query("{ alerts { id } }").await, json!({ "alerts": [] }));
}

const RESUMABLE: &str = "subscription ($tenant: ID!, $after: Cursor) {
    metricsUpdated(tenantId: $tenant, after: $after) { ordersCount asOf { position } } }";

#[tokio::test]
async fn equal_subscriptions_share_one_computation_that_reads_nothing_for_an_update() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // The lane folds its tail when it ends, so that all statements of a batch are counted.
    let record = async |n: u32| {
        acme.apply(vec![sale(n)]).await;
        test.app.ledger.close().await;
    };
    record(1).await;
    let before = test.app.db.statements();
    record(2).await;
    let alone = test.app.db.statements() - before;

    let server = Server::start(&test).await;
    let series = "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant) {
        uniqueCustomers newCustomers returningCustomers orderValueP95 conversionRate
        series(grain: HOUR, by: CHANNEL) { key { label } totalRevenue }
        breakdown(by: [REGION]) { rows { key ordersCount } } } }";
    let mut sockets = Vec::new();
    for n in 0..8 {
        let mut socket = Socket::open(&server, &acme.viewer().token()).await;
        let query = if n % 2 == 0 { WATCH } else { series };
        socket.subscribe("1", query, json!({ "tenant": acme.id().0 })).await;
        socket.next("1").await;
        sockets.push(socket);
    }
    let scrape = Scrape::of(&server).await;
    let [cohorts, members] = ["cohorts", "cohort_members"].map(|name| scrape.get(&format!("salespulse_{name}")));
    assert_eq!((cohorts, members), (2.0, 8.0), "a computation for each of the two documents");
    // A look at the head that falls between commit and notice costs a reading, so there is more than one try.
    let mut watched = alone;
    for n in 3..8 {
        let before = test.app.db.statements();
        record(n).await;
        let mut answers = Vec::new();
        for socket in &mut sockets {
            answers.push(socket.next("1").await);
        }
        // Not before all have their answers: what is sent to them is held back for a moment.
        watched = test.app.db.statements() - before;
        for n in 2..8 {
            assert_eq!(answers[n], answers[n - 2], "the same cursor and the same numbers");
        }
        assert_eq!(answers[0]["data"]["metricsUpdated"]["ordersCount"], n);
        if watched == alone {
            break;
        }
    }
    assert_eq!(watched, alone, "statements and transactions of a batch");
    server.stop().await;
}

/// Rollups of days count such an order once in a category, and the entries that take it back once for each product.
#[tokio::test]
async fn amounts_of_a_category_stay_exact_when_an_order_of_several_of_its_products_is_cancelled() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let line = |product: &str, amount: &str| {
        let category = Some("shoes".to_owned());
        Line {
            product_id: product.into(),
            category,
            amount: money(amount),
            ..order("", 1, "", "1.00").lines[0].clone()
        }
    };
    let place = |id: &str, lines: Vec<Line>| {
        let placed = OrderPlaced { lines, customer: None, ..order(id, 1, "", "1.00") };
        event(id, "2026-06-10T06:00:00Z", Fact::OrderPlaced(placed))
    };
    acme.apply(vec![place("A", vec![line("a", "134.32")]), place("B", vec![line("b", "10.00"), line("c", "20.00")])])
        .await;
    acme.fold().await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let watch = "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: { preset: LAST_30_DAYS }) {
        breakdown(by: [PRODUCT_CATEGORY]) { rows { totalRevenue unitsSold } } } }";
    socket.subscribe("1", watch, json!({ "tenant": acme.id().0 })).await;
    let rows = |answer: Value| answer["data"]["metricsUpdated"]["breakdown"]["rows"].clone();
    assert_eq!(rows(socket.next("1").await), json!([{ "totalRevenue": "164.32", "unitsSold": 6 }]));
    let cancelled = OrderCancelled { order_id: "B".into(), version: 2 };
    acme.apply(vec![event("x", "2026-06-12T00:00:00Z", Fact::OrderCancelled(cancelled))]).await;
    assert_eq!(rows(socket.next("1").await), json!([{ "totalRevenue": "134.32", "unitsSold": 2 }]));
    server.stop().await;
}

#[tokio::test]
async fn who_comes_back_with_a_cursor_gets_what_was_missed_and_no_more() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let mut subscribe = async |id: &'static str, after: &Value| {
        socket.subscribe(id, RESUMABLE, json!({ "tenant": acme.id().0, "after": after })).await;
    };
    let cursor = |answer: &Value| answer["extensions"]["cursor"].clone();
    let orders = |answer: &Value| answer["data"]["metricsUpdated"]["ordersCount"].clone();
    subscribe("first", &Value::Null).await;
    let mut watcher = Socket::open(&server, &acme.viewer().token()).await;
    watcher.subscribe("1", RESUMABLE, json!({ "tenant": acme.id().0 })).await;
    let none = watcher.next("1").await;
    assert_eq!(orders(&none), 0);

    // Nothing is new: the first answer is that of the next sale.
    subscribe("current", &cursor(&none)).await;
    socket.ready().await;
    acme.apply(vec![sale(1)]).await;
    let one = socket.next("current").await;
    assert_eq!((orders(&one), &one["extensions"]["skipped"]), (json!(1), &Value::Null));

    // Something is new: it comes at once.
    let mut subscribe = async |id: &'static str, after: &Value| {
        socket.subscribe(id, RESUMABLE, json!({ "tenant": acme.id().0, "after": after })).await;
        socket.next(id).await
    };
    let missed = subscribe("missed", &cursor(&none)).await;
    assert_eq!((orders(&missed), &missed["extensions"]["reset"]), (json!(1), &Value::Null));
    assert_eq!(cursor(&missed), cursor(&one), "equal subscriptions are told the same");

    // What is no cursor of this subscription does not go on from anything.
    let mut foreign = Socket::open(&server, &other.viewer().token()).await;
    foreign.subscribe("1", RESUMABLE, json!({ "tenant": other.id().0 })).await;
    let foreign = cursor(&foreign.next("1").await);
    for (id, after) in [("foreign", foreign), ("none", json!("nonsense")), ("empty", json!(""))] {
        let fresh = subscribe(id, &after).await;
        assert_eq!((orders(&fresh), &fresh["extensions"]["reset"]), (json!(1), &json!(true)), "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn alerts_are_gone_on_with_from_their_cursor() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for (name, condition, threshold) in [("Busy", "ABOVE", 1), ("Very busy", "ABOVE", 2)] {
        let create = format!(
            r#"mutation {{ createAlert(input: {{ name: "{name}", metric: ORDERS_COUNT, condition: {condition},
            threshold: "{threshold}", windowMinutes: 120 }}) {{ id }} }}"#
        );
        acme.admin().query(&create).await;
    }
    for n in 1..4 {
        acme.apply(vec![sale(n)]).await;
    }
    let history = "{ alertHistory { nodes { name cursor } } }";
    let history = acme.viewer().query(history).await["alertHistory"]["nodes"].clone();
    assert_eq!((&history[0]["name"], &history[1]["name"]), (&json!("Very busy"), &json!("Busy")));

    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let query = "subscription ($tenant: ID!, $after: Cursor) { alertTriggered(tenantId: $tenant, after: $after) { name cursor } }";
    socket.subscribe("1", query, json!({ "tenant": acme.id().0, "after": history[1]["cursor"] })).await;
    let next = socket.next("1").await;
    assert_eq!(next["data"]["alertTriggered"], history[0], "the first one that was not seen");
    assert_eq!(next["extensions"]["cursor"], history[0]["cursor"]);
    for after in ["nonsense", ""] {
        socket.subscribe("2", query, json!({ "tenant": acme.id().0, "after": after })).await;
        assert_eq!(socket.next("2").await["errors"][0]["extensions"]["code"], "RESUME_GAP");
    }
    server.stop().await;
}

/// Also if the first alert is one of them.
#[tokio::test]
async fn alerts_that_fire_while_a_client_is_away_are_sent_when_it_is_back() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.admin().query(ANY_SALE).await;
    let start = acme.viewer().query("{ alertCursor alertHistory { nodes { cursor } } }").await;
    assert_eq!(start["alertHistory"]["nodes"], json!([]));
    let server = Server::start(&test).await;
    let query = "subscription ($tenant: ID!, $after: Cursor) { alertTriggered(tenantId: $tenant, after: $after) { name cursor } }";
    let variables = json!({ "tenant": acme.id().0, "after": start["alertCursor"] });
    let subscribe = async || {
        let mut socket = Socket::open(&server, &acme.viewer().token()).await;
        socket.subscribe("1", query, variables.clone()).await;
        socket
    };
    let mut cut_off = subscribe().await;
    followed(&acme, &mut cut_off).await;
    drop(cut_off);
    acme.apply(vec![sale(1)]).await;
    let alert = subscribe().await.next("1").await["data"]["alertTriggered"].take();
    assert_eq!(alert["name"], "Busy");
    let end = acme.viewer().query("{ alertCursor }").await;
    assert_eq!(end["alertCursor"], alert["cursor"]);
    server.stop().await;
}

#[tokio::test]
async fn a_log_read_to_its_end_in_full_pages_goes_on() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for n in 0..100 {
        let create = format!(
            r#"mutation {{ createAlert(input: {{ name: "{n}", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0",
            windowMinutes: 120 }}) {{ id }} }}"#
        );
        acme.admin().query(&create).await;
    }
    acme.apply(vec![sale(1)]).await;
    let start = Mark { position: 0, part: 0, until: None };
    let cursor = test.app.tokens.cursors().write(acme.id(), b"alertTriggered", start);
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let query =
        "subscription ($tenant: ID!, $after: Cursor) { alertTriggered(tenantId: $tenant, after: $after) { state } }";
    socket.subscribe("1", query, json!({ "tenant": acme.id().0, "after": cursor })).await;
    for _ in 0..100 {
        assert_eq!(socket.next("1").await["data"]["alertTriggered"]["state"], "FIRING");
    }
    let undo = Fact::OrderCancelled(OrderCancelled { order_id: "o1".into(), version: 2 });
    acme.apply(vec![event("undo", "2026-06-15T11:00:00Z", undo)]).await;
    for _ in 0..100 {
        assert_eq!(socket.next("1").await["data"]["alertTriggered"]["state"], "RETRACTED");
    }
    server.stop().await;
}

#[tokio::test]
async fn time_alone_closes_a_bucket_and_moves_a_period() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let watch = "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: { preset: TODAY }) {
        period { start } series(grain: HOUR) { start state } } }";
    let end = at("2026-06-15T13:00:00Z");
    test.clock.set(Timestamp(end.0 - 50_000));
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    socket.subscribe("1", watch, json!({ "tenant": acme.id().0 })).await;
    let state = |answer: &Value| answer["data"]["metricsUpdated"]["series"][12]["state"].clone();
    assert_eq!(state(&socket.next("1").await), "OPEN");
    test.clock.set(end);
    assert_eq!(state(&socket.next("1").await), "CLOSED");

    test.clock.set(Timestamp(at("2026-06-16T00:00:00Z").0 - 50_000));
    acme.apply(vec![sale(1)]).await;
    socket.next("1").await;
    test.clock.set(at("2026-06-16T00:00:00Z"));
    loop {
        let answer = socket.next("1").await;
        if answer["data"]["metricsUpdated"]["period"]["start"] == "2026-06-16T00:00:00Z" {
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_subscription_has_one_field() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let two = "subscription ($tenant: ID!) { a: metricsUpdated(tenantId: $tenant) { visits } alertTriggered(tenantId: $tenant) { id } }";
    socket.subscribe("1", two, json!({ "tenant": acme.id().0 })).await;
    assert_eq!(socket.next("1").await["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED");
    server.stop().await;
}

/// What an abandoned request had begun to read would otherwise keep the connection that all feeds look at heads with.
#[tokio::test]
async fn an_abandoned_look_at_a_head_holds_nobody_up() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let db = &test.app.db;
    for _ in 0..3 {
        let _ = tokio::time::timeout(Duration::ZERO, db.head(acme.id())).await;
        let head = tokio::time::timeout(Duration::from_secs(20), db.head(acme.id())).await;
        assert!(head.expect("not held up").expect("read").is_some());
    }
}
