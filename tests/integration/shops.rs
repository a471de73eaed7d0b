//! Webhooks of shops: what is made of their orders, payments and refunds.

use futures_util::future::join_all;
use salespulse::clock::{DAY, SECOND, Timestamp};
use serde_json::{Value, json};

use crate::real_data::data;
use crate::senders::{SECRET, Sender, hmac, june, quarantine, shop_order};
use crate::support::{NOW, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_shop_counts_once_however_often_and_in_which_order_it_comes() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let placed = shop_order("2026-06-10T10:00:00-05:00", json!({}));
    let all = join_all((0..20).map(|_| shop.shopify(SECRET, "orders/create", "e1", &placed))).await;
    assert!(all.iter().all(|reply| reply.outcome() == "recorded"));
    // What happened once is told under another topic, and an old state comes late.
    assert_eq!(shop.shopify(SECRET, "orders/paid", "e1", &placed).await.outcome(), "recorded");
    let edited = shop_order("2026-06-10T11:00:00-05:00", json!({ "total_price": "100.00" }));
    assert_eq!(shop.shopify(SECRET, "orders/updated", "e2", &edited).await.outcome(), "recorded");
    assert_eq!(shop.shopify(SECRET, "orders/updated", "e3", &placed).await.outcome(), "recorded");
    // Two transactions of kind refund: 12.50 + 7.50. The lines come to 50.00, and share it.
    let refund = json!({ "id": 5, "order_id": 9_007_199_254_740_993_u64, "created_at": "2026-06-11T00:00:00Z",
        "transactions": [
            { "kind": "refund", "status": "success", "amount": "12.50" }, { "kind": "refund", "status": "success", "amount": "7.50" },
            { "kind": "refund", "status": "failure", "amount": "99.00" }, { "kind": "sale", "status": "success", "amount": "95.00" }
        ],
        "refund_line_items": [
            { "quantity": 1, "subtotal": 10.00, "line_item": { "product_id": 1, "sku": "TEA", "title": "Tea", "quantity": 3, "price": "20.00" } },
            { "quantity": 1, "subtotal": 40.00, "line_item": { "product_id": 2, "title": "Cup", "quantity": 1, "price": "40.00" } }
        ] });
    // While a part of it is on its way, nothing counts, so that all of it can.
    let mut begun = refund.clone();
    begun["transactions"][1]["status"] = json!("pending");
    assert_eq!(shop.shopify(SECRET, "refunds/create", "r0", &begun.to_string()).await.outcome(), "ignored");
    for event in ["r1", "r1", "r2"] {
        assert_eq!(shop.shopify(SECRET, "refunds/create", event, &refund.to_string()).await.outcome(), "recorded");
    }
    let with_refund =
        shop_order("2026-06-11T00:00:00Z", json!({ "total_price": "100.00", "refunds": [refund.clone()] }));
    assert_eq!(shop.shopify(SECRET, "orders/updated", "e4", &with_refund).await.outcome(), "recorded");
    let expected = json!({ "grossRevenue": "100.00", "refunds": "20.00", "totalRevenue": "80.00", "ordersCount": 1, "unitsSold": 4 });
    assert_eq!(june(&acme).await, expected);
    let products = acme.viewer().query("{ products(first: 10) { nodes { sku title returnRate } } }").await;
    let mut products = products["products"]["nodes"].as_array().expect("products").clone();
    products.sort_by_key(|product| product["sku"].to_string());
    // 16.00 of 40.00, and 4.00 of 50.00.
    assert_eq!(products[0], json!({ "sku": "2", "title": "Cup", "returnRate": 0.4 }));
    assert_eq!(products[1], json!({ "sku": "TEA", "title": "Tea", "returnRate": 0.08 }));
    let orders = "{ orders(first: 10) { nodes { externalId placedAt amount discount channel region customer { externalId name email } } } }";
    let orders = acme.admin().query(orders).await["orders"]["nodes"].take();
    let customer = json!({ "externalId": "77", "name": "Ann Smith", "email": "ann@example.com" });
    let order = json!({ "externalId": "9007199254740993", "placedAt": "2026-06-10T15:00:00Z", "amount": "100.00", "discount": "10.00",
        "channel": "web", "region": "IE", "customer": customer });
    assert_eq!(orders, json!([order]));
    // A day later all of it comes again a thousand times; then the order is called off, in the second of its last change.
    test.clock.set(Timestamp(NOW.0 + DAY));
    for n in 0..1000 {
        let event = if n % 2 == 0 { "e1" } else { "again" };
        assert_eq!(shop.shopify(SECRET, "orders/create", event, &placed).await.outcome(), "recorded");
    }
    assert_eq!(june(&acme).await, expected);
    let off = shop_order("2026-06-11T00:00:00Z", json!({ "cancelled_at": "2026-06-11T00:00:00Z" }));
    assert_eq!(shop.shopify(SECRET, "orders/cancelled", "e5", &off).await.outcome(), "recorded");
    let nothing =
        json!({ "grossRevenue": "0.00", "refunds": "0.00", "totalRevenue": "0.00", "ordersCount": 0, "unitsSold": 0 });
    assert_eq!(june(&acme).await, nothing);
    assert_eq!(quarantine(&acme).await, json!([]));
    acme.verified().await;
    // The topic is not signed: an order is no deletion, and no request for erasure.
    for topic in ["orders/delete", "customers/redact"] {
        assert_eq!(shop.shopify(SECRET, topic, "e6", &off).await.outcome(), "quarantined");
    }
    let customers = acme.admin().query("{ customers(first: 5) { nodes { name } } }").await;
    assert_eq!(customers["customers"]["nodes"][0]["name"], "Ann Smith");
    // One id for two things keeps both.
    for id in [1, 2] {
        let order = shop_order("2026-06-10T10:00:00Z", json!({ "id": id, "line_items": null, "refunds": null }));
        assert_eq!(shop.shopify(SECRET, "orders/create", "bulk", &order).await.outcome(), "recorded");
    }
    assert_eq!(june(&acme).await["ordersCount"], 2);
    // Nor beyond what is a sum of money.
    let most = "922337203685477.5807";
    let mut huge = refund.clone();
    huge["id"] = json!(8);
    huge["transactions"] = json!([{ "kind": "refund", "status": "success", "currency": "GBP", "amount": most }]);
    let line = json!({ "quantity": 1, "subtotal": most, "line_item": { "id": 1, "price": most } });
    huge["refund_line_items"] = json!([line, line, line]);
    assert_eq!(shop.shopify(SECRET, "refunds/create", "r4", &huge.to_string()).await.outcome(), "quarantined");
    // In several currencies at once, nothing is added.
    let mut mixed = refund;
    (mixed["id"], mixed["transactions"][0]["currency"], mixed["transactions"][1]["currency"]) =
        (json!(6), json!("EUR"), json!("GBP"));
    assert_eq!(shop.shopify(SECRET, "refunds/create", "r3", &mixed.to_string()).await.outcome(), "quarantined");
}

#[tokio::test]
async fn payments_of_stripe_are_orders_in_the_smallest_unit_of_their_currency() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::UTC, "JPY").await;
    let secret = "whsec_of_the_endpoint";
    let stripe = Sender::of(&acme, "STRIPE", secret, json!({ "name": "payments" })).await;
    let signed = |at: i64, body: &str| {
        let signature: String = hmac(secret.as_bytes(), format!("{at}.{body}").as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        [("Stripe-Signature", format!("t={at},v1=00,v1={signature},v0=x"))]
    };
    let now = NOW.0 / SECOND;
    let event = |id: &str, kind: &str, object: Value| {
        json!({ "id": id, "object": "event", "api_version": "2025-03-31.basil", "type": kind, "created": now, "livemode": true, "data": { "object": object } }).to_string()
    };
    let charge = json!({ "id": "ch_1", "created": now - 60, "amount": 1200, "amount_captured": 1200, "currency": "jpy", "captured": true,
        "status": "succeeded", "customer": "cus_1", "billing_details": { "name": "Ann", "address": { "country": "JP" } },
        "shipping": { "name": "Ann", "address": { "country": "KR" } } });
    let body = event("evt_1", "charge.succeeded", charge.clone());
    assert_eq!(stripe.send(&signed(now - 301, &body), &body).await.code(), (401, "UNAUTHENTICATED"));
    assert_eq!(stripe.send(&signed(now - 299, &body), &body).await.outcome(), "recorded");
    let region = acme.viewer().query("{ orders(first: 1) { nodes { region } } }").await;
    assert_eq!(region["orders"]["nodes"][0]["region"], "KR");
    let mut reserved = charge;
    (reserved["id"], reserved["captured"], reserved["amount_captured"]) = (json!("ch_2"), json!(false), json!(0));
    let reserved = event("evt_2", "charge.succeeded", reserved);
    assert_eq!(stripe.send(&signed(now, &reserved), &reserved).await.outcome(), "ignored");
    let refund = |id: &str, status: &str| {
        let refund = json!({ "id": "re_1", "created": now, "amount": 200, "currency": "jpy", "charge": "ch_1", "status": status });
        event(id, "refund.updated", refund)
    };
    for (id, status, outcome) in
        [("evt_3", "pending", "ignored"), ("evt_4", "succeeded", "recorded"), ("evt_5", "failed", "quarantined")]
    {
        let body = refund(id, status);
        assert_eq!(stripe.send(&signed(now, &body), &body).await.outcome(), outcome);
    }
    // Before, a refund may be of money that was never taken.
    for (n, version) in
        [json!("2025-02-24.acacia"), json!("2020-08-27"), json!("2025"), Value::Null].into_iter().enumerate()
    {
        let mut old: Value = serde_json::from_str(&refund(&format!("evt_8{n}"), "succeeded")).expect("an event");
        (old["api_version"], old["data"]["object"]["id"]) = (version, json!(format!("re_8{n}")));
        let body = old.to_string();
        assert_eq!(stripe.send(&signed(now, &body), &body).await.outcome(), "quarantined", "{body}");
        let newest = quarantine(&acme).await[0].take();
        assert!(newest["reason"].as_str().is_some_and(|reason| reason.contains("2025-03-31.basil")), "{newest}");
    }
    // What is of a connected account, or says nothing of what happened, is not ours to count.
    let connected = event("evt_6", "charge.succeeded", json!({})).replacen('{', "{\"account\":\"acct_1\",", 1);
    let thin = json!({ "id": "evt_7", "object": "v2.core.event", "type": "v1.charge.succeeded" }).to_string();
    for body in [connected, thin] {
        assert_eq!(stripe.send(&signed(now, &body), &body).await.outcome(), "quarantined", "{body}");
    }
    let expected = json!({ "grossRevenue": "1200.00", "refunds": "200.00", "totalRevenue": "1000.00", "ordersCount": 1, "unitsSold": 0 });
    assert_eq!(june(&acme).await, expected);
    acme.verified().await;
}

#[tokio::test]
async fn an_order_of_a_shop_counts_as_it_is_after_it_was_edited() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let item = |id: u64, current: i64, price: &str| json!({ "id": id, "product_id": id, "quantity": 1, "current_quantity": current, "price": price });
    let returned = |id: u64, line: u64, price: &str, transactions: Value| {
        json!({ "id": id, "order_id": 9_007_199_254_740_993_u64, "created_at": "2026-06-12T00:00:00Z", "transactions": transactions,
            "refund_line_items": [{ "quantity": 1, "subtotal": price, "line_item": item(line, 0, price) }] })
    };
    let state = |hour: u32, total: &str, current: &str, lines: Value, refunds: Value| {
        let changes =
            json!({ "total_price": total, "current_total_price": current, "line_items": lines, "refunds": refunds });
        shop_order(&format!("2026-06-12T{hour:02}:00:00Z"), changes)
    };
    // The tea for a pot that is 10.00 dearer; then the cup comes back for its 40.00; then there is nothing left but a gift card.
    let tea = returned(1, 1, "55.00", json!([]));
    let cup = returned(2, 2, "40.00", json!([{ "kind": "refund", "status": "success", "amount": "40.00" }]));
    let mut card = item(4, 1, "20.00");
    card["gift_card"] = json!(true);
    for (n, (order, gross, refunds, units)) in [
        (state(1, "95.00", "95.00", json!([item(1, 1, "55.00"), item(2, 1, "40.00")]), json!([])), "95.00", "0.00", 2),
        (
            state(
                2,
                "160.00",
                "105.00",
                json!([item(1, 0, "55.00"), item(2, 1, "40.00"), item(3, 1, "65.00")]),
                json!([tea]),
            ),
            "105.00",
            "0.00",
            2,
        ),
        (
            state(
                3,
                "160.00",
                "65.00",
                json!([item(1, 0, "55.00"), item(2, 0, "40.00"), item(3, 1, "65.00")]),
                json!([tea, cup]),
            ),
            "105.00",
            "40.00",
            2,
        ),
        (state(4, "75.00", "20.00", json!([item(1, 0, "55.00"), card]), json!([tea])), "0.00", "0.00", 0),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(shop.shopify(SECRET, "orders/updated", &format!("e{n}"), &order).await.outcome(), "recorded", "{n}");
        let told = june(&acme).await;
        assert_eq!(
            (&told["grossRevenue"], &told["refunds"], &told["unitsSold"]),
            (&json!(gross), &json!(refunds), &json!(units)),
            "{n}"
        );
    }
    acme.verified().await;
}

#[tokio::test]
async fn what_comes_again_after_a_change_of_settings_is_no_conflict() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let refund = |id: u64, currency: &str| {
        json!({ "id": id, "order_id": 9_007_199_254_740_993_u64, "created_at": "2026-06-12T10:00:00Z",
            "transactions": [{ "kind": "refund", "status": "success", "amount": "10.00", "currency": currency }] })
    };
    // All but the second refund is recorded.
    let refunds = json!([refund(1, "GBP"), refund(2, "EUR")]);
    let order = shop_order("2026-06-12T10:00:00Z", json!({ "currency": null, "refunds": refunds }));
    assert_eq!(shop.shopify(SECRET, "orders/updated", "e", &order).await.outcome(), "quarantined");
    let kept = quarantine(&acme).await;
    assert_eq!(kept[0]["code"], "NO_EXCHANGE_RATE");
    let update = "mutation($id: ID!) { updateIntegration(id: $id, input: { channel: \"online\" }) { channel } }";
    acme.admin().query_with(update, json!({ "id": shop.id })).await;
    let rates =
        r#"mutation { setExchangeRates(rates: [{ from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.85" }]) }"#;
    acme.admin().query(rates).await;
    let retry = "mutation($id: ID!) { retryQuarantined(id: $id) { outcome delivery { code reason } } }";
    let retried = acme.admin().query_with(retry, json!({ "id": kept[0]["id"] })).await;
    assert_eq!(retried["retryQuarantined"]["outcome"], "RECORDED", "{retried}");
    // So it is with what the sender repeats; and what was recorded stays as it is, and counts once.
    assert_eq!(shop.shopify(SECRET, "orders/updated", "e", &order).await.outcome(), "recorded");
    assert_eq!(quarantine(&acme).await, json!([]));
    let channel = acme.viewer().query("{ orders(first: 1) { nodes { channel } } }").await;
    assert_eq!(channel["orders"]["nodes"][0]["channel"], "web");
    let expected = json!({ "grossRevenue": "95.00", "refunds": "18.50", "totalRevenue": "76.50", "ordersCount": 1, "unitsSold": 4 });
    assert_eq!(june(&acme).await, expected);
    acme.verified().await;
}

#[tokio::test]
async fn a_cancellation_of_nothing_is_no_order_of_the_list() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    assert_eq!(shop.shopify(SECRET, "orders/delete", "d", r#"{ "id": 701 }"#).await.outcome(), "recorded");
    let card = json!([{ "id": 1, "quantity": 1, "current_quantity": 1, "price": "95.00", "gift_card": true }]);
    let cards = shop_order("2026-06-10T10:00:00Z", json!({ "id": 702, "line_items": card, "discount": null }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "g", &cards).await.outcome(), "recorded");
    let list = "{ orders(first: 5) { totalCount nodes { externalId status } } }";
    assert_eq!(acme.viewer().query(list).await["orders"], json!({ "totalCount": 0, "nodes": [] }));
    // It still keeps out the order that comes late; what was an order stays in the list.
    for id in [701, 703] {
        let order = shop_order("2026-06-10T10:00:00Z", json!({ "id": id }));
        assert_eq!(shop.shopify(SECRET, "orders/create", &format!("o{id}"), &order).await.outcome(), "recorded");
    }
    assert_eq!(shop.shopify(SECRET, "orders/delete", "d3", r#"{ "id": 703 }"#).await.outcome(), "recorded");
    let listed = json!({ "totalCount": 1, "nodes": [{ "externalId": "703", "status": "CANCELLED" }] });
    assert_eq!(acme.viewer().query(list).await["orders"], listed);
    let found = acme.viewer().query(r#"{ order(externalId: "701") { status } }"#).await;
    assert_eq!(found["order"], Value::Null);
    assert_eq!(june(&acme).await["ordersCount"], 0);
}

/// Bodies of Shopify as its documentation shows them, signed by somebody else.
#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn samples_of_shopify_are_understood_to_the_cent() {
    let folder = data().join("payloads");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a sample");
    let signatures: Value = serde_json::from_str(&read("signatures.json")).expect("signatures");
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::UTC, "USD").await;
    let secret = signatures["shopify"]["secret"].as_str().expect("a secret");
    let shop = Sender::of(&acme, "SHOPIFY", secret, json!({ "name": "shop", "countsTests": true })).await;
    for vector in signatures["shopify"]["vectors"].as_array().expect("vectors") {
        let text = |name: &str| vector[name].as_str().expect("a text").to_owned();
        let headers = [("X-Shopify-Topic", text("topic")), ("X-Shopify-Hmac-Sha256", text("hmac"))];
        let reply = shop.send(&headers, &read(&text("file"))).await;
        assert_eq!(reply.status.as_u16(), if vector["valid"] == true { 200 } else { 401 }, "{vector}");
    }
    for (topic, outcome) in [
        ("orders/paid", "recorded"),
        ("orders/updated", "recorded"),
        ("orders/fulfilled", "recorded"),
        ("orders/cancelled", "recorded"),
        ("orders/edited", "ignored"),
        ("order_transactions/create", "ignored"),
        ("customers/update", "ignored"),
        ("customers/delete", "ignored"),
        ("customers/data_request", "quarantined"),
        ("customers/redact", "recorded"),
        ("shop/redact", "quarantined"),
        ("returns/approve", "ignored"),
        ("orders/delete", "recorded"),
    ] {
        let file = format!("shopify/webhooks/{}.json", topic.replace('/', "_"));
        assert_eq!(shop.shopify(secret, topic, "e", &read(&file)).await.outcome(), outcome, "{topic}");
    }
    // The sample was called off, and so is its refund; as an order that was not, both count to the cent.
    let year = r#"{ salesMetrics(period: { start: "2022-01-01T00:00:00Z", end: "2023-01-01T00:00:00Z" }) { grossRevenue refunds discounts unitsSold ordersCount } }"#;
    let none =
        json!({ "grossRevenue": "0.00", "refunds": "0.00", "discounts": "0.00", "unitsSold": 0, "ordersCount": 0 });
    assert_eq!(acme.viewer().query(year).await["salesMetrics"], none);
    let mut kept: Value = serde_json::from_str(&read("shopify/webhooks/orders_create.json")).expect("an order");
    (kept["cancelled_at"], kept["financial_status"]) = (Value::Null, json!("paid"));
    let other = test.tenant_in("other", chrono_tz::UTC, "USD").await;
    let shop = Sender::of(&other, "SHOPIFY", secret, json!({ "name": "shop", "countsTests": true })).await;
    assert_eq!(
        shop.shopify(secret, "refunds/create", "e", &read("shopify/webhooks/refunds_create.json")).await.outcome(),
        "recorded"
    );
    assert_eq!(shop.shopify(secret, "orders/create", "e", &kept.to_string()).await.outcome(), "recorded");
    let counted =
        json!({ "grossRevenue": "404.95", "refunds": "85.00", "discounts": "20.00", "unitsSold": 5, "ordersCount": 1 });
    assert_eq!(other.viewer().query(year).await["salesMetrics"], counted);
    other.verified().await;
}
