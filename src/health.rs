//! For load balancers and operators: whether the process lives, and whether it serves.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::app::App;
use tokio_util::sync::CancellationToken;

/// The database is taken to be away when it has not answered for this long.
const DATABASE_WAIT: Duration = Duration::from_secs(1);

/// `/health` says that the process lives. `/ready` says whether requests should come here: 503 when the server ends or the
/// database is away, 200 with `degraded` when updates from other processes come late because the stream is away.
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
