//! The HTTP server: routes and the end.

use std::future::Future;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;

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
    let endpoint = Endpoint::new(app.clone(), schema::build(app));
    let api = Router::new()
        .route("/graphql", post(http::post).get(http::get))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(endpoint);
    if options.graphiql { api.merge(web::routes()) } else { api }
}

/// Serves on `listener` until `shutdown`; requests that are running are finished.
pub async fn run(
    app: App,
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let heads = tokio::spawn(watch_heads(app.clone()));
    let served = axum::serve(listener, router(app, options)).with_graceful_shutdown(shutdown).await;
    heads.abort();
    served
}
