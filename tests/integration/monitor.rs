//! The second listener: what Prometheus finds there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use salespulse::ledger::event::Fact;
use salespulse::outbox::NotificationChannel;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ledger::{event, order};
use crate::socket::Socket;
use crate::support::{Actor, Server, TestApp};

/// More than all series of a server that has seen everything.
const SERIES_MAX: usize = 1000;

/// The values of all series, by name and labels as they are written.
pub struct Scrape {
    text: String,
    series: BTreeMap<String, f64>,
}

impl Scrape {
    pub async fn of(server: &Server) -> Scrape {
        let answer = reqwest::get(format!("http://{}/metrics", server.monitor)).await.expect("answered");
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
        let text = answer.text().await.expect("text");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Scrape { series: series.collect(), text }
    }

    pub fn get(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or_default()
    }

    /// How much has been counted since `before`. Other tests may count in the same process.
    fn since(&self, before: &Scrape, series: &str) -> f64 {
        self.get(series) - before.get(series)
    }

    fn families(&self, word: &str) -> BTreeMap<&str, &str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(word)?.split_once(' '));
        lines.collect()
    }
}

async fn post(server: &Server, actor: &Actor<'_>, query: &str) -> Value {
    let request = Client::new().post(format!("http://{}/graphql", server.address)).bearer_auth(actor.token());
    let body = json!({ "query": query }).to_string();
    let answer = request.header("content-type", "application/json").body(body).send().await.expect("answered");
    serde_json::from_str(&answer.text().await.expect("text")).expect("json")
}

async fn status(address: std::net::SocketAddr, path: &str) -> StatusCode {
    reqwest::get(format!("http://{address}{path}")).await.expect("answered").status()
}

/// Waits for what tasks have still to do.
pub async fn until(server: &Server, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let begun = Instant::now();
    loop {
        let scrape = Scrape::of(server).await;
        if holds(&scrape) {
            return scrape;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s:\n{}", scrape.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_happens_is_counted() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (server, admin) = (Server::start(&test).await, acme.admin());
    let before = Scrape::of(&server).await;
    // A counter that appears with its first event shows no increase.
    let channels: Vec<&str> =
        before.text.lines().filter(|line| line.starts_with("salespulse_deliveries_total{")).collect();
    let from_the_start = [NotificationChannel::Email, NotificationChannel::Webhook].map(|channel| {
        ["dead", "delivered", "failed"].map(|result| {
            format!(r#"salespulse_deliveries_total{{channel="{}",result="{result}"}} "#, channel.as_str())
        })
    });
    assert_eq!(channels.len(), from_the_start.as_flattened().len(), "{channels:?}");
    for series in from_the_start.as_flattened() {
        assert!(channels.iter().any(|line| line.starts_with(series)), "{series}: {channels:?}");
    }
    let sale = |n: &str| event(n, "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(n, 1, "c", "10.00")));
    acme.apply(vec![sale("a"), sale("b")]).await;
    acme.record(vec![sale("b")]).await;
    let revenue = "{ salesMetrics(period: {preset: TODAY}) { grossRevenue } }";
    for _ in 0..3 {
        assert_eq!(post(&server, &admin, revenue).await["data"]["salesMetrics"]["grossRevenue"], "20.00");
    }
    post(&server, &admin, "{ nothing }").await;
    post(&server, &acme.viewer(), "mutation { deleteAlert(id: 1) }").await;
    assert_eq!(status(server.address, "/metrics").await, StatusCode::NOT_FOUND);

    let after = Scrape::of(&server).await;
    for (series, at_least) in [
        (r#"salespulse_http_requests_total{method="POST",route="/graphql",status="200"}"#, 5.0),
        (r#"salespulse_http_request_duration_seconds_count{route="/graphql"}"#, 5.0),
        (r#"salespulse_http_requests_total{method="GET",route="none",status="404"}"#, 1.0),
        (r#"salespulse_operation_duration_seconds_count{kind="query"}"#, 2.0),
        (r#"salespulse_operation_duration_seconds_count{kind="mutation"}"#, 1.0),
        (r#"salespulse_errors_total{code="GRAPHQL_VALIDATION_FAILED"}"#, 1.0),
        (r#"salespulse_errors_total{code="FORBIDDEN"}"#, 1.0),
        (r#"salespulse_cache_requests_total{cache="answers",result="hit"}"#, 2.0),
        (r#"salespulse_cache_requests_total{cache="answers",result="miss"}"#, 3.0),
        (r#"salespulse_ledger_events_total{outcome="applied"}"#, 2.0),
        (r#"salespulse_ledger_events_total{outcome="repeated"}"#, 1.0),
        (r#"salespulse_ledger_batches_total{result="committed"}"#, 2.0),
        ("salespulse_ledger_commit_duration_seconds_count", 2.0),
    ] {
        assert!(after.since(&before, series) >= at_least, "{series}\n{}", after.text);
    }
    server.stop().await;
}

#[tokio::test]
async fn it_is_seen_where_the_server_stands() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let server = Server::start(&test).await;
    let sale = |n: &str| event(n, "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(n, 1, "c", "10.00")));
    acme.apply(vec![sale("a"), sale("b")]).await;
    let recorded = until(&server, |scrape| scrape.get("salespulse_ledger_position") == 2.0).await;
    assert_eq!(recorded.get("salespulse_ledger_lanes"), 1.0);
    let rollups = r#"salespulse_ledger_lag_positions{stage="rollups"}"#;
    until(&server, |scrape| scrape.get(rollups) == 0.0).await;

    let mut sockets =
        [Socket::open(&server, &acme.admin().token()).await, Socket::open(&server, &acme.admin().token()).await];
    let live = "subscription($tenantId: ID!) { metricsUpdated(tenantId: $tenantId) { ordersCount } }";
    for socket in &mut sockets {
        socket.subscribe("live", live, json!({ "tenantId": acme.id().0 })).await;
        socket.next("live").await;
    }
    other.apply(vec![sale("a")]).await;
    let live = until(&server, |scrape| scrape.get("salespulse_ledger_position") == 3.0).await;
    let now = ["sockets", "cohorts", "cohort_members", "ledger_lanes", "ledger_feeds"];
    let values = now.map(|name| live.get(&format!("salespulse_{name}")));
    assert_eq!(values, [2.0, 1.0, 2.0, 2.0, 1.0], "{now:?}");
    let before = test.app.db.statements();
    let again = Scrape::of(&server).await;
    assert_eq!(test.app.db.statements(), before, "the database is not asked");
    assert!(again.get(r#"salespulse_database_connections{pool="read",state="idle"}"#) >= 1.0);

    acme.apply(vec![sale("c")]).await;
    until(&server, |scrape| scrape.get(r#"salespulse_ledger_lag_positions{stage="feeds"}"#) == 0.0).await;
    drop(sockets);
    let gone = until(&server, |scrape| scrape.get("salespulse_sockets") == 0.0).await;
    let ended = |scrape: &Scrape| {
        scrape.series.iter().filter(|(name, _)| name.contains("socket_closes")).map(|(_, n)| n).sum::<f64>()
    };
    assert!(ended(&gone) - ended(&recorded) >= 2.0);
    until(&server, |scrape| scrape.get("salespulse_cohorts") == 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_whose_readers_are_all_busy_is_ready() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // SQLite has no other pool to ask over.
    if !test.app.db.is_postgres() {
        return;
    }
    let server = Server::start(&test).await;
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(test.app.db.read(acme.id()).await.expect("a connection"));
    }
    assert_eq!(status(server.address, "/ready").await, StatusCode::OK);
    drop(busy);
    server.stop().await;
}

#[tokio::test]
async fn health_is_on_both_listeners_and_the_second_tells_how_the_server_ends() {
    let test = TestApp::start().await;
    let server = Server::start(&test).await;
    for address in [server.address, server.monitor] {
        assert_eq!(status(address, "/health").await, StatusCode::OK);
        assert_eq!(status(address, "/ready").await, StatusCode::OK);
    }
    assert_eq!(status(server.monitor, "/graphql").await, StatusCode::NOT_FOUND);

    // A request that is under way holds the end up.
    let mut slow = tokio::net::TcpStream::connect(server.address).await.expect("connected");
    let head = "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).await.expect("sent");
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    slow.read_exact(&mut go_on).await.expect("it is read");
    server.begin_to_stop();
    while status(server.monitor, "/ready").await != StatusCode::SERVICE_UNAVAILABLE {}
    assert_eq!(status(server.monitor, "/health").await, StatusCode::OK);
    slow.write_all(b"{}").await.expect("sent");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn no_words_of_clients_become_labels() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let client = Client::new();
    for n in 0..50 {
        let method = Method::from_bytes(format!("CANARY{n}").as_bytes()).expect("a method");
        let url = format!("http://{}/canary-{n}?canary={n}", server.address);
        client.request(method, url).header("x-request-id", format!("canary-{n}")).send().await.expect("answered");
        post(&server, &acme.admin(), &format!("query canary{n} {{ canary{n} }}")).await;
    }
    let scrape = Scrape::of(&server).await;
    assert!(!scrape.text.to_lowercase().contains("canary"), "{}", scrape.text);
    assert!(!scrape.text.contains(&acme.id().0.to_string()) && scrape.series.len() < SERIES_MAX, "{}", scrape.text);
    assert!(scrape.get(r#"salespulse_http_requests_total{method="other",route="none",status="404"}"#) >= 50.0);
    server.stop().await;
}

/// A scrape after something of everything has happened.
async fn full_scrape() -> Scrape {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    acme.apply(vec![event("a", "2026-06-15T11:00:00Z", Fact::OrderPlaced(order("A", 1, "c", "10.00")))]).await;
    post(&server, &acme.admin(), "{ salesMetrics(period: {preset: TODAY}) { grossRevenue } nothing }").await;
    post(&server, &acme.admin(), "{ salesMetrics(period: {preset: TODAY}) { grossRevenue } }").await;
    drop(Socket::open(&server, &acme.admin().token()).await);
    let scrape = until(&server, |scrape| scrape.get("salespulse_sockets") == 0.0).await;
    server.stop().await;
    scrape
}

/// What promtool's linter asks of names, and what the text format asks of series.
#[tokio::test]
async fn names_follow_the_conventions_of_prometheus() {
    let scrape = full_scrape().await;
    let (helps, types) = (scrape.families("# HELP "), scrape.families("# TYPE "));
    assert_eq!(helps.keys().collect::<Vec<_>>(), types.keys().collect::<Vec<_>>());
    assert!(types.len() >= 25, "{}", scrape.text);
    for (name, kind) in &types {
        assert!(name.starts_with("salespulse_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        for part in ["_count", "_sum", "_bucket", "_info_", "millisecond", "minute", "kilobyte", kind] {
            assert!(!name.contains(part), "{name}: {part}");
        }
        assert!(!helps[name].is_empty() && (*kind != "histogram" || name.ends_with("_seconds")), "{name}");
    }
    let family = |series: &str| {
        let name = series.split('{').next().expect("a name");
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        histogram.filter(|name| types.get(name) == Some(&"histogram")).unwrap_or(name).to_owned()
    };
    let seen: BTreeSet<String> = scrape.series.keys().map(|series| family(series)).collect();
    assert_eq!(seen, types.keys().map(ToString::to_string).collect());
}

#[ignore = "needs promtool, of the package prometheus"]
#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let scrape = full_scrape().await;
    let run = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = run.expect("promtool runs");
    promtool.stdin.take().expect("piped").write_all(scrape.text.as_bytes()).expect("written");
    let said = promtool.wait_with_output().expect("ended");
    assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}
