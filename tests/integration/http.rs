//! GraphQL over HTTP: refusals, and answers that are kept.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use salespulse::clock::MINUTE;
use salespulse::ledger::event::Fact;
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::ledger::{event, order};
use crate::support::{Actor, NOW, TestApp};

const RESPONSE_JSON: &str = "application/graphql-response+json";

struct Client(axum::Router);

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Client {
    /// One router for all requests, as its answers are kept.
    fn of(test: &TestApp) -> Client {
        Client(router(test.app.clone(), Options { graphiql: false }))
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.0.clone().oneshot(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn post(&self, actor: &Actor<'_>, accept: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post("/graphql")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, accept)
            .header(header::AUTHORIZATION, format!("Bearer {}", actor.token()))
            .body(body.into());
        self.send(request.expect("a request")).await
    }

    async fn query(&self, actor: &Actor<'_>, query: &str) -> Value {
        let reply = self.post(actor, RESPONSE_JSON, json!({ "query": query }).to_string()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        reply.body["data"].clone()
    }
}

fn code(reply: &Reply) -> &str {
    assert!(reply.body.get("data").is_none(), "no data when nothing ran: {}", reply.body);
    reply.body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn what_is_no_request_of_a_caller_is_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let client = Client::of(&test);
    let anonymous = Request::post("/graphql").header(header::CONTENT_TYPE, "application/json").body(Body::from("{}"));
    let reply = client.send(anonymous.expect("a request")).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"));
    assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer");
    let form = Request::post("/graphql").header(header::CONTENT_TYPE, "text/plain").body(Body::from("{}"));
    let reply = client.send(form.expect("a request")).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"));

    let admin = acme.admin();
    let broken = client.post(&admin, RESPONSE_JSON, "{").await;
    assert_eq!((broken.status, code(&broken)), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
    let large = client.post(&admin, RESPONSE_JSON, vec![b' '; 2 * 1024 * 1024]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    for (query, expected) in [("{", "GRAPHQL_PARSE_FAILED"), ("{ nothing }", "GRAPHQL_VALIDATION_FAILED")] {
        let body = json!({ "query": query }).to_string();
        let reply = client.post(&admin, RESPONSE_JSON, body.clone()).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, expected));
        let reply = client.post(&admin, "application/json", body).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::OK, expected));
    }
}

const TODAY: &str = "{ salesMetrics(period: { preset: TODAY }) { ordersCount period { state } asOf { position } } }";

#[tokio::test]
async fn a_kept_answer_is_the_current_one_or_is_not_used() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let client = Client::of(&test);
    let viewer = acme.viewer();
    let sale = |n: u32| {
        event(&format!("e{n}"), "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(&format!("o{n}"), 1, "c", "1.00")))
    };
    let answer = |orders: u32, state: &str, position: &str| json!({ "salesMetrics": { "ordersCount": orders, "period": { "state": state }, "asOf": { "position": position } } });
    assert_eq!(client.query(&viewer, TODAY).await, answer(0, "OPEN", "0"));
    assert_eq!(client.query(&viewer, TODAY).await, answer(0, "OPEN", "0"));
    acme.apply(vec![sale(1)]).await;
    assert_eq!(client.query(&viewer, TODAY).await, answer(1, "OPEN", "1"), "a write is seen at once");
    assert_eq!(client.query(&other.viewer(), TODAY).await, answer(0, "OPEN", "0"), "tenants share nothing");

    // The next day has no orders yet, though the ledger stands still.
    test.clock.set(salespulse::clock::Timestamp(NOW.0 + 13 * 60 * MINUTE));
    let fresh = acme.viewer();
    assert_eq!(client.query(&fresh, TODAY).await, answer(0, "OPEN", "1"), "the clock is heeded");
}
