//! `make bench-live`: how long from an event's acknowledgement to its update in every client, beside a plain broadcast of
//! frames of the same size by the same WebSocket library in the same run.
//!
//! Arguments: `--sockets N[,N…]` (default 1,1000,10000), `--events N` (default 20), `--pause MS` between events (default
//! 500); `--abuse` measures instead what 1,000 sockets see while one client abuses the server, `--revoke` how long sockets stay
//! open whose user is sent off. Two processes over Redis are measured where `TEST_DATABASE_URL`, `TEST_OWNER_URL` and `TEST_REDIS_URL` are set.
//!
//! The server, the broadcasting peer and the clients are processes of one machine and share its cores. `peer` as the only
//! argument is the peer itself.

mod abuse;
mod clients;
#[path = "../bench/http.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod http;
mod peer;
mod process;
#[path = "../bench/report.rs"]
mod report;
mod revoke;

use std::time::Duration;

use clients::{Run, Setting};
use process::{Database, Servers};
use report::{Report, ratio};

struct Arguments {
    sockets: Vec<usize>,
    events: usize,
    pause: Duration,
    abuse: bool,
    revoke: bool,
}

fn arguments() -> Arguments {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| all.iter().position(|argument| argument == name).and_then(|at| all.get(at + 1));
    let number = |name: &str, default: u64| value(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let sockets = value("--sockets").map_or("1,1000,10000", String::as_str);
    Arguments {
        sockets: sockets.split(',').filter_map(|n| n.parse().ok()).collect(),
        events: usize::try_from(number("--events", 20)).expect("small"),
        pause: Duration::from_millis(number("--pause", 500)),
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
    for database in &databases {
        let mut report = Report::begin(
            &format!("Live updates: {}", database.what),
            &[
                "sockets",
                "connects/s",
                "KiB a socket",
                "p50 ms",
                "p95 ms",
                "p99 ms",
                "max ms",
                "lost",
                "repeated",
                "CPU µs a delivery",
                "broadcast p50 ms",
                "p99 ms",
                "CPU µs",
                "p50 ratio",
                "p99 ratio",
                "CPU ratio",
            ],
        );
        for (tenants, documents, what) in [(1, 1, "one tenant, one document"), (100, 3, "100 tenants, 3 documents")] {
            for sockets in &arguments.sockets {
                if *sockets < tenants {
                    continue;
                }
                let setting = Setting { tenants, documents, sockets: *sockets };
                let servers = Servers::start(database, tenants).await;
                let ours = clients::run(&servers, &setting, arguments.events, arguments.pause).await;
                drop(servers);
                let plain = peer::run(&setting, arguments.events, arguments.pause, ours.frame_bytes).await;
                report.row(&row(what, *sockets, &ours, &plain));
            }
        }
    }
}

fn row(what: &str, sockets: usize, ours: &Run, plain: &Run) -> Vec<String> {
    let ms = |of: &Run, per_mille: usize| of.latency(per_mille).as_secs_f64() * 1e3;
    let times = |of: &Run, at: &[usize]| at.iter().map(|p| format!("{:.2}", ms(of, *p))).collect::<Vec<_>>();
    let mut cells = vec![
        format!("{sockets}, {what}"),
        format!("{:.0}", ours.connects_per_sec),
        format!("{:.1}", ours.kib_a_socket),
    ];
    cells.extend(times(ours, &[500, 950, 990, 1000]));
    cells.extend([ours.lost.to_string(), ours.repeated.to_string(), format!("{:.1}", ours.cpu_micros)]);
    cells.extend(times(plain, &[500, 990]));
    cells.push(format!("{:.1}", plain.cpu_micros));
    cells.push(ratio(ms(ours, 500), Some(ms(plain, 500))));
    cells.push(ratio(ms(ours, 990), Some(ms(plain, 990))));
    cells.push(ratio(ours.cpu_micros, Some(plain.cpu_micros)));
    cells
}
