//! Whether updates cost more, the more events their period has.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clients::{self, Setting, ago, ask};
use crate::process::{Database, Process, Servers};
use crate::report::{Report, ratio};
use crate::{Arguments, UPDATES, ms, updates};

/// How many events there are before, by default.
pub const DEFAULT: [usize; 2] = [1_000, 100_000];
const SOCKETS_MAX: usize = 1_000;
/// Values of all kinds, of a period that has all the events.
const DOCUMENT: &str =
    "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: { preset: LAST_7_DAYS }) {
    asOf { position } totalRevenue ordersCount uniqueCustomers avgOrderValue series(grain: DAY) { start totalRevenue }
    breakdown(by: [CHANNEL]) { rows { key totalRevenue } } } }";
const RECORD: &str =
    "mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events, backfill: true) { position } }";
const COUNT: &str = "{ salesMetrics(period: { preset: LAST_7_DAYS }) { ordersCount } }";
const BATCH: usize = 1_000;
/// The days before now over which the events are spread.
const SPAN_MICROS: i64 = 6 * salespulse::clock::DAY;
const CHANNELS: [&str; 3] = ["web", "shop", "phone"];
/// How many of the events are of the same customer.
const EVENTS_OF_CUSTOMER: usize = 5;
/// A server that uses less of a core in a second is at rest: the events are folded, and nothing is fitted to them.
const REST_MAX: Duration = Duration::from_millis(50);
const REST_WAIT: Duration = Duration::from_secs(120);

pub async fn run(database: &Database, counts: &[usize], arguments: &Arguments) {
    let most = arguments.sockets.iter().max().copied().unwrap_or(SOCKETS_MAX);
    let setting = Setting { tenants: 1, documents: &[DOCUMENT], sockets: most.min(SOCKETS_MAX) };
    let columns = [&["events before"][..], &UPDATES, &["p99 to the first row", "CPU to the first row"]].concat();
    let title = format!("{} sockets that watch a period of many events: {}", setting.sockets, database.what);
    let mut report = Report::begin(&title, &columns);
    let mut first = None;
    for count in counts {
        let servers = Servers::start(database, 1).await;
        record(&servers, *count).await;
        let run = clients::run(&servers, &setting, arguments.events, arguments.pause).await;
        let measured = [ms(&run, 990), run.cpu_micros];
        let ratios = std::iter::zip(measured, *first.get_or_insert(measured)).map(|(of, limit)| ratio(of, Some(limit)));
        report.row(&[vec![count.to_string()], updates(&run), ratios.collect()].concat());
    }
}

/// Records so many sales of the last days, and waits until the server has nothing to do.
async fn record(servers: &Servers, count: usize) {
    let (process, token) = (&servers.processes[0], &servers.tenants[0].token);
    for start in (0..count).step_by(BATCH) {
        let events: Vec<Value> = (start..count.min(start + BATCH)).map(|n| sale(n, count)).collect();
        let answer = ask(process, token, RECORD, &json!({ "events": events })).await;
        assert!(answer["recordEvents"]["position"].is_string(), "{answer}");
    }
    let counted = ask(process, token, COUNT, &Value::Null).await;
    assert_eq!(counted["salesMetrics"]["ordersCount"], json!(count), "all are in the period");
    rest(process).await;
}

/// Sale `n` of `count`.
fn sale(n: usize, count: usize) -> Value {
    let before = SPAN_MICROS * i64::try_from(n).expect("small") / i64::try_from(count).expect("small");
    json!({ "eventId": format!("before-{n}"), "occurredAt": ago(before), "orderPlaced": {
        "orderId": format!("before-{n}"), "version": 1, "channel": CHANNELS[n % CHANNELS.len()], "amount": "10.00",
        "customer": { "id": format!("before-{}", n / EVENTS_OF_CUSTOMER) } } })
}

async fn rest(process: &Process) {
    let deadline = Instant::now() + REST_WAIT;
    loop {
        let before = process.cpu();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if process.cpu() - before < REST_MAX {
            return;
        }
        assert!(Instant::now() < deadline, "the server does not come to rest");
    }
}
