//! The second listener, for operators only: `/metrics` for Prometheus, `/health`, `/ready`.
//!
//! Gauges are sampled on each scrape, from process state only: the database is not queried.

use std::collections::HashMap;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TEXT_FORMAT};

use crate::db::TenantId;
use crate::graphql::endpoint::Endpoint;
use crate::health;
use crate::ledger::LaneState;
use crate::telemetry::metrics::{Definitions, METRICS};

pub fn routes(endpoint: Endpoint) -> Router {
    let health = health::routes(endpoint.app.clone(), endpoint.stop.clone());
    Router::new().route("/metrics", get(metrics)).with_state(endpoint).merge(health)
}

async fn metrics(State(endpoint): State<Endpoint>) -> Response {
    match METRICS.to_text(look(&endpoint)) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics not written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Samples the server's gauges.
fn look(endpoint: &Endpoint) -> Vec<MetricFamily> {
    let app = &endpoint.app;
    let registry = Registry::new();
    let new = Definitions(&registry);
    let gauge = |name, help, value: i64| new.gauges(name, help, &[]).with_label_values::<&str>(&[]).set(value);

    let version = new.gauges("salespulse_build_info", "The version that runs; always 1.", &["version"]);
    version.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    gauge("salespulse_sockets", "WebSockets that are open.", size(endpoint.sockets.len()));
    let (cohorts, members) = endpoint.executor.cohorts().count();
    gauge("salespulse_cohorts", "Groups of equal subscriptions, each computed once.", size(cohorts));
    gauge("salespulse_cohort_members", "Subscriptions that are in cohorts.", size(members));

    let lanes = app.ledger.list_lanes();
    let feeds = app.feeds.list_places();
    gauge("salespulse_ledger_lanes", "Tenants whose events this process records.", size(lanes.len()));
    gauge("salespulse_ledger_feeds", "Tenants whose ledgers this process follows for live answers.", size(feeds.len()));
    let stages = Stages::of(&lanes, &feeds);
    let help = "Sum of the newest positions known here of the ledgers that this process records to or follows.";
    gauge("salespulse_ledger_position", help, stages.position);
    let help = "Positions by which a stage is behind the newest known here, of all those ledgers together.";
    let lag = new.gauges("salespulse_ledger_lag_positions", help, &["stage"]);
    lag.with_label_values(&["rollups"]).set(stages.rollups_lag);
    lag.with_label_values(&["feeds"]).set(stages.feeds_lag);

    let queue = new.gauges("salespulse_queue_length", "What waits in this process.", &["queue"]);
    queue.with_label_values(&["ledger"]).set(size(lanes.iter().map(|lane| lane.waiting).sum()));
    queue.with_label_values(&["fits"]).set(size(app.predictions.pool.waiting()));
    queue.with_label_values(&["stream"]).set(size(app.stream.waiting()));
    let help = "Whether batches of other processes do not come (1), so that live answers are late.";
    gauge("salespulse_stream_degraded", help, i64::from(app.stream.is_degraded()));
    let help = "Connections to the database that are open.";
    let connections = new.gauges("salespulse_database_connections", help, &["pool", "state"]);
    for (pool, open, idle) in app.db.list_pools() {
        connections.with_label_values(&[pool, "idle"]).set(size(idle));
        connections.with_label_values(&[pool, "used"]).set(size(open.saturating_sub(idle)));
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    gauge("salespulse_tasks", "Tasks that have not ended.", size(tasks));
    registry.gather()
}

fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Progress of all ledgers, in total.
#[derive(Debug, PartialEq)]
struct Stages {
    position: i64,
    rollups_lag: i64,
    feeds_lag: i64,
}

impl Stages {
    /// The newest position of a ledger is that of its lane here or, where another process records, what its feed has.
    fn of(lanes: &[LaneState], feeds: &[(TenantId, i64)]) -> Stages {
        let followed: HashMap<TenantId, i64> = feeds.iter().copied().collect();
        let mut newest = followed.clone();
        for lane in lanes {
            let position = newest.entry(lane.tenant).or_default();
            *position = lane.position.max(*position);
        }
        Stages {
            position: newest.values().sum(),
            rollups_lag: lanes.iter().map(|lane| lane.position - lane.folded).sum(),
            feeds_lag: followed
                .iter()
                .map(|(tenant, place)| newest.get(tenant).copied().unwrap_or_default() - place)
                .sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_ledger_that_is_recorded_and_followed_counts_once() {
        let [a, b, c] = [1, 2, 3].map(|n| TenantId(Uuid::from_u128(n)));
        let lane = |tenant, position, folded| LaneState { tenant, position, folded, waiting: 0 };
        // a has recorded what its feed has not received yet; b's newest events are from another process; c is only
        // followed.
        let stages = Stages::of(&[lane(a, 10, 7), lane(b, 20, 20)], &[(a, 8), (b, 25), (c, 100)]);
        assert_eq!(stages, Stages { position: 10 + 25 + 100, rollups_lag: 3, feeds_lag: 2 });
    }
}
