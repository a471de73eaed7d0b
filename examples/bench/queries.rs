//! Queries over HTTP beside pgbench with the same SQL, and beside a handler that returns the same bytes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use salespulse::app::App;
use salespulse::auth::Role;
use salespulse::auth::token::Subject;
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
}

impl Bench<'_> {
    pub async fn run(&self, report: &mut Report) {
        let token = self.token();
        let address = serve(router(self.app.clone(), &Options::default())).await;
        for (name, query) in [("90 days by channel", DAYS), ("90 days", TOTALS), ("50 customers", CUSTOMERS)] {
            let bytes = self.answer(address, &token, query).await;
            let statements = self.statements(address, &token, query).await;
            let plain =
                serve(Router::new().route("/graphql", post(move |_: axum::body::Bytes| async move { bytes }))).await;
            for clients in [1, 32] {
                let before = self.app.db.statements();
                let fresh = self.load(address, &token, clients, query, true).await;
                let after = self.app.db.statements();
                if let Some(times) = self.times {
                    println!("{name}, {clients} clients");
                    times.print();
                }
                let requests = fresh.per_sec * self.length.as_secs_f64();
                let transactions = (after.transactions - before.transactions) as f64 / requests;
                let kept = self.load(address, &token, clients, query, false).await;
                let handler = self.load(plain, &token, clients, query, false).await;
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
                    describe(&kept),
                    format!("{:.0}/s", handler.per_sec),
                    ratio(kept.per_sec, Some(handler.per_sec)),
                ]);
            }
        }
    }

    fn token(&self) -> String {
        let (role, user_id) = self.tenant.users.iter().find(|(role, _)| *role == Role::Manager).expect("a manager");
        let now = self.app.clock.now();
        let subject = Subject { tenant: self.tenant.id, user_id: *user_id, role: *role, session: None };
        self.app.tokens.mint(&subject, now, 3600).expect("a token")
    }

    async fn load(&self, address: SocketAddr, token: &str, clients: u64, query: &'static str, is_fresh: bool) -> Load {
        load(address, "/graphql", token, clients, self.length, move |n| body(query, if is_fresh { n + 1 } else { 0 }))
            .await
    }

    async fn answer(&self, address: SocketAddr, token: &str, query: &'static str) -> Vec<u8> {
        crate::http::answer(address, "/graphql", token, &body(query, 0)).await
    }

    /// The statements of one request that is not kept; those on rollups alone where there are some.
    async fn statements(&self, address: SocketAddr, token: &str, query: &'static str) -> Vec<Statement> {
        self.recording.start();
        crate::http::answer(address, "/graphql", token, &body(query, u64::MAX)).await;
        let all = self.recording.stop();
        let on_rollups: Vec<Statement> = all.iter().filter(|s| s.sql.contains("sales_metrics")).cloned().collect();
        if on_rollups.is_empty() { all } else { on_rollups }
    }
}

/// A request; another `number` makes it another request with the same meaning.
fn body(query: &str, number: u64) -> String {
    json!({ "query": query, "extensions": { "number": format!("{number:020}") } }).to_string()
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
