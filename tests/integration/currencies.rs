//! Two currencies are never added, in the totals of customers and products either.

use salespulse::ledger::event::{Event, Fact, OrderCancelled, RefundIssued};
use serde_json::{Value, json};

use crate::ledger::{event, money, order};
use crate::support::TestApp;

fn in_london(event: Event) -> Event {
    Event { organization: Some("london".into()), ..event }
}

#[tokio::test]
async fn what_is_sold_in_another_currency_stands_beside_the_totals() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::UTC, "EUR").await;
    acme.organization("london", chrono_tz::Europe::London, "GBP").await;
    let place = |id: &str, amount: &str| {
        event(&format!("place {id}"), "2026-06-01T10:00:00Z", Fact::OrderPlaced(order(id, 1, "ann", amount)))
    };
    let refund = RefundIssued { order_id: Some("2".into()), amount: Some(money("2.00")), ..RefundIssued::default() };
    acme.apply(vec![
        place("1", "5.00"),
        in_london(place("2", "7.00")),
        in_london(place("3", "4.00")),
        in_london(event("r", "2026-06-02T10:00:00Z", Fact::RefundIssued(refund))),
    ])
    .await;
    let totals = async || -> (Value, Value) {
        let fields = "revenue currency otherRevenue { currency amount }";
        let query = format!(
            "{{ customers {{ nodes {{ ordersCount {fields} }} }} products {{ nodes {{ {fields} }} }} \
             customerAnalytics(customerId: \"c1\") {{ frequency monetaryValue revenue }} }}"
        );
        let mut data = acme.viewer().query(&query).await;
        let analytics = data["customerAnalytics"].take();
        let (customer, product) = (data["customers"]["nodes"][0].take(), data["products"]["nodes"][0].take());
        assert_eq!(analytics["frequency"], customer["ordersCount"]);
        assert_eq!(analytics["revenue"], customer["revenue"]);
        let is_of_one_currency = customer["otherRevenue"] == json!([]);
        assert_eq!(analytics["monetaryValue"].is_null(), !is_of_one_currency);
        (customer, product)
    };
    let pounds = |amount: &str| json!([{ "currency": "GBP", "amount": amount }]);
    let (customer, product) = totals().await;
    let expected = json!({ "ordersCount": 3, "revenue": "5.00", "currency": "EUR", "otherRevenue": pounds("9.00") });
    assert_eq!(customer, expected);
    let orders = acme.viewer().query("{ orders { nodes { externalId organization { slug currency } } } }").await;
    let of_third = json!({ "externalId": "3", "organization": { "slug": "london", "currency": "GBP" } });
    assert_eq!(orders["orders"]["nodes"][0], of_third);
    assert_eq!(orders["orders"]["nodes"][2]["organization"]["currency"], "EUR");
    let exported = acme.admin().query(r#"mutation { exportCustomer(customerId: "c1") }"#).await;
    assert_eq!(exported["exportCustomer"]["orders"][1]["organization"], "london");
    // Of a product, revenue is what was sold of it.
    assert_eq!(product, json!({ "revenue": "5.00", "currency": "EUR", "otherRevenue": pounds("11.00") }));

    let cancel = |id: &str| {
        let cancelled = OrderCancelled { order_id: id.into(), version: 2 };
        in_london(event(&format!("cancel {id}"), "2026-06-03T10:00:00Z", Fact::OrderCancelled(cancelled)))
    };
    acme.apply(vec![cancel("2"), cancel("3")]).await;
    let (customer, product) = totals().await;
    assert_eq!(customer, json!({ "ordersCount": 1, "revenue": "5.00", "currency": "EUR", "otherRevenue": [] }));
    assert_eq!(product, json!({ "revenue": "5.00", "currency": "EUR", "otherRevenue": [] }));
    acme.verified().await;
}

#[tokio::test]
async fn the_default_currency_is_fixed_by_the_first_event_of_any_organization() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::UTC, "EUR").await;
    acme.organization("london", chrono_tz::Europe::London, "GBP").await;
    acme.apply(vec![in_london(event("1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("1", 1, "ann", "5.00"))))])
        .await;
    let data = acme.admin().query("{ organizations { id slug name timezone } }").await;
    let default = &data["organizations"][0];
    let change = |currency: &str, timezone: &str| {
        format!(
            "mutation {{ updateOrganization(id: {}, input: {{slug: {}, name: {}, timezone: \"{timezone}\", currency: \"{currency}\"}}) {{ currency }} }}",
            default["id"], default["slug"], default["name"]
        )
    };
    assert_eq!(acme.admin().error_code(&change("USD", "UTC")).await, "CONFLICT");
    acme.admin().query(&change("EUR", "Europe/Paris")).await;
}
