//! Queries over HTTP beside pgbench with the same SQL, and beside a handler that returns the same bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use salespulse::app::App;
use salespulse::auth::Role;
use salespulse::auth::token::Subject;
use salespulse::ledger::memory::Memory;
use salespulse::ledger::rollup::days::DaySums;
use salespulse::server::{Options, router};
use salespulse::tenancy::CreatedTenant;
use sea_orm::Statement;
use serde_json::json;

use crate::http::{Load, load};
use crate::ingest::{Recording, Times};
use crate::pgbench::pgbench;
use crate::report::{Report, ratio};

pub const DAYS: &str = "{ salesMetrics(period: { preset: LAST_90_DAYS }) { totalRevenue grossRevenue refunds ordersCount unitsSold \
    avgOrderValue currency asOf { position } series(grain: DAY, by: CHANNEL) { start key { value } totalRevenue ordersCount } } }";
pub const TOTALS: &str = "{ salesMetrics(period: { preset: LAST_90_DAYS }) { totalRevenue ordersCount avgOrderValue \
    series(grain: DAY) { start totalRevenue ordersCount } } }";
const CUSTOMERS: &str = include_str!("../../tests/operations/customers.graphql");

pub struct Bench<'a> {
    pub app: &'a App,
    pub tenant: &'a CreatedTenant,
    pub url: &'a str,
    pub recording: &'a Recording,
    pub times: Option<&'a Times>,
    pub length: Duration,
    pub served: Served,
}

/// A server of the application, and who asks it.
pub struct Served {
    address: SocketAddr,
    token: String,
    /// Makes each request another one.
    number: AtomicU64,
}

/// The application without sums of days in its memory, so that the database adds them up.
pub fn unaided(app: &App) -> App {
    App { memory: Memory { days: DaySums::limited(1), ..Memory::default() }, ..app.clone() }
}

impl Served {
    pub async fn of(app: &App, tenant: &CreatedTenant) -> Served {
        let address = serve(router(app.clone(), &Options::default())).await;
        Served { address, token: token(app, tenant), number: AtomicU64::new(1) }
    }

    /// New queries for `length`.
    pub async fn fresh(&self, query: &'static str, clients: u64, length: Duration) -> Load {
        let first = self.number.fetch_add(1 << 32, Ordering::Relaxed);
        load(self.address, "/graphql", &self.token, clients, length, move |n| body(query, first + n)).await
    }
}

impl Bench<'_> {
    /// Single events that happen now, over HTTP.
    pub async fn record(&self, name: &str) {
        let columns = ["what", "events/s", "p50 ms", "p95 ms"];
        let mut report = Report::begin(&format!("{name}: recording over HTTP"), &columns);
        let now = self.app.clock.now().to_utc().expect("a time").to_rfc3339();
        let load =
            load(self.served.address, "/graphql", &self.served.token, 64, self.length, move |n| sale(n, &now)).await;
        let millis = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        let row = ["single events, 64 connections".to_owned(), format!("{:.0}", load.per_sec)];
        report.row(&[&row[..], &[millis(load.p50), millis(load.p95)]].concat());
    }

    pub async fn run(&self, report: &mut Report) {
        let (address, token) = (self.served.address, &self.served.token);
        let unaided = Served::of(&unaided(self.app), self.tenant).await;
        for (name, query) in [("90 days by channel", DAYS), ("90 days", TOTALS), ("50 customers", CUSTOMERS)] {
            let bytes = crate::http::answer(address, "/graphql", token, &body(query, 0)).await;
            let statements = self.statements(query, &unaided).await;
            let plain =
                serve(Router::new().route("/graphql", post(move |_: axum::body::Bytes| async move { bytes }))).await;
            for clients in [1, 32] {
                let before = self.app.db.statements();
                let fresh = self.served.fresh(query, clients, self.length).await;
                let after = self.app.db.statements();
                if let Some(times) = self.times {
                    println!("{name}, {clients} clients");
                    times.print();
                }
                let requests = fresh.per_sec * self.length.as_secs_f64();
                let transactions = (after.transactions - before.transactions) as f64 / requests;
                let by_database = unaided.fresh(query, clients, self.length).await;
                let kept = self.kept(address, clients, query).await;
                let handler = self.kept(plain, clients, query).await;
                let secs = self.length.as_secs();
                let limit = self
                    .url
                    .starts_with("postgres")
                    .then(|| pgbench(self.url, self.tenant.id, &statements, clients, secs))
                    .flatten();
                report.row(&[
                    format!("{name}, {clients} clients"),
                    describe(&fresh),
                    limit.map_or("–".into(), |limit| format!("{limit:.0}/s")),
                    ratio(fresh.per_sec, limit),
                    format!("{transactions:.1}"),
                    describe(&by_database),
                    ratio(by_database.per_sec, limit),
                    describe(&kept),
                    format!("{:.0}/s", handler.per_sec),
                    ratio(kept.per_sec, Some(handler.per_sec)),
                ]);
            }
        }
    }

    async fn kept(&self, address: SocketAddr, clients: u64, query: &'static str) -> Load {
        load(address, "/graphql", &self.served.token, clients, self.length, move |_| body(query, 0)).await
    }

    /// The statements of one request that neither answer nor sums are kept for; those on rollups alone where there are some.
    async fn statements(&self, query: &'static str, unaided: &Served) -> Vec<Statement> {
        let ask =
            async |number| crate::http::answer(unaided.address, "/graphql", &unaided.token, &body(query, number)).await;
        ask(0).await;
        self.recording.start();
        ask(1).await;
        let all = self.recording.stop();
        let on_rollups: Vec<Statement> = all.iter().filter(|s| s.sql.contains("sales_metrics")).cloned().collect();
        if on_rollups.is_empty() { all } else { on_rollups }
    }
}

/// A request; another `number` makes it another request with the same meaning.
fn body(query: &str, number: u64) -> String {
    json!({ "query": query, "extensions": { "number": format!("{number:020}") } }).to_string()
}

/// A request that records a sale.
fn sale(number: u64, now: &str) -> String {
    let query = "mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events) { results { outcome } } }";
    let line = json!({ "productId": format!("p{}", number % 200), "amount": "20.00" });
    let order = json!({ "orderId": format!("live-{number}"), "channel": "web", "customer": { "id": format!("c{}", number % 20_000) }, "lines": [line] });
    let event = json!({ "eventId": format!("live-{number}"), "occurredAt": now, "orderPlaced": order });
    json!({ "query": query, "variables": { "events": [event] } }).to_string()
}

fn token(app: &App, tenant: &CreatedTenant) -> String {
    let (role, user_id) = tenant.users.iter().find(|(role, _)| *role == Role::Manager).expect("a manager");
    let subject = Subject { tenant: tenant.id, user_id: *user_id, role: *role, session: None };
    app.tokens.mint(&subject, app.clock.now(), 3600).expect("a token")
}

fn describe(load: &Load) -> String {
    format!(
        "{:.0}/s, p50 {:.2} ms, p95 {:.2} ms",
        load.per_sec,
        load.p50.as_secs_f64() * 1e3,
        load.p95.as_secs_f64() * 1e3
    )
}

/// Serves on a free port until the program ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
