//! What subscribers see of two processes over one database and one bus (Redis, where the suite runs on it): each state is
//! that of its position, every alert comes once, and both processes give the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use salespulse::alerts::sweep_once;
use salespulse::app::App;
use salespulse::clock::SharedClock;
use salespulse::db::TenantId;
use salespulse::stream::memory::MemoryStream;
use salespulse::stream::{self, CommittedBatch, EventStream, Listener, StreamError};
use salespulse::telemetry::metrics::METRICS;
use serde_json::{Value, json};

use crate::alerts::{cancelled, create, minute, refunded, sale};
use crate::socket::Socket;
use crate::support::{Actor, Server, TestApp, TestTenant, kek, test_redis_url};

const STEPS: usize = 30;
const PERIOD: &str = r#"{ start: "2026-06-15T00:00:00Z", end: "2026-06-16T00:00:00Z" }"#;
const DOCUMENTS: [&str; 2] = [
    "asOf { position } totalRevenue refunds ordersCount uniqueCustomers",
    "asOf { position } grossRevenue newCustomers returningCustomers avgOrderValue
     series(grain: HOUR) { start totalRevenue ordersCount } breakdown(by: [CHANNEL]) { rows { key totalRevenue } }",
];
const RULES: [&str; 2] = [r#"metric: ORDERS_COUNT, threshold: "3""#, r#"metric: TOTAL_REVENUE, threshold: "35""#];

/// A process's stream whose publisher may end: nobody hears of what it publishes then, not even the process itself.
struct Publisher {
    stream: Arc<dyn EventStream>,
    has_ended: AtomicBool,
}

#[async_trait::async_trait]
impl EventStream for Publisher {
    async fn publish(&self, tenant: TenantId, batch: Arc<CommittedBatch>) -> Result<(), StreamError> {
        if self.has_ended.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.stream.publish(tenant, batch).await
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        self.stream.listen(tenant).await
    }

    fn listening(&self) -> Vec<TenantId> {
        self.stream.listening()
    }

    fn is_shared(&self) -> bool {
        self.stream.is_shared()
    }

    fn is_away(&self, tenant: TenantId) -> bool {
        self.stream.is_away(tenant)
    }

    fn newest_position(&self, tenant: TenantId) -> i64 {
        self.stream.newest_position(tenant)
    }

    async fn drop_beyond(&self, tenant: TenantId, head: i64) {
        self.stream.drop_beyond(tenant, head).await;
    }
}

/// Two processes over one database. Without Redis, one stream within the process is their bus.
struct Processes {
    parts: [TestApp; 2],
    publishers: [Arc<Publisher>; 2],
}

impl Processes {
    async fn start() -> Processes {
        let bus = match test_redis_url() {
            Some(url) => [connect(&url).await, connect(&url).await],
            None => {
                let stream: Arc<dyn EventStream> = Arc::new(MemoryStream::default());
                [Arc::clone(&stream), stream]
            }
        };
        let publishers = bus.map(|stream| Arc::new(Publisher { stream, has_ended: AtomicBool::new(false) }));
        let over = |test: TestApp, publisher: &Arc<Publisher>| {
            test.rewired(|app| {
                let (clock, stream): (SharedClock, _) = (Arc::clone(&app.clock), Arc::<Publisher>::clone(publisher));
                App::new(app.db.clone(), clock, stream, app.tokens.clone(), kek())
            })
        };
        let first = over(TestApp::start().await, &publishers[0]);
        let second = over(first.beside(kek()).await, &publishers[1]);
        Processes { parts: [first, second], publishers }
    }

    /// The same tenant in each.
    async fn tenant(&self) -> [TestTenant<'_>; 2] {
        let acme = self.parts[0].tenant("acme").await;
        let beside = acme.of(&self.parts[1]);
        [acme, beside]
    }

    /// Moves both clocks; one process looks for what is due.
    async fn time_is(&self, minutes: i64, which: usize) {
        self.parts.iter().for_each(|parts| parts.clock.set(minute(minutes)));
        sweep_once(&self.parts[which].app).await.expect("swept");
    }
}

async fn connect(url: &str) -> Arc<dyn EventStream> {
    stream::connect(Some(url)).await.expect("a URL")
}

/// A subscriber of metrics.
struct Watcher<'a> {
    socket: Socket,
    selected: &'static str,
    /// Of the other process.
    asked: Actor<'a>,
    /// The position of the last state.
    position: i64,
}

impl Watcher<'_> {
    /// Reads states until that of `position` has come. Each is what the other process says of its position.
    async fn read_to(&mut self, position: i64) {
        while self.position != position {
            let mut update = self.socket.next("1").await;
            let state = update["data"]["metricsUpdated"].take();
            let at = &state["asOf"]["position"];
            let query = format!("{{ salesMetrics(period: {PERIOD}, asOf: {at}) {{ {} }} }}", self.selected);
            assert_eq!(self.asked.query(&query).await["salesMetrics"], state);
            let at = at.as_str().and_then(|at| at.parse().ok()).expect("a position");
            assert!((self.position..=position).contains(&at), "{at} after {}", self.position);
            self.position = at;
        }
    }
}

/// Subscribers of both processes.
struct Subscribers<'a> {
    servers: [Server; 2],
    watchers: Vec<Watcher<'a>>,
    alerts: [Socket; 2],
}

impl<'a> Subscribers<'a> {
    /// They have the state of an empty ledger.
    async fn start(acme: &[TestTenant<'a>; 2]) -> Subscribers<'a> {
        let servers = [Server::start(acme[0].test).await, Server::start(acme[1].test).await];
        let (tenant, viewer) = (acme[0].id().0, acme[0].viewer());
        let mut watchers = Vec::new();
        for (n, server) in servers.iter().enumerate() {
            for selected in DOCUMENTS {
                let mut socket = Socket::open(server, &viewer.token()).await;
                let field = format!("metricsUpdated(tenantId: $tenant, period: {PERIOD})");
                let document = format!("subscription ($tenant: ID!) {{ {field} {{ {selected} }} }}");
                socket.subscribe("1", &document, json!({ "tenant": tenant })).await;
                let asked = viewer.within(acme[1 - n].test);
                watchers.push(Watcher { socket, selected, asked, position: -1 });
            }
        }
        let start = viewer.query("{ alertCursor }").await["alertCursor"].take();
        let mut alerts =
            [Socket::open(&servers[0], &viewer.token()).await, Socket::open(&servers[1], &viewer.token()).await];
        for socket in &mut alerts {
            let document = "subscription ($tenant: ID!, $after: Cursor) { \
                            alertTriggered(tenantId: $tenant, after: $after) { id state value position } }";
            socket.subscribe("1", document, json!({ "tenant": tenant, "after": start })).await;
        }
        let mut subscribers = Subscribers { servers, watchers, alerts };
        subscribers.read_to(0).await;
        subscribers
    }

    async fn read_to(&mut self, position: i64) {
        join_all(self.watchers.iter_mut().map(|watcher| watcher.read_to(position))).await;
    }

    /// All that were reported come, in their order, and nothing else between them.
    async fn read_alerts(&mut self, asked: &Actor<'_>) -> usize {
        let history = asked.query("{ alertHistory(first: 100) { nodes { id state value position } } }").await;
        let reported: Vec<&Value> = history["alertHistory"]["nodes"].as_array().expect("a list").iter().rev().collect();
        for socket in &mut self.alerts {
            for alert in &reported {
                assert_eq!(socket.next("1").await["data"]["alertTriggered"], **alert);
            }
        }
        reported.len()
    }

    async fn stop(self) {
        join_all(self.servers.map(Server::stop)).await;
    }
}

async fn watch_both(seed: u64) {
    let processes = Processes::start().await;
    let acme = processes.tenant().await;
    for watched in RULES {
        create(
            &acme[0],
            &format!(r#"name: "Busy", {watched}, condition: ABOVE, windowMinutes: 15, includeOpen: true"#),
        )
        .await;
    }
    let mut subscribers = Subscribers::start(&acme).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut minutes = 1;
    for step in 0..STEPS {
        minutes += random.random_range(0..6);
        let which = random.random_range(0..2);
        processes.time_is(minutes, which).await;
        let earlier = random.random_range(0..=step).to_string();
        let mut events = vec![sale(&step.to_string(), minutes)];
        match random.random_range(0..4) {
            0 => events.push(cancelled(&earlier, minutes)),
            1 => events.push(refunded(&earlier, minutes)),
            _ => {}
        }
        let recorded = acme[which].record(events);
        let position = if random.random_ratio(1, 3) {
            // The other process records at the same time.
            let late = acme[1 - which].apply(vec![sale(&format!("late-{step}"), minutes - 20)]);
            let (one, other) = tokio::join!(recorded, late);
            one.position.max(other.position)
        } else {
            recorded.await.position
        };
        subscribers.read_to(position).await;
    }
    let alerts = subscribers.read_alerts(&acme[1].viewer()).await;
    assert!((4..100).contains(&alerts), "seed {seed}: {alerts}");
    subscribers.stop().await;
}

#[tokio::test]
async fn subscribers_of_both_see_the_states_of_the_ledger_and_every_alert() {
    join_all((0..2).map(watch_both)).await;
}

#[tokio::test]
async fn what_a_process_commits_but_does_not_publish_is_found_by_comparing_heads() {
    let processes = Processes::start().await;
    let acme = processes.tenant().await;
    // Each sale is more than there was.
    for threshold in 0..6 {
        let watched = format!(r#"metric: ORDERS_COUNT, condition: ABOVE, threshold: "{threshold}", windowMinutes: 15"#);
        create(&acme[0], &format!(r#"name: "Over {threshold}", {watched}, includeOpen: true"#)).await;
    }
    let mut subscribers = Subscribers::start(&acme).await;
    let found = METRICS.live_catch_ups.get();
    for ended in [0, 1] {
        let publisher = &processes.publishers[ended];
        publisher.has_ended.store(true, Ordering::SeqCst);
        // Nothing comes after it that would show a gap.
        let alone = acme[ended].apply(vec![sale(&format!("alone-{ended}"), 0)]).await.position;
        subscribers.read_to(alone).await;
        // Something does.
        acme[ended].apply(vec![sale(&format!("lost-{ended}"), 0)]).await;
        let shown = acme[1 - ended].apply(vec![sale(&format!("shown-{ended}"), 0)]).await.position;
        subscribers.read_to(shown).await;
        publisher.has_ended.store(false, Ordering::SeqCst);
    }
    assert!(METRICS.live_catch_ups.get() >= found + 8, "four times in each process");
    assert_eq!(subscribers.read_alerts(&acme[0].viewer()).await, 6);
    subscribers.stop().await;
}
