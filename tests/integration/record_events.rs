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
async fn what_cannot_be_converted_or_added_up_leaves_no_trace() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let create = r#"mutation { createOrganization(input: { slug: "hanoi", name: "Hanoi", timezone: "Asia/Ho_Chi_Minh", currency: "VND" }) { id } }"#;
    admin.query(create).await;
    let rate =
        r#"mutation { setExchangeRates(rates: [{ from: "USD", to: "VND", validFrom: "2020-01-01", rate: "25000" }]) }"#;
    admin.query(rate).await;
    let in_hanoi = |mut event: Value| {
        event["organizationId"] = json!("hanoi");
        event
    };
    let line = |product: &str, category: &str, amount: &str| json!({ "productId": product, "category": category, "amount": amount });
    let refund = |id: &str, amount: &str, line: Value| {
        in_hanoi(event(
            id,
            "refundIssued",
            json!({ "orderId": "C", "currency": "USD", "amount": amount, "lines": [line] }),
        ))
    };
    let bought =
        |id: &str, line: Value| in_hanoi(order(id, json!({ "currency": "VND", "amount": "10", "lines": [line] })));
    // Converted, the line is beyond all bounds; alone in its batch, and beside others of its order.
    let large = || line("ghost", "ghosts", "1000000000000");
    let refused = record(&admin, vec![refund("alone", "1", large())]).await;
    assert_eq!(refused["results"][0]["code"], "AMOUNT_OUT_OF_RANGE", "{refused}");
    let many: Vec<Value> = (0..1000).map(|n| line(&n.to_string(), "many", "1000000000000")).collect();
    let batch = vec![
        bought("C", line("tea", "drinks", "10")),
        refund("beside", "1", large()),
        refund("good", "0.0001", line("tea", "drinks", "0.0001")),
        in_hanoi(order("many", json!({ "currency": "VND", "amount": "1", "lines": many }))),
        bought("D", line("cup", "things", "7")),
    ];
    let answer = record(&admin, batch).await;
    let outcomes: Vec<&Value> = answer["results"].as_array().expect("a list").iter().map(|r| &r["outcome"]).collect();
    assert_eq!(outcomes, ["APPLIED", "REFUSED", "APPLIED", "REFUSED", "APPLIED"], "{answer}");
    let query = r#"{ products { nodes { sku } } salesMetrics(period: { start: "2026-06-01T00:00:00Z", end: "2026-06-02T00:00:00Z" },
        filters: { organizationId: "hanoi" }) { refunds breakdown(by: [PRODUCT_CATEGORY], orderBy: { metric: GROSS_REVENUE }) { rows { key grossRevenue } } } }"#;
    let found = admin.query(query).await;
    assert_eq!(found["products"]["nodes"], json!([{ "sku": "tea" }, { "sku": "cup" }]));
    let rows = json!([{ "key": "drinks", "grossRevenue": "10.00" }, { "key": "things", "grossRevenue": "7.00" }]);
    assert_eq!(
        (&found["salesMetrics"]["breakdown"]["rows"], &found["salesMetrics"]["refunds"]),
        (&rows, &json!("2.50"))
    );
    acme.verified().await;
}

#[tokio::test]
async fn sums_beyond_64_bits_refuse_the_event_that_makes_them() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // Of one product and one customer, 900 of the largest amounts fit, and 1,000 do not.
    let large = |n: usize| {
        let line = json!([{ "productId": "gold", "amount": "1000000000000" }]);
        order(&n.to_string(), json!({ "amount": "1000000000000", "customer": { "id": "rich" }, "lines": line }))
    };
    let answer = record(&acme.admin(), (0..1000).map(large).collect()).await;
    let results = answer["results"].as_array().expect("a list");
    let refused: Vec<&Value> = results.iter().filter(|result| result["outcome"] != "APPLIED").collect();
    assert!((78..=100).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|result| result["code"] == "AMOUNT_OUT_OF_RANGE"), "{refused:?}");
    acme.verified().await;
    // What was refused with others and would fit alone is not told to have been there.
    let small = |id: &str, amount: &str| {
        let mut event = order(id, json!({ "amount": amount, "customer": { "id": "rich" } }));
        event["eventId"] = json!("one");
        event
    };
    let twice = record(&acme.admin(), vec![small("a", "1000000000000"), small("b", "1.00")]).await;
    assert_eq!(twice["results"][1]["outcome"], "APPLIED", "{twice}");
}

#[tokio::test]
async fn a_value_that_is_none_stops_the_request_before_anything_is_written() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let document = r#"mutation ($events: [SalesEventInput!]!) { createTeam(input: { name: "too early" }) { id } recordEvents(events: $events) { position } }"#;
    let mut bad = order("o", json!({}));
    bad["occurredAt"] = json!("yesterday");
    let refused = acme.admin().run(document, json!({ "events": [order("n", json!({})), bad] })).await;
    let error = &serde_json::to_value(&refused.errors).expect("json")[0];
    assert_eq!(error["extensions"], json!({ "code": "BAD_USER_INPUT", "argument": "events.1.occurredAt" }), "{error}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("events.1.occurredAt is not a DateTime: expected a time such as"), "{message}");
    assert_eq!(acme.admin().query("{ teams { name } }").await["teams"], json!([]));
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

#[tokio::test]
async fn blank_texts_are_not_given() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let customer =
        |name: &str, phone: &str| json!({ "id": "c", "name": name, "phone": phone, "email": "", "address": "\t" });
    let line = |title: &str, category: &str| json!([{ "productId": "tea", "title": title, "category": category, "amount": "10.00" }]);
    let known = json!({ "channel": "web", "customer": customer("Zoe", "1"), "lines": line("Tea", "drinks") });
    let blank = json!({ "channel": " ", "region": "", "customer": customer(" ", ""), "lines": line("  ", " ") });
    let refund = json!({ "orderId": "known", "amount": "1.00", "channel": "", "lines": [] });
    let all = vec![order("known", known), order("blank", blank.clone()), event("refund", "refundIssued", refund)];
    record(&admin, all).await;
    let repeated = record(&admin, vec![order("blank", blank)]).await;
    assert_eq!(repeated["results"][0]["outcome"], "REPEATED", "{repeated}");
    let query = "{ customers { nodes { name phone email address } } products { nodes { title } } \
                 orders { nodes { externalId channel region } } \
                 salesMetrics(period: {preset: LAST_30_DAYS}) { breakdown(by: [CHANNEL]) { rows { keys { value } refunds } } } }";
    let answer = admin.query(query).await;
    let zoe = json!([{ "name": "Zoe", "phone": "1", "email": null, "address": null }]);
    assert_eq!(answer["customers"]["nodes"], zoe);
    assert_eq!(answer["products"]["nodes"], json!([{ "title": "Tea" }]));
    let orders = json!([{ "externalId": "blank", "channel": null, "region": null }, { "externalId": "known", "channel": "web", "region": null }]);
    assert_eq!(answer["orders"]["nodes"], orders);
    let rows = answer["salesMetrics"]["breakdown"]["rows"].as_array().expect("rows");
    let web = rows.iter().find(|row| row["keys"][0]["value"] == "web").expect("a channel");
    assert_eq!(web["refunds"], "1.00", "its order's channel");
}
