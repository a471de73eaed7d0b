//! `make bench-live`: how long from an event's acknowledgement to its update in every client, beside a plain broadcast of
//! frames of the same size by the same WebSocket library in the same run.
//!
//! Arguments: `--sockets N[,N…]` (default 1,1000,10000), `--events N` (default 20), `--pause MS` between events (default
//! 500). Two processes over Redis are measured where `TEST_DATABASE_URL`, `TEST_OWNER_URL` and `TEST_REDIS_URL` are set.
//! At the end, 1,000 sockets (or as many as `--sockets` says at most) watch a period of more and more events.
//!
//! Instead of all this, `--history N[,N…]` measures only the last, with so many events; `--abuse`, what 1,000 sockets see
//! while one client abuses the server; `--revoke`, how long sockets stay open whose user is sent off.
//!
//! The server, the broadcasting peer and the clients are processes of one machine and share its cores. `peer` as the only
//! argument is the peer itself.

mod abuse;
mod clients;
mod history;
#[path = "../bench/http.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod http;
mod peer;
mod process;
#[path = "../bench/report.rs"]
mod report;
mod revoke;

use std::time::Duration;

use clients::{DOCUMENTS, Run, Setting};
use process::{Database, Servers};
use report::{Report, ratio};

struct Arguments {
    sockets: Vec<usize>,
    events: usize,
    pause: Duration,
    /// How many events there are before, where only that is measured.
    history: Option<Vec<usize>>,
    abuse: bool,
    revoke: bool,
}

fn arguments() -> Arguments {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| all.iter().position(|argument| argument == name).and_then(|at| all.get(at + 1));
    let number = |name: &str, default: u64| value(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let numbers = |list: &str| list.split(',').filter_map(|n| n.parse().ok()).collect::<Vec<usize>>();
    Arguments {
        sockets: numbers(value("--sockets").map_or("1,1000,10000", String::as_str)),
        events: usize::try_from(number("--events", 20)).expect("small"),
        pause: Duration::from_millis(number("--pause", 500)),
        history: value("--history").map(|list| numbers(list)),
        abuse: all.iter().any(|argument| argument == "--abuse"),
        revoke: all.iter().any(|argument| argument == "--revoke"),
    }
}

#[tokio::main]
async fn main() {
    if std::env::args().nth(1).as_deref() == Some("peer") {
        peer::serve().await;
        return;
    }
    let arguments = arguments();
    let mut databases = vec![Database::sqlite()];
    databases.extend(Database::from_environment());
    if arguments.abuse {
        abuse::run(&databases[0], arguments.events, arguments.pause).await;
        return;
    }
    if arguments.revoke {
        for database in &databases {
            revoke::run(database).await;
        }
        return;
    }
    if let Some(counts) = &arguments.history {
        history::run(&databases[0], counts, &arguments).await;
        return;
    }
    for database in &databases {
        let plain = ["broadcast p50 ms", "p99 ms", "CPU µs", "p50 ratio", "p99 ratio", "CPU ratio"];
        let columns = [&["sockets", "connects/s", "KiB a socket"][..], &UPDATES, &plain].concat();
        let mut report = Report::begin(&format!("Live updates: {}", database.what), &columns);
        for (tenants, documents, what) in [(1, 1, "one tenant, one document"), (100, 3, "100 tenants, 3 documents")] {
            for sockets in &arguments.sockets {
                if *sockets < tenants {
                    continue;
                }
                let setting = Setting { tenants, documents: &DOCUMENTS[..documents], sockets: *sockets };
                let servers = Servers::start(database, tenants).await;
                let ours = clients::run(&servers, &setting, arguments.events, arguments.pause).await;
                drop(servers);
                let plain = peer::run(&setting, arguments.events, arguments.pause, ours.frame_bytes).await;
                report.row(&row(format!("{sockets}, {what}"), &ours, &plain));
            }
        }
    }
    history::run(&databases[0], &history::DEFAULT, &arguments).await;
}

/// The columns of [`updates`].
const UPDATES: [&str; 7] = ["p50 ms", "p95 ms", "p99 ms", "max ms", "lost", "repeated", "CPU µs a delivery"];

/// How the updates of a run came.
fn updates(run: &Run) -> Vec<String> {
    let mut cells: Vec<String> = [500, 950, 990, 1000].map(|per_mille| format!("{:.2}", ms(run, per_mille))).into();
    cells.extend([run.lost.to_string(), run.repeated.to_string(), format!("{:.1}", run.cpu_micros)]);
    cells
}

fn ms(run: &Run, per_mille: usize) -> f64 {
    run.latency(per_mille).as_secs_f64() * 1e3
}

fn row(what: String, ours: &Run, plain: &Run) -> Vec<String> {
    let mut cells = vec![what, format!("{:.0}", ours.connects_per_sec), format!("{:.1}", ours.kib_a_socket)];
    cells.extend(updates(ours));
    cells.extend([500, 990].map(|per_mille| format!("{:.2}", ms(plain, per_mille))));
    cells.push(format!("{:.1}", plain.cpu_micros));
    cells.push(ratio(ms(ours, 500), Some(ms(plain, 500))));
    cells.push(ratio(ms(ours, 990), Some(ms(plain, 990))));
    cells.push(ratio(ours.cpu_micros, Some(plain.cpu_micros)));
    cells
}
