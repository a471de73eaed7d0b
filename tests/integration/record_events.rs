//! `recordEvents` with bad input: each event gets its own answer, and nothing of a refused one stays.

use serde_json::{Value, json};

use crate::support::{Actor, TestApp};

const RECORD: &str = "mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events) \
    { position results { eventId outcome position code reason } } }";

/// An event with one fact.
fn event(id: &str, fact: &str, content: Value) -> Value {
    json!({ "eventId": id, "occurredAt": "2026-06-01T10:00:00Z", fact: content })
}

fn order(id: &str, changes: Value) -> Value {
    let mut placed = json!({ "orderId": id, "amount": "10.00" });
    placed.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    event(id, "orderPlaced", placed)
}

async fn record(actor: &Actor<'_>, events: Vec<Value>) -> Value {
    actor.query_with(RECORD, json!({ "events": events })).await["recordEvents"].clone()
}

#[tokio::test]
async fn each_bad_event_is_refused_alone_with_its_code() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let line = |amount: &str, quantity: i64| json!([{ "productId": "p", "amount": amount, "quantity": quantity }]);
    let mut late = order("ahead", json!({}));
    late["occurredAt"] = json!("2026-06-15T12:06:00Z");
    let mut elsewhere = order("elsewhere", json!({}));
    elsewhere["organizationId"] = json!("nobody");
    let mut two_facts = order("two", json!({}));
    two_facts["orderCancelled"] = json!({ "orderId": "two" });
    let bad = [
        (order("", json!({})), "BAD_USER_INPUT"),
        (order(&"x".repeat(201), json!({})), "BAD_USER_INPUT"),
        (order("nul\u{0}", json!({})), "BAD_USER_INPUT"),
        (order("channel", json!({ "channel": "a\u{0}b" })), "BAD_USER_INPUT"),
        (order("negative", json!({ "amount": "-0.01" })), "BAD_USER_INPUT"),
        (order("version", json!({ "version": -1 })), "BAD_USER_INPUT"),
        (order("line", json!({ "amount": null, "lines": line("-1.00", 1) })), "BAD_USER_INPUT"),
        (order("quantity", json!({ "lines": line("1.00", -1) })), "BAD_USER_INPUT"),
        (order("nothing", json!({ "amount": null })), "BAD_USER_INPUT"),
        (order("large", json!({ "amount": "1000000000000.01" })), "AMOUNT_OUT_OF_RANGE"),
        (order("currency", json!({ "currency": "XXQ" })), "BAD_CURRENCY"),
        (order("rate", json!({ "currency": "JPY" })), "NO_EXCHANGE_RATE"),
        (late, "TIME_OUT_OF_RANGE"),
        (elsewhere, "NOT_FOUND"),
        (two_facts, "BAD_USER_INPUT"),
        (json!({ "eventId": "none", "occurredAt": "2026-06-01T10:00:00Z" }), "BAD_USER_INPUT"),
        (event("refund", "refundIssued", json!({ "amount": "-5.00" })), "BAD_USER_INPUT"),
        (event("visits", "visitsCounted", json!({ "count": 0 })), "BAD_USER_INPUT"),
        (
            event("deal", "dealClosed", json!({ "dealId": "d", "owner": "nobody", "won": true, "amount": "1" })),
            "NOT_FOUND",
        ),
    ];
    let mut events: Vec<Value> = bad.iter().map(|(event, _)| event.clone()).collect();
    events.insert(3, order("good", json!({})));
    let answer = record(&admin, events).await;
    let mut results = answer["results"].as_array().expect("a list").clone();
    let good = results.remove(3);
    assert_eq!(good, json!({ "eventId": "good", "outcome": "APPLIED", "position": "1", "code": null, "reason": null }));
    for (result, (event, code)) in results.iter().zip(&bad) {
        assert_eq!((&result["outcome"], &result["code"]), (&json!("REFUSED"), &json!(code)), "{event}: {result}");
        assert!(result["position"].is_null() && result["reason"].is_string(), "{result}");
    }
    assert_eq!((&answer["position"], results.len()), (&json!("1"), bad.len()));
    let all = "{ orders { nodes { externalId } } customers { nodes { id } } products { nodes { sku } } }";
    let kept = json!({ "orders": { "nodes": [{ "externalId": "good" }] }, "customers": { "nodes": [] }, "products": { "nodes": [] } });
    assert_eq!(admin.query(all).await, kept, "nothing of a refused event stays");
    acme.verified().await;
}

#[tokio::test]
async fn values_that_are_none_are_bad_input_of_the_whole_request() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for (amount, when) in [
        (json!("NaN"), "2026-06-01T10:00:00Z"),
        (json!("1e3"), "2026-06-01T10:00:00Z"),
        (json!("0.00001"), "2026-06-01T10:00:00Z"),
        (json!("9999999999999999"), "2026-06-01T10:00:00Z"),
        (json!(true), "2026-06-01T10:00:00Z"),
        (json!("1.00"), "yesterday"),
        (json!("1.00"), "2026-06-01T10:00:00"),
        (json!("1.00"), "2126-06-01T10:00:00Z"),
    ] {
        let event = json!({ "eventId": "e", "occurredAt": when, "orderPlaced": { "orderId": "o", "amount": amount } });
        let response = acme.admin().run(RECORD, json!({ "events": [event] })).await;
        let error = &serde_json::to_value(&response.errors).expect("json")[0];
        assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT", "{amount} {when}: {error}");
    }
    assert_eq!(acme.admin().error_code("mutation { recordEvents(events: []) { position } }").await, "BAD_USER_INPUT");
    let refused = acme.viewer().run(RECORD, json!({ "events": [order("o", json!({}))] })).await;
    assert!(format!("{:?}", refused.errors).contains("FORBIDDEN"), "{refused:?}");
}
