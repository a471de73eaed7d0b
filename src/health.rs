//! Liveness and readiness, for load balancers and operators.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::app::App;
use tokio_util::sync::CancellationToken;

/// The database is considered unavailable after this long without a response.
const DATABASE_WAIT: Duration = Duration::from_secs(1);

/// `/health` is the liveness probe. `/ready` says whether requests should be routed here: 503 during shutdown or when
/// the database is unavailable, 200 with `degraded` when updates from other processes are delayed because the stream, or
/// a part of it, is unavailable.
pub fn routes(app: App, stop: CancellationToken) -> Router {
    Router::new().route("/health", get(|| async { "ok" })).route("/ready", get(ready)).with_state((app, stop))
}

async fn ready(State((app, stop)): State<(App, CancellationToken)>) -> (StatusCode, Json<Value>) {
    let word = |is_good: bool| if is_good { "ok" } else { "away" };
    let answered = tokio::time::timeout(DATABASE_WAIT, app.db.ping()).await;
    let (database, stream) = (matches!(answered, Ok(Ok(()))), !app.stream.is_degraded());
    let (code, status) = match (stop.is_cancelled(), database, stream) {
        (true, ..) => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        (_, false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        (_, _, false) => (StatusCode::OK, "degraded"),
        _ => (StatusCode::OK, "ready"),
    };
    (code, Json(json!({ "status": status, "database": word(database), "stream": word(stream) })))
}
