//! Those who send webhooks, and what becomes of what they send.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use salespulse::clock::SECOND;
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt;

use crate::support::{NOW, TestApp, TestTenant};

pub const SECRET: &str = "a secret of the shop";

pub fn hmac(secret: &[u8], body: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(secret).expect("a key").chain_update(body).finalize().into_bytes().to_vec()
}

/// A sender with the address that it was given.
pub struct Sender {
    pub router: axum::Router,
    pub path: String,
    pub id: String,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    pub fn outcome(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body["outcome"].as_str().expect("an outcome")
    }

    pub fn code(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default())
    }
}

pub async fn send(router: &axum::Router, path: &str, headers: &[(&str, String)], body: impl Into<Body>) -> Reply {
    let request = headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, value));
    reply(router.clone().oneshot(request.body(body.into()).expect("a request")).await.expect("a response")).await
}

pub async fn reply(response: axum::response::Response) -> Reply {
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
    pub async fn of(tenant: &TestTenant<'_>, kind: &str, secret: &str, input: Value) -> Sender {
        let create = "mutation($kind: IntegrationKind!, $secret: String!, $input: IntegrationInput!) { \
                      createIntegration(kind: $kind, secret: $secret, input: $input) { id url } }";
        let variables = json!({ "kind": kind, "secret": secret, "input": input });
        let made = tenant.admin().query_with(create, variables).await["createIntegration"].take();
        let url = made["url"].as_str().expect("a URL");
        let path = url.strip_prefix("http://localhost:4000").expect("below the public URL").to_owned();
        let id = made["id"].as_str().expect("an id").to_owned();
        Sender { router: router(tenant.test.app.clone(), &Options::default()), path, id }
    }

    pub async fn send(&self, headers: &[(&str, String)], body: &str) -> Reply {
        send(&self.router, &self.path, headers, body.to_owned()).await
    }

    /// As Shopify sends it.
    pub async fn shopify(&self, secret: &str, topic: &str, event: &str, body: &str) -> Reply {
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

pub async fn june(tenant: &TestTenant<'_>) -> Value {
    let query = r#"{ salesMetrics(period: { start: "2026-06-01T00:00:00Z", end: "2026-07-01T00:00:00Z" }) {
        grossRevenue refunds totalRevenue ordersCount unitsSold } }"#;
    tenant.viewer().query(query).await["salesMetrics"].take()
}

pub async fn quarantine(tenant: &TestTenant<'_>) -> Value {
    let query = "{ quarantine(first: 100) { nodes { id integrationId topic code reason deliveryId } } }";
    tenant.admin().query(query).await["quarantine"]["nodes"].take()
}

pub fn as_standard(secret: &str, id: &str, body: &str) -> [(&'static str, String); 3] {
    as_standard_at(secret, id, NOW.0 / SECOND, body)
}

/// Signed as the Standard Webhooks specification has it, beside a signature with another key.
pub fn as_standard_at(secret: &str, id: &str, seconds: i64, body: &str) -> [(&'static str, String); 3] {
    let tag = hmac(secret.as_bytes(), format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,bm9uZQ== v1,{}", STANDARD.encode(tag));
    [("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signature)]
}
