//! What must be true after it all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use salespulse::db::{Column, Db, Table, TenantId, get};
use salespulse::ledger::fold::fold_tail;
use salespulse::ledger::tail::Tails;
use salespulse::ledger::verify::verify;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client;
use crate::processes::{Tenant, World};
use crate::subscribers::{METRICS, Seen};
use crate::writers::Acknowledged;

/// States that are compared with what the ledger says of their position.
const COMPARED: usize = 60;

pub struct Report {
    lines: Vec<String>,
    wrong: Vec<String>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.lines.join("\n"))?;
        for wrong in self.wrong.iter().take(20) {
            writeln!(f, "WRONG: {wrong}")?;
        }
        write!(f, "{} violations", self.wrong.len())
    }
}

pub async fn check(
    world: &World,
    seen: &Seen,
    acknowledged: &[Acknowledged],
    subscribers: usize,
    wait: Duration,
) -> Report {
    let db = Db::connect(&world.db_url, 4).await.expect("connected");
    let mut report = Report { lines: Vec::new(), wrong: Vec::new() };
    let mut heads = Vec::new();
    for (index, tenant) in world.tenants.iter().enumerate() {
        let head = db.head(tenant.id).await.expect("read").expect("a head").position;
        heads.push(head);
        check_ledger(&db, tenant.id, index, acknowledged, head, &mut report).await;
    }
    report.lines.push(format!("{} events acknowledged; positions {heads:?}", acknowledged.len()));

    // Everyone comes to the newest state.
    let deadline = Instant::now() + wait;
    let behind = || {
        let newest = seen.newest.lock().expect("a lock");
        newest.iter().filter(|(_, (tenant, position))| *position < heads[*tenant]).map(|(n, _)| *n).collect::<Vec<_>>()
    };
    while !behind().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let behind = behind();
    if !behind.is_empty() {
        report.wrong.push(format!("{} subscribers never came to the newest position: {behind:?}", behind.len()));
    }
    compare_states(world, seen, &mut report).await;
    compare_alerts(world, seen, deadline, &mut report).await;
    report.wrong.append(&mut seen.wrong.lock().expect("a lock"));
    let nameless = client::NAMELESS.load(Ordering::Relaxed);
    if nameless > 0 {
        report.wrong.push(format!("{nameless} answers with 5xx had no code"));
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    report.lines.push(format!(
        "{subscribers} subscribers: {} updates at {} different states, {} skipped and told so, {} reconnects, {} resets",
        count(&seen.updates),
        seen.states.lock().expect("a lock").len(),
        count(&seen.skipped),
        count(&seen.reconnects),
        count(&seen.resets),
    ));
    report
}

/// What was acknowledged is there, once, under its position; positions have no gap; rollups are sums.
async fn check_ledger(
    db: &Db,
    tenant: TenantId,
    index: usize,
    acknowledged: &[Acknowledged],
    head: i64,
    report: &mut Report,
) {
    let tx = db.read(tenant).await.expect("a snapshot");
    let own: Vec<&Acknowledged> = acknowledged.iter().filter(|a| a.tenant == index).collect();
    for part in own.chunks(1000) {
        let keys = Table::new().with("id", Column::Text(part.iter().map(|a| a.event_id.clone()).collect()));
        let sql = "SELECT e.event_id, e.position FROM {keys} {each ledger_events e: e.event_id = k.id}";
        let rows = tx.query_by_keys(sql, &keys).await.expect("read");
        let stored: HashMap<String, i64> =
            rows.iter().map(|row| (get(row, 0).expect("text"), get(row, 1).expect("a number"))).collect();
        for event in part {
            if stored.get(&event.event_id) != Some(&event.position) {
                let found = stored.get(&event.event_id);
                report
                    .wrong
                    .push(format!("{} was acknowledged at {}, stored {found:?}", event.event_id, event.position));
            }
        }
    }
    let row =
        tx.query_one("SELECT COUNT(*), COUNT(DISTINCT position) FROM ledger_events WHERE tenant_id = $1", []).await;
    let row = row.expect("read").expect("a row");
    let (events, positions): (i64, i64) = (get(&row, 0).expect("a number"), get(&row, 1).expect("a number"));
    if events != head || positions != head {
        report.wrong.push(format!("tenant {index}: {events} events at {positions} positions, head {head}"));
    }
    drop(tx);
    for is_folded in [false, true] {
        if is_folded {
            fold_tail(db, &Tails::default(), tenant).await.expect("folded");
        }
        let differences = verify(db, tenant).await.expect("verified").differences;
        report.wrong.extend(differences.iter().map(|difference| format!("tenant {index}: {difference:?}")));
    }
}

/// What was seen at a position is what the ledger says of it.
async fn compare_states(world: &World, seen: &Seen, report: &mut Report) {
    let states: BTreeMap<_, _> = seen.states.lock().expect("a lock").clone().into_iter().collect();
    let step = (states.len() / COMPARED).max(1);
    let query = format!(
        "query ($period: DateRange!, $at: Position) {{
            salesMetrics(period: $period, asOf: $at) {{ asOf {{ position }} {METRICS} }} }}"
    );
    let mut compared = 0;
    for ((tenant, position, _), state) in states.into_iter().step_by(step) {
        let variables = json!({ "period": state["period"], "at": position.to_string() });
        let token = &world.tenants[tenant].token;
        let answer = client::post(world.servers[0].address, token, &query, variables).await;
        let exact = answer.map(|answer| answer["salesMetrics"].clone());
        if exact.as_ref() != Some(&state) {
            report.wrong.push(format!("tenant {tenant} at {position}: seen {state}, is {exact:?}"));
        }
        compared += 1;
    }
    report.lines.push(format!("{compared} states compared with the ledger as of their positions"));
}

/// Each subscriber of alerts saw all of them.
async fn compare_alerts(world: &World, seen: &Seen, deadline: Instant, report: &mut Report) {
    let mut logs = Vec::new();
    for tenant in &world.tenants {
        logs.push(list_alerts(world, tenant).await);
    }
    let missing = || {
        let alerts = seen.alerts.lock().expect("a lock");
        let missed = |(n, (tenant, seen)): (&usize, &(usize, BTreeSet<String>))| {
            let log = &logs[*tenant];
            let missed = log.iter().filter(|id| !seen.contains(*id)).count();
            (missed > 0).then(|| format!("subscriber {n} missed {missed} alerts of {}", log.len()))
        };
        alerts.iter().filter_map(missed).collect::<Vec<_>>()
    };
    while !missing().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report.wrong.extend(missing());
    let followers = seen.alerts.lock().expect("a lock").len();
    let counts: Vec<usize> = logs.iter().map(Vec::len).collect();
    report.lines.push(format!("alerts logged {counts:?}, followed by {followers}"));
}

/// The ids of all alerts of a tenant.
async fn list_alerts(world: &World, tenant: &Tenant) -> Vec<String> {
    let query = "query ($after: String) { alertHistory(first: 100, after: $after) {
        nodes { id } pageInfo { hasNextPage endCursor } } }";
    let (mut ids, mut after) = (Vec::new(), Value::Null);
    loop {
        let answer = client::post(world.servers[0].address, &tenant.token, query, json!({ "after": after })).await;
        let page = answer.expect("a history")["alertHistory"].take();
        let nodes = page["nodes"].as_array().expect("a list");
        ids.extend(nodes.iter().map(|node| node["id"].as_str().expect("an id").to_owned()));
        if page["pageInfo"]["hasNextPage"] != true {
            return ids;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}
