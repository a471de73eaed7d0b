//! What one caller may ask for, and which documents are run.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use salespulse::auth::opaque::{Kind, Opaque};
use salespulse::auth::token::Subject;
use salespulse::clock::{MINUTE, Timestamp};
use salespulse::graphql::documents::Documents;
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::socket::Socket;
use crate::socket_protocol::Raw;
use crate::support::{Actor, NOW, Server, TestApp, in_time};

async fn ask(app: &axum::Router, actor: &Actor<'_>, body: Value) -> (StatusCode, bool, Value) {
    let request = Request::post("/graphql")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", actor.token()))
        .body(Body::from(body.to_string()));
    let response = app.clone().oneshot(request.expect("a request")).await.expect("an answer");
    let (status, has_retry) = (response.status(), response.headers().contains_key(header::RETRY_AFTER));
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, has_retry, serde_json::from_slice(&bytes).expect("JSON"))
}

fn code(body: &Value) -> &Value {
    &body["errors"][0]["extensions"]["code"]
}

#[tokio::test]
async fn who_asks_for_too_much_is_told_to_come_back_and_others_are_not() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { user_fields: NonZeroU32::new(10), ..Limits::default() };
    let app =
        router(test.app.clone(), &Options { api: Settings { limits, ..Settings::default() }, ..Options::default() });
    let viewer = acme.viewer();
    // Each as often as it is selected: a and b are three fields each.
    let twice = json!({ "query": "{ a: me { id name } b: me { id name } }" });
    assert_eq!(ask(&app, &viewer, twice.clone()).await.0, StatusCode::OK);
    let (status, has_retry, body) = ask(&app, &viewer, twice.clone()).await;
    assert_eq!((status, has_retry, code(&body)), (StatusCode::TOO_MANY_REQUESTS, true, &json!("RATE_LIMITED")));
    assert!(body.get("data").is_none());
    let batch = json!([{ "query": "{ me { id } }" }, twice]);
    let (status, _, body) = ask(&app, &viewer, batch).await;
    assert_eq!((status, code(&body[1])), (StatusCode::OK, &json!("RATE_LIMITED")));
    assert!(body[0]["data"]["me"].is_object());
    assert_eq!(ask(&app, &acme.admin(), json!({ "query": "{ me { id } }" })).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_address_that_does_not_say_who_asks_is_told_to_come_back_and_who_says_so_is_not() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { address_requests: NonZeroU32::new(4), ..Limits::default() };
    let api = Settings { limits, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let url = format!("http://{}/graphql", server.address);
    let send = async |request: reqwest::RequestBuilder, token: Option<&str>| {
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.expect("an answer");
        let (status, wait) = (answer.status(), answer.headers().get(header::RETRY_AFTER).cloned());
        let body: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
        (status.as_u16(), wait, code(&body).clone())
    };
    let http = reqwest::Client::new();
    let post = |body: Value| http.post(&url).header(header::CONTENT_TYPE, "application/json").body(body.to_string());
    let me = || post(json!({ "query": "{ me { id } }" }));
    let login = || {
        let query = r#"mutation { login(tenant: "acme", email: "ann@acme.example", password: "x") { accessToken } }"#;
        post(json!({ "query": query }))
    };
    let unknown = (401, None, json!("UNAUTHENTICATED"));
    assert_eq!(send(me(), None).await, unknown);
    assert_eq!(send(me(), Some("x")).await, unknown);
    assert_eq!(send(http.get(&url), None).await, unknown);
    assert_eq!(send(login(), None).await.0, 200);
    for (request, token) in [(me(), None), (me(), Some("x")), (http.get(&url), None), (login(), None)] {
        let (status, wait, code) = send(request, token).await;
        assert_eq!((status, code), (429, json!("RATE_LIMITED")));
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse::<u32>().ok()).expect("a wait");
        assert!((1..=16).contains(&wait), "{wait}");
    }
    assert_eq!(send(me(), Some(&acme.viewer().token())).await, (200, None, Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn a_socket_without_a_good_token_takes_from_its_address_what_a_request_does() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { address_requests: NonZeroU32::new(4), ..Limits::default() };
    let api = Settings { limits, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let init = |payload: Value| json!({ "type": "connection_init", "payload": payload });
    let bearer = |token: &str| json!({ "Authorization": format!("Bearer {token}") });
    let closed = async |message: Value| {
        let mut raw = Raw::connect(&server).await;
        raw.say(message).await;
        raw.closed().await.0
    };
    let Actor { caller, .. } = acme.viewer();
    let subject = Subject { tenant: caller.tenant, user_id: caller.user_id, role: caller.role, session: None };
    let short = test.app.tokens.mint(&subject, NOW, 60).expect("a token");
    let mut socket = Raw::connect(&server).await;
    socket.say(init(bearer(&short))).await;
    assert_eq!(socket.hear().await["type"], "connection_ack");
    socket.say(json!({ "type": "ping", "payload": bearer("x") })).await;
    assert_eq!(socket.closed().await.0, 4403);
    let key = Opaque::random(Kind::ApiKey, acme.id()).to_text();
    for payload in [Value::Null, bearer("x"), bearer(&key)] {
        assert_eq!(closed(init(payload)).await, 4403);
    }
    // There were four; who comes with one that is only over is told so, and who has a good one comes in.
    assert_eq!(closed(init(bearer("x"))).await, 1013);
    let asked = reqwest::Client::new().get(format!("http://{}/graphql", server.address)).send().await;
    assert_eq!(asked.expect("an answer").status(), 429);
    let long = acme.viewer().token();
    test.clock.set(Timestamp(NOW.0 + 2 * MINUTE));
    assert_eq!(closed(init(bearer(&short))).await, 4403);
    drop(Socket::open(&server, &long).await);
    server.stop().await;
}

#[tokio::test]
async fn a_budget_is_one_for_http_and_sockets_and_sockets_are_counted() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { user_fields: NonZeroU32::new(10), user_sockets: NonZeroU32::new(1), ..Limits::default() };
    let server = Server::with(
        test.app.clone(),
        Options { api: Settings { limits, ..Settings::default() }, ..Options::default() },
    )
    .await;
    let token = acme.viewer().token();
    let mut socket = Socket::open(&server, &token).await;
    socket.subscribe("1", "{ me { id name email role } }", Value::Null).await;
    assert!(socket.next("1").await["data"]["me"].is_object());
    socket.subscribe("2", "{ me { id name email role permissions } }", Value::Null).await;
    assert_eq!(*code(&socket.next("2").await), "RATE_LIMITED");
    let payload = json!({ "Authorization": format!("Bearer {token}") });
    assert!(Socket::try_open(&server, payload.clone()).await.is_none());
    // A stream takes a place too.
    let body = json!({ "query": format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", acme.id().0) });
    let stream = reqwest::Client::new().post(format!("http://{}/graphql", server.address)).bearer_auth(&token);
    let stream = stream.header("content-type", "application/json").header("accept", "text/event-stream");
    let refused = stream.body(body.to_string()).send().await.expect("an answer").text().await.expect("a body");
    assert!(refused.contains("TOO_MANY_SUBSCRIPTIONS"), "{refused}");
    // The place is free again once the server has seen it go.
    drop(socket);
    in_time(async { while Socket::try_open(&server, payload.clone()).await.is_none() {} }).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_trusted_documents_runs_no_others_by_any_way() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let hash = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (good, other) = ("{ me { role } }", "{ me { id } }");
    let documents = Documents::trusted(&json!({ hash(good): good }).to_string()).expect("a manifest");
    let server = Server::with(
        test.app.clone(),
        Options { api: Settings { documents, ..Settings::default() }, ..Options::default() },
    )
    .await;
    let viewer = acme.viewer();
    let post = async |body: Value| {
        let request =
            reqwest::Client::new().post(format!("http://{}/graphql", server.address)).bearer_auth(viewer.token());
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await;
        let text = answer.expect("an answer").text().await.expect("a body");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let by_hash =
        |text: &str| json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash(text) } } });
    for body in [json!({ "query": good }), by_hash(good)] {
        assert_eq!(post(body).await["data"]["me"]["role"], "VIEWER");
    }
    let mut registered = by_hash(other);
    registered["query"] = json!(other);
    for body in
        [json!({ "query": other }), by_hash(other), registered, json!({ "query": "{ __schema { types { name } } }" })]
    {
        assert_eq!(*code(&post(body).await), "OPERATION_NOT_TRUSTED");
    }
    // Nor by GET, or as a stream.
    let watch = format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", acme.id().0);
    let http = reqwest::Client::new();
    let text = async |request: reqwest::RequestBuilder, accept: &str| {
        let request = request.bearer_auth(viewer.token()).header("content-type", "application/json");
        let answer = request.header("accept", accept).send().await.expect("an answer");
        in_time(answer.text()).await.expect("a body")
    };
    let url = format!("http://{}/graphql", server.address);
    assert!(text(http.get(&url).query(&[("query", good)]), "application/json").await.contains("\"VIEWER\""));
    for accept in ["application/json", "text/event-stream", "multipart/mixed"] {
        for document in [other, watch.as_str()] {
            for request in [
                http.get(&url).query(&[("query", document)]),
                http.post(&url).body(json!({ "query": document }).to_string()),
            ] {
                let said = text(request, accept).await;
                assert!(said.contains("\"OPERATION_NOT_TRUSTED\"") && !said.contains("\"data\""), "{accept}: {said}");
            }
        }
    }
    let mut socket = Socket::open(&server, &viewer.token()).await;
    for (id, query, expected) in [("1", good, Value::Null), ("2", other, json!("OPERATION_NOT_TRUSTED"))] {
        socket.subscribe(id, query, Value::Null).await;
        assert_eq!(*code(&socket.next(id).await), expected);
    }
    assert!(Documents::trusted(&json!({ hash(good): other }).to_string()).is_err());
    server.stop().await;
}

#[tokio::test]
async fn every_answer_says_that_it_is_what_it_says_and_is_not_to_be_framed() {
    let test = TestApp::start().await;
    let app = router(test.app.clone(), &Options { graphiql: true, ..Options::default() });
    for path in ["/graphql", "/health", "/ready", "/graphiql", "/auth/password", "/.well-known/jwks.json", "/nothing"] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let headers = app.clone().oneshot(request).await.expect("an answer").headers().clone();
        assert_eq!(
            (&headers["x-content-type-options"], &headers["x-frame-options"]),
            (&"nosniff".parse().expect("text"), &"DENY".parse().expect("text")),
            "{path}"
        );
        assert!(headers.contains_key("cache-control") && !headers.contains_key("server"), "{path}");
    }
}
