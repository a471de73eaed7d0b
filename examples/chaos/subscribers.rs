//! Subscribers: they note what they see, and come back with their cursors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::processes::World;

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What all subscribers saw.
#[derive(Default)]
pub struct Seen {
    /// The newest position of each subscriber of metrics, and its tenant.
    pub newest: Mutex<BTreeMap<usize, (usize, i64)>>,
    /// The numbers of a tenant at a position, by the beginning of their period.
    pub states: Mutex<HashMap<(usize, i64, String), Value>>,
    /// The alerts that each subscriber of alerts saw, and its tenant.
    pub alerts: Mutex<BTreeMap<usize, (usize, BTreeSet<String>)>>,
    pub updates: AtomicU64,
    pub skipped: AtomicU64,
    pub reconnects: AtomicU64,
    pub resets: AtomicU64,
    /// What should not be.
    pub wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn wrong(&self, what: String) {
        self.wrong.lock().expect("a lock").push(what);
    }
}

pub const METRICS: &str =
    "period { start end } totalRevenue grossRevenue refunds ordersCount uniqueCustomers newCustomers orderValueP50";

/// The period watched holds all that is written; some watch one that moves.
fn period(n: usize) -> Value {
    if n % 5 == 1 {
        return json!({ "preset": "LAST_7_DAYS" });
    }
    json!({ "start": "2020-01-01T00:00:00Z", "end": "2090-01-01T00:00:00Z" })
}

pub async fn watch_metrics(world: &World, n: usize, mut random: StdRng, seen: &Seen, end: &CancellationToken) {
    let tenant = n % world.tenants.len();
    let (id, token) = (world.tenants[tenant].id.0.to_string(), &world.tenants[tenant].token);
    let query = format!(
        "subscription ($tenant: ID!, $period: DateRange, $after: Cursor) {{
            metricsUpdated(tenantId: $tenant, period: $period, after: $after) {{ asOf {{ position }} {METRICS} }} }}"
    );
    seen.newest.lock().expect("a lock").insert(n, (tenant, -1));
    let mut cursor = Value::Null;
    while !end.is_cancelled() {
        let server = &world.servers[random.random_range(0..2)];
        let variables = json!({ "tenant": id, "period": period(n), "after": cursor });
        let Some(mut socket) = client::subscribe(server.address, token, &query, variables).await else {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        // Now and then a client goes by itself.
        let mut left = random.random_range(20..400);
        while left > 0 {
            let answer = tokio::select! {
                answer = client::next(&mut socket) => answer,
                () = end.cancelled() => return,
            };
            let Some(answer) = answer else { break };
            left -= 1;
            note(n, tenant, &answer, seen);
            let next = answer["extensions"]["cursor"].clone();
            if next == cursor {
                seen.wrong(format!("subscriber {n} was told the same twice: {answer}"));
            }
            cursor = next;
        }
        seen.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}

fn note(n: usize, tenant: usize, answer: &Value, seen: &Seen) {
    let metrics = &answer["data"]["metricsUpdated"];
    let Some(position) = metrics["asOf"]["position"].as_str().and_then(|position| position.parse().ok()) else {
        seen.wrong(format!("no update: {answer}"));
        return;
    };
    seen.updates.fetch_add(1, Ordering::Relaxed);
    seen.skipped.fetch_add(answer["extensions"]["skipped"].as_u64().unwrap_or(0), Ordering::Relaxed);
    let is_reset = answer["extensions"]["reset"] == true;
    seen.resets.fetch_add(is_reset.into(), Ordering::Relaxed);
    let before = seen.newest.lock().expect("a lock").insert(n, (tenant, position));
    if let Some((_, before)) = before
        && position < before
        && !is_reset
    {
        seen.wrong(format!("subscriber {n} went back from {before} to {position}"));
    }
    let start = metrics["period"]["start"].as_str().unwrap_or_default().to_owned();
    let mut states = seen.states.lock().expect("a lock");
    let state = states.entry((tenant, position, start)).or_insert_with(|| metrics.clone());
    if state != metrics {
        let message = format!("tenant {tenant} at {position}: {state} and {metrics}");
        drop(states);
        seen.wrong(message);
    }
}

pub async fn follow_alerts(world: &World, n: usize, mut random: StdRng, seen: &Seen, end: &CancellationToken) {
    let tenant = n / 25 % world.tenants.len();
    let (id, token) = (world.tenants[tenant].id.0.to_string(), &world.tenants[tenant].token);
    let query =
        "subscription ($tenant: ID!, $after: Cursor) { alertTriggered(tenantId: $tenant, after: $after) { id } }";
    seen.alerts.lock().expect("a lock").insert(n, (tenant, BTreeSet::new()));
    let mut cursor = world.tenants[tenant].alert_cursor.clone();
    while !end.is_cancelled() {
        let server = &world.servers[random.random_range(0..2)];
        let variables = json!({ "tenant": id, "after": cursor });
        let Some(mut socket) = client::subscribe(server.address, token, query, variables).await else {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        let mut left = random.random_range(3..20);
        while left > 0 {
            let answer = tokio::select! {
                answer = client::next(&mut socket) => answer,
                () = end.cancelled() => return,
            };
            let Some(answer) = answer else { break };
            left -= 1;
            let Some(alert) = answer["data"]["alertTriggered"]["id"].as_str() else {
                seen.wrong(format!("no alert: {answer}"));
                continue;
            };
            let mut alerts = seen.alerts.lock().expect("a lock");
            let is_new = alerts.entry(n).or_insert_with(|| (tenant, BTreeSet::new())).1.insert(alert.to_owned());
            drop(alerts);
            if !is_new {
                seen.wrong(format!("subscriber {n} was given an alert twice: {answer}"));
            }
            cursor = answer["extensions"]["cursor"].clone();
        }
        seen.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}
