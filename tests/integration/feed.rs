//! What subscribers see through a stream that loses batches, repeats them, and hands them on late: the states of the ledger,
//! and every alert once.

use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use salespulse::app::App;
use salespulse::clock::SharedClock;
use salespulse::db::TenantId;
use salespulse::stream::memory::MemoryStream;
use salespulse::stream::{CommittedBatch, EventStream, Listener, StreamError};
use serde_json::{Value, json};

use crate::alerts::{cancelled, create, refunded, sale, time_is};
use crate::socket::Socket;
use crate::support::{Server, TestApp, TestTenant, kek};

const STEPS: usize = 40;
/// More positions than are read one by one.
const LONG_GAP: i64 = 30_000;

/// What becomes of a batch is decided by a seed.
struct Unreliable {
    stream: MemoryStream,
    fate: Mutex<Fate>,
}

struct Fate {
    random: StdRng,
    /// Batches that come later, in any order.
    held: Vec<Arc<CommittedBatch>>,
}

impl Unreliable {
    fn new(seed: u64) -> Self {
        let fate = Fate { random: StdRng::seed_from_u64(seed), held: Vec::new() };
        Unreliable { stream: MemoryStream::default(), fate: Mutex::new(fate) }
    }
}

#[async_trait::async_trait]
impl EventStream for Unreliable {
    async fn publish(&self, tenant: TenantId, batch: Arc<CommittedBatch>) -> Result<(), StreamError> {
        let mut fate = self.fate.lock().expect("a lock");
        let Fate { random, held } = &mut *fate;
        match random.random_range(0..6) {
            0 => {}
            1 | 2 => held.push(batch),
            times => (3..=times).for_each(|_| self.stream.hand_on(tenant, Arc::clone(&batch))),
        }
        while !held.is_empty() && random.random_ratio(2, 5) {
            let late = held.swap_remove(random.random_range(0..held.len()));
            self.stream.hand_on(tenant, late);
        }
        Ok(())
    }

    async fn listen(&self, tenant: TenantId) -> Result<Listener, StreamError> {
        self.stream.listen(tenant).await
    }

    fn listening(&self) -> Vec<TenantId> {
        self.stream.listening()
    }
}

const METRICS: &str = "asOf { position } totalRevenue refunds ordersCount uniqueCustomers";
const PERIOD: &str = r#"{ start: "2026-06-01T00:00:00Z", end: "2026-07-01T00:00:00Z" }"#;

/// A subscriber of metrics.
struct Watcher<'a> {
    acme: &'a TestTenant<'a>,
    socket: Socket,
    /// The position of the last state.
    position: Option<i64>,
    seed: u64,
}

impl Watcher<'_> {
    /// Reads states until that of `position` has come. Each is what the ledger says of its position.
    async fn read_to(&mut self, position: i64) {
        while self.position != Some(position) {
            let mut update = self.socket.next("1").await;
            let state = update["data"]["metricsUpdated"].take();
            let at = &state["asOf"]["position"];
            let query = format!("{{ salesMetrics(period: {PERIOD}, asOf: {at}) {{ {METRICS} }} }}");
            assert_eq!(self.acme.viewer().query(&query).await["salesMetrics"], state, "seed {}", self.seed);
            self.position = at.as_str().and_then(|at| at.parse().ok());
        }
    }
}

/// As if so many events without facts had been recorded, or the ledger restored to the state before them.
async fn move_head(acme: &TestTenant<'_>, positions: i64) {
    // Nothing is folded meanwhile.
    acme.test.app.ledger.close().await;
    change_head(acme, &format!("position = position + {positions}")).await;
}

async fn change_head(acme: &TestTenant<'_>, change: &str) {
    let tx = acme.test.app.db.write(acme.id()).await.expect("begun");
    let sql = format!("UPDATE ledger_heads SET {change} WHERE tenant_id = $1");
    tx.execute(&sql, []).await.expect("changed");
    tx.commit().await.expect("committed");
}

async fn follow(seed: u64) {
    let stream = Arc::new(Unreliable::new(seed));
    let test = TestApp::start().await.rewired(|app| {
        let clock: SharedClock = Arc::clone(&app.clock);
        App::new(app.db.clone(), clock, stream, app.tokens.clone(), kek())
    });
    let acme = test.tenant("acme").await;
    for watched in [r#"metric: ORDERS_COUNT, threshold: "3""#, r#"metric: TOTAL_REVENUE, threshold: "35""#] {
        create(&acme, &format!(r#"name: "Busy", {watched}, condition: ABOVE, windowMinutes: 15, includeOpen: true"#))
            .await;
    }
    let server = Server::start(&test).await;
    let token = acme.viewer().token();
    let mut alerts = Socket::open(&server, &token).await;
    let start = acme.viewer().query("{ alertCursor }").await["alertCursor"].take();
    let query =
        "subscription ($tenant: ID!, $after: Cursor) { alertTriggered(tenantId: $tenant, after: $after) { id } }";
    alerts.subscribe("1", query, json!({ "tenant": acme.id().0, "after": start })).await;
    let mut metrics = Socket::open(&server, &token).await;
    let query = format!(
        "subscription ($tenant: ID!) {{ metricsUpdated(tenantId: $tenant, period: {PERIOD}) {{ {METRICS} }} }}"
    );
    metrics.subscribe("1", &query, json!({ "tenant": acme.id().0 })).await;
    let mut metrics = Watcher { acme: &acme, socket: metrics, position: None, seed };
    metrics.read_to(0).await;

    let mut random = StdRng::seed_from_u64(seed);
    let (mut minutes, mut position) = (1, 0);
    for step in 0..STEPS {
        minutes += random.random_range(0..6);
        time_is(&test, minutes).await;
        let earlier = random.random_range(0..=step).to_string();
        let mut events = vec![sale(&step.to_string(), minutes)];
        match random.random_range(0..4) {
            0 => events.push(cancelled(&earlier, minutes)),
            1 => events.push(refunded(&earlier, minutes)),
            _ => {}
        }
        if step == STEPS / 2 {
            move_head(&acme, LONG_GAP).await;
        }
        position = acme.record(events).await.position;
        if step == STEPS / 3 {
            metrics.read_to(position).await;
            move_head(&acme, 7).await;
            metrics.read_to(position + 7).await;
            move_head(&acme, -7).await;
            metrics.read_to(position).await;
        } else if random.random_ratio(1, 4) {
            metrics.read_to(position).await;
        }
    }
    metrics.read_to(position).await;

    let history = acme.viewer().query("{ alertHistory(first: 100) { totalCount nodes { id } } }").await;
    let reported: Vec<&Value> = history["alertHistory"]["nodes"].as_array().expect("a list").iter().rev().collect();
    assert!((4..100).contains(&reported.len()), "seed {seed}: {}", reported.len());
    for alert in reported {
        assert_eq!(alerts.next("1").await["data"]["alertTriggered"], *alert, "seed {seed}");
    }
    change_head(&acme, "last_alert_no = 0").await;
    assert_eq!(alerts.next("1").await["errors"][0]["extensions"]["code"], "RESUME_GAP", "seed {seed}");
    server.stop().await;
}

#[tokio::test]
async fn whatever_becomes_of_batches_states_are_right_and_alerts_complete() {
    futures_util::future::join_all((0..4).map(follow)).await;
}
