//! What guards a query, stage by stage, beside the query itself: all of it in one process, one after the other.

use std::time::{Duration, Instant};

use axum::http::{Request, header};
use salespulse::app::App;
use salespulse::auth::Role;
use salespulse::auth::token::Subject;
use salespulse::graphql::endpoint::{Endpoint, Settings};
use salespulse::graphql::params::Params;
use salespulse::tenancy::CreatedTenant;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement, TransactionTrait};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::queries::{DAYS, TOTALS, unaided};
use crate::report::Report;

/// The stages are quick: how often each is timed, in turn with the others.
const ROUNDS: usize = 1_000;

/// Prints the table. `url` is the database as the server reaches it.
pub async fn report(app: &App, tenant: &CreatedTenant, url: &str, name: &str) {
    let columns = [
        "what",
        "the query p50 ms",
        "new token µs",
        "known token µs",
        "scan and limits µs",
        "budget µs",
        "tenant's transaction µs",
        "share with a new token",
        "with a known one",
    ];
    let mut report = Report::begin(&format!("{name}: what guards a query"), &columns);
    // As the server's own connections: none is asked before it is used whether it still lives.
    let plain =
        Database::connect(ConnectOptions::new(url).test_before_acquire(false).to_owned()).await.expect("connected");
    let (by_channel, totals) = ("90 days by channel", "90 days");
    for (what, query, memory, app) in [
        (by_channel, DAYS, "from memory", app),
        (by_channel, DAYS, "from the database", &unaided(app)),
        (totals, TOTALS, "from memory", app),
        (totals, TOTALS, "from the database", &unaided(app)),
    ] {
        let schema = salespulse::schema::build(app.clone());
        let endpoint = Endpoint::new(app.clone(), schema, &Settings::default(), CancellationToken::new());
        let before = app.db.statements();
        let [mut runs, mut tokens, mut known, mut limits, mut budgets, mut walls] = <[Vec<_>; 6]>::default();
        for _ in 0..ROUNDS {
            let parts = parts(app, tenant);
            let begun = Instant::now();
            endpoint.authenticate(&parts).await.expect("a caller");
            tokens.push(begun.elapsed());
            let begun = Instant::now();
            let requester = endpoint.authenticate(&parts).await.expect("a caller");
            known.push(begun.elapsed());

            let params = Params::from_json(json!({ "query": query })).expect("params");
            let begun = Instant::now();
            let prepared = endpoint.executor.prepare(params, requester.caller.as_deref()).expect("an operation");
            let took = begun.elapsed();
            // Whoever runs it parses it.
            let begun = Instant::now();
            std::hint::black_box(async_graphql::parser::parse_query(query).expect("a document"));
            limits.push(took.saturating_sub(begun.elapsed()));

            let begun = Instant::now();
            // The load of a benchmark is beyond every budget; that costs the same.
            let spent = endpoint.usage.spend(requester.caller.as_ref().expect("a caller"), prepared.fields);
            budgets.push(begun.elapsed());
            drop(spent);

            walls.push(tenant_transaction(app, tenant).await.saturating_sub(plain_transaction(&plain).await));

            let begun = Instant::now();
            let (response, _) = endpoint.executor.run(prepared, requester).await;
            runs.push(begun.elapsed());
            assert!(response.errors.is_empty(), "{:?}", response.errors);
        }
        let [run, token, known, limit, budget, wall] = [runs, tokens, known, limits, budgets, walls].map(median);
        // Beside those that were timed, each request has one, or none.
        let transactions = (app.db.statements() - before).transactions;
        let wall = if transactions < 2 * ROUNDS as u64 { Duration::ZERO } else { wall };
        // What the run holds of the last is taken out of it.
        let share = |token: Duration| {
            let guards = token + limit + budget + wall;
            format!("{:.1} %", 100.0 * guards.as_secs_f64() / run.saturating_sub(wall).as_secs_f64())
        };
        let micros = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
        report.row(&[
            format!("{what}, {memory}"),
            format!("{:.2}", run.as_secs_f64() * 1e3),
            micros(token),
            micros(known),
            micros(limit),
            micros(budget),
            micros(wall),
            share(token),
            share(known),
        ]);
    }
}

/// A request with a token that was not seen before.
fn parts(app: &App, tenant: &CreatedTenant) -> axum::http::request::Parts {
    let (role, user_id) = tenant.users.iter().find(|(role, _)| *role == Role::Manager).expect("a manager");
    let subject = Subject { tenant: tenant.id, user_id: *user_id, role: *role, session: None };
    let token = app.tokens.mint(&subject, app.clock.now(), 3600).expect("a token");
    let request = Request::post("/graphql").header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.body(()).expect("a request").into_parts().0
}

async fn tenant_transaction(app: &App, tenant: &CreatedTenant) -> Duration {
    let begun = Instant::now();
    let tx = app.db.read(tenant.id).await.expect("begun");
    tx.query_one("SELECT 1 WHERE $1 IS NOT NULL", []).await.expect("read");
    drop(tx);
    begun.elapsed()
}

async fn plain_transaction(plain: &sea_orm::DatabaseConnection) -> Duration {
    let begun = Instant::now();
    let tx = plain.begin().await.expect("begun");
    let statement = Statement::from_string(plain.get_database_backend(), "SELECT 1");
    tx.query_one_raw(statement).await.expect("read");
    drop(tx);
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
