//! Subscriptions over a real WebSocket, end to end.

use salespulse::ledger::event::{Event, Fact};
use serde_json::{Value, json};

use crate::ledger::{event, order};
use crate::socket::Socket;
use crate::support::{Server, TestApp};

fn sale(n: u32) -> Event {
    event(&format!("e{n}"), "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(&format!("o{n}"), 1, "c", "10.00")))
}

const WATCH: &str =
    "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant) { ordersCount totalRevenue asOf { position } } }";
const ALERTS: &str = "subscription ($tenant: ID!) { alertTriggered(tenantId: $tenant) { name state value position } }";

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
async fn another_tenant_is_neither_watched_nor_named() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.admin().token()).await;
    for (id, query) in [("1", WATCH), ("2", ALERTS)] {
        socket.subscribe(id, query, json!({ "tenant": other.id().0 })).await;
        let answer = socket.next(id).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
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
    while !test.app.stream.listening().contains(&acme.id()) {
        socket.ready().await;
    }
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
async fn a_backfill_fires_no_alert() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = r#"mutation { createAlert(input: { name: "Busy", metric: ORDERS_COUNT, condition: ABOVE,
        threshold: "0", windowMinutes: 120 }) { id } }"#;
    acme.admin().query(create).await;
    test.app.ledger.record(acme.id(), vec![sale(1)], true).await.expect("recorded");
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
