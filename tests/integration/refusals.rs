//! Refusals under load and without a database: caps, bodies that are too long, aliases, time-outs. Each has its status
//! and code, within its bound.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use futures_util::future::join_all;
use salespulse::db::TenantTx;
use salespulse::graphql::endpoint::{Requester, Settings};
use salespulse::graphql::limits::Limits;
use salespulse::graphql::params::Params;
use salespulse::server::Options;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::senders::post_webhook_raw;
use crate::socket_protocol::{Raw, init, subscribe, try_connect};
use crate::support::{Actor, CONNECTIONS_MAX, Server, TestApp, TestTenant, in_time};

const PROTOCOL: [(&str, &str); 1] = [("Sec-WebSocket-Protocol", "graphql-transport-ws")];
/// Senders of webhooks give up after it.
const SENDERS_WAIT: Duration = Duration::from_secs(5);

async fn limited(test: &TestApp, limits: Limits) -> Server {
    let api = Settings { limits, ..Settings::default() };
    Server::with(test.app.clone(), Options { api, ..Options::default() }).await
}

/// All connections for reading, so that others wait for one.
async fn hold_all(tenant: &TestTenant<'_>) -> Vec<TenantTx> {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(tenant.test.app.db.read(tenant.id()).await.expect("begun"));
    }
    held
}

async fn post(server: &Server, actor: &Actor<'_>, query: &str) -> (StatusCode, bool, Value) {
    let request = reqwest::Client::new().post(format!("http://{}/graphql", server.address));
    let request = request.bearer_auth(actor.token()).header(header::CONTENT_TYPE, "application/json");
    let answer = request.body(json!({ "query": query }).to_string()).send().await.expect("an answer");
    let (status, has_wait) = (answer.status(), answer.headers().contains_key(header::RETRY_AFTER));
    (status, has_wait, serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
}

/// A subscription over HTTP.
async fn stream(server: &Server, actor: &Actor<'_>, accept: &str) -> reqwest::Response {
    let query = format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", actor.caller.tenant.0);
    let request = reqwest::Client::new().post(format!("http://{}/graphql", server.address)).bearer_auth(actor.token());
    let request = request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, accept);
    request.body(json!({ "query": query }).to_string()).send().await.expect("an answer")
}

/// The same that has begun, as soon as there is room for it.
async fn stream_when_free(server: &Server, actor: &Actor<'_>, accept: &str) -> reqwest::Response {
    loop {
        let mut response = stream(server, actor, accept).await;
        let mut text = String::new();
        while !text.contains("\"ordersCount\"") && !text.contains("\"errors\"") {
            let chunk = response.chunk().await.expect("read").expect("open");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        if text.contains("\"ordersCount\"") {
            return response;
        }
    }
}

#[tokio::test]
async fn a_server_and_a_user_have_so_many_sockets_and_streams() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = limited(&test, Limits { sockets: NonZeroU32::new(2), ..Limits::default() }).await;
    let first = Raw::acknowledged_as(&server, &acme.viewer()).await;
    let second = Raw::connect(&server).await;
    assert_eq!(try_connect(&server, &PROTOCOL).await.err(), Some(503));
    drop((first, second));
    // Streams count with them, whatever their format.
    let viewer = acme.viewer();
    let _events = in_time(stream_when_free(&server, &viewer, "text/event-stream")).await;
    let parts = in_time(stream_when_free(&server, &viewer, "multipart/mixed")).await;
    assert_eq!(try_connect(&server, &PROTOCOL).await.err(), Some(503));
    for accept in ["text/event-stream", "multipart/mixed"] {
        let refused = in_time(stream(&server, &viewer, accept).await.text()).await.expect("a body");
        assert!(refused.contains("\"TOO_MANY_SUBSCRIPTIONS\"") && !refused.contains("\"data\""), "{refused}");
    }
    drop(parts);
    in_time(async { while try_connect(&server, &PROTOCOL).await.is_err() {} }).await;
    server.stop().await;

    let server = limited(&test, Limits { user_sockets: NonZeroU32::new(1), ..Limits::default() }).await;
    let _first = Raw::acknowledged_as(&server, &acme.viewer()).await;
    let mut second = Raw::connect(&server).await;
    second.say(init(&acme.viewer().token())).await;
    assert_eq!(second.closed().await, (1013, "too many sockets".to_owned()));
    let _other = Raw::acknowledged_as(&server, &acme.admin()).await;
    server.stop().await;
}

/// Each is counted before it is upgraded.
#[tokio::test]
async fn sockets_that_come_at_once_do_not_exceed_the_limit() {
    let test = TestApp::start().await;
    let server = limited(&test, Limits { sockets: NonZeroU32::new(3), ..Limits::default() }).await;
    let opened = join_all((0..50).map(|_| try_connect(&server, &PROTOCOL))).await;
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 3);
    server.stop().await;
}

/// The connection is closed although the client has not sent everything.
#[tokio::test]
async fn a_body_that_is_too_long_is_not_read_to_its_end() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let token = acme.viewer().token();
    // A chunk that is one byte too long, and whose end does not come; a length alone.
    let chunk = [b"100001\r\n".as_slice(), &vec![b' '; (1 << 20) + 1]].concat();
    for (how, body) in [("Transfer-Encoding: chunked", chunk), ("Content-Length: 1048577", Vec::new())] {
        let mut connection = TcpStream::connect(server.address).await.expect("connected");
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\n{how}\r\n\r\n"
        );
        connection.write_all(&[head.as_bytes(), &body].concat()).await.expect("sent");
        let mut answer = String::new();
        in_time(connection.read_to_string(&mut answer)).await.expect("ended");
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"PAYLOAD_TOO_LARGE\""), "{how}: {answer}");
        assert!(answer.contains("connection: close"), "{how}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn each_alias_of_a_sign_in_is_an_attempt() {
    let test = TestApp::start().await;
    test.tenant("acme").await;
    let server = Server::start(&test).await;
    let login = r#"login(tenant: "acme", email: "viewer@acme.example", password: "guess") { accessToken }"#;
    let document: String = (0..12).map(|n| format!("a{n}: {login} ")).collect();
    let request = reqwest::Client::new().post(format!("http://{}/graphql", server.address));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = json!({ "query": format!("mutation {{ {document} }}") }).to_string();
    let answer = request.body(body).send().await.expect("an answer").bytes().await.expect("a body");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let codes = answer["errors"].as_array().expect("errors").iter().map(|error| &error["extensions"]["code"]);
    let (guessed, limited): (Vec<_>, Vec<_>) = codes.partition(|code| **code == "UNAUTHENTICATED");
    assert_eq!((guessed.len(), limited), (10, vec![&json!("RATE_LIMITED"); 2]), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn what_an_init_says_beside_its_token_is_ignored() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let server = Server::start(&test).await;
    let mut message = init(&acme.viewer().token());
    let claims = json!({ "tenantId": other.id().0, "tenant": "other", "role": "ADMIN", "permissions": ["USERS_MANAGE"],
                         "userId": other.admin().caller.user_id, "X-Tenant-Id": other.id().0, "X-Role": "admin",
                         "x-hasura-role": "admin", "headers": { "X-Tenant-Id": other.id().0 } });
    for (name, value) in claims.as_object().expect("an object") {
        message["payload"][name] = value.clone();
    }
    let mut raw = Raw::connect(&server).await;
    raw.say(message).await;
    assert_eq!(raw.hear().await["type"], "connection_ack");
    raw.say(subscribe("1", "{ tenant { slug } me { id role permissions } }")).await;
    let me = json!({ "id": acme.viewer().caller.user_id, "role": "VIEWER", "permissions": ["SALES_VIEW"] });
    assert_eq!(raw.hear().await["payload"]["data"], json!({ "tenant": { "slug": "acme" }, "me": me }));
    server.stop().await;
}

/// The application's own time-out, whatever a query waits for.
#[tokio::test]
async fn a_query_is_given_up_when_its_time_is_over() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let held = hold_all(&acme).await;
    let caller = acme.viewer().caller;
    let executor = test.executor.clone().with_query_wait(Duration::from_millis(1));
    let query = async |executor: &salespulse::graphql::executor::Executor| {
        let params = Params { query: Some("{ customers { totalCount } }".to_owned()), ..Params::default() };
        let prepared = executor.prepare(params, Some(&caller)).expect("prepared");
        let caller = Some(std::sync::Arc::new(caller.clone()));
        let requester = Requester { caller, client: Default::default(), size: Default::default() };
        serde_json::to_value(executor.run(prepared, requester).await.0).expect("JSON")
    };
    let answer = query(&executor).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "QUERY_TIMEOUT", "{answer}");
    assert_eq!((&answer["errors"][0]["path"], &answer["data"]), (&json!(["customers"]), &Value::Null), "{answer}");
    drop(held);
    assert_eq!(query(&test.executor).await["data"]["customers"]["totalCount"], 0);
}

#[tokio::test]
async fn without_a_connection_to_the_database_a_query_fails_soon_and_says_when_to_come_back() {
    let test = TestApp::start().await;
    let (acme, cold) = (test.tenant("acme").await, test.tenant("cold").await);
    let server = Server::start(&test).await;
    let viewer = acme.viewer();
    assert_eq!(post(&server, &viewer, "{ me { role } }").await.0, StatusCode::OK);
    let held = hold_all(&acme).await;
    let (status, has_wait, body) = post(&server, &viewer, "{ customers { totalCount } }").await;
    let code = &body["errors"][0]["extensions"]["code"];
    assert_eq!((status, has_wait, code), (StatusCode::SERVICE_UNAVAILABLE, true, &json!("SERVICE_UNAVAILABLE")));
    // Who has access to a tenant that nobody has asked for yet is in the database.
    let mut raw = Raw::connect(&server).await;
    raw.say(init(&cold.viewer().token())).await;
    assert_eq!(raw.closed().await, (1013, "try again later".to_owned()));
    drop(held);
    let (status, _, body) = post(&server, &viewer, "{ customers { totalCount } }").await;
    assert_eq!((status, &body["data"]["customers"]["totalCount"]), (StatusCode::OK, &json!(0)), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn a_webhook_is_answered_before_its_sender_gives_up_whatever_the_database_does() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = r#"mutation { createIntegration(kind: PIPEDRIVE, secret: "somebody:a long password",
        input: { name: "crm" }) { url } }"#;
    let url = acme.admin().query(create).await["createIntegration"]["url"].as_str().expect("a URL").to_owned();
    let refused = async || {
        let begun = Instant::now();
        let (status, body) = post_webhook_raw(&test, &url, "somebody:a long password", "{}").await;
        let code = &body["errors"][0]["extensions"]["code"];
        assert_eq!((status, code), (StatusCode::SERVICE_UNAVAILABLE, &json!("SERVICE_UNAVAILABLE")), "{body}");
        assert!(begun.elapsed() < SENDERS_WAIT, "{:?}", begun.elapsed());
    };
    let held = hold_all(&acme).await;
    refused().await;
    drop(held);
    if test.app.db.is_postgres() {
        // It is there, and does not answer.
        let owner = test.owner().await;
        owner.connection().execute_unprepared("BEGIN; LOCK TABLE integrations").await.expect("locked");
        refused().await;
        owner.connection().execute_unprepared("ROLLBACK").await.expect("unlocked");
    }
    assert_eq!(post_webhook_raw(&test, &url, "somebody:a long password", "{}").await.0, StatusCode::OK);
}
