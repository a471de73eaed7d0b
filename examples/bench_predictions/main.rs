//! `make bench-predictions`: the nightly refits of many tenants, forecasts and customers' models, and what queries notice of
//! them, between phases in which nothing is refitted; and what a forecast by the hour takes, from the request to its answer.
//!
//! Arguments: `--tenants N` (default 1000), `--days N` of history each (default 730), `--threads N` of the pool (default half
//! the cores). The database is the one of `TEST_DATABASE_URL`, whose owner is that of `TEST_OWNER_URL`, else a file of SQLite.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use migration::{Migrator, MigratorTrait};
use models::forecasts::{Model, WINDOW_MAX};
use salespulse::app::App;
use salespulse::audit::By;
use salespulse::auth::token::Tokens;
use salespulse::auth::{Caller, Role, Through};
use salespulse::clock::{DAY, MINUTE, SystemClock, Timestamp};
use salespulse::customer_value;
use salespulse::db::{Db, Owner};
use salespulse::graphql::documents::Documents;
use salespulse::graphql::endpoint::Requester;
use salespulse::graphql::executor::Executor;
use salespulse::graphql::params::Params;
use salespulse::graphql::scalars::DateTime;
use salespulse::graphql::size::Size;
use salespulse::ledger::event::{Customer, Event, Fact, OrderPlaced};
use salespulse::metrics::answer::answer;
use salespulse::metrics::catalog::Metric;
use salespulse::metrics::history::{HistoryArgs, HistoryPlan};
use salespulse::metrics::input::{DateRange, Grain, Weekday};
use salespulse::metrics::measured::Measured;
use salespulse::metrics::plan::Plan;
use salespulse::money::{Money, SCALE};
use salespulse::predictions::Predictions;
use salespulse::predictions::forecasts::{Question, forecast};
use salespulse::predictions::kept::WaitPolicy;
use salespulse::predictions::pool::Pool;
use salespulse::sealing::kek::LocalKek;
use salespulse::tenancy::{CreatedTenant, NewTenant, create_tenant};
use tokio_util::sync::CancellationToken;

/// Refits that are under way: they wait for the pool, not for a connection.
const REFITS: usize = 8;
/// Queries that are under way, and the pause from the beginning of one to that of the next.
const CLIENTS: usize = 4;
const EVERY: Duration = Duration::from_millis(20);
const CALM: Duration = Duration::from_secs(15);
/// Customers of a tenant.
const CUSTOMERS: usize = 150;
/// What is asked meanwhile.
const DAYS: &str =
    "{ salesMetrics(period: { preset: LAST_90_DAYS }) { totalRevenue series(grain: DAY) { start totalRevenue } } }";
/// Orders of the tenant whose hours are forecast, and how often they are.
const ORDERS_AN_HOUR: usize = 12;
const HOURS_RUNS: usize = 11;
const HOUR: i64 = 60 * MINUTE;
const KEK: &str = "dGhlIGtleS1lbmNyeXB0aW9uIGtleSBvZiB0ZXN0cyE=";

#[tokio::main]
async fn main() {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = all.iter().position(|argument| argument == name);
        at.and_then(|at| all.get(at + 1)?.parse::<usize>().ok())
    };
    let (tenants, days) = (number("--tenants").unwrap_or(1_000), number("--days").unwrap_or(730));
    let pool = number("--threads").and_then(NonZeroUsize::new).map_or_else(Pool::default, Pool::new);
    let folder = std::env::temp_dir().join(format!("salespulse-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = format!("sqlite://{}", folder.join("bench.db").display());
    #[expect(clippy::disallowed_methods, reason = "the one setting of the benchmark")]
    let url = |name: &str| std::env::var(name).unwrap_or_else(|_| file.clone());
    let owner = Owner::connect(&url("TEST_OWNER_URL")).await.expect("connected");
    Migrator::up(owner.connection(), None).await.expect("migrated");
    let db = Db::connect(&url("TEST_DATABASE_URL"), 16).await.expect("connected");
    let events = salespulse::stream::connect(None).await.expect("a stream");
    let kek = Arc::new(LocalKek::from_texts([KEK]).expect("a key"));
    let tokens = Tokens::new("a secret of the benchmark, long", "salespulse");
    let app = App::new(db, Arc::new(SystemClock), events, tokens, kek);
    let app = App { predictions: Predictions::new(pool), ..app };
    let tenants = Arc::new(load(&app, tenants, days).await);

    println!("{} tenants of {days} days\n", tenants.len());
    println!("| queries | s | number | p50 ms | p95 ms |\n|---|---|---|---|---|");
    let phase = async |when: &str, work: Pin<Box<dyn Future<Output = ()> + '_>>| {
        let began = Instant::now();
        let times = queries_until(&app, &tenants, work).await;
        let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
        let took = began.elapsed().as_secs_f64();
        println!("| {when} | {took:.1} | {} | {:.2} | {:.2} |", times.len(), at(0.5), at(0.95));
    };
    phase("alone", Box::pin(tokio::time::sleep(CALM))).await;
    phase("while forecasts are fitted (AUTO, 28 days ahead)", Box::pin(refit_all(&app, &tenants))).await;
    phase("alone", Box::pin(tokio::time::sleep(CALM))).await;
    let customers = async { customer_value::refit_due(&app).await.expect("fitted") };
    phase(&format!("while models of {CUSTOMERS} customers each are fitted"), Box::pin(customers)).await;
    phase("alone", Box::pin(tokio::time::sleep(CALM))).await;
    by_the_hour(&app).await;
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// What forecasts by the hour take that learn from the longest history, while nothing else is asked: of a tenant with an order
/// each five minutes, from rollups and, as of an earlier position, from entries.
async fn by_the_hour(app: &App) {
    let now = app.clock.now();
    let new = NewTenant { slug: "bench-hours", name: "bench-hours", timezone: chrono_tz::UTC, currency: "EUR" };
    let tenant = create_tenant(&app.db, &new, now).await.expect("a tenant");
    // Two more hours: the current one is left out, and the first may be a part.
    let orders = (WINDOW_MAX + 2) * ORDERS_AN_HOUR;
    let event = |n: usize| {
        let hour = n / ORDERS_AN_HOUR;
        let placed = OrderPlaced {
            order_id: n.to_string(),
            version: 1,
            amount: Some(Money(i64::try_from(20 + hour % 24 + n * 7_919 % 17).expect("small") * SCALE)),
            ..OrderPlaced::default()
        };
        let ago = i64::try_from(orders - n).expect("small") * (HOUR / i64::try_from(ORDERS_AN_HOUR).expect("small"));
        Event {
            event_id: n.to_string(),
            occurred_at: Timestamp(now.0 - ago),
            organization: None,
            fact: Fact::OrderPlaced(placed),
        }
    };
    for orders in (0..orders).collect::<Vec<_>>().chunks(1_000) {
        app.ledger
            .record(tenant.id, By::default(), orders.iter().copied().map(event).collect(), true)
            .await
            .expect("recorded");
    }
    app.ledger.fold(tenant.id).await.expect("folded");
    let executor = Executor::new(salespulse::schema::build(app.clone()), app.tokens.cursors(), Documents::default());
    println!(
        "\n| forecast of {WINDOW_MAX} hours by AUTO, {HOURS_RUNS} of each | history, median ms | history and fit, median ms |"
    );
    println!("|---|---|---|");
    let earlier = format!(", asOf: \"{}\"", orders - 1);
    // Of another horizon there is no fit yet; of the same one there is.
    for (state, as_of, first) in [("newest", "", 24), ("as of an earlier position", &earlier, 24 + HOURS_RUNS)] {
        let ask = async |horizon: usize| {
            let text = format!(
                "{{ salesMetrics(period: {{ preset: LAST_7_DAYS }}{as_of}) {{ \
                 forecast(grain: HOUR, horizon: {horizon}) {{ training {{ buckets }} points {{ value }} }} }} }}"
            );
            let began = Instant::now();
            query(&executor, &tenant, &text).await;
            began.elapsed().as_secs_f64() * 1e3
        };
        let (mut fitted, mut kept) = (Vec::new(), Vec::new());
        // The first reads what is read only once, such as the names.
        ask(1).await;
        for horizon in first..first + HOURS_RUNS {
            fitted.push(ask(horizon).await);
            kept.push(ask(horizon).await);
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        println!("| {state} | {:.1} | {:.1} |", median(&mut kept), median(&mut fitted));
    }
}

/// Tenants with an order a day, more of it on some days of the week, and folded.
async fn load(app: &App, tenants: usize, days: usize) -> Vec<CreatedTenant> {
    let (now, began) = (app.clock.now(), Instant::now());
    let mut created = Vec::with_capacity(tenants);
    for n in 0..tenants {
        let slug = format!("bench-{n}");
        let new = NewTenant { slug: &slug, name: &slug, timezone: chrono_tz::UTC, currency: "EUR" };
        let tenant = create_tenant(&app.db, &new, now).await.expect("a tenant");
        let event = |day: usize| {
            let noise = i64::try_from((day * 7_919 + n * 104_729) % 97).expect("small");
            let amount =
                500 + 40 * i64::try_from(day % 7).expect("small") + noise + i64::try_from(day / 10).expect("small");
            let placed = OrderPlaced {
                order_id: day.to_string(),
                version: 1,
                amount: Some(Money(amount * SCALE)),
                customer: Some(Customer { id: (day * 7_919 % CUSTOMERS).to_string(), ..Customer::default() }),
                ..OrderPlaced::default()
            };
            let ago = i64::try_from(days - day).expect("small") * DAY;
            Event {
                event_id: day.to_string(),
                occurred_at: Timestamp(now.0 - ago),
                organization: None,
                fact: Fact::OrderPlaced(placed),
            }
        };
        app.ledger.record(tenant.id, By::default(), (0..days).map(event).collect(), true).await.expect("recorded");
        app.ledger.fold(tenant.id).await.expect("folded");
        created.push(tenant);
    }
    eprintln!("loaded in {:.0} s", began.elapsed().as_secs_f64());
    created
}

/// What each tenant's subscription does when a day is over: reads the history anew, and waits for its forecast.
async fn refit_all(app: &App, tenants: &[CreatedTenant]) {
    let refit = async |tenant: &CreatedTenant| {
        let args = HistoryArgs {
            grain: Grain::Day,
            timezone: None,
            week_start: Weekday::Monday,
            window: WINDOW_MAX,
            covers_period: false,
            kpis: BTreeSet::new(),
        };
        let needs = Metric::TotalRevenue.needs();
        let now = app.clock.now();
        let period = DateRange {
            start: Some(DateTime(Timestamp(now.0 - DAY))),
            end: Some(DateTime(now)),
            ..DateRange::default()
        };
        let history = HistoryPlan { args, needs };
        let plan = Plan { period, histories: vec![history], ..Plan::default() };
        let tx = app.db.read(tenant.id).await.expect("a snapshot");
        let read = answer(&tx, &app.memory, &plan, now, &Size::default()).await.expect("read");
        drop(tx);
        let question = Question {
            measured: Measured::Metric(Metric::TotalRevenue),
            grain: Grain::Day,
            horizon: 28,
            model: Model::Auto,
            level: 0.8,
            events: Vec::new(),
        };
        let history = read.histories[0].1.get().expect("a history");
        let forecasts = &app.predictions.forecasts;
        forecast(forecasts, tenant.id, history, question, WaitPolicy::Subscription).await.expect("fitted");
    };
    stream::iter(tenants).for_each_concurrent(REFITS, refit).await;
}

/// How long queries took until something ended, in order.
async fn queries_until(app: &App, tenants: &Arc<Vec<CreatedTenant>>, end: impl Future<Output = ()>) -> Vec<Duration> {
    let stop = CancellationToken::new();
    let executor = Executor::new(salespulse::schema::build(app.clone()), app.tokens.cursors(), Documents::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (executor, tenants, stop) = (executor.clone(), Arc::clone(tenants), stop.clone());
            tokio::spawn(async move {
                let (mut times, mut ticks) = (Vec::new(), tokio::time::interval(EVERY));
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while !stop.is_cancelled() {
                    ticks.tick().await;
                    let tenant = &tenants[(times.len() * CLIENTS + client) % tenants.len()];
                    let began = Instant::now();
                    query(&executor, tenant, DAYS).await;
                    times.push(began.elapsed());
                }
                times
            })
        })
        .collect();
    end.await;
    stop.cancel();
    let mut times: Vec<Duration> =
        join_all(clients).await.into_iter().flat_map(|times| times.expect("no panic")).collect();
    times.sort_unstable();
    times
}

async fn query(executor: &Executor, tenant: &CreatedTenant, text: &str) {
    let params = Params { query: Some(text.to_owned()), ..Params::default() };
    let (role, user_id) = tenant.users[0];
    let caller = Caller {
        tenant: tenant.id,
        user_id,
        role,
        permissions: Role::Viewer.permissions().to_vec(),
        expires_at_secs: i64::MAX,
        through: Through::Token { issued_at_secs: 0 },
    };
    let requester = Requester { caller: Some(Arc::new(caller)), client: Arc::default(), size: Arc::default() };
    let prepared = executor.prepare(params, requester.caller.as_deref()).expect("a good question");
    let (response, _) = executor.run(prepared, requester).await;
    assert!(response.errors.is_empty(), "{:?}", response.errors);
}
