//! Webhooks of shops and CRMs, and events over REST: who is let in, what is made of it, and what is kept when it is not understood.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use hmac::{Hmac, Mac};
use salespulse::app::App;
use salespulse::auth::{Permission, Role};
use salespulse::clock::{DAY, SECOND, Timestamp};
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::graphql::origin::Peer;
use salespulse::integrations::quarantine::{Kept, Why, keep};
use salespulse::ledger::store::lock_head;
use salespulse::privacy::erasure::erase_tenant;
use salespulse::privacy::rotation::{destroy_unused, reseal};
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Notify;
use tower::ServiceExt;

use crate::real_data::data;
use crate::support::{NOW, TestApp, TestTenant, kek, test_redis_url};

const SECRET: &str = "a secret of the shop";

pub fn hmac(secret: &[u8], body: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(secret).expect("a key").chain_update(body).finalize().into_bytes().to_vec()
}

/// A sender with the address that it was given.
struct Sender {
    router: axum::Router,
    path: String,
    id: String,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn outcome(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body["outcome"].as_str().expect("an outcome")
    }

    fn code(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default())
    }
}

async fn send(router: &axum::Router, path: &str, headers: &[(&str, String)], body: impl Into<Body>) -> Reply {
    let request = headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, value));
    reply(router.clone().oneshot(request.body(body.into()).expect("a request")).await.expect("a response")).await
}

async fn reply(response: axum::response::Response) -> Reply {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    Reply { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

/// Sends to an integration that knows its sender by a password.
pub async fn post_webhook(test: &TestApp, url: &str, password: &str, body: &str) -> Value {
    post_webhook_raw(test, url, password, body).await.1
}

/// The same, with the status.
pub async fn post_webhook_raw(test: &TestApp, url: &str, password: &str, body: &str) -> (StatusCode, Value) {
    let path = url.strip_prefix("http://localhost:4000").expect("below the public URL");
    let headers = [("Authorization", format!("Basic {}", STANDARD.encode(password)))];
    let reply = send(&router(test.app.clone(), &Options::default()), path, &headers, body.to_owned()).await;
    (reply.status, reply.body)
}

impl Sender {
    async fn of(tenant: &TestTenant<'_>, kind: &str, secret: &str, input: Value) -> Sender {
        let create = "mutation($kind: IntegrationKind!, $secret: String!, $input: IntegrationInput!) { \
                      createIntegration(kind: $kind, secret: $secret, input: $input) { id url } }";
        let variables = json!({ "kind": kind, "secret": secret, "input": input });
        let made = tenant.admin().query_with(create, variables).await["createIntegration"].take();
        let url = made["url"].as_str().expect("a URL");
        let path = url.strip_prefix("http://localhost:4000").expect("below the public URL").to_owned();
        let id = made["id"].as_str().expect("an id").to_owned();
        Sender { router: router(tenant.test.app.clone(), &Options::default()), path, id }
    }

    async fn send(&self, headers: &[(&str, String)], body: &str) -> Reply {
        send(&self.router, &self.path, headers, body.to_owned()).await
    }

    /// As Shopify sends it.
    async fn shopify(&self, secret: &str, topic: &str, event: &str, body: &str) -> Reply {
        let signature = STANDARD.encode(hmac(secret.as_bytes(), body.as_bytes()));
        let headers = [
            ("X-Shopify-Topic", topic.to_owned()),
            ("X-Shopify-Event-Id", event.to_owned()),
            ("X-Shopify-Hmac-Sha256", signature),
        ];
        self.send(&headers, body).await
    }
}

pub fn shop_order(updated: &str, changes: Value) -> String {
    let mut order = json!({
        "id": 9_007_199_254_740_993_u64, "created_at": "2026-06-10T09:00:00-05:00", "processed_at": "2026-06-10T10:00:00-05:00",
        "updated_at": updated, "currency": "GBP", "total_price": "95.00", "total_discounts": "10.00", "source_name": "web",
        "shipping_address": { "country_code": "IE" },
        "customer": { "id": 77, "first_name": "Ann", "last_name": "Smith", "email": "ann@example.com" },
        "line_items": [
            { "product_id": 1, "sku": "TEA", "title": "Tea", "quantity": 3, "price": "20.00", "discount_allocations": [{ "amount": "10.00" }] },
            { "product_id": 2, "sku": "", "title": "Cup", "quantity": 1, "price": "40.00" }
        ]
    });
    for (name, value) in changes.as_object().expect("an object") {
        order[name] = value.clone();
    }
    order.to_string()
}

async fn june(tenant: &TestTenant<'_>) -> Value {
    let query = r#"{ salesMetrics(period: { start: "2026-06-01T00:00:00Z", end: "2026-07-01T00:00:00Z" }) {
        grossRevenue refunds totalRevenue ordersCount unitsSold } }"#;
    tenant.viewer().query(query).await["salesMetrics"].take()
}

async fn quarantine(tenant: &TestTenant<'_>) -> Value {
    let query = "{ quarantine(first: 100) { nodes { id integrationId topic code reason deliveryId } } }";
    tenant.admin().query(query).await["quarantine"]["nodes"].take()
}

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
async fn who_does_not_sign_is_nobody_before_anything_is_read() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let theirs = Sender::of(&other, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    let unauthenticated = (401, "UNAUTHENTICATED");
    assert_eq!(shop.send(&[], "{ no JSON").await.code(), unauthenticated);
    assert_eq!(shop.shopify("another secret", "orders/create", "e", &body).await.code(), unauthenticated);
    // Signed, but not these bytes.
    let signature = STANDARD.encode(hmac(SECRET.as_bytes(), body.as_bytes()));
    let headers = [("X-Shopify-Topic", "orders/create".to_owned()), ("X-Shopify-Hmac-Sha256", signature)];
    assert_eq!(shop.send(&headers, &body.replace("95.00", "95.0")).await.code(), unauthenticated);
    for path in [
        format!("/webhooks/{}/{}", acme.id().0, theirs.id),
        format!("/webhooks/{}/{}", other.id().0, shop.id),
        format!("/webhooks/{}/{}", uuid::Uuid::nil(), shop.id),
        "/webhooks/acme/shop".to_owned(),
    ] {
        assert_eq!(send(&shop.router, &path, &headers, body.clone()).await.code(), unauthenticated, "{path}");
    }
    assert_eq!(shop.send(&headers, &body).await.outcome(), "recorded");
    assert_eq!(june(&other).await["ordersCount"], 0);
    // The newer names of the headers are the same.
    let newer = headers.clone().map(|(name, value)| (&name[2..], value));
    assert_eq!(shop.send(&newer, &body).await.outcome(), "recorded");
    // Who signs is let in however many from the same address do not.
    let server = crate::support::Server::with(test.app.clone(), Options::default()).await;
    let url = format!("http://{}{}", server.address, shop.path);
    let client = reqwest::Client::new();
    for _ in 0..150 {
        let status = client.post(&url).body("{}").send().await.expect("an answer").status();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let signed = headers.iter().fold(client.post(&url), |request, (name, value)| request.header(*name, value));
    assert_eq!(signed.body(body).send().await.expect("an answer").status(), StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn during_a_change_of_secrets_two_are_good() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    let change = async |secret: &str| {
        let update = "mutation($id: ID!, $secret: String) { updateIntegration(id: $id, secret: $secret, input: { name: \"shop\" }) { id } }";
        acme.admin().query_with(update, json!({ "id": shop.id, "secret": secret })).await;
    };
    let statuses = async || {
        let secrets = [SECRET, "a second secret of it", "a third secret of it"];
        let replies = join_all(secrets.map(|secret| shop.shopify(secret, "orders/create", "e", &body))).await;
        replies.iter().map(|reply| reply.status.as_u16()).collect::<Vec<_>>()
    };
    assert_eq!(statuses().await, [200, 401, 401]);
    change("a second secret of it").await;
    assert_eq!(statuses().await, [200, 200, 401]);
    change("a third secret of it").await;
    assert_eq!(statuses().await, [401, 200, 200]);
    // The same once more changes nothing; who says so ends the old one at once.
    change("a third secret of it").await;
    assert_eq!(statuses().await, [401, 200, 200]);
    let end = "mutation($id: ID!, $secret: String) { updateIntegration(id: $id, secret: $secret, endOldSecret: true, input: { name: \"shop\" }) { id } }";
    acme.admin().query_with(end, json!({ "id": shop.id, "secret": "a third secret of it" })).await;
    assert_eq!(statuses().await, [401, 401, 200]);
    // Without a new one, the last that was set is left.
    change(SECRET).await;
    assert_eq!(statuses().await, [200, 401, 200]);
    let end = "mutation($id: ID!) { updateIntegration(id: $id, endOldSecret: true, input: { name: \"shop\" }) { id } }";
    acme.admin().query_with(end, json!({ "id": shop.id })).await;
    assert_eq!(statuses().await, [200, 401, 401]);
    // The secrets are nowhere in the answers, the log or the table.
    let log = acme.admin().query("{ auditLog(first: 50) { nodes { action before after } } }").await.to_string();
    assert!(log.contains("integration.update") && !log.contains("secret of"), "{log}");
    let tx = test.app.db.read(acme.id()).await.expect("a transaction");
    let row = tx.query_one("SELECT secrets FROM integrations WHERE tenant_id = $1", []).await.expect("read");
    let stored: Vec<u8> = salespulse::db::get(&row.expect("a row"), 0).expect("bytes");
    assert!(!String::from_utf8_lossy(&stored).contains("secret of"));
}

/// Another order can end in a deadlock on PostgreSQL: whoever quarantines or reseals locks the head before these rows.
#[tokio::test]
async fn a_change_of_secrets_locks_the_head_before_it_writes() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let App { mut db, clock, tokens, .. } = test.app.clone();
    let statements: Arc<Mutex<Vec<String>>> = Arc::default();
    let sent = Arc::clone(&statements);
    db.mutate(move |sql| {
        sent.lock().expect("no panic").push(sql.to_owned());
        None
    });
    let stream = salespulse::stream::connect(test_redis_url().as_deref()).await.expect("a stream");
    let router = router(App::new(db, clock, stream, tokens, kek()), &Options::default());
    let headers = [
        ("Authorization", format!("Bearer {}", acme.admin().token())),
        ("Content-Type", "application/json".to_owned()),
    ];
    let post = async |query: &str| {
        let body = json!({ "query": query, "variables": { "id": shop.id } }).to_string();
        let reply = send(&router, "/graphql", &headers, body).await;
        assert!(reply.body["errors"].is_null(), "{}", reply.body);
        std::mem::take(&mut *statements.lock().expect("no panic"))
    };
    let first = |sent: &[String], part: &str| sent.iter().position(|sql| sql.contains(part)).expect("sent");
    let sent = post("mutation($id: ID!) { updateIntegration(id: $id, secret: \"a second secret of it\", input: { name: \"s\" }) { id } }").await;
    assert!(first(&sent, "FROM ledger_heads") < first(&sent, "UPDATE integrations"), "{sent:#?}");
    let sent = post("mutation($id: ID!) { deleteIntegration(id: $id) }").await;
    assert!(first(&sent, "SELECT 1 FROM integrations") < first(&sent, "DELETE FROM data_sources"), "{sent:#?}");
}

#[tokio::test]
async fn what_cannot_be_understood_is_kept_until_somebody_has_seen_to_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let password = "crm:a password of it";
    let crm = Sender::of(&acme, "PIPEDRIVE", password, json!({ "name": "crm" })).await;
    let basic = |password: &str| [("Authorization", format!("Basic {}", STANDARD.encode(password)))];
    let deal = |status: &str, value: &str, micros: i64| {
        format!(
            r#"{{ "v": 1, "meta": {{ "action": "updated", "object": "deal", "id": 1347, "company_id": 18, "timestamp": {}, "timestamp_micro": {micros} }},
               "current": {{ "id": 1347, "user_id": 4011602, "value": {value}, "currency": "GBP", "status": "{status}",
                             "won_time": "2026-06-10 15:04:54", "lost_time": null, "update_time": "2026-06-10 15:04:54" }},
               "previous": {{ "status": "open" }} }}"#,
            micros / SECOND
        )
    };
    let won = deal("won", "1234567890.1234", 1_781_100_294_634_900);
    assert_eq!(crm.send(&basic("crm:another password"), &won).await.code(), (401, "UNAUTHENTICATED"));
    // Nobody is known as their owner 4011602.
    for _ in 0..3 {
        assert_eq!(crm.send(&basic(password), &won).await.outcome(), "quarantined");
    }
    assert_eq!(crm.send(&basic(password), "no JSON at all").await.outcome(), "quarantined");
    let open = deal("open", "5", 1_781_100_294_634_901);
    assert_eq!(crm.send(&basic(password), &open).await.outcome(), "ignored");
    let kept = quarantine(&acme).await;
    let kept = kept.as_array().expect("a list");
    assert_eq!(kept.len(), 2, "{kept:?}");
    let (unread, unowned) = (&kept[0], &kept[1]);
    assert_eq!((&unread["code"], &unowned["topic"]), (&json!("UNCLEAR"), &json!("updated.deal")));
    assert!(unowned["reason"].as_str().is_some_and(|reason| reason.contains("4011602")), "{unowned}");
    let retry = async |id: &Value| {
        let retry = "mutation($id: ID!) { retryQuarantined(id: $id) { outcome delivery { reason } } }";
        acme.admin().query_with(retry, json!({ "id": id })).await["retryQuarantined"]["outcome"].take()
    };
    assert_eq!(retry(&unowned["id"]).await, "QUARANTINED");
    let seller = acme.actor(Role::Manager).caller.user_id;
    let update = "mutation($id: ID!, $user: ID!) { updateIntegration(id: $id, input: { name: \"crm\", owners: [{ externalId: \"4011602\", userId: $user }] }) { owners { userId } } }";
    acme.admin().query_with(update, json!({ "id": crm.id, "user": seller })).await;
    assert_eq!(retry(&unowned["id"]).await, "RECORDED");
    assert_eq!(crm.send(&basic(password), &won).await.outcome(), "recorded");
    let version_2 = r#"{ "meta": { "action": "change", "entity": "deal", "entity_id": "1347", "id": "0b1c6f1e-0000-4000-8000-000000000000", "company_id": "18", "version": "2.0", "timestamp": "2026-06-10T15:10:00.000Z" },
        "data": { "id": 1347, "owner_id": 4011602, "value": 250.5, "currency": "GBP", "status": "won", "won_time": "2026-06-10T15:04:54Z" }, "previous": { "value": 1 } }"#;
    assert_eq!(crm.send(&basic(password), version_2).await.outcome(), "recorded");
    let sold = format!(
        r#"{{ salesPerformance(userId: "{seller}", period: {{ start: "2026-04-01T00:00:00Z", end: "2026-07-01T00:00:00Z" }}) {{ dealsWon revenue }} }}"#
    );
    let sold = acme.admin().query(&sold).await;
    assert_eq!(sold["salesPerformance"], json!({ "dealsWon": 1, "revenue": "250.50" }));
    let dismiss = "mutation($id: ID!) { dismissQuarantined(id: $id) }";
    acme.admin().query_with(dismiss, json!({ "id": unread["id"] })).await;
    assert_eq!(quarantine(&acme).await, json!([]));
    // Who may not manage integrations sees nothing of it.
    for query in ["{ integrations { id } }", "{ quarantine { nodes { id } } }"] {
        assert_eq!(acme.viewer().error_code(query).await, "FORBIDDEN");
    }
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
async fn whoever_signs_as_the_standard_has_it_sends_any_event() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let secret = "whsec_YSBzZWNyZXQgdGhhdCBpcyBpbiBiYXNlNjQ=";
    let sender = Sender::of(&acme, "STANDARD", secret, json!({ "name": "tills" })).await;
    let signed = |id: &str, seconds: i64, body: &str| as_standard_at("a secret that is in base64", id, seconds, body);
    let now = NOW.0 / SECOND;
    let sale = json!({ "eventId": "till-1", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "1", "amount": "12.34" } });
    let body = json!({ "events": [sale] }).to_string();
    assert_eq!(sender.send(&signed("m1", now - 301, &body), &body).await.code(), (401, "UNAUTHENTICATED"));
    assert_eq!(sender.send(&signed("m1", now, &body), &body).await.outcome(), "recorded");
    assert_eq!(june(&acme).await["grossRevenue"], "12.34");
    for (n, (wrong, reason)) in [
        (json!({ "events": [{ "eventId": "x" }] }), "DateTime"),
        (json!({ "events": [{ "eventId": "x", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "2", "amout": "1" } }] }), "amout"),
        (json!({ "event": [] }), "column"),
        (json!({ "events": [{ "eventId": "y" }] }), "events.0: "),
        // The same id with other content.
        (json!({ "events": [{ "eventId": "till-1", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "1", "amount": "99" } }] }), "other content"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = wrong.to_string();
        assert_eq!(sender.send(&signed(&format!("w{n}"), now, &body), &body).await.outcome(), "quarantined", "{body}");
        let newest = quarantine(&acme).await[0].take();
        assert!(newest["reason"].as_str().is_some_and(|text| text.contains(reason)), "{newest}");
    }
    assert_eq!(june(&acme).await["grossRevenue"], "12.34");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_cannot_be_taken_in_the_sender_is_asked_to_come_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop", "enabled": false })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    let off = shop.shopify(SECRET, "orders/create", "e", &body).await;
    assert_eq!(off.code(), (503, "SERVICE_UNAVAILABLE"));
    assert!(off.headers.contains_key(header::RETRY_AFTER));
    let update =
        "mutation($id: ID!) { updateIntegration(id: $id, input: { name: \"shop\", enabled: true }) { enabled } }";
    acme.admin().query_with(update, json!({ "id": shop.id })).await;
    // Somebody keeps the ledger waiting for longer than a shop would.
    let held = test.app.db.write(acme.id()).await.expect("a transaction");
    lock_head(&held).await.expect("locked");
    let waits = shop.shopify(SECRET, "orders/create", "e", &body).await;
    assert_eq!(waits.code(), (503, "SERVICE_UNAVAILABLE"));
    drop(held);
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &body).await.outcome(), "recorded");
    assert_eq!(june(&acme).await["ordersCount"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_for_integrations_goes_with_the_tenants_keys() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e1", &body).await.outcome(), "recorded");
    assert_eq!(shop.shopify(SECRET, "orders/create", "e2", "{}").await.outcome(), "quarantined");
    // A new key: what the old one has sealed is sealed anew, so that it can be destroyed.
    acme.admin().query("mutation { rotateKeys { rowsLeft } }").await;
    reseal(&test.app, acme.id(), |_| {}).await.expect("sealed anew");
    test.clock.set(Timestamp(NOW.0 + 3600 * SECOND));
    assert_eq!(destroy_unused(&test.app, acme.id()).await.expect("destroyed"), [1]);
    assert_eq!(shop.shopify(SECRET, "orders/create", "e1", &body).await.outcome(), "recorded");
    let kept = quarantine(&acme).await;
    let retry = "mutation($id: ID!) { retryQuarantined(id: $id) { outcome } }";
    let again = acme.admin().query_with(retry, json!({ "id": kept[0]["id"] })).await;
    assert_eq!(again["retryQuarantined"]["outcome"], "QUARANTINED");
    // The shop has a customer erased, who goes from the quarantine too; who only looks alike stays.
    for (event, customer) in [("q1", 77), ("q2", 770)] {
        let waits = json!({ "currency": "none", "customer": { "id": customer } });
        let waits = shop_order("2026-06-10T10:00:00Z", waits);
        assert_eq!(shop.shopify(SECRET, "orders/create", event, &waits).await.outcome(), "quarantined");
    }
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 77, "email": "ann@example.com" }, "orders_to_redact": [] }).to_string();
    assert_eq!(shop.shopify(SECRET, "customers/redact", "e3", &redact).await.outcome(), "recorded");
    let left: Vec<Value> =
        quarantine(&acme).await.as_array().expect("a list").iter().map(|q| q["deliveryId"].clone()).collect();
    assert_eq!(left, ["orders/create:q2", "orders/create:e2"]);
    let logged = r#"{ auditLog(filter: { action: "customer.erase" }) { nodes { actor { name } through throughId } } }"#;
    let logged = acme.admin().query(logged).await["auditLog"]["nodes"].take();
    assert_eq!(logged, json!([{ "actor": null, "through": "integration", "throughId": shop.id }]));
    let customers = acme.admin().query("{ customers(first: 5) { nodes { externalId name } } }").await;
    let customer = &customers["customers"]["nodes"][0];
    assert!(customer["name"].is_null() && customer["externalId"].as_str().is_some_and(|id| id.starts_with("erased:")));
    // An erasure that waits itself names the customer, so it goes with what it erases.
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 79 } }).to_string();
    let keys = test.app.keys.get(acme.id()).await.expect("read").expect("keys");
    let integration_id = shop.id.parse().expect("an id");
    let waiting = Kept { integration_id, delivery_id: "w", topic: "customers/redact", happened_at: NOW, body: &redact };
    let tx = test.app.db.write(acme.id()).await.expect("a transaction");
    let why = Why { code: "UNCLEAR".to_owned(), reason: "for this test".to_owned() };
    keep(&tx, &keys, &waiting, &why, NOW).await.expect("kept");
    tx.commit().await.expect("committed");
    let erased = acme.admin().query_with(retry, json!({ "id": quarantine(&acme).await[0]["id"] })).await;
    assert_eq!(erased["retryQuarantined"]["outcome"], "RECORDED");
    let logged = acme.admin().query(r#"{ auditLog(filter: { action: "quarantine.retry" }) { totalCount } }"#).await;
    assert_eq!(logged["auditLog"]["totalCount"], 2);
    // So it is when an admin has a customer erased, who is told before what waits.
    let waits = json!({ "currency": "none", "customer": { "id": 78 }, "total_price": "77.00" });
    let waits = shop_order("2026-06-10T10:00:00Z", waits);
    assert_eq!(shop.shopify(SECRET, "orders/create", "q3", &waits).await.outcome(), "quarantined");
    let known = shop_order("2026-06-10T10:00:00Z", json!({ "id": 4711, "customer": { "id": 78 } }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e4", &known).await.outcome(), "recorded");
    let list = acme.admin().query("{ customers(first: 5) { nodes { id externalId } } }").await;
    let known = list["customers"]["nodes"].as_array().expect("a list").iter().find(|one| one["externalId"] == "78");
    let id = json!({ "id": known.expect("the customer")["id"] });
    let export = "mutation($id: ID!) { exportCustomer(customerId: $id) }";
    let exported = acme.admin().query_with(export, id.clone()).await["exportCustomer"]["quarantined"].take();
    assert_eq!((&exported[0]["body"]["customer"]["id"], &exported[1]), (&json!(78), &Value::Null));
    acme.admin().query_with("mutation($id: ID!) { eraseCustomer(customerId: $id) { id } }", id).await;
    let left: Vec<Value> =
        quarantine(&acme).await.as_array().expect("a list").iter().map(|q| q["deliveryId"].clone()).collect();
    assert_eq!(left, ["orders/create:q2", "orders/create:e2"]);
    // All is erased: the secrets too, so that nobody is known any more.
    erase_tenant(&test.app.db, acme.id(), NOW).await.expect("erased");
    test.app.keys.forget(acme.id());
    assert_eq!(quarantine(&acme).await, json!([]));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e1", &body).await.code(), (401, "UNAUTHENTICATED"));
    let ended =
        acme.admin().query_with("mutation($id: ID!) { deleteIntegration(id: $id) }", json!({ "id": shop.id })).await;
    assert_eq!(ended["deleteIntegration"], json!(shop.id));
    assert_eq!(
        acme.admin().query("{ integrations { id } dataSources { id } }").await,
        json!({ "integrations": [], "dataSources": [] })
    );
}

#[tokio::test]
async fn integrations_are_checked_before_they_are_made() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop", "channel": "online" })).await;
    let create = |kind: &str, secret: &str, input: &str| {
        format!("mutation {{ createIntegration(kind: {kind}, secret: \"{secret}\", input: {{ {input} }}) {{ id }} }}")
    };
    let admin = acme.admin();
    admin.refused(&create("SHOPIFY", "short", "name: \"a\""), "secret").await;
    admin.refused(&create("STRIPE", SECRET, "name: \"a\""), "secret").await;
    admin.refused(&create("PIPEDRIVE", "no password but long", "name: \"a\""), "secret").await;
    admin.refused(&create("STANDARD", "whsec_is no base64 at all", "name: \"a\""), "secret").await;
    admin.refused(&create("SHOPIFY", SECRET, "name: \" \""), "name").await;
    assert_eq!(admin.error_code(&create("SHOPIFY", SECRET, "name: \"shop\"")).await, "CONFLICT");
    let stranger = other.admin().caller.user_id;
    let owners = format!("name: \"a\", owners: [{{ externalId: \"1\", userId: \"{stranger}\" }}]");
    assert_eq!(admin.error_code(&create("PIPEDRIVE", "user:password of it", &owners)).await, "NOT_FOUND");
    let organization = format!("name: \"a\", organizationId: \"{stranger}\"");
    assert_eq!(admin.error_code(&create("SHOPIFY", SECRET, &organization)).await, "NOT_FOUND");
    for change in ["deleteIntegration(id: ID)", "updateIntegration(id: ID, input: { name: \"b\" }) { id }"] {
        let change = format!("mutation {{ {} }}", change.replace("ID", &format!("\"{}\"", shop.id)));
        assert_eq!(other.admin().error_code(&change).await, "NOT_FOUND");
    }
    let listed =
        admin.query("{ integrations { name kind channel enabled lastDeliveryAt } dataSources { name kind } }").await;
    let expected =
        json!({ "name": "shop", "kind": "SHOPIFY", "channel": "online", "enabled": true, "lastDeliveryAt": null });
    assert_eq!(listed, json!({ "integrations": [expected], "dataSources": [{ "name": "shop", "kind": "shopify" }] }));
    // Tests of the shop do not count, unless they are to.
    let tried = shop_order("2026-06-10T10:00:00Z", json!({ "test": true }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &tried).await.outcome(), "ignored");
    let counted = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "trial", "countsTests": true })).await;
    assert_eq!(counted.shopify(SECRET, "orders/create", "e", &tried).await.outcome(), "recorded");
    let named = admin.query("{ integrations { name lastDeliveryAt } }").await;
    assert!(
        named["integrations"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["lastDeliveryAt"] == "2026-06-15T12:00:00Z")
    );
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
async fn nothing_is_read_of_what_is_for_nobody() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { address_requests: NonZeroU32::new(2), ..Limits::default() };
    let router =
        router(test.app.clone(), &Options { api: Settings { limits, ..Settings::default() }, ..Options::default() });
    let unknown = format!("/webhooks/{}/{}", acme.id().0, uuid::Uuid::now_v7());
    for (path, code) in [
        (unknown.as_str(), (401, "UNAUTHENTICATED")),
        ("/webhooks/acme/shop", (401, "UNAUTHENTICATED")),
        (unknown.as_str(), (429, "RATE_LIMITED")),
    ] {
        // It never comes.
        let body = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let peer = Peer { address: "192.0.2.1:1".parse().expect("an address"), is_encrypted: false };
        let request = Request::post(path).extension(peer).body(body).expect("a request");
        assert_eq!(reply(router.clone().oneshot(request).await.expect("a response")).await.code(), code, "{path}");
    }
}

#[tokio::test]
async fn a_secret_is_given_by_whoever_may_do_what_it_opens() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let tills = Sender::of(&acme, "STANDARD", SECRET, json!({ "name": "tills" })).await;
    let create = |kind: &str| {
        format!(
            r#"mutation {{ createIntegration(kind: {kind}, secret: "{SECRET}", input: {{ name: "{kind} too" }}) {{ id }} }}"#
        )
    };
    let change = |id: &str, secret: &str| {
        format!(r#"mutation {{ updateIntegration(id: "{id}", {secret} input: {{ name: "{id}" }}) {{ id }} }}"#)
    };
    let with_secret = |id: &str| change(id, r#"secret: "another secret of it","#);
    let key = |permissions: &[Permission]| {
        let mut key = acme.admin();
        key.caller.permissions = [&[Permission::IntegrationsManage][..], permissions].concat();
        key
    };
    let manages = key(&[]);
    for refused in [create("SHOPIFY"), create("STANDARD"), with_secret(&shop.id), with_secret(&tills.id)] {
        assert_eq!(manages.error_code(&refused).await, "FORBIDDEN", "{refused}");
    }
    manages.query(&change(&shop.id, "")).await;
    let sells = key(&[Permission::SalesEdit]);
    for refused in [create("SHOPIFY"), with_secret(&shop.id)] {
        assert_eq!(sells.error_code(&refused).await, "FORBIDDEN", "{refused}");
    }
    sells.query(&create("STANDARD")).await;
    sells.query(&with_secret(&tills.id)).await;
    let erases = key(&[Permission::SalesEdit, Permission::PersonalManage]);
    erases.query(&create("SHOPIFY")).await;
    erases.query(&with_secret(&shop.id)).await;
}

#[tokio::test]
async fn what_a_change_leaves_out_stays() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.organization("north", chrono_tz::UTC, "GBP").await;
    let organizations = acme.admin().query("{ organizations { id slug } }").await;
    let organizations = organizations["organizations"].as_array().expect("a list");
    let north = organizations.iter().find(|one| one["slug"] == "north").expect("north")["id"].clone();
    let seller = acme.actor(Role::Manager).caller.user_id.to_string();
    let input = json!({ "name": "crm", "organizationId": north, "channel": "deals", "countsTests": true, "enabled": false,
        "owners": [{ "externalId": "1", "userId": seller }] });
    let crm = Sender::of(&acme, "PIPEDRIVE", "crm:a password of it", input.clone()).await;
    let change = async |input: Value| {
        let update = "mutation($id: ID!, $input: IntegrationChanges!) { updateIntegration(id: $id, secret: \"crm:another of it\", input: $input) { \
                      name organizationId channel countsTests enabled owners { externalId userId } } }";
        acme.admin().query_with(update, json!({ "id": crm.id, "input": input })).await["updateIntegration"].take()
    };
    assert_eq!(change(json!({ "name": "crm" })).await, input);
    assert_eq!(change(json!({})).await, input);
    let cleared =
        change(json!({ "name": "deals", "organizationId": null, "channel": null, "countsTests": false, "owners": [] }))
            .await;
    assert_eq!(change(json!({ "organizationId": "north" })).await["organizationId"], north);
    assert_eq!(change(json!({ "organizationId": null })).await, cleared);
    let elsewhere = r#"mutation { createIntegration(kind: SHOPIFY, secret: "a secret that is long enough",
        input: { name: "shop", organizationId: "south" }) { id } }"#;
    let refused = acme.admin().run(elsewhere, json!({})).await;
    let extensions = refused.errors[0].extensions.as_ref().expect("extensions");
    assert_eq!(extensions.get("argument"), Some(&"organizationId".into()));
    let expected = json!({ "name": "deals", "organizationId": null, "channel": null, "countsTests": false, "enabled": false, "owners": [] });
    assert_eq!(cleared, expected);
    for (owner, code, argument) in [
        (json!({ "externalId": "", "userId": seller }), "BAD_USER_INPUT", "externalId"),
        (json!({ "externalId": "2", "userId": "nobody" }), "NOT_FOUND", "userId"),
        (json!({ "externalId": "2", "userId": north }), "NOT_FOUND", "userId"),
        (json!({ "externalId": "1", "userId": seller }), "BAD_USER_INPUT", "externalId"),
    ] {
        let owners = [json!({ "externalId": "1", "userId": seller }), owner];
        let create = r#"mutation($owners: [IntegrationOwnerInput!]!) {
            createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: { name: "other", owners: $owners }) { id } }"#;
        let refused = acme.admin().run(create, json!({ "owners": owners })).await;
        let extensions = refused.errors[0].extensions.as_ref().expect("extensions");
        let told = ["code", "argument"].map(|name| extensions.get(name).cloned());
        assert_eq!(told, [Some(code.into()), Some(format!("owners.1.{argument}").into())]);
    }
}

#[tokio::test]
async fn what_is_taken_when_it_comes_again_waits_no_longer() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let other = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "other" })).await;
    let euros = shop_order("2026-06-10T10:00:00Z", json!({ "currency": "EUR" }));
    for shop in [&shop, &other] {
        assert_eq!(shop.shopify(SECRET, "orders/create", "e", &euros).await.outcome(), "quarantined");
    }
    // Under the same id, of another order.
    let another = shop_order("2026-06-10T10:00:00Z", json!({ "id": 2, "currency": "CHF" }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &another).await.outcome(), "quarantined");
    let rates =
        r#"mutation { setExchangeRates(rates: [{ from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.85" }]) }"#;
    acme.admin().query(rates).await;
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &euros).await.outcome(), "recorded");
    let left = quarantine(&acme).await;
    let left: Vec<_> = left.as_array().expect("a list").iter().map(|one| one["integrationId"].clone()).collect();
    assert_eq!(left, [json!(shop.id), json!(other.id)]);
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

fn as_standard(secret: &str, id: &str, body: &str) -> [(&'static str, String); 3] {
    as_standard_at(secret, id, NOW.0 / SECOND, body)
}

/// Signed as the Standard Webhooks specification has it, beside a signature with another key.
fn as_standard_at(secret: &str, id: &str, seconds: i64, body: &str) -> [(&'static str, String); 3] {
    let tag = hmac(secret.as_bytes(), format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,bm9uZQ== v1,{}", STANDARD.encode(tag));
    [("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signature)]
}

#[tokio::test]
async fn of_several_events_all_but_the_refused_ones_are_recorded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let tills = Sender::of(&acme, "STANDARD", SECRET, json!({ "name": "tills" })).await;
    let sale = |id: &str, at: &str| json!({ "eventId": id, "occurredAt": at, "orderPlaced": { "orderId": id, "amount": "1.00" } });
    let malformed = json!({ "eventId": "b", "occurredAt": "2026-06-10T10:00:00Z" });
    for (n, (events, code, orders)) in [
        (json!([sale("a", "2026-06-10T10:00:00Z"), malformed, sale("c", "2026-06-10T10:00:00Z")]), "BAD_USER_INPUT", 2),
        (
            json!([sale("d", "2026-06-10T10:00:00Z"), sale("e", "2036-06-10T10:00:00Z"), malformed]),
            "TIME_OUT_OF_RANGE",
            3,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "events": events }).to_string();
        assert_eq!(tills.send(&as_standard(SECRET, &format!("w{n}"), &body), &body).await.outcome(), "quarantined");
        let newest = quarantine(&acme).await[0].take();
        assert_eq!(newest["code"], code);
        assert!(newest["reason"].as_str().is_some_and(|reason| reason.starts_with("events.1: ")), "{newest}");
        assert_eq!(june(&acme).await["ordersCount"], orders);
    }
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

async fn customer_id(tenant: &TestTenant<'_>, external_id: &str) -> Value {
    let list = tenant.admin().query("{ customers(first: 20) { nodes { id externalId } } }").await;
    let customers = list["customers"]["nodes"].as_array().expect("a list").clone();
    let found = customers.into_iter().find(|one| one["externalId"] == external_id);
    json!({ "id": found.expect("the customer")["id"] })
}

const EXPORT: &str = "mutation($id: ID!) { exportCustomer(customerId: $id) }";
const ERASE: &str = "mutation($id: ID!) { eraseCustomer(customerId: $id) { id } }";

#[tokio::test]
async fn a_customer_goes_from_the_quarantine_and_nobody_else() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let tills = Sender::of(&acme, "STANDARD", SECRET, json!({ "name": "tills" })).await;
    let known = shop_order("2026-06-10T10:00:00Z", json!({ "customer": { "id": 12347 } }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "k", &known).await.outcome(), "recorded");
    // Jane lives where the number of the customer is the postal code.
    let jane =
        json!({ "id": 5551234, "first_name": "Jane", "default_address": { "customer_id": 5551234, "zip": "12347" } });
    for (event, customer) in [("jane", jane), ("own", json!({ "id": 12347 })), ("damaged", json!({ "id": 12347 }))] {
        let order = shop_order("2026-06-10T10:00:00Z", json!({ "currency": "none", "customer": customer }));
        assert_eq!(shop.shopify(SECRET, "orders/create", event, &order).await.outcome(), "quarantined");
    }
    for (event, customer) in [("cut", "12347"), ("cut of others", "123470")] {
        let whole =
            json!({ "events": [{ "eventId": "e", "orderPlaced": { "customer": { "id": customer } } }] }).to_string();
        let body = &whole[..whole.len() - 1];
        assert_eq!(tills.send(&as_standard(SECRET, event, body), body).await.outcome(), "quarantined");
    }
    let tx = test.app.db.write(acme.id()).await.expect("a transaction");
    let sql = "UPDATE quarantine SET body = $2 WHERE tenant_id = $1 AND delivery_id = 'orders/create:damaged'";
    assert_eq!(tx.execute(sql, [vec![1_u8; 64].into()]).await.expect("damaged"), 1);
    tx.commit().await.expect("committed");
    let id = customer_id(&acme, "12347").await;
    let exported = acme.admin().query_with(EXPORT, id.clone()).await["exportCustomer"]["quarantined"].take();
    let exported = exported.as_array().expect("a list");
    assert_eq!((exported.len(), &exported[0]["body"]["customer"]["id"]), (1, &json!(12347)));
    acme.admin().query_with(ERASE, id).await;
    let left = async || {
        let left = quarantine(&acme).await;
        let mut left: Vec<String> =
            left.as_array().expect("a list").iter().map(|one| one["deliveryId"].to_string()).collect();
        left.sort();
        left
    };
    let others = [r#""cut of others""#, r#""orders/create:damaged""#, r#""orders/create:jane""#];
    assert_eq!(left().await, others);
    // So it is when the shop has a customer erased, known or not.
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 5551234 } }).to_string();
    assert_eq!(shop.shopify(SECRET, "customers/redact", "r", &redact).await.outcome(), "recorded");
    assert_eq!(left().await, others[..2]);
}

#[tokio::test]
async fn the_quarantine_is_searched_before_anything_is_locked_and_listed_without_bodies() {
    let statements: Arc<Mutex<Vec<String>>> = Arc::default();
    let sent = Arc::clone(&statements);
    let test = TestApp::start().await.rewired(|mut app| {
        app.db.mutate(move |sql| {
            sent.lock().expect("no panic").push(sql.to_owned());
            None
        });
        app
    });
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let known = shop_order("2026-06-10T10:00:00Z", json!({}));
    assert_eq!(shop.shopify(SECRET, "orders/create", "k", &known).await.outcome(), "recorded");
    for n in 0..20 {
        let order = shop_order("2026-06-10T10:00:00Z", json!({ "currency": "none", "id": n }));
        assert_eq!(shop.shopify(SECRET, "orders/create", &format!("q{n}"), &order).await.outcome(), "quarantined");
    }
    let take = || std::mem::take(&mut *statements.lock().expect("no panic"));
    let id = customer_id(&acme, "77").await;
    take();
    assert_eq!(quarantine(&acme).await.as_array().map(Vec::len), Some(20));
    let listed = take();
    assert!(listed.iter().any(|sql| sql.contains("FROM quarantine")), "{listed:#?}");
    assert!(!listed.iter().any(|sql| sql.contains("body")), "{listed:#?}");
    acme.admin().query_with(ERASE, id).await;
    let erased = take();
    let places = |part: &str| -> Vec<usize> {
        erased.iter().enumerate().filter(|(_, sql)| sql.contains(part)).map(|(at, _)| at).collect()
    };
    let (searched, locked) = (places("body FROM quarantine"), places("erased_at FROM customers WHERE"));
    // Only what has come since is searched under the lock.
    let after = |locked: &usize| searched.iter().filter(|at| *at > locked).count();
    assert!(searched.len() > 3 && locked.iter().any(|locked| after(locked) == 1), "{erased:#?}");
    assert_eq!(quarantine(&acme).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_completed_though_nobody_waits_for_it() {
    let begun = Arc::new(Notify::new());
    let searches = Arc::clone(&begun);
    let test = TestApp::start().await.rewired(|mut app| {
        app.db.mutate(move |sql| {
            if sql.contains("body FROM quarantine") {
                searches.notify_one();
            }
            None
        });
        app
    });
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let known = shop_order("2026-06-10T10:00:00Z", json!({}));
    assert_eq!(shop.shopify(SECRET, "orders/create", "k", &known).await.outcome(), "recorded");
    let held = test.app.db.write(acme.id()).await.expect("a transaction");
    lock_head(&held).await.expect("locked");
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 77 } }).to_string();
    // The sender leaves while the erasure waits for the lock.
    tokio::select! {
        reply = shop.shopify(SECRET, "customers/redact", "r", &redact) => panic!("{}", reply.body),
        () = begun.notified() => {}
    }
    drop(held);
    let erased = async {
        let query = "{ customers(first: 5) { nodes { erasedAt } } }";
        while acme.admin().query(query).await["customers"]["nodes"][0]["erasedAt"].is_null() {}
    };
    tokio::time::timeout(Duration::from_secs(20), erased).await.expect("it is completed");
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
