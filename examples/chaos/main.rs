//! `make chaos`: real processes under load, killed, paused and restarted at random; then everything is checked.
//!
//! Two servers share one PostgreSQL and one Redis. Writers record events and try again what was not acknowledged, at whatever
//! server answers; subscribers come back with their cursors. Meanwhile faults of a seed: kill -9 of a server, of PostgreSQL, of
//! Redis; FLUSHALL; a server or Redis stopped for a while; a server that is asked to end. At last the checks: what was
//! acknowledged is in the ledger under its position, positions have no gap, rollups are the sums of their entries; every
//! subscriber has come to the newest position, has never gone back unasked, and has seen at each position what every other saw
//! and what the ledger says of it; nobody was told the same twice; no alert was missed; every failure had a code.
//!
//! Arguments: `--seed N`, `--secs N` (default 60), `--writers N` (32), `--subscribers N` (500), `--pause SECS` for how long
//! something is stopped (5), `--gap SECS` for the longest time without a fault (3), `--batch N` for the most events of a request (4). It runs beside `tests/servers.sh`.

mod check;
mod client;
mod faults;
mod processes;
mod subscribers;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use processes::World;

/// The tenants that are written to.
const TENANTS: usize = 4;
/// How long the last updates are waited for.
const LAST_WAIT: Duration = Duration::from_secs(60);

struct Arguments {
    seed: u64,
    secs: u64,
    writers: usize,
    subscribers: usize,
    pause: Duration,
    gap_max: Duration,
    batch_max: u64,
}

fn arguments() -> Arguments {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = all.iter().position(|argument| argument == name);
        at.and_then(|at| all.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let count = |name: &str, default: u64| usize::try_from(number(name, default)).expect("small");
    Arguments {
        seed: number("--seed", rand::random::<u32>().into()),
        secs: number("--secs", 60),
        writers: count("--writers", 32),
        subscribers: count("--subscribers", 500),
        pause: Duration::from_secs(number("--pause", 5)),
        gap_max: Duration::from_secs(number("--gap", 3).max(1)),
        batch_max: number("--batch", 4),
    }
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments = arguments();
    println!(
        "seed {}, {} s, {} writers, {} subscribers",
        arguments.seed, arguments.secs, arguments.writers, arguments.subscribers
    );
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let world = Arc::new(World::start().await);
    let seen = Arc::new(subscribers::Seen::default());
    let (end_writing, end_watching) = (CancellationToken::new(), CancellationToken::new());
    let mut watching = Vec::new();
    for n in 0..arguments.subscribers {
        let (world, seen, end) = (Arc::clone(&world), Arc::clone(&seen), end_watching.clone());
        let random = StdRng::from_rng(&mut random);
        watching.push(tokio::spawn(async move {
            if n % 25 == 0 {
                subscribers::follow_alerts(&world, n, random, &seen, &end).await;
            } else {
                subscribers::watch_metrics(&world, n, random, &seen, &end).await;
            }
        }));
    }
    let mut writing = Vec::new();
    for n in 0..arguments.writers {
        let (world, end, random) = (Arc::clone(&world), end_writing.clone(), StdRng::from_rng(&mut random));
        writing.push(tokio::spawn(async move { writers::write(&world, n, arguments.batch_max, random, &end).await }));
    }
    let (length, gaps) = (Duration::from_secs(arguments.secs), (arguments.gap_max, arguments.pause));
    let done = faults::run(&world, &mut random, length, gaps).await;
    world.all_up().await;
    end_writing.cancel();
    let mut acknowledged = Vec::new();
    for writer in writing {
        acknowledged.extend(writer.await.expect("no panic"));
    }
    let report = check::check(&world, &seen, &acknowledged, watching.len(), LAST_WAIT).await;
    end_watching.cancel();
    for watcher in watching {
        watcher.await.expect("no panic");
    }
    println!("{}", done.join("\n"));
    println!("{report}");
    if report.is_good() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
