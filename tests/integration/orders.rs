//! Orders: which are listed, and what they hold.

use salespulse::ledger::event::{Event, Fact, Line, OrderCancelled, OrderPlaced, RefundIssued};
use serde_json::json;

use crate::ledger::{event, money, order};
use crate::support::{TestApp, TestTenant};

fn place(id: &str, when: &str, customer: &str) -> salespulse::ledger::event::Event {
    event(id, when, Fact::OrderPlaced(order(id, 1, customer, "10.00")))
}

async fn ids(acme: &TestTenant<'_>, arguments: &str) -> String {
    let data = acme.viewer().query(&format!("{{ orders{arguments} {{ nodes {{ externalId }} }} }}")).await;
    let nodes = data["orders"]["nodes"].as_array().expect("nodes").clone();
    nodes.iter().map(|node| node["externalId"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn orders_are_listed_newest_first_and_filtered() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::America::New_York, "GBP").await;
    acme.apply(vec![
        place("A", "2026-06-14T03:59:59Z", "a"),
        place("B", "2026-06-14T04:00:00Z", "b"),
        place("C", "2026-06-15T03:59:59Z", "a"),
        place("D", "2026-06-15T04:00:00Z", "a"),
        place("E", "2026-06-14T04:00:00Z", "b"),
        event("x", "2026-06-15T05:00:00Z", Fact::OrderCancelled(OrderCancelled { order_id: "C".into(), version: 2 })),
    ])
    .await;
    assert_eq!(ids(&acme, "").await, "DCEBA");
    // The day before in New York.
    assert_eq!(ids(&acme, "(period: {preset: YESTERDAY})").await, "CEB");
    assert_eq!(ids(&acme, r#"(period: {preset: YESTERDAY, timezone: "UTC"})"#).await, "EBA");
    let hour = r#"(period: {start: "2026-06-14T03:59:59Z", end: "2026-06-14T04:00:00Z"})"#;
    assert_eq!(ids(&acme, hour).await, "A");
    assert_eq!(ids(&acme, r#"(customerId: "c1")"#).await, "DCA");
    assert_eq!(ids(&acme, r#"(customerId: "c1", status: PLACED)"#).await, "DA");
    assert_eq!(ids(&acme, "(status: CANCELLED)").await, "C");
    for id in ["c0", "c3", "1", "o1", "c9223372036854775808"] {
        assert_eq!(ids(&acme, &format!(r#"(customerId: "{id}")"#)).await, "");
    }
    acme.viewer().refused("{ orders(period: {}) { nodes { id } } }", "period").await;
}

/// One of which only the cancellation was recorded is none; one that was placed is one, even for nothing.
#[tokio::test]
async fn an_order_that_was_never_placed_is_none() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let cancel = |id: &str, version| Fact::OrderCancelled(OrderCancelled { order_id: id.into(), version });
    let free = OrderPlaced { customer: None, ..order("Y", 1, "", "0") };
    acme.apply(vec![
        event("1", "2026-06-14T10:00:00Z", cancel("X", 1)),
        event("2", "2026-06-14T10:00:00Z", Fact::OrderPlaced(free)),
        event("3", "2026-06-14T10:00:00Z", cancel("Y", 2)),
    ])
    .await;
    assert_eq!(ids(&acme, "").await, "Y");
    let found =
        acme.viewer().query(r#"{ x: order(externalId: "X") { id } y: order(externalId: "Y") { status } }"#).await;
    assert_eq!(found, json!({ "x": null, "y": { "status": "CANCELLED" } }));
}

#[tokio::test]
async fn the_orders_behind_a_number_are_listed_by_its_filters() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.organization("paris", chrono_tz::Europe::Paris, "EUR").await;
    let sold = |id: &str, customer: &str, channel: &str, sku: &str, category: &str| {
        let line = Line {
            product_id: sku.into(),
            category: Some(category.into()),
            quantity: 1,
            amount: money("10.00"),
            ..Line::default()
        };
        let placed = order(id, 1, customer, "10.00");
        let placed = OrderPlaced { channel: Some(channel.into()), lines: vec![line], ..placed };
        event(id, &format!("2026-06-1{}T12:00:00Z", id.as_bytes()[0] - b'A'), Fact::OrderPlaced(placed))
    };
    let mut abroad = sold("D", "b", "web", "tea", "drinks");
    abroad.organization = Some("paris".into());
    acme.apply(vec![
        sold("A", "a", "web", "tea", "drinks"),
        sold("B", "a", "shop", "tea", "drinks"),
        sold("C", "a", "web", "cake", "food"),
        abroad,
    ])
    .await;
    for (filters, expected) in [
        ("", "DCBA"),
        (r#"channels: ["web"]"#, "DCA"),
        (r#"channels: ["web", "shop"], organizationId: "paris""#, "D"),
        (r#"productCategories: ["drinks"]"#, "DBA"),
        (r#"productCategories: ["drinks"], products: ["cake"]"#, ""),
        (r#"products: ["tea"], channels: ["shop"]"#, "B"),
        (r#"regions: ["mars"]"#, ""),
        (r#"regions: [""]"#, ""),
        (r#"regions: ["North"]"#, "DCBA"),
        ("channels: []", ""),
        ("customerSegment: NEW", "DA"),
        ("customerSegment: RETURNING", "CB"),
    ] {
        assert_eq!(ids(&acme, &format!("(filters: {{ {filters} }})")).await, expected, "{filters}");
    }
    let code = acme.viewer().error(r#"{ orders(filters: { organizationId: "rome" }) { nodes { id } } }"#).await.0;
    assert_eq!(code, "NOT_FOUND");
}

#[tokio::test]
async fn an_order_holds_what_was_bought_and_given_back() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let rates =
        r#"mutation { setExchangeRates(rates: [{from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.5"}]) }"#;
    assert_eq!(acme.admin().query(rates).await["setExchangeRates"], 1);
    let guest = OrderPlaced {
        order_id: "G".into(),
        version: 4_102_444_800,
        currency: Some("EUR".into()),
        discount: Some(money("0.50")),
        lines: vec![
            Line {
                product_id: "b".into(),
                title: Some("Bread".into()),
                quantity: 2,
                amount: money("4.00"),
                ..Line::default()
            },
            Line {
                product_id: "a".into(),
                category: Some("food".into()),
                quantity: 1,
                amount: money("1.25"),
                ..Line::default()
            },
        ],
        ..OrderPlaced::default()
    };
    let refund = |id: &str, order: &str, amount: &str| {
        let refund = RefundIssued {
            order_id: Some(order.into()),
            currency: Some("EUR".into()),
            amount: Some(money(amount)),
            ..RefundIssued::default()
        };
        event(id, "2026-06-05T10:00:00Z", Fact::RefundIssued(refund))
    };
    acme.apply(vec![
        event("g", "2026-06-02T10:00:00Z", Fact::OrderPlaced(guest)),
        place("A", "2026-06-01T10:00:00Z", "a"),
        refund("r1", "G", "1.00"),
        refund("r2", "G", "0.50"),
        refund("r3", "A", "2.00"),
        event("x", "2026-06-06T10:00:00Z", Fact::OrderCancelled(OrderCancelled { order_id: "A".into(), version: 2 })),
    ])
    .await;
    let fields = "id version status placedAt amount discount refunded currency channel region customer { externalId } \
                  lines { quantity amount category product { sku title } }";
    let data = acme.viewer().query(&format!("{{ orders {{ nodes {{ {fields} }} }} }}")).await;
    let expected = json!([
        {
            "id": "o1", "version": 4_102_444_800_i64, "status": "PLACED", "placedAt": "2026-06-02T10:00:00Z", "amount": "5.25",
            "discount": "0.50", "refunded": "0.75", "currency": "EUR", "channel": null, "region": null, "customer": null,
            "lines": [
                { "quantity": 2, "amount": "4.00", "category": null, "product": { "sku": "b", "title": "Bread" } },
                { "quantity": 1, "amount": "1.25", "category": "food", "product": { "sku": "a", "title": null } },
            ],
        },
        {
            "id": "o2", "version": 2, "status": "CANCELLED", "placedAt": "2026-06-01T10:00:00Z", "amount": "10.00",
            "discount": "0.00", "refunded": "0.00", "currency": "GBP", "channel": "web", "region": "North",
            "customer": { "externalId": "a" },
            "lines": [{ "quantity": 2, "amount": "10.00", "category": "drinks", "product": { "sku": "tea", "title": null } }],
        },
    ]);
    assert_eq!(data["orders"]["nodes"], expected);
}

#[tokio::test]
async fn bad_rates_are_refused_and_good_ones_hold_from_their_day() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let set = |from: &str, day: &str, rate: &str| {
        format!(
            r#"mutation {{ setExchangeRates(rates: [{{from: "{from}", to: "GBP", validFrom: "{day}", rate: "{rate}"}}]) }}"#
        )
    };
    for rate in ["0", "-1", "x", "", "1e3", "0.000000001", "99999999999999999999"] {
        admin.refused(&set("EUR", "2026-06-01", rate), "rates.0.rate").await;
    }
    admin.refused(&set("GBP", "2026-06-01", "1"), "rates.0.to").await;
    admin.refused("mutation { setExchangeRates(rates: []) }", "rates").await;
    assert_eq!(acme.viewer().error_code(&set("EUR", "2026-06-01", "1")).await, "FORBIDDEN");
    assert_eq!(admin.error_code(&set("EUX", "2026-06-01", "1")).await, "BAD_USER_INPUT");
    for (day, rate) in [("2026-06-01", "1"), ("2026-06-01", "2"), ("2026-06-03", "3.00000001")] {
        admin.query(&set("EUR", day, rate)).await;
    }
    let in_euros = |id: &str, when: &str| {
        let placed = OrderPlaced { currency: Some("EUR".into()), ..order(id, 1, id, "10.00") };
        event(id, when, Fact::OrderPlaced(placed))
    };
    acme.apply(vec![in_euros("A", "2026-06-02T23:59:59Z"), in_euros("B", "2026-06-03T00:00:00Z")]).await;
    let early = acme.record(vec![in_euros("C", "2026-05-31T23:59:59Z")]).await;
    assert!(format!("{:?}", early.outcomes[0]).contains("NoExchangeRate"));
    let data = acme.viewer().query("{ customers { nodes { revenue } } }").await;
    assert_eq!(data["customers"]["nodes"], json!([{ "revenue": "20.00" }, { "revenue": "30.00" }]));
}

#[tokio::test]
async fn orders_are_found_by_currency_and_amount_with_their_refunds() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::UTC, "GBP").await;
    let rate =
        r#"mutation { setExchangeRates(rates: [{ from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.85" }]) }"#;
    acme.admin().query(rate).await;
    let placed = |id: &str, currency: &str, amount: &str| {
        let placed = OrderPlaced { currency: Some(currency.into()), ..order(id, 1, "ann", amount) };
        event(id, "2026-06-14T10:00:00Z", Fact::OrderPlaced(placed))
    };
    let refund = RefundIssued {
        refund_id: Some("R".into()),
        order_id: Some("A".into()),
        currency: Some("EUR".into()),
        amount: Some(money("100.00")),
        ..RefundIssued::default()
    };
    acme.apply(vec![
        placed("A", "EUR", "100.00"),
        placed("B", "GBP", "100.00"),
        placed("C", "GBP", "20.00"),
        event("r", "2026-06-15T10:00:00Z", Fact::RefundIssued(refund)),
    ])
    .await;
    assert_eq!(ids(&acme, r#"(currency: "EUR")"#).await, "A");
    assert_eq!(ids(&acme, r#"(minAmount: "100")"#).await, "BA");
    assert_eq!(ids(&acme, r#"(currency: "GBP", maxAmount: "99.99")"#).await, "C");
    let query = r#"{ order(externalId: "A") { amount currency refunded refundedCurrency customer { orders { refundedCurrency } } refunds { externalId issuedAt amount currency } }
        exchangeRates(from: "EUR") { from to validFrom rate } }"#;
    let expected = json!({
        "order": { "amount": "100.00", "currency": "EUR", "refunded": "85.00", "refundedCurrency": "GBP",
            "customer": { "orders": vec![json!({ "refundedCurrency": "GBP" }); 3] }, "refunds": [
            { "externalId": "R", "issuedAt": "2026-06-15T10:00:00Z", "amount": "100.00", "currency": "EUR" }] },
        "exchangeRates": [{ "from": "EUR", "to": "GBP", "validFrom": "2026-01-01", "rate": "0.85000000" }],
    });
    assert_eq!(acme.viewer().query(query).await, expected);
    assert_eq!(
        acme.viewer().query(r#"{ exchangeRates(until: "2025-12-31") { rate } }"#).await,
        json!({ "exchangeRates": [] })
    );
}

#[tokio::test]
async fn days_are_those_of_the_organization_whose_orders_are_listed() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::UTC, "GBP").await;
    acme.organization("tokyo", chrono_tz::Asia::Tokyo, "GBP").await;
    let in_tokyo = |id, when| Event { organization: Some("tokyo".into()), ..place(id, when, "a") };
    // 14 June begins at 15:00 UTC of the day before in Tokyo.
    acme.apply(vec![
        in_tokyo("A", "2026-06-13T14:59:59Z"),
        in_tokyo("B", "2026-06-13T15:00:00Z"),
        in_tokyo("C", "2026-06-14T14:59:59Z"),
        in_tokyo("D", "2026-06-14T15:00:00Z"),
    ])
    .await;
    let period = r#"period: {firstDay: "2026-06-14", lastDay: "2026-06-14"}"#;
    let tokyo = format!(r#"({period}, filters: {{organizationId: "tokyo"}})"#);
    assert_eq!(ids(&acme, &tokyo).await, "CB");
    let counted = format!("{{ salesMetrics{tokyo} {{ ordersCount }} }}");
    assert_eq!(acme.viewer().query(&counted).await, json!({ "salesMetrics": { "ordersCount": 2 } }));
    assert_eq!(ids(&acme, &format!("({period})")).await, "DC", "of several, those of the default one");
}
