//! What 1,000 well-behaved sockets see, and what the server holds, while one client does its worst.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::clients::{self, Client, DOCUMENTS, Setting, initialized, subscribed};
use crate::process::{Database, Process, Servers};
use crate::report::Report;

const OTHERS: Setting = Setting { tenants: 1, documents: &[DOCUMENTS[0]], sockets: 1_000 };
const STORM_SOCKETS: usize = 10_000;
/// Large: what does not leave is to be more than the system's own buffers take.
const LARGE: &str = "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: { preset: LAST_7_DAYS }) {
    asOf { position } series(grain: QUARTER_HOUR) { start end totalRevenue grossRevenue ordersCount uniqueCustomers } } }";

#[derive(Clone, Copy, PartialEq)]
enum Abuse {
    None,
    StalledReader,
    Pings,
    Fragments,
    Subscriptions,
    Storm,
}

impl Abuse {
    const ALL: [Abuse; 6] =
        [Abuse::None, Abuse::StalledReader, Abuse::Pings, Abuse::Fragments, Abuse::Subscriptions, Abuse::Storm];

    fn what(self) -> &'static str {
        match self {
            Abuse::None => "nobody",
            Abuse::StalledReader => "a reader that never reads",
            Abuse::Pings => "pings without end",
            Abuse::Fragments => "a message of fragments without end",
            Abuse::Subscriptions => "10,000 subscriptions on one socket",
            Abuse::Storm => "10,000 sockets that come back at once",
        }
    }
}

/// One client's door to the server.
#[derive(Clone)]
struct Door {
    port: u16,
    token: String,
    tenant: String,
    /// How often the server has closed.
    closed: Arc<AtomicUsize>,
    /// Why it did so last.
    why: Arc<Mutex<String>>,
}

pub async fn run(database: &Database, events: usize, pause: Duration) {
    let columns =
        ["abuse", "p50 ms", "p95 ms", "p99 ms", "max ms", "lost", "MiB before", "most", "after", "closed", "last"];
    let mut report = Report::begin("1,000 sockets beside one that abuses the server", &columns);
    for abuse in Abuse::ALL {
        let servers = Servers::start(database, 1).await;
        let process = servers.processes[0].clone();
        let door = Door {
            port: process.port,
            token: servers.tenants[0].token.clone(),
            tenant: servers.tenants[0].id.clone(),
            closed: Arc::default(),
            why: Arc::default(),
        };
        let held = if abuse == Abuse::Storm { storm_clients(&door).await } else { Vec::new() };
        let before = process.resident_kib();
        let (most, sampler) = sample(process.clone());
        let abuser = tokio::spawn(act(abuse, door.clone(), held));
        let others = clients::run(&servers, &OTHERS, events, pause).await;
        abuser.abort();
        let _ = abuser.await;
        sampler.abort();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let ms = |per_mille| format!("{:.1}", others.latency(per_mille).as_secs_f64() * 1e3);
        let mib = |kib: f64| format!("{:.0}", kib / 1024.0);
        report.row(&[
            abuse.what().to_owned(),
            ms(500),
            ms(950),
            ms(990),
            ms(1000),
            others.lost.to_string(),
            mib(before),
            mib(most.load(Ordering::Relaxed) as f64),
            mib(process.resident_kib()),
            door.closed.load(Ordering::Relaxed).to_string(),
            door.why.lock().await.clone(),
        ]);
    }
}

/// The most memory that the server held.
fn sample(process: Process) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let most = Arc::new(AtomicUsize::new(0));
    let kept = Arc::clone(&most);
    let task = tokio::spawn(async move {
        loop {
            kept.fetch_max(process.resident_kib() as usize, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    (most, task)
}

async fn act(abuse: Abuse, door: Door, held: Vec<Client>) {
    match abuse {
        Abuse::None => {}
        Abuse::StalledReader => {
            let _unread = subscribed(door.port, &door.token, &door.tenant, LARGE).await;
            std::future::pending::<()>().await;
        }
        Abuse::Pings => door.repeat(|_| vec![Message::Ping(axum::body::Bytes::from_static(b"0123456789"))]).await,
        Abuse::Fragments => {
            let fragment = |n| {
                let opcode = if n == 0 { OpCode::Data(Data::Text) } else { OpCode::Data(Data::Continue) };
                vec![Message::Frame(Frame::message(vec![b' '; 1024], opcode, false))]
            };
            door.repeat(fragment).await;
        }
        Abuse::Subscriptions => {
            let tenant = door.tenant.clone();
            let subscribe = move |n: usize| {
                let payload = json!({ "query": DOCUMENTS[0], "variables": { "tenant": tenant } });
                vec![Message::text(json!({ "type": "subscribe", "id": n.to_string(), "payload": payload }).to_string())]
            };
            door.repeat(subscribe).await;
        }
        Abuse::Storm => {
            // All go at once, and all come back as fast as they can.
            drop(held);
            let started = Instant::now();
            let _held = storm_clients(&door).await;
            *door.why.lock().await = format!("all back after {:.1} s", started.elapsed().as_secs_f64());
            std::future::pending::<()>().await;
        }
    }
}

async fn storm_clients(door: &Door) -> Vec<Client> {
    let connecting = futures_util::stream::iter(0..STORM_SOCKETS)
        .map(|_| subscribed(door.port, &door.token, &door.tenant, DOCUMENTS[0]))
        .buffer_unordered(1_000);
    connecting.collect().await
}

impl Door {
    /// Sends message after message, reading whatever comes, and connects again when the server closes.
    async fn repeat(&self, messages: impl Fn(usize) -> Vec<Message>) {
        loop {
            let (mut sink, mut stream) = initialized(self.port, &self.token).await.split();
            let send = async {
                for n in 0..10_000 {
                    for message in messages(n) {
                        if sink.send(message).await.is_err() {
                            return;
                        }
                    }
                }
            };
            let read = async {
                while let Some(message) = stream.next().await {
                    match message {
                        Ok(Message::Close(frame)) => {
                            *self.why.lock().await =
                                frame.map_or_else(String::new, |f| format!("{} {}", f.code, f.reason));
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
            };
            tokio::join!(send, read);
            self.closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
