//! `make bench`: what SalesPulse does per second, each number beside a limit measured in the same run.
//!
//! Arguments: `--events N` (default 1000000), `--secs N` for each load of queries (default 5), `--sqlite` or
//! `--postgres` for one database alone, `--times` to see how long which statements took, `--without-wall` to record without
//! row-level security, `--without-persons` for customers of whom nothing but an id is known. PostgreSQL is the one of `TEST_DATABASE_URL`, whose owner is that of `TEST_OWNER_URL`.

mod events;
mod guards;
mod http;
mod ingest;
mod memory;
mod pgbench;
mod queries;
mod report;
mod wall;

use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use salespulse::app::App;
use salespulse::auth::keys::NamedKey;
use salespulse::auth::token::Tokens;
use salespulse::clock::SystemClock;
use salespulse::db::{Db, Owner};
use salespulse::sealing::kek::LocalKek;
use salespulse::tenancy::{CreatedTenant, NewTenant, create_tenant};

use self::events::Sales;
use self::ingest::{Recording, Times, copy, ingest, replay};
use self::report::{Report, ratio};

/// 32 bytes in base64.
const KEK: &str = "dGhlIGtleS1lbmNyeXB0aW9uIGtleSBvZiB0ZXN0cyE=";

struct Arguments {
    events: u64,
    secs: u64,
    sqlite: bool,
    postgres: bool,
    times: bool,
    without_wall: bool,
    without_persons: bool,
}

fn arguments() -> Arguments {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = all.iter().position(|argument| argument == name);
        at.and_then(|at| all.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let has = |name: &str| all.iter().any(|argument| argument == name);
    let (sqlite, postgres) = (has("--sqlite"), has("--postgres"));
    Arguments {
        events: number("--events", 1_000_000),
        secs: number("--secs", 5),
        sqlite: sqlite || !postgres,
        postgres: postgres || !sqlite,
        times: has("--times"),
        without_wall: has("--without-wall"),
        without_persons: has("--without-persons"),
    }
}

#[tokio::main]
async fn main() {
    let arguments = arguments();
    if arguments.postgres {
        #[expect(clippy::disallowed_methods, reason = "the one setting of the benchmark")]
        match (std::env::var("TEST_DATABASE_URL"), std::env::var("TEST_OWNER_URL")) {
            (Ok(server), Ok(owner)) => bench(&Urls { server, owner }, "PostgreSQL", &arguments).await,
            _ => eprintln!("no TEST_DATABASE_URL: run it by `make bench`"),
        }
    }
    if arguments.sqlite {
        let folder = std::env::temp_dir().join(format!("salespulse-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let url = format!("sqlite://{}", folder.join("bench.db").display());
        bench(&Urls { server: url.clone(), owner: url }, "SQLite", &arguments).await;
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

/// The database as a server reaches it, and as its owner.
pub struct Urls {
    pub server: String,
    pub owner: String,
}

async fn bench(urls: &Urls, name: &str, arguments: &Arguments) {
    let owner = Owner::connect(&urls.owner).await.expect("connected");
    Migrator::up(owner.connection(), None).await.expect("migrated");
    if arguments.without_wall {
        wall::set(&owner, false).await;
    }
    let mut db = Db::connect(&urls.server, 16).await.expect("connected");
    let times = arguments.times.then(Times::default);
    let recording = Recording::of(&mut db, times.clone());
    let stream = salespulse::stream::connect(None).await.expect("a stream");
    let kek = Arc::new(LocalKek::from_texts([KEK]).expect("a key"));
    let app =
        App::new(db, Arc::new(SystemClock), stream, Tokens::with_keys(&[NamedKey::random()], None, "salespulse"), kek);

    let mut report = Report::begin(
        &format!("{name}: recording events"),
        &["what", "events/s", "the same statements bare", "ratio", "COPY of the ledger's rows", "ratio"],
    );
    let mut bulk = None;
    // The statements of some ten thousand events fit into memory; the bulk load is compared with COPY alone.
    for (what, batch, callers, part) in [
        ("bulk, 1000 a call, 8 at a time, as imports do", 1000, 8, 1),
        ("1000 a call, 1 caller", 1000, 1, 20),
        ("100 a call, 4 callers", 100, 4, 20),
        ("single events, 64 callers", 1, 64, 20),
    ] {
        let tenant = new_tenant(&app, &format!("bench-{batch}-{callers}")).await;
        let total = (arguments.events / part).max(1000);
        let is_bulk = part == 1;
        if !is_bulk {
            recording.start();
        }
        let sales = Sales { total, has_persons: !arguments.without_persons, end: app.clock.now() };
        let took = ingest(&app, tenant.id, sales, batch, callers, is_bulk).await;
        let per_sec = total as f64 / took.as_secs_f64();
        if let Some(times) = &times {
            println!("{what}: {:.0} ms", took.as_secs_f64() * 1e3);
            times.print();
        }
        let statements = recording.stop();
        let bare = if is_bulk {
            None
        } else {
            let empty = new_tenant(&app, &format!("bare-{batch}-{callers}")).await;
            Some(total as f64 / replay(&app.db, statements, empty.id).await.as_secs_f64())
        };
        let copied = if is_bulk && name == "PostgreSQL" { Some(copy(urls, tenant.id).await) } else { None };
        report.row(&[
            format!("{what}, {total} events"),
            format!("{per_sec:.0}"),
            bare.map_or("–".into(), |bare| format!("{bare:.0}")),
            ratio(per_sec, bare),
            copied.map_or("–".into(), |copied| format!("{copied:.0}")),
            ratio(per_sec, copied),
        ]);
        if is_bulk {
            bulk = Some(tenant);
        }
    }

    let Some(tenant) = bulk else { return };
    // What autovacuum does within a minute of such a load.
    let analyze = if name == "PostgreSQL" { "VACUUM ANALYZE" } else { "ANALYZE" };
    sea_orm::ConnectionTrait::execute_unprepared(owner.connection(), analyze).await.expect("analyzed");
    let mut report = Report::begin(
        &format!("{name}: queries over HTTP, {} events", arguments.events),
        &[
            "what",
            "new each time",
            "pgbench, same SQL",
            "ratio",
            "transactions",
            "without sums in memory",
            "ratio",
            "repeated",
            "plain handler",
            "ratio",
        ],
    );
    let length = Duration::from_secs(arguments.secs);
    let served = queries::Served::of(&app, &tenant).await;
    let (url, times) = (urls.server.as_str(), times.as_ref());
    let queries = queries::Bench { app: &app, tenant: &tenant, url, recording: &recording, times, length, served };
    queries.run(&mut report).await;
    if name == "PostgreSQL" && !arguments.without_wall {
        wall::report(&queries, &owner).await;
    }
    queries.record(name).await;
    guards::report(&app, &tenant, &urls.server, name).await;
    memory::report(&urls.server, name);
}

async fn new_tenant(app: &App, slug: &str) -> CreatedTenant {
    let new = NewTenant { slug, name: slug, timezone: chrono_tz::UTC, currency: "EUR" };
    let tenant = create_tenant(&app.db, &new, app.clock.now()).await.expect("a tenant");
    // Made once for a tenant, with its first customer.
    app.keys.get(tenant.id).await.expect("keys");
    tenant
}
