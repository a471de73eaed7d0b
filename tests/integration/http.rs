//! GraphQL over HTTP: refusals, answers that are kept, streams, and pages of other origins.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use futures_util::StreamExt;
use salespulse::auth::Role;
use salespulse::clock::MINUTE;
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::ledger::event::{Event, Fact};
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::ledger::{event, order};
use crate::support::{Actor, NOW, Server, TestApp};

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
        Client(router(test.app.clone(), &Options::default()))
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

    let packed = Request::post("/graphql").header(header::CONTENT_TYPE, "application/json");
    let packed = packed.header(header::CONTENT_ENCODING, "gzip").body(Body::from("{}"));
    let reply = client.send(packed.expect("a request")).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"));

    let admin = acme.admin();
    let broken = client.post(&admin, RESPONSE_JSON, "{").await;
    assert_eq!((broken.status, code(&broken)), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
    let large = client.post(&admin, RESPONSE_JSON, vec![b' '; 2 * 1024 * 1024]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Nobody learns by guessing what there is.
    let mistyped = client.post(&admin, RESPONSE_JSON, json!({ "query": "{ mee { id } }" }).to_string()).await;
    assert_eq!(code(&mistyped), "GRAPHQL_VALIDATION_FAILED");
    assert!(!mistyped.body.to_string().contains("Did you mean"), "{}", mistyped.body);
    for (query, expected) in [("{", "GRAPHQL_PARSE_FAILED"), ("{ nothing }", "GRAPHQL_VALIDATION_FAILED")] {
        let body = json!({ "query": query }).to_string();
        let reply = client.post(&admin, RESPONSE_JSON, body.clone()).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, expected));
        let reply = client.post(&admin, "application/json", body).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::OK, expected));
    }
}

#[tokio::test]
async fn who_asks_is_said_by_one_header_alone() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let client = Client::of(&test);
    let (viewer, token) = (acme.viewer(), acme.viewer().token());
    let me = json!({ "query": "{ me { id role } }" });
    let ask = async |headers: &[(&str, &str)], uri: &str, body: &Value| {
        let request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        client.send(request.body(Body::from(body.to_string())).expect("a request")).await
    };
    let bearer = format!("Bearer {token}");
    let with_token = json!({ "query": "{ me { id } }", "token": token, "extensions": { "authorization": bearer } });
    for (headers, uri, body) in [
        (vec![("cookie", bearer.as_str())], "/graphql", &me),
        (vec![("x-authorization", bearer.as_str())], "/graphql", &me),
        (vec![("authorization", token.as_str())], "/graphql", &me),
        (vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())], "/graphql", &me),
        (vec![], &format!("/graphql?access_token={token}"), &me),
        (vec![], "/graphql", &with_token),
        (vec![], "/graphql", &json!({ "query": "{ __schema { queryType { name } } }" })),
    ] {
        let reply = ask(&headers, uri, body).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"), "{headers:?} {uri}");
    }
    let (tenant, admin) = (other.id().0.to_string(), other.admin().caller.user_id.to_string());
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-tenant-id", &tenant),
        ("x-role", "ADMIN"),
        ("x-hasura-tenant-id", &tenant),
        ("x-hasura-role", "admin"),
        ("x-hasura-user-id", &admin),
    ];
    let reply = ask(&headers, "/graphql", &me).await;
    assert_eq!(reply.body["data"]["me"], json!({ "id": viewer.caller.user_id, "role": "VIEWER" }), "{}", reply.body);
}

#[tokio::test]
async fn of_many_errors_the_last_that_is_told_says_how_many_are_not() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let client = Client::of(&test);
    for (wrong, left_out) in [(5, Value::Null), (8, json!(3))] {
        let query = (0..wrong).map(|n| format!("wrong{n} ")).collect::<String>();
        let reply =
            client.post(&acme.viewer(), RESPONSE_JSON, json!({ "query": format!("{{ {query} }}") }).to_string()).await;
        let told: Vec<&Value> = reply.body["errors"].as_array().expect("errors").iter().collect();
        let extensions: Vec<&Value> = told.iter().map(|error| &error["extensions"]).collect();
        assert_eq!(extensions.len(), 5, "{}", reply.body);
        assert!(extensions.iter().all(|of| of["code"] == "GRAPHQL_VALIDATION_FAILED"), "{}", reply.body);
        let marks: Vec<&Value> = extensions.iter().map(|of| &of["errorsLeftOut"]).collect();
        assert_eq!(marks, [&Value::Null, &Value::Null, &Value::Null, &Value::Null, &left_out], "{}", reply.body);
    }
}

/// A GET of `parameters`, which are encoded.
fn get(actor: &Actor<'_>, accept: &str, parameters: &[(&str, &str)]) -> Request<Body> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let request = Request::get(format!("/graphql?{query}"))
        .header(header::ACCEPT, accept)
        .header(header::AUTHORIZATION, format!("Bearer {}", actor.token()));
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_query_may_come_by_get_and_a_mutation_may_not() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, admin) = (Client::of(&test), acme.admin());
    let two = "query a { me { role } } mutation b { deleteAlert(id: 1) }";
    let run = async |parameters: &[(&str, &str)]| client.send(get(&admin, RESPONSE_JSON, parameters)).await;
    let reply = run(&[("query", two), ("operationName", "a"), ("variables", ""), ("extensions", "")]).await;
    assert_eq!((reply.status, &reply.body), (StatusCode::OK, &json!({ "data": { "me": { "role": "ADMIN" } } })));
    let reply = run(&[("query", two), ("operationName", "b")]).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"));
    assert_eq!(reply.headers[header::ALLOW], "POST");
    for (parameters, expected) in [
        (vec![("query", two)], "OPERATION_RESOLUTION_FAILURE"),
        (vec![("query", two), ("operationName", "c")], "OPERATION_RESOLUTION_FAILURE"),
        (vec![("query", "{ me { role } }"), ("variables", "{")], "BAD_REQUEST"),
        (vec![], "BAD_REQUEST"),
    ] {
        let reply = run(&parameters).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, expected), "{parameters:?}");
    }
    let put = Request::put("/graphql").body(Body::empty()).expect("a request");
    let reply = client.send(put).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(reply.headers.contains_key(header::ALLOW));
}

#[tokio::test]
async fn answers_come_as_the_client_wants_them() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let good = json!({ "query": "{ me { role } }", "variables": null, "unknown": 1 }).to_string();
    let bad = json!({ "query": "query ($a: Int!) { me { role } }", "variables": { "a": "x" } }).to_string();
    let json = "application/json; charset=utf-8";
    let response_json = "application/graphql-response+json; charset=utf-8";
    for (accept, mime, status) in [
        ("*/*", json, StatusCode::OK),
        ("application/json", json, StatusCode::OK),
        ("application/json;q=0.5, application/graphql-response+json", response_json, StatusCode::BAD_REQUEST),
    ] {
        let reply = client.post(&viewer, accept, good.clone()).await;
        assert_eq!(
            (reply.status, &reply.headers[header::CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static(mime)),
            "{accept}"
        );
        let reply = client.post(&viewer, accept, bad.clone()).await;
        assert_eq!((reply.status, code(&reply)), (status, "BAD_USER_INPUT"), "{accept}");
        assert_eq!(reply.body["errors"][0]["extensions"]["argument"], "a");
    }
    let reply = client.post(&viewer, "image/png", good.clone()).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE"));
    for wrong in [json!({ "query": 1 }), json!({ "query": "{ a }", "variables": 1 }), json!("x"), json!({})] {
        let reply = client.post(&viewer, "application/json", wrong.to_string()).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, "BAD_REQUEST"), "{wrong}");
    }
    let subscription = json!({ "query": "subscription { alertTriggered(tenantId: 1) { name } }" }).to_string();
    let reply = client.post(&viewer, "application/json", subscription).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
}

#[tokio::test]
async fn a_document_may_be_named_by_its_hash_once_it_was_sent() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let query = "{ me { role } }";
    let hash: String = Sha256::digest(query).iter().map(|byte| format!("{byte:02x}")).collect();
    let extensions = |version: i32, hash: &str| json!({ "persistedQuery": { "version": version, "sha256Hash": hash } });
    let named = json!({ "extensions": extensions(1, &hash) });
    let send = async |body: Value| client.post(&viewer, RESPONSE_JSON, body.to_string()).await;
    let reply = send(named.clone()).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::NOT_FOUND, "PERSISTED_QUERY_NOT_FOUND"));
    assert_eq!(reply.body["errors"][0]["message"], "PersistedQueryNotFound");
    for wrong in [
        json!({ "query": query, "extensions": extensions(1, &"0".repeat(64)) }),
        json!({ "query": query, "extensions": extensions(2, &hash) }),
    ] {
        assert_eq!(code(&send(wrong).await), "BAD_REQUEST");
    }
    assert_eq!(code(&send(named.clone()).await), "PERSISTED_QUERY_NOT_FOUND", "what was refused is not kept");
    let data = json!({ "data": { "me": { "role": "VIEWER" } } });
    assert_eq!(send(json!({ "query": query, "extensions": extensions(1, &hash) })).await.body, data);
    assert_eq!(send(named).await.body, data);
    let extensions = extensions(1, &hash).to_string();
    assert_eq!(client.send(get(&viewer, RESPONSE_JSON, &[("extensions", &extensions)])).await.body, data);
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let one = |query: &str| json!({ "query": query });
    let batch = json!([one("{ me { role } }"), one("{"), one("subscription { x }"), one("{ tenant { name } }")]);
    let reply = client.post(&viewer, RESPONSE_JSON, batch.to_string()).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body[0], json!({ "data": { "me": { "role": "VIEWER" } } }));
    assert_eq!(reply.body[1]["errors"][0]["extensions"]["code"], "GRAPHQL_PARSE_FAILED");
    assert_eq!(reply.body[2]["errors"][0]["extensions"]["code"], "BAD_REQUEST");
    assert_eq!(reply.body[3], json!({ "data": { "tenant": { "name": "acme" } } }));
    for wrong in [json!([]), json!([1]), json!([[]]), Value::Array(vec![one("{ me { role } }"); 11])] {
        let reply = client.post(&viewer, RESPONSE_JSON, wrong.to_string()).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, "BATCH_NOT_ALLOWED"));
    }
}

#[tokio::test]
async fn the_values_of_a_batch_count_together_and_are_paid_for() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { user_fields: NonZeroU32::new(25_000), ..Limits::default() };
    let options = Options { api: Settings { limits, ..Settings::default() }, ..Options::default() };
    let (client, viewer) = (Client(router(test.app.clone(), &options)), acme.viewer());
    let series: Vec<String> = (0..7).map(|n| format!("s{n}: series(grain: DAY) {{ start totalRevenue }}")).collect();
    let period = r#"period: { start: "2000-01-01T00:00:00Z", end: "2026-06-01T00:00:00Z" }"#;
    let one = json!({ "query": format!("{{ salesMetrics({period}) {{ {} }} }}", series.join(" ")) });
    let reply = client.post(&viewer, RESPONSE_JSON, json!([one, one]).to_string()).await;
    assert!(reply.body[0].get("errors").is_none(), "{}", reply.body[0]["errors"]);
    assert_eq!(reply.body[1]["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    // Each is 135,000 values, which cost as much as 13,500 fields.
    let reply = client.post(&viewer, RESPONSE_JSON, one.to_string()).await;
    assert_eq!(reply.body["errors"][0]["extensions"]["code"], "RATE_LIMITED", "{}", reply.body["errors"]);
}

#[tokio::test]
async fn documents_that_would_cost_too_much_never_run() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let bomb: String = (0..30)
        .map(|n| format!("fragment f{n} on Query {{ ...f{} ...f{} }} ", n + 1, n + 1))
        .chain(["fragment f30 on Query { me { id } } { ...f0 }".to_owned()])
        .collect();
    let aliases: String = (0..200).map(|n| format!("a{n}: me {{ id }} ")).collect();
    for (query, expected) in [
        (format!("{{ me(a: {}) {{ id }} }}", "[".repeat(4000)), "QUERY_TOO_DEEP"),
        (bomb, "QUERY_TOO_COMPLEX"),
        (format!("{{ {aliases} }}"), "TOO_MANY_ALIASES"),
        (format!("{{ me {{ id }} {} }}", "# x\n".repeat(50_000)), "QUERY_TOO_LARGE"),
    ] {
        let reply = client.post(&viewer, RESPONSE_JSON, json!({ "query": query }).to_string()).await;
        assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, expected));
    }
    let deep = format!("{{\"query\": \"{{ me {{ id }} }}\", \"variables\": {}", "{\"a\":".repeat(5000));
    let reply = client.post(&viewer, RESPONSE_JSON, deep).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
}

/// What a server sends bit by bit.
struct Chunks(axum::body::BodyDataStream);

impl Chunks {
    fn of(body: Body) -> Self {
        Chunks(body.into_data_stream())
    }

    async fn next(&mut self) -> String {
        let chunk = tokio::time::timeout(std::time::Duration::from_secs(20), self.0.next()).await.expect("within 20 s");
        String::from_utf8(chunk.expect("more").expect("read").to_vec()).expect("UTF-8")
    }

    /// All until `end` was read.
    async fn until(mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            text.push_str(&self.next().await);
        }
        text
    }
}

#[tokio::test]
async fn subscriptions_come_as_events_and_as_parts() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let tenant = acme.id().0;
    let query = format!("subscription {{ metricsUpdated(tenantId: \"{tenant}\") {{ ordersCount }} }}");
    let open = async |accept: &str, query: &str| {
        let request = Request::post("/graphql")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, accept)
            .header(header::AUTHORIZATION, format!("Bearer {}", viewer.token()))
            .body(Body::from(json!({ "query": query }).to_string()));
        client.0.clone().oneshot(request.expect("a request")).await.expect("a response")
    };
    let events = open("text/event-stream", &query).await;
    assert_eq!(events.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(events.headers()[header::CACHE_CONTROL], "no-cache");
    let parts = open("multipart/mixed;subscriptionSpec=1.0, application/json", &query).await;
    assert!(parts.headers()[header::CONTENT_TYPE].to_str().expect("text").starts_with("multipart/mixed; boundary="));
    let (mut events, mut parts) = (Chunks::of(events.into_body()), Chunks::of(parts.into_body()));
    assert_eq!((events.next().await, parts.next().await), (":\n\n".to_owned(), "\r\n--graphql".to_owned()));
    // Each has listened by the time that its first answer is there.
    let mut last_cursor = String::new();
    for (n, orders) in [0, 1].into_iter().enumerate() {
        if n == 1 {
            acme.apply(vec![sale("one")]).await;
        }
        let event = events.next().await;
        let cursor = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
        let data = format!("{{\"metricsUpdated\":{{\"ordersCount\":{orders}}}}}");
        let answer = format!("{{\"data\":{data},\"extensions\":{{\"cursor\":\"{cursor}\"}}}}");
        assert_eq!(event, format!("event: next\nid: {cursor}\ndata: {answer}\n\n"));
        // A part is there with its end.
        let part = format!("\r\nContent-Type: application/json\r\n\r\n{{\"payload\":{answer}}}\r\n--graphql");
        assert_eq!(parts.next().await, part);
        last_cursor = cursor;
    }
    // Who comes back to nothing new is told nothing until there is something.
    let request = Request::post("/graphql")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", acme.viewer().token()))
        .header("Last-Event-ID", last_cursor)
        .body(Body::from(json!({ "query": query }).to_string()));
    let back = client.0.clone().oneshot(request.expect("a request")).await.expect("a response");
    let mut back = Chunks::of(back.into_body());
    assert_eq!(back.next().await, ":\n\n");
    acme.apply(vec![sale("another")]).await;
    let event = back.next().await;
    assert!(event.contains("\"ordersCount\":2}},\"extensions\":{\"cursor\":\""), "{event}");
    // Who repeats the request that it began with has seen more since.
    let with_after =
        format!("subscription($a: Cursor) {{ metricsUpdated(tenantId: \"{tenant}\", after: $a) {{ ordersCount }} }}");
    let again = async |after: Value, event_id: Option<&str>| {
        let body = json!({ "query": with_after, "variables": { "a": after } }).to_string();
        let request = Request::post("/graphql")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .header(header::AUTHORIZATION, format!("Bearer {}", acme.viewer().token()));
        let request = event_id.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = client.0.clone().oneshot(request.body(Body::from(body)).expect("a request")).await;
        let mut chunks = Chunks::of(response.expect("a response").into_body());
        assert_eq!(chunks.next().await, ":\n\n");
        chunks
    };
    let mut begun = again(Value::Null, None).await;
    let first = begun.next().await;
    let old = first.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    acme.apply(vec![sale("third")]).await;
    let seen = begun.next().await.lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned)).expect("an id");
    let mut resumed = again(json!(old), Some(&seen)).await;
    acme.apply(vec![sale("fourth")]).await;
    let event = resumed.next().await;
    assert!(event.contains("\"ordersCount\":4"), "{event}");
    // A cursor that is none is not taken for the beginning.
    for wrong in [json!(5), json!(true), json!({})] {
        let text = again(wrong.clone(), None).await.until("event: complete").await;
        assert!(text.contains("errors") && !text.contains("ordersCount\":"), "{wrong}: {text}");
    }

    let text =
        Chunks::of(open("text/event-stream", "{ me { role } }").await.into_body()).until("event: complete").await;
    assert_eq!(
        text,
        ":\n\nevent: next\ndata: {\"data\":{\"me\":{\"role\":\"VIEWER\"}}}\n\nevent: complete\ndata: \n\n"
    );
    let refused = open("text/event-stream", "{").await;
    assert_eq!(refused.status(), StatusCode::OK);
    let text = Chunks::of(refused.into_body()).until("event: complete\ndata").await;
    assert!(text.contains("GRAPHQL_PARSE_FAILED"), "{text}");
}

/// As a browser's `EventSource` asks, which can send neither a body nor, if nothing adds it, a token.
#[tokio::test]
async fn a_subscription_may_come_by_get_and_goes_on_from_its_last_event() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let query = format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", acme.id().0);
    let open = async |last_id: Option<&str>| {
        let mut request = get(&viewer, "text/event-stream", &[("query", &query)]);
        if let Some(id) = last_id {
            request.headers_mut().insert("Last-Event-ID", id.parse().expect("a header"));
        }
        let response = client.0.clone().oneshot(request).await.expect("a response");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut events = Chunks::of(response.into_body());
        assert_eq!(events.next().await, ":\n\n");
        events
    };
    let event = open(None).await.next().await;
    assert!(event.contains(r#""ordersCount":0"#), "{event}");
    let id = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    let mut events = open(Some(id)).await;
    acme.apply(vec![sale("one")]).await;
    let event = events.next().await;
    assert!(event.contains(r#""ordersCount":1"#) && !event.contains("reset"), "{event}");
    let refused = client.send(get(&viewer, "application/json", &[("query", &query)])).await;
    assert_eq!((refused.status, code(&refused)), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
}

#[tokio::test]
async fn streams_of_a_server_that_ends_break_off_without_their_end_marks() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let query = format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", acme.id().0);
    let mut streams = Vec::new();
    for accept in ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0, application/json"] {
        let request = reqwest::Client::new().post(format!("http://{}/graphql", server.address));
        let request = request.bearer_auth(acme.viewer().token()).header("accept", accept);
        let request = request.header("content-type", "application/json").body(json!({ "query": query }).to_string());
        let mut stream = request.send().await.expect("an answer");
        let mut text = String::new();
        while !text.contains("ordersCount") {
            let chunk = stream.chunk().await.expect("read").expect("more");
            text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
        streams.push((stream, text));
    }
    server.begin_to_stop();
    for (mut stream, mut text) in streams {
        // A body that ends well would be the end of the subscription.
        while let Ok(chunk) = timeout(Duration::from_secs(20), stream.chunk()).await.expect("within 20 s") {
            text.push_str(std::str::from_utf8(&chunk.expect("no good end")).expect("UTF-8"));
        }
        assert!(!text.contains("complete") && !text.contains("--graphql--"), "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_lets_nobody_in_and_answers_who_is_in() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut client = TcpStream::connect(server.address).await.expect("connected");
    let body = json!({ "query": "{ me { role } }" }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: sales.example\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        acme.viewer().token(),
        body.len()
    );
    client.write_all(head.as_bytes()).await.expect("sent");
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).await.expect("read");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.begin_to_stop();
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(Duration::from_secs(20), refused).await.expect("refused within 20 s");
    client.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("VIEWER"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_the_api_and_no_others() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (shop, evil) = ("https://shop.example", "https://evil.example");
    let api = Settings { origins: vec![HeaderValue::from_static(shop)], ..Settings::default() };
    let client = Client(router(test.app.clone(), &Options { api, ..Options::default() }));
    let preflight = |origin: &'static str| {
        Request::options("/graphql")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type")
            .body(Body::empty())
            .expect("a request")
    };
    let reply = client.send(preflight(shop)).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], shop);
    assert_eq!(reply.headers[header::ACCESS_CONTROL_ALLOW_METHODS], "GET,POST");
    assert_eq!(reply.headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization,content-type");
    assert_eq!(reply.headers[header::ACCESS_CONTROL_MAX_AGE], "7200");
    assert!(!reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let reply = client.send(preflight(evil)).await;
    assert!(!reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    for (origin, allowed) in [(shop, true), (evil, false)] {
        let mut request = get(&acme.viewer(), RESPONSE_JSON, &[("query", "{ me { role } }")]);
        request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static(origin));
        let reply = client.send(request).await;
        assert_eq!(reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), allowed);
        assert!(reply.headers[header::VARY].to_str().expect("text").contains("origin"));
        assert_eq!(reply.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS], "retry-after,x-request-id");
    }
    // Refusals are for its scripts to read too, but cookies are no page's but the server's own.
    let nobody = Request::post("/graphql").header(header::ORIGIN, shop);
    let nobody = nobody.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}"));
    let reply = client.send(nobody.expect("a request")).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"));
    assert_eq!(reply.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], shop);
    let login = Request::post("/auth/login").header(header::ORIGIN, shop);
    let login = login.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}"));
    let reply = client.send(login.expect("a request")).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::FORBIDDEN, "FORBIDDEN"));
    assert!(!reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    let reply = Client::of(&test).send(preflight(shop)).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn whatever_is_refused_says_so_in_one_form() {
    let test = TestApp::start().await;
    test.tenant("acme").await;
    let client = Client::of(&test);
    let to = |method: &str, path: &str| Request::builder().method(method).uri(path);
    let upgrade = |origin: &str, protocol: &str| {
        let request = to("GET", "/graphql").header(header::UPGRADE, "websocket").header(header::HOST, "sales.example");
        request.header(header::ORIGIN, origin).header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
    };
    let (own, evil, protocol) = ("https://sales.example", "https://evil.example", "graphql-transport-ws");
    for (request, status, expected) in [
        (to("PUT", "/graphql"), 405, "METHOD_NOT_ALLOWED"),
        (to("GET", "/auth/login"), 405, "METHOD_NOT_ALLOWED"),
        (to("DELETE", "/health"), 405, "METHOD_NOT_ALLOWED"),
        (to("GET", "/graph"), 404, "NOT_FOUND"),
        (to("POST", "/"), 404, "NOT_FOUND"),
        (upgrade(evil, protocol), 403, "FORBIDDEN"),
        (upgrade(own, "graphql-ws"), 400, "BAD_REQUEST"),
        // Its `Connection` does not say so.
        (upgrade(own, protocol), 400, "BAD_REQUEST"),
    ] {
        let request = request.body(Body::empty()).expect("a request");
        let what = format!("{} {}", request.method(), request.uri());
        let reply = client.send(request).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (status, expected), "{what}");
        assert!(reply.body["errors"][0]["message"].is_string(), "{what}");
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json", "{what}");
        assert_eq!(reply.headers.contains_key(header::ALLOW), status == 405, "{what}");
    }
    let login = json!({ "tenant": "acme", "email": "viewer@acme.example", "password": "guess" }).to_string();
    let login = to("POST", "/auth/login").header(header::CONTENT_TYPE, "application/json").body(Body::from(login));
    let reply = client.send(login.expect("a request")).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"));
    assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer");
    assert!(reply.body["errors"][0].get("locations").is_none(), "{}", reply.body);
}

#[tokio::test]
async fn an_offer_of_http_2_is_no_upgrade_to_websocket() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let client = Client::of(&test);
    // WebSocket itself is refused here, as the subprotocol is not named.
    for (upgrade, status) in
        [("h2c", StatusCode::OK), ("WebSocket", StatusCode::BAD_REQUEST), ("h2c, websocket", StatusCode::BAD_REQUEST)]
    {
        let mut request = get(&acme.viewer(), RESPONSE_JSON, &[("query", "{ me { role } }")]);
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        assert_eq!(client.send(request).await.status, status, "{upgrade}");
    }
}

#[tokio::test]
async fn fields_come_in_the_order_of_the_selection() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let client = Client::of(&test);
    let query = "{ tenant { name asOf { watermark position } } me { role } }";
    let request = get(&acme.viewer(), "application/json", &[("query", query)]);
    let response = client.0.clone().oneshot(request).await.expect("a response");
    let text = Chunks::of(response.into_body()).until("VIEWER").await;
    let tenant = r#"{"name":"acme","asOf":{"watermark":null,"position":"0"}}"#;
    assert_eq!(text, format!(r#"{{"data":{{"tenant":{tenant},"me":{{"role":"VIEWER"}}}}}}"#));
}

#[tokio::test]
async fn what_fails_is_null_and_takes_along_what_may_not_be() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let client = Client::of(&test);
    let ask =
        async |query: &str| client.post(&acme.admin(), RESPONSE_JSON, json!({ "query": query }).to_string()).await;
    // `SalesMetrics!` has no place to be null but the whole.
    let reply =
        ask("{ me { id } salesMetrics(period: {start: \"2026-06-02T00:00:00Z\", end: \"2026-06-01T00:00:00Z\"}) { ordersCount } }").await;
    assert_eq!((reply.status, &reply.body["data"]), (StatusCode::OK, &Value::Null));
    assert_eq!(reply.body["errors"][0]["path"], json!(["salesMetrics"]));
    let reply =
        ask("{ tenant { name } dashboard(id: \"01a21889-06cd-7488-b0df-a952bb083754\") { id } me { role } }").await;
    let expected = json!({ "tenant": { "name": "acme" }, "dashboard": null, "me": { "role": "ADMIN" } });
    assert_eq!(reply.body["data"], expected);

    let by_default = "query($full: Boolean = true) { me { role name @include(if: $full) } }";
    let named = client.query(&acme.admin(), by_default).await;
    assert!(named["me"].get("name").is_some(), "{named}");
}

#[tokio::test]
async fn a_query_by_get_is_kept_too_and_is_no_post() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, viewer) = (Client::of(&test), acme.viewer());
    let run = async || {
        let before = test.app.db.statements();
        let reply = client.send(get(&viewer, RESPONSE_JSON, &[("query", TODAY)])).await;
        (reply.body, (test.app.db.statements() - before).transactions)
    };
    let (first, second) = (run().await, run().await);
    // The first to come also has it looked up who may.
    assert_eq!((first.1, second.1), (2, 0));
    assert_eq!(first.0, second.0);
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", TODAY).finish();
    assert_eq!(code(&client.post(&viewer, RESPONSE_JSON, query).await), "BAD_REQUEST");
}

fn sale(id: &str) -> Event {
    event(id, "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(id, 1, "c", "1.00")))
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

const CUSTOMERS: &str = "{ customers(first: 5, orderBy: REVENUE) { nodes { id externalId name revenue \
    orders(first: 2) { amount refunded lines { product { sku title } } } } } }";

#[tokio::test]
async fn lists_are_kept_until_what_they_show_changes() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, admin) = (Client::of(&test), acme.admin());
    acme.apply(vec![sale("one")]).await;
    let order_id = client.query(&admin, "{ orders { nodes { id } } }").await["orders"]["nodes"][0]["id"].take();
    let by_id = format!("{{ order(id: {order_id}) {{ amount status }} product(sku: \"tea\") {{ unitsSold }} }}");
    let fixed = "{ orders(period: {firstDay: \"2026-06-01\", lastDay: \"2026-06-30\"}) { nodes { amount } } }";
    let queries = [CUSTOMERS, &by_id, fixed, "{ customer(externalId: \"c\") { externalId ordersCount } }"];
    let statements = async |query: &str| {
        let before = test.app.db.statements();
        client.query(&admin, query).await;
        (test.app.db.statements() - before).statements
    };
    for query in queries {
        let (first, second) = (statements(query).await, statements(query).await);
        assert!(first > 0 && second == 0, "{query}: {first}, {second}");
    }

    let named = client.query(
        &admin,
        "mutation { recordEvents(events: [{ eventId: \"named\", occurredAt: \"2026-06-15T11:00:00Z\", \
        orderPlaced: { orderId: \"named\", amount: \"1\", customer: { id: \"c\", name: \"Zoe\" } } }]) { position } }",
    );
    named.await;
    let (first, second) = (statements(CUSTOMERS).await, statements(CUSTOMERS).await);
    assert!(first > 0 && second == 0, "{first}, {second}");
    test.app.keys.forget(acme.created.id);
    assert!(statements(CUSTOMERS).await > 0, "names are not shown while the keys are not there");

    let customers = client.query(&admin, CUSTOMERS).await;
    acme.apply(vec![sale("another")]).await;
    let after = client.query(&admin, CUSTOMERS).await;
    assert_ne!(after, customers, "another sale");
    let title = "mutation { updateProduct(input: {sku: \"tea\", title: \"a cup\"}) { title } }";
    client.query(&admin, title).await;
    let titles = "{ products { nodes { title } } }";
    assert!(client.query(&admin, titles).await.to_string().contains("a cup"));
    client.query(&admin, &title.replace("a cup", "a mug")).await;
    assert!(client.query(&admin, titles).await.to_string().contains("a mug"));
    client.query(&admin, "mutation { eraseCustomer(customerId: \"c1\") { id } }").await;
    assert!(client.query(&admin, CUSTOMERS).await.to_string().contains("erased:"));
}

#[tokio::test]
async fn lists_that_show_more_than_the_ledger_are_not_kept() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, admin) = (Client::of(&test), acme.admin());
    acme.apply(vec![sale("one")]).await;
    let stock = "{ products { nodes { sku inventory } } }";
    client.query(&admin, stock).await;
    client.query(&admin, "mutation { updateProduct(input: {sku: \"tea\", inventory: 7}) { sku } }").await;
    client.query(&admin, stock).await;
    client.query(&admin, "mutation { updateProduct(input: {sku: \"tea\", inventory: 8}) { sku } }").await;
    assert!(client.query(&admin, stock).await.to_string().contains('8'));

    let today = "{ orders(period: {preset: TODAY}) { nodes { amount } } }";
    let orders = async || client.query(&acme.admin(), today).await["orders"]["nodes"].as_array().map(Vec::len);
    assert_eq!(orders().await, Some(1));
    test.clock.set(salespulse::clock::Timestamp(NOW.0 + 13 * 60 * MINUTE));
    assert_eq!(orders().await, Some(0), "the next day");

    // A fit of the models changes neither the ledger nor the settings.
    let admin = acme.admin();
    for query in [
        "{ customers { nodes { id rfm { segment } } } }",
        "{ customers { nodes { id forecasts { pAlive } } } }",
        "{ customers(orderBy: CHURN) { nodes { id } } }",
        "{ customers(filter: {churnMin: 0.1}) { nodes { id } } }",
    ] {
        client.query(&admin, query).await;
        let before = test.app.db.statements();
        client.query(&admin, query).await;
        assert!((test.app.db.statements() - before).statements > 0, "{query}");
    }
}

#[tokio::test]
async fn an_answer_that_says_whose_it_is_is_not_kept_for_others() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (client, first, mut second) = (Client::of(&test), acme.viewer(), acme.viewer());
    second.caller.user_id = acme.another_user(Role::Viewer).await;
    // Fields of one name are resolved one by one, and are one field of the answer.
    let sales = "sales: salesMetrics(period: { preset: TODAY })";
    let query = format!("{{ {sales} {{ ordersCount }} {sales} {{ unitsSold }} me {{ id }} }}");
    for viewer in [&first, &second] {
        let answer = client.query(viewer, &query).await;
        assert_eq!(answer["me"]["id"], json!(viewer.caller.user_id), "{answer}");
    }
    // The comparison of a period that runs changes at every moment.
    let compared = "comparison(to: PREVIOUS_PERIOD) { currentPeriod { end } }";
    let query = format!("{{ {sales} {{ {compared} }} {sales} {{ unitsSold }} }}");
    let before = client.query(&first, &query).await;
    test.clock.set(salespulse::clock::Timestamp(NOW.0 + MINUTE));
    assert_ne!(client.query(&first, &query).await, before);
}
