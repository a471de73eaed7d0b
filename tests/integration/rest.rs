//! Events over REST: each has its own answer, whatever is wrong with it.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use salespulse::auth::Role;
use salespulse::clock::SECOND;
use salespulse::server::{Options, router};
use serde_json::{Value, json};

use crate::senders::{SECRET, Sender, hmac, june, send};
use crate::support::{NOW, Server, TestApp, TestTenant};

const RECORD: &str = "mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events) { position } }";
const SIGNED_WITH: &str = "a secret of the tills";

/// The status and the body of what is answered to a manager.
async fn post(
    server: &Server,
    acme: &TestTenant<'_>,
    path: &str,
    headers: &[(&str, String)],
    body: Value,
) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("http://{}{path}", server.address));
    let request = request.bearer_auth(acme.admin().token()).header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    let answer = request.body(body.to_string()).send().await.expect("an answer");
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.expect("a body")).expect("json"))
}

fn order(id: &str, changes: Value) -> Value {
    let mut placed = json!({ "orderId": id, "amount": "10.00" });
    placed.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    json!({ "eventId": id, "occurredAt": "2026-06-01T10:00:00Z", "orderPlaced": placed })
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

/// Values of the wrong type: the event, and what is said of it after the event's place.
fn misfits() -> Vec<(Value, String)> {
    let line = |changes: Value| {
        let mut line = json!({ "productId": "p", "amount": "1.00" });
        line.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        json!({ "lines": [{ "productId": "q", "amount": "2.00" }, line] })
    };
    let decimal = "is not a Decimal: expected a decimal number such as \"19.90\", with at most four decimals";
    let time = "is not a DateTime: expected a time such as \"2026-01-31T12:00:00Z\", of the years 1970 to 2100";
    vec![
        (order("a", line(json!({ "amount": "1e3" }))), format!(".orderPlaced.lines.1.amount {decimal}")),
        (order("b", json!({ "amount": true })), format!(".orderPlaced.amount {decimal}")),
        (order("c", json!({ "amount": "0.00001" })), format!(".orderPlaced.amount {decimal}")),
        (order("d", json!({ "channel": 5 })), ".orderPlaced.channel is not of the type String".to_owned()),
        (
            order("e", json!({ "customer": { "id": null } })),
            ".orderPlaced.customer.id is not of the type ID".to_owned(),
        ),
        (
            order("f", json!({ "customer": {} })),
            ".orderPlaced.customer: field \"id\" of type \"ID!\" is required but not provided".to_owned(),
        ),
        (
            order("g", json!({ "amout": "1" })),
            ".orderPlaced: unknown field \"amout\" of type \"OrderPlacedInput\"".to_owned(),
        ),
        (
            order("h", json!({ "version": 1.5 })),
            ".orderPlaced.version is not a Count: expected a whole number of up to 2^53".to_owned(),
        ),
        (
            order("i", line(json!({ "quantity": "1" }))),
            ".orderPlaced.lines.1.quantity is not of the type Int".to_owned(),
        ),
        (with(order("j", json!({})), "occurredAt", json!("yesterday")), format!(".occurredAt {time}")),
        (with(order("k", json!({})), "occurredAt", json!("2126-06-01T10:00:00Z")), format!(".occurredAt {time}")),
        (
            json!({ "eventId": "l" }),
            ": field \"occurredAt\" of type \"DateTime!\" is required but not provided".to_owned(),
        ),
        (with(order("m", json!({})), "eventId", json!({ "id": 1 })), ".eventId is not of the type ID".to_owned()),
        (
            with(order("n", json!({})), "kind", json!("order")),
            ": unknown field \"kind\" of type \"SalesEventInput\"".to_owned(),
        ),
    ]
}

/// What GraphQL finds only while it executes, without a path.
fn late_misfits() -> Vec<(Value, String)> {
    vec![
        (json!(5), " is not of the type SalesEventInput".to_owned()),
        (json!(null), " is not of the type SalesEventInput".to_owned()),
        (json!([order("o", json!({}))]), " is not of the type SalesEventInput".to_owned()),
        (order("p", json!({ "customer": "Ann" })), ".orderPlaced.customer is not of the type CustomerInput".to_owned()),
        (
            order("q", json!({ "lines": [{ "productId": "p", "amount": "1", "quantity": 3_000_000_000_i64 }] })),
            ".orderPlaced.lines.0.quantity is not of the type Int".to_owned(),
        ),
        (
            with(order("r", json!({})), "orderCancelled", json!({ "orderId": "r" })),
            ": an event has exactly one fact".to_owned(),
        ),
    ]
}

#[tokio::test]
async fn events_come_over_rest_as_they_come_over_graphql() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let router = router(test.app.clone(), &Options::default());
    let post = async |role: Option<Role>, body: &str| {
        let mut headers = vec![("Content-Type", "application/json".to_owned())];
        headers.extend(role.map(|role| ("Authorization", format!("Bearer {}", acme.actor(role).token()))));
        send(&router, "/v1/events", &headers, body.to_owned()).await
    };
    let sale = json!({ "eventId": "a", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "1", "amount": "12.34" } });
    let ahead = json!({ "eventId": "b", "occurredAt": "2027-06-10T10:00:00Z", "orderPlaced": { "orderId": "2", "amount": "1" } });
    let body = json!({ "events": [sale, ahead] }).to_string();
    assert_eq!(post(None, &body).await.code(), (401, "UNAUTHENTICATED"));
    assert_eq!(post(Some(Role::Viewer), &body).await.code(), (403, "FORBIDDEN"));
    let reply = post(Some(Role::Manager), &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(reply.body["position"], "1");
    assert_eq!(reply.body["results"][0]["outcome"], "APPLIED");
    assert_eq!(reply.body["results"][1]["code"], "TIME_OUT_OF_RANGE");
    assert_eq!(june(&acme).await["grossRevenue"], "12.34");
    for (wrong, code) in [
        ("[]", "BAD_REQUEST"),
        ("{", "BAD_REQUEST"),
        (r#"{ "events": [], "more": 1 }"#, "BAD_REQUEST"),
        (r#"{ "events": [] }"#, "BAD_USER_INPUT"),
        ("{}", "BAD_USER_INPUT"),
    ] {
        let reply = post(Some(Role::Manager), wrong).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}: {}", reply.body);
        assert_eq!(reply.code().1, code, "{wrong}: {}", reply.body);
    }
    for event in [
        r#"{ "eventId": "x" }"#,
        r#"{ "eventId": "x", "occurredAt": "2026-06-10T10:00:00Z",
            "orderPlaced": { "orderId": "1", "amount": "1", "version": -9223372036854775808 } }"#,
    ] {
        let reply = post(Some(Role::Manager), &format!(r#"{{ "events": [{event}] }}"#)).await;
        assert_eq!(reply.body["results"][0]["code"], "BAD_USER_INPUT", "{event}: {}", reply.body);
    }
    let text = send(&router, "/v1/events", &[("Content-Type", "text/plain".to_owned())], "{}").await;
    assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    for path in ["/v1/events", &shop.path] {
        let headers = [("Content-Type", "application/json".to_owned()), ("Content-Encoding", "gzip".to_owned())];
        let packed = send(&router, path, &headers, "{}").await;
        assert_eq!(packed.code(), (415, "UNSUPPORTED_MEDIA_TYPE"), "{path}");
        assert!(packed.body["errors"][0]["message"].as_str().is_some_and(|text| text.contains("Content-Encoding")));
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_refused_alone() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let bad = [misfits(), late_misfits()].concat();
    // Between each two there is a good one.
    let good = |n: usize| order(&format!("good {n}"), json!({ "amount": 1 }));
    let events: Vec<Value> = bad.iter().enumerate().flat_map(|(n, (event, _))| [good(n), event.clone()]).collect();
    let (status, answer) = post(&server, &acme, "/v1/events", &[], json!({ "events": events })).await;
    assert_eq!((status, &answer["position"]), (200, &json!(bad.len().to_string())), "{answer}");
    let results = answer["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2 * bad.len());
    for (n, (pair, (event, why))) in results.chunks(2).zip(&bad).enumerate() {
        let (id, position) = (format!("good {n}"), (n + 1).to_string());
        let applied =
            json!({ "eventId": id, "outcome": "APPLIED", "position": position, "code": null, "reason": null });
        assert_eq!(pair[0], applied);
        let id = event["eventId"].as_str().unwrap_or_default();
        let reason = format!("events.{}{why}", 2 * n + 1);
        let refused = json!({ "eventId": id, "outcome": "REFUSED", "position": null, "code": "BAD_USER_INPUT", "reason": reason });
        assert_eq!(pair[1], refused);
    }
    let found = acme.admin().query("{ orders { totalCount } customers { totalCount } products { totalCount } }").await;
    let none = json!({ "totalCount": 0 });
    assert_eq!(found, json!({ "orders": { "totalCount": bad.len() }, "customers": none, "products": none }));
    server.stop().await;
    acme.verified().await;
}

#[tokio::test]
async fn graphql_and_signed_webhooks_say_the_same_of_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let create = format!(
        "mutation {{ createIntegration(kind: STANDARD, secret: \"{SIGNED_WITH}\", input: {{ name: \"tills\" }}) {{ url }} }}"
    );
    let made = acme.admin().query(&create).await;
    let url = made["createIntegration"]["url"].as_str().expect("a URL");
    let path = url.strip_prefix("http://localhost:4000").expect("a path");
    for (n, (event, why)) in [misfits(), late_misfits()].concat().into_iter().enumerate() {
        let reason = format!("events.0{why}");
        let body = json!({ "events": [event] });
        let (_, answer) = post(&server, &acme, "/v1/events", &[], body.clone()).await;
        assert_eq!(answer["results"][0]["reason"], reason);
        let (id, seconds) = (n.to_string(), (NOW.0 / SECOND).to_string());
        let tag = hmac(SIGNED_WITH.as_bytes(), format!("{id}.{seconds}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag));
        let headers = [("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature)];
        let (status, answer) = post(&server, &acme, path, &headers, body.clone()).await;
        assert_eq!((status, &answer["outcome"]), (200, &json!("quarantined")));
        let kept = acme.admin().query("{ quarantine(first: 1) { nodes { code reason } } }").await;
        let expected = json!([{ "code": "BAD_USER_INPUT", "reason": reason }]);
        assert_eq!(kept["quarantine"]["nodes"], expected);
        if n < misfits().len() {
            let refused = acme.admin().run(RECORD, body).await;
            let error = &serde_json::to_value(&refused.errors).expect("json")[0];
            let argument = reason.split([' ', ':']).next();
            assert_eq!(
                (&error["message"], error["extensions"]["argument"].as_str()),
                (&json!(reason), argument),
                "{error}"
            );
            assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_batch_of_nothing_that_can_be_read_has_the_position_before_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let send = async |events: Value| post(&server, &acme, "/v1/events", &[], json!({ "events": events })).await;
    let (_, answer) = send(json!([7])).await;
    assert_eq!((&answer["position"], &answer["results"][0]["outcome"]), (&json!("0"), &json!("REFUSED")));
    send(json!([order("a", json!({}))])).await;
    let (_, answer) = send(json!([order("b", json!({ "amount": [] }))])).await;
    assert_eq!((&answer["position"], &answer["results"][0]["outcome"]), (&json!("1"), &json!("REFUSED")));
    // What is no batch is refused as a whole; events that cannot be read count for its length.
    for events in [json!([]), json!(null), json!(order("c", json!({}))), json!("c"), json!(vec![7; 1001])] {
        let (status, answer) = send(events).await;
        let extensions = &answer["errors"][0]["extensions"];
        let expected = json!({ "code": "BAD_USER_INPUT", "argument": "events" });
        assert_eq!((status, extensions), (400, &expected), "{answer}");
    }
    let (status, answer) = post(&server, &acme, "/v1/events", &[], json!({ "events": [7], "backfill": 1 })).await;
    assert_eq!((status, &answer["errors"][0]["extensions"]["argument"]), (400, &json!("backfill")));
    server.stop().await;
}
