//! What the program says of itself, in its log and in traces: enough to find a request by, and nothing that is secret or
//! personal, at any level.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use reqwest::Client;
use reqwest::header::HeaderMap;
use salespulse::error::Error;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::command_line::{Program, signal};
use crate::socket::Socket;
use crate::support::{TestApp, test_redis_url};

/// Is in all that must stay within.
const CANARY: &str = "canary";
const REQUEST_ID: &str = "the-request.1";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// The program as a server over a test's database, with what it logs.
pub struct Served {
    pub test: TestApp,
    /// The id of acme, and a token of its admin.
    pub tenant: String,
    pub token: String,
    pub api: SocketAddr,
    process: Child,
    lines: std::thread::JoinHandle<Vec<Value>>,
}

impl Served {
    /// Logs everything, as JSON.
    pub async fn start(settings: &[(&str, &str)]) -> Served {
        let (test, program) = (TestApp::start().await, Program::new());
        let tenant = test.tenant("acme").await.id().0.to_string();
        let redis = test_redis_url().unwrap_or_default();
        let common = [
            ("DATABASE_URL", test.server_url()),
            ("REDIS_URL", &redis),
            ("SALESPULSE_LISTEN", "127.0.0.1:0"),
            ("SALESPULSE_TRUSTED_PROXIES", "127.0.0.1"),
            ("SALESPULSE_LOG_FORMAT", "json"),
            ("SALESPULSE_LOG_LEVEL", "trace"),
        ];
        let minted = program.command(&["token", "--tenant", "acme", "--role", "admin"], &common).output();
        let token = String::from_utf8(minted.expect("it runs").stdout).expect("text").trim().to_owned();
        let mut command = program.command(&["serve"], &[&common, settings].concat());
        let mut process = command.stderr(Stdio::piped()).spawn().expect("started");
        let mut log = BufReader::new(process.stderr.take().expect("piped"))
            .lines()
            .map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("each line is JSON"));
        let serving = log.by_ref().find(|line| line["message"] == "serving").expect("it serves");
        let api = serving["address"].as_str().expect("an address").parse().expect("an address");
        Served { test, tenant, token, api, process, lines: std::thread::spawn(move || log.collect()) }
    }

    pub async fn post(&self, body: Value) -> (HeaderMap, Value) {
        post(self.api, &self.token, body).await
    }

    pub fn stop(mut self) -> Vec<Value> {
        signal("TERM", self.process.id());
        assert!(self.process.wait().expect("ended").success());
        self.lines.join().expect("read")
    }
}

async fn post(api: SocketAddr, token: &str, body: Value) -> (HeaderMap, Value) {
    let request = Client::new()
        .post(format!("http://{api}/graphql"))
        .bearer_auth(token)
        .header("content-type", "application/json")
        .header("x-request-id", REQUEST_ID)
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .body(body.to_string());
    let answer = request.send().await.expect("answered");
    (answer.headers().clone(), serde_json::from_str(&answer.text().await.expect("text")).expect("json"))
}

/// Sends the canary wherever a client can put anything, from its name to its token.
async fn send_canaries(served: &Served) {
    let Served { api, token, tenant, .. } = served;
    let event = json!({ "eventId": "e", "occurredAt": "2026-01-01T00:00:00Z", "orderPlaced": {
        "orderId": "o-canary", "amount": "1.00",
        "customer": { "id": "c-canary", "name": "Canary", "email": "canary@example.com" } } });
    let record =
        "mutation($events: [SalesEventInput!]!) { recordEvents(events: $events) { results { outcome reason } } }";
    served.post(json!({ "query": record, "variables": { "events": [event] } })).await;
    served.post(json!({ "query": "{ customers(after: \"canary\") { nodes { id } } }" })).await;
    let alert = "mutation { createAlert(input: { name: \"canary\", metric: ORDERS_COUNT, condition: ABOVE, threshold: \"0\", \
                 recipients: [{ channel: WEBHOOK, target: \"https://canary.invalid/canary\", secret: \"canary canary canary canary\" }] }) { id } }";
    served.post(json!({ "query": alert })).await;
    served.post(json!({ "query": "{ canary", "variables": { "canary": "canary" }, "canary": 1 })).await;
    let login = "mutation($p: String!) { login(tenant: \"canary\", email: \"canary@example.com\", password: $p) { accessToken } }";
    served.post(json!({ "query": login, "variables": { "p": "canary canary" } })).await;
    post(*api, "canary.canary.canary", json!({ "query": "{ me { id } }" })).await;
    let client = Client::new();
    for (path, body) in [("/graphql", "canary"), ("/graphql?canary=canary", "{\"query\":\"canary\"}"), ("/canary", "")]
    {
        let request = client.post(format!("http://{api}{path}")).header("content-type", "application/json");
        let request = request.header("x-request-id", "canary@example.com").header("traceparent", "canary");
        let request =
            request.header("cookie", "canary=canary").header("user-agent", "canary").header("canary", "canary");
        request.bearer_auth(token).body(body).send().await.expect("answered");
    }
    let get = format!("http://{api}/graphql?query=%7Bcanary%7D&variables=%7B%22canary%22%3A%22canary%22%7D");
    client.get(get).basic_auth("canary", Some("canary")).send().await.expect("answered");
    let refused = Socket::try_open_at(*api, json!({ "Authorization": "Bearer canary", "canary": "canary" })).await;
    assert!(refused.is_none());
    let init = json!({ "Authorization": format!("Bearer {token}"), "canary": "canary" });
    let mut socket = Socket::try_open_at(*api, init).await.expect("acknowledged");
    let live = "subscription($tenantId: ID!, $canary: String = \"canary\") { metricsUpdated(tenantId: $tenantId, after: $canary) { ordersCount } }";
    socket.subscribe("canary", live, json!({ "tenantId": tenant, "canary": "canary" })).await;
    socket.next("canary").await;
    socket.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_or_secret_is_logged_at_any_level() {
    let served = Served::start(&[]).await;
    let token = served.token.clone();
    send_canaries(&served).await;
    let lines = served.stop();
    assert!(lines.iter().filter(|line| line["message"] == "answered").count() >= 10, "{lines:#?}");
    for line in lines {
        let text = line.to_string();
        assert!(!text.to_lowercase().contains(CANARY) && !text.contains(&token), "{text}");
    }
}

#[tokio::test]
async fn what_the_database_says_of_rows_is_not_logged() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    // PostgreSQL would tell of the word that is no JSON in the details.
    let broken = if test.app.db.is_postgres() {
        "SELECT $2::text::jsonb WHERE $1::uuid IS NOT NULL"
    } else {
        "SELECT json($2) WHERE $1 IS NOT NULL"
    };
    let shown = format!("{:?}", tx.query(broken, [CANARY.into()]).await.expect_err("no JSON"));
    assert!(shown.to_lowercase().contains("json") && !shown.contains(CANARY), "{shown}");
    let stored = Error::from(serde_json::from_str::<i64>("\"canary\"").expect_err("no number"));
    assert!(!format!("{stored:?}").contains(CANARY), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_logged_of_a_request_has_its_ids() {
    let served = Served::start(&[]).await;
    // What nobody expects: a table is gone.
    let owner = served.test.owner().await;
    owner.connection().execute_unprepared("ALTER TABLE products RENAME TO gone").await.expect("renamed");
    let query = "query Shelf { products { nodes { id } } }";
    let (headers, answer) = served.post(json!({ "query": query })).await;
    assert_eq!(headers["x-request-id"], REQUEST_ID);
    let error_id = answer["errors"][0]["extensions"]["errorId"].clone();
    assert!(error_id.is_string(), "{answer}");
    let init = json!({ "Authorization": format!("Bearer {}", served.token) });
    let mut socket = Socket::try_open_at(served.api, init).await.expect("acknowledged");
    socket.subscribe("q", query, Value::Null).await;
    let over_socket = socket.next("q").await["errors"][0]["extensions"]["errorId"].clone();

    let expected = json!({ "request_id": REQUEST_ID, "trace_id": TRACE, "tenant": served.tenant, "level": "ERROR",
        "graphql.operation.name": "Shelf", "graphql.operation.type": "query", "http.route": "/graphql",
        "message": "request failed", "code": "INTERNAL_SERVER_ERROR" });
    let lines = served.stop();
    let line = |id: &Value| {
        let mut found = lines.iter().filter(|line| line["error_id"] == *id);
        let (Some(line), None) = (found.next(), found.next()) else { panic!("an error is logged once") };
        line
    };
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&line(&error_id)[name], value, "{name}");
    }
    assert!(line(&over_socket)["request_id"].is_string() && line(&over_socket)["tenant"] == expected["tenant"]);
    let answered = lines.iter().find(|line| line["message"] == "answered" && line["request_id"] == REQUEST_ID);
    assert_eq!(answered.expect("an access line")["http.response.status_code"], 500);
}

#[cfg(feature = "otlp")]
mod traces {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Bytes;
    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::routing::post;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use prost::Message;

    use super::*;

    /// Stands in for a collector: keeps what it is sent.
    #[derive(Clone, Default)]
    struct Collector(Arc<Mutex<Vec<Bytes>>>);

    impl Collector {
        async fn start() -> (String, Collector) {
            let collector = Collector::default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let url = format!("http://{}/", listener.local_addr().expect("an address"));
            let routes = Router::new().route("/v1/traces", post(Collector::take)).with_state(collector.clone());
            tokio::spawn(async move { axum::serve(listener, routes).await });
            (url, collector)
        }

        async fn take(State(Collector(got)): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            got.lock().expect("a lock").push(body);
            StatusCode::OK
        }

        fn spans(&self) -> Vec<Span> {
            let got = self.0.lock().expect("a lock");
            let requests = got.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).expect("OTLP"));
            let resources = requests.flat_map(|request| request.resource_spans);
            resources.flat_map(|spans| spans.scope_spans).flat_map(|spans| spans.spans).collect()
        }
    }

    fn attribute(span: &Span, key: &str) -> String {
        let value = span.attributes.iter().find(|attribute| attribute.key == key);
        format!("{:?}", value.and_then(|attribute| attribute.value.as_ref()).and_then(|value| value.value.as_ref()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_its_operation_and_its_statements_are_one_trace() {
        let (url, collector) = Collector::start().await;
        let served = Served::start(&[("SALESPULSE_OTLP_ENDPOINT", &url)]).await;
        served.post(json!({ "query": "query Mine { me { id } }" })).await;
        send_canaries(&served).await;
        let token = served.token.to_lowercase();
        let lines = served.stop();

        let spans = collector.spans();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mine =
            spans.iter().find(|span| attribute(span, "graphql.operation.name").contains("Mine")).expect("a span");
        let request = spans.iter().find(|span| span.span_id == mine.parent_span_id).expect("the span around it");
        assert_eq!((hex(&request.trace_id).as_str(), hex(&request.parent_span_id).as_str()), (TRACE, PARENT));
        assert_eq!((request.name.as_str(), request.kind()), ("request", SpanKind::Server));
        assert!(attribute(request, "http.response.status_code").contains("200"));
        let statements = spans.iter().filter(|span| span.parent_span_id == mine.span_id);
        let texts: Vec<String> = statements.map(|span| span.name.clone() + &attribute(span, "db.statement")).collect();
        assert!(
            texts.iter().any(|text| text.contains("users") && (text.contains("= ?") || text.contains("= $1"))),
            "{texts:?}"
        );
        // Who brings no trace begins one, which the log knows.
        let own = spans.iter().find(|span| span.name == "request" && span.parent_span_id.is_empty()).expect("a span");
        assert!(lines.iter().any(|line| line["trace_id"] == hex(&own.trace_id)));

        let sent = collector.0.lock().expect("a lock").concat();
        let sent = String::from_utf8_lossy(&sent).to_lowercase();
        assert!(!sent.contains(CANARY) && !sent.contains(&token));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_is_away_costs_nothing_but_a_line() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let url = format!("http://user:hidden@{free}");
        let served = Served::start(&[("SALESPULSE_OTLP_ENDPOINT", &url)]).await;
        let (_, answer) = served.post(json!({ "query": "{ me { role } }" })).await;
        assert_eq!(answer["data"]["me"]["role"], "ADMIN");
        let lines = served.stop();
        let told = lines.iter().filter(|line| line["target"].as_str().is_some_and(|t| t.starts_with("opentelemetry")));
        assert!(told.clone().any(|line| line["level"] == "ERROR" || line["level"] == "WARN"), "{lines:#?}");
        for line in lines {
            assert!(!line.to_string().contains("hidden"), "{line}");
        }
    }
}
