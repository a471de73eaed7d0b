//! Customers, their order, and what is known of one.

use salespulse::ledger::event::{Fact, OrderCancelled, RefundIssued};
use serde_json::{Value, json};

use crate::ledger::{event, money, order};
use crate::support::{TestApp, TestTenant};

#[tokio::test]
async fn customers_are_ordered_as_asked_with_ties_by_id() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let place = |id: &str, when: &str, customer: &str, amount: &str| {
        event(id, when, Fact::OrderPlaced(order(id, 1, customer, amount)))
    };
    acme.apply(vec![
        place("1", "2026-06-01T10:00:00Z", "a", "5.00"),
        place("2", "2026-06-03T10:00:00Z", "b", "5.00"),
        place("3", "2026-06-03T10:00:00Z", "c", "9.00"),
        place("4", "2026-06-02T10:00:00Z", "d", "1.00"),
        event("x", "2026-06-04T10:00:00Z", Fact::OrderCancelled(OrderCancelled { order_id: "4".into(), version: 2 })),
    ])
    .await;
    let list = async |order: &str| {
        let data =
            acme.viewer().query(&format!("{{ customers(orderBy: {order}) {{ nodes {{ externalId }} }} }}")).await;
        let nodes = data["customers"]["nodes"].as_array().expect("nodes").clone();
        nodes.iter().map(|node| node["externalId"].as_str().expect("text").to_owned()).collect::<String>()
    };
    assert_eq!(list("ID").await, "abcd");
    assert_eq!(list("REVENUE").await, "cabd");
    assert_eq!(list("LAST_PURCHASE").await, "bcad");
}

/// Revenues of all sizes, some alike: in their order forward and backward, whatever steps the index has.
#[tokio::test]
async fn customers_of_every_size_are_in_the_order_of_their_revenue() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut amounts: Vec<i64> = (0..40).map(|n| 1 + n * n * n * 7).chain([5_000, 5_000, 5_001, 5_600, 5_601]).collect();
    let place = |(n, cents): (usize, &i64)| {
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        event(
            &n.to_string(),
            "2026-06-01T10:00:00Z",
            Fact::OrderPlaced(order(&n.to_string(), 1, &n.to_string(), &amount)),
        )
    };
    let mut events: Vec<_> = amounts.iter().enumerate().map(place).collect();
    // More was given back than was paid.
    for (n, more) in [(3usize, "100.00"), (5, "7.00")] {
        let amount = Some(money(more));
        let refund = RefundIssued { order_id: Some(n.to_string()), amount, ..RefundIssued::default() };
        events.push(event(&format!("r{n}"), "2026-06-02T10:00:00Z", Fact::RefundIssued(refund)));
        amounts[n] -= money(more).0 / 100;
    }
    acme.apply(events).await;
    acme.verified().await;
    amounts.sort_unstable_by(|a, b| b.cmp(a));
    let list = async |arguments: &str| {
        let query = format!(
            "{{ customers(orderBy: REVENUE, {arguments}) {{ nodes {{ revenue }} pageInfo {{ endCursor startCursor }} }} }}"
        );
        acme.viewer().query(&query).await["customers"].take()
    };
    let cents = |page: &Value| -> Vec<i64> {
        let nodes = page["nodes"].as_array().expect("nodes").iter();
        nodes.map(|node| money(node["revenue"].as_str().expect("text")).0 / 100).collect()
    };
    let first = list("first: 20").await;
    let second = list(&format!("first: 100, after: {}", first["pageInfo"]["endCursor"])).await;
    assert_eq!([cents(&first), cents(&second)].concat(), amounts);
    let before = list(&format!("last: 7, before: {}", second["pageInfo"]["startCursor"])).await;
    assert_eq!(cents(&before), amounts[13..20]);
}

#[tokio::test]
async fn totals_of_customers_are_kept_by_a_migration_back_and_forth() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    crate::sales::record(&acme, 11, 4).await;
    let query = "{ customers(orderBy: REVENUE) { nodes { id revenue firstPurchaseAt lastPurchaseAt } } }";
    let before = acme.viewer().query(query).await;
    let beside = test.migrated_again("m0015_customer_totals").await;
    let acme = TestTenant { test: &beside, created: acme.created };
    acme.verified().await;
    assert_eq!(acme.viewer().query(query).await, before);
}

#[tokio::test]
async fn what_is_known_of_a_customer_adds_up() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let refund = RefundIssued { order_id: Some("1".into()), amount: Some(money("2.00")), ..RefundIssued::default() };
    acme.apply(vec![
        event("1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("1", 1, "a", "5.00"))),
        event("2", "2026-06-05T13:00:00Z", Fact::OrderPlaced(order("2", 1, "a", "7.00"))),
        event("x", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("3", 1, "gone", "5.00"))),
        event("y", "2026-06-04T10:00:00Z", Fact::OrderCancelled(OrderCancelled { order_id: "3".into(), version: 2 })),
    ])
    .await;
    // A batch that speaks of the order, and not of its customer.
    acme.apply(vec![event("r", "2026-06-07T10:00:00Z", Fact::RefundIssued(refund))]).await;
    acme.verified().await;
    let fields = "customer { id externalId firstPurchaseAt lastPurchaseAt } recencyDays frequency monetaryValue revenue \
                  forecasts { expectedRevenue }";
    let query =
        |id: &str| format!(r#"{{ customerAnalytics(customerId: "{id}", includeForecasts: true) {{ {fields} }} }}"#);
    // 5 + 7 - 2 over two orders; from the 5th at 13:00 to the 15th at 12:00 are nine whole days.
    let expected = json!({
        "customer": { "id": "c1", "externalId": "a", "firstPurchaseAt": "2026-06-01T10:00:00Z",
                      "lastPurchaseAt": "2026-06-05T13:00:00Z" },
        "recencyDays": 9, "frequency": 2, "monetaryValue": "5.00", "revenue": "10.00", "forecasts": null,
    });
    assert_eq!(acme.viewer().query(&query("c1")).await["customerAnalytics"], expected);
    let gone = acme.viewer().query(&query("c2")).await["customerAnalytics"].take();
    assert_eq!(
        (&gone["frequency"], &gone["recencyDays"], &gone["monetaryValue"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    let other = test.tenant("other").await;
    for (actor, id) in [(other.viewer(), "c1"), (acme.viewer(), "c99"), (acme.viewer(), "c01"), (acme.viewer(), "o1")] {
        assert_eq!(actor.error_code(&query(id)).await, "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_customer_has_its_newest_orders() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    crate::sales::record(&acme, 3, 7).await;
    let query = "{ customers { nodes { externalId orders { externalId } two: orders(first: 2) { externalId customer { externalId } } } } }";
    let data = acme.viewer().query(query).await;
    let nodes = data["customers"]["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3);
    for (n, customer) in nodes.iter().enumerate() {
        let newest: Vec<Value> = (0..5).map(|i| json!({ "externalId": format!("o{n}-{}", 6 - i) })).collect();
        assert_eq!(customer["orders"], json!(newest));
        assert_eq!(
            customer["two"][1],
            json!({ "externalId": format!("o{n}-5"), "customer": { "externalId": format!("c{n}") } })
        );
        assert_eq!(customer["two"].as_array().expect("a list").len(), 2);
    }
    for first in [0, -1, 101] {
        let query = format!("{{ customers {{ nodes {{ orders(first: {first}) {{ id }} }} }} }}");
        let response = acme.viewer().run(&query, Value::Null).await;
        assert!(format!("{:?}", response.errors).contains("BAD_USER_INPUT"), "{response:?}");
    }
}
