//! The HTTP server: routes and the end.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::graphql::http::{self, Endpoint};
use crate::live::watch_heads;
use crate::{schema, web};

/// A request's body is at most this long.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What is served beside the API.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The page for trying queries in a browser, at `/graphiql`.
    pub graphiql: bool,
}

/// All routes over the server's parts.
pub fn router(app: App, options: Options) -> Router {
    routes(Endpoint::new(app.clone(), schema::build(app), CancellationToken::new()), options)
}

fn routes(endpoint: Endpoint, options: Options) -> Router {
    let api = Router::new()
        .route("/graphql", post(http::post).get(http::get))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(endpoint);
    if options.graphiql { api.merge(web::routes()) } else { api }
}

/// Serves on `listener` until `stop`; then requests that are running are finished, and streams and sockets are closed.
pub async fn run(app: App, options: Options, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let heads = tokio::spawn(watch_heads(app.clone()));
    let endpoint = Endpoint::new(app.clone(), schema::build(app), stop.clone());
    let sockets = endpoint.sockets.clone();
    let served = axum::serve(listener, routes(endpoint, options)).with_graceful_shutdown(stop.cancelled_owned()).await;
    sockets.close();
    sockets.wait().await;
    heads.abort();
    served
}
