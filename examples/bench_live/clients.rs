//! Subscribed clients, events, and when each client has each update.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use salespulse::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::process::{Process, Servers};

/// Connections that are made at once.
const CONNECTING_MAX: usize = 128;
/// How long the last updates are waited for.
const LAST_WAIT: Duration = Duration::from_secs(20);

pub const DOCUMENTS: [&str; 3] = [
    "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant) { asOf { position } totalRevenue ordersCount uniqueCustomers avgOrderValue } }",
    "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant) { asOf { position } totalRevenue series(grain: HOUR) { start totalRevenue } } }",
    "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: { preset: LAST_7_DAYS }) { asOf { position } breakdown(by: [CHANNEL]) { rows { key totalRevenue } } } }",
];

/// How many of what.
pub struct Setting {
    pub tenants: usize,
    pub documents: &'static [&'static str],
    pub sockets: usize,
}

/// What a run came to.
#[derive(Default)]
pub struct Run {
    pub connects_per_sec: f64,
    pub kib_a_socket: f64,
    /// From acknowledgement to arrival, of all deliveries, in order.
    pub latencies: Vec<Duration>,
    /// Updates that did not come, apart from those that were skipped and told so. Events of a tenant must be further apart
    /// than updates, which would have several of them else.
    pub lost: usize,
    /// Updates that were not newer than the one before.
    pub repeated: usize,
    /// CPU of the server for one delivery.
    pub cpu_micros: f64,
    /// The size of the last update of the first socket.
    pub frame_bytes: usize,
}

impl Run {
    pub fn latency(&self, per_mille: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * per_mille / 1000).copied().unwrap_or_default()
    }
}

/// The updates of one socket: the position of each, and when it came.
#[derive(Default)]
pub struct Seen {
    pub tenant: usize,
    pub updates: Vec<(usize, Instant)>,
    /// How many updates it was told that it would not get.
    pub skipped: usize,
    pub last_bytes: usize,
    /// Open until all are done.
    client: Option<Client>,
}

pub type Client = WebSocketStream<TcpStream>;

pub async fn connect(port: u16, protocol: Option<&str>) -> Client {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    stream.set_nodelay(true).expect("no delay");
    let mut request = format!("ws://127.0.0.1:{port}/graphql").into_client_request().expect("a request");
    if let Some(protocol) = protocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().expect("a header"));
    }
    let config = WebSocketConfig::default().read_buffer_size(4096);
    tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.expect("upgraded").0
}

/// A client whose token was taken.
pub async fn initialized(port: u16, token: &str) -> Client {
    let mut client = connect(port, Some("graphql-transport-ws")).await;
    let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } });
    client.send(Message::text(init.to_string())).await.expect("sent");
    let ack = client.next().await.expect("open").expect("a message");
    assert!(ack.to_text().expect("text").contains("connection_ack"), "{ack}");
    client
}

/// A client that is subscribed and has its snapshot.
pub async fn subscribed(port: u16, token: &str, tenant: &str, document: &str) -> Client {
    let mut client = initialized(port, token).await;
    let payload = json!({ "query": document, "variables": { "tenant": tenant } });
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
    client.send(Message::text(subscribe.to_string())).await.expect("sent");
    let first = client.next().await.expect("open").expect("a message");
    assert!(first.to_text().expect("text").contains("\"next\""), "{first}");
    client
}

/// The number after `start`.
fn number_after(text: &str, start: &str) -> Option<usize> {
    let rest = &text[text.find(start)? + start.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// Reads updates until `last` has come, or until the `end` of all.
pub async fn watch(mut client: Client, tenant: usize, last: usize, end: CancellationToken) -> Seen {
    let mut seen = Seen { tenant, ..Seen::default() };
    let mut ended = pin!(end.cancelled());
    loop {
        let message = tokio::select! {
            message = client.next() => message,
            () = &mut ended => break,
        };
        let Some(Ok(message)) = message else { break };
        let Message::Text(text) = message else { continue };
        let Some(number) = number_after(&text, "\"position\":\"") else { continue };
        seen.updates.push((number, Instant::now()));
        seen.skipped += number_after(&text, "\"skipped\":").unwrap_or(0);
        seen.last_bytes = text.len();
        if number >= last {
            break;
        }
    }
    seen.client = Some(client);
    seen
}

/// Waits for all watchers, the slow ones not for ever.
pub async fn collect(watchers: Vec<JoinHandle<Seen>>, end: &CancellationToken) -> Vec<Seen> {
    let all = async {
        let mut all = Vec::with_capacity(watchers.len());
        for watcher in watchers {
            all.push(watcher.await.expect("no panic"));
        }
        all
    };
    let mut all = pin!(all);
    match tokio::time::timeout(LAST_WAIT, &mut all).await {
        Ok(all) => all,
        Err(_) => {
            end.cancel();
            all.await
        }
    }
}

/// Fills in what the watchers saw of so many `events`; `acknowledged` says when, by tenant and number.
pub fn evaluate(run: &mut Run, all: &[Seen], events: usize, acknowledged: &HashMap<(usize, usize), Instant>) {
    for seen in all {
        let (mut newest, mut delivered) = (0, 0);
        for (number, at) in &seen.updates {
            let is_new = *number > newest;
            newest = newest.max(*number);
            if !is_new {
                run.repeated += 1;
            }
            if let Some(acknowledged) = acknowledged.get(&(seen.tenant, *number)) {
                delivered += usize::from(is_new);
                run.latencies.push(at.saturating_duration_since(*acknowledged));
            }
        }
        run.lost += events.saturating_sub(delivered + seen.skipped);
    }
    run.latencies.sort_unstable();
    run.frame_bytes = all.iter().map(|seen| seen.last_bytes).max().unwrap_or(0);
}

pub async fn run(servers: &Servers, setting: &Setting, events: usize, pause: Duration) -> Run {
    let mut run = Run::default();
    // Whatever is made once for a tenant is made before.
    let mut positions = Vec::with_capacity(servers.tenants.len());
    for (n, tenant) in servers.tenants.iter().enumerate() {
        positions.push(record(&servers.processes[n % servers.processes.len()], &tenant.token, 0).await);
    }
    let resident = |servers: &Servers| servers.processes.iter().map(Process::resident_kib).sum::<f64>();
    let before_kib = resident(servers);
    let (gate, started) = (Arc::new(Semaphore::new(CONNECTING_MAX)), Instant::now());
    let mut connecting = Vec::with_capacity(setting.sockets);
    for n in 0..setting.sockets {
        let tenant = n % setting.tenants;
        let port = servers.processes[n / setting.tenants % servers.processes.len()].port;
        let (id, token) = (servers.tenants[tenant].id.clone(), servers.tenants[tenant].token.clone());
        let document = setting.documents[n / setting.tenants % setting.documents.len()];
        let permit = Arc::clone(&gate).acquire_owned().await.expect("open");
        connecting.push(tokio::spawn(async move {
            let client = subscribed(port, &token, &id, document).await;
            drop(permit);
            (tenant, client)
        }));
    }
    let mut clients = Vec::with_capacity(setting.sockets);
    for client in connecting {
        clients.push(client.await.expect("no panic"));
    }
    run.connects_per_sec = setting.sockets as f64 / started.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    run.kib_a_socket = (resident(servers) - before_kib) / setting.sockets as f64;

    let end = CancellationToken::new();
    let watch = |(tenant, client)| tokio::spawn(watch(client, tenant, positions[tenant] + events, end.clone()));
    let watchers: Vec<_> = clients.into_iter().map(watch).collect();
    let cpu = |servers: &Servers| servers.processes.iter().map(Process::cpu).sum::<Duration>();
    let before = cpu(servers);
    let mut acknowledged = HashMap::new();
    for n in 1..=events {
        let tick = Instant::now();
        for (index, tenant) in servers.tenants.iter().enumerate() {
            let process = &servers.processes[(n + index) % servers.processes.len()];
            let position = record(process, &tenant.token, n).await;
            acknowledged.insert((index, position), Instant::now());
        }
        tokio::time::sleep(pause.saturating_sub(tick.elapsed())).await;
    }
    let all = collect(watchers, &end).await;
    evaluate(&mut run, &all, events, &acknowledged);
    let deliveries = run.latencies.len().max(1);
    run.cpu_micros = (cpu(servers) - before).as_secs_f64() * 1e6 / deliveries as f64;
    run
}

/// Records sale `n` and gives its position.
pub async fn record(process: &Process, token: &str, n: usize) -> usize {
    let query = "mutation ($at: DateTime!, $id: String!) { recordEvents(events: [{ eventId: $id, occurredAt: $at, orderPlaced: {
        orderId: $id, version: 1, channel: \"web\", customer: { id: $id }, amount: \"10.00\" } }]) { position } }";
    let answer = ask(process, token, query, &json!({ "at": ago(0), "id": format!("o{n}") })).await;
    let position = answer["recordEvents"]["position"].as_str().expect("recorded");
    position.parse().expect("a number")
}

/// The data of an operation.
pub async fn ask(process: &Process, token: &str, query: &str, variables: &Value) -> Value {
    let body = json!({ "query": query, "variables": variables }).to_string();
    let address = ([127, 0, 0, 1], process.port).into();
    let answer = http::answer(address, "/graphql", token, &body).await;
    serde_json::from_slice::<Value>(&answer).expect("JSON")["data"].take()
}

/// The time so many microseconds ago, as it is written.
pub fn ago(micros: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(SystemClock.now().0 - micros);
    at.expect("a time").to_rfc3339()
}
