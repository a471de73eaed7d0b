//! The HTTP server: routes and shutdown.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::post;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::alerts::sweep;
use crate::app::App;
use crate::error::Error;
use crate::graphql::endpoint::{self, Endpoint};
use crate::graphql::errors::{plain, respond, unplaced};
use crate::graphql::http;
use crate::graphql::origin::{Peer, cross_origin};
use crate::housekeeping::RetentionDays;
use crate::outbox::{Senders, relay};
use crate::privacy::rotation;
use crate::telemetry::metrics::METRICS;
use crate::telemetry::requests::observe;
use crate::tls::Tls;
use crate::{accounts, customer_value, health, housekeeping, integrations, ledger, monitor, schema, web};

/// Time from when a connection is ready for a request to the end of its headers; idle connections are closed after it.
const HEADER_WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 10_000 });
/// How long a client may read nothing of what is sent to it, as its answer stays in memory meanwhile.
const WRITE_WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 30_000 });
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Server options.
#[derive(Clone, Default)]
pub struct Options {
    /// Encrypts API connections where no proxy does.
    pub tls: Option<Tls>,
    /// Serves the GraphiQL page at `/graphiql`.
    pub graphiql: bool,
    /// How alerts are delivered to their recipients.
    pub outbox: Senders,
    pub api: endpoint::Settings,
    /// Retention of expired data.
    pub keep: RetentionDays,
    /// Grace period for shutdown, after which whatever still runs is aborted; `None` waits indefinitely.
    pub grace: Option<Duration>,
}

/// The server had to shut down.
#[derive(Debug, thiserror::Error)]
#[error("a task of the server has failed")]
pub struct TaskFailed;

/// The server's listening sockets.
pub struct Listeners {
    pub api: TcpListener,
    /// For operators: `monitor`.
    pub monitor: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(api: TcpListener) -> Self {
        Listeners { api, monitor: None }
    }
}

/// All routes over the server's components.
pub fn router(app: App, options: &Options) -> Router {
    routes(endpoint(app, options, CancellationToken::new()), options)
}

fn endpoint(app: App, options: &Options, stop: CancellationToken) -> Endpoint {
    Endpoint::new(app.clone(), schema::build(app), &options.api, stop)
}

fn routes(endpoint: Endpoint, options: &Options) -> Router {
    let health = health::routes(endpoint.app.clone(), endpoint.stop.clone());
    let api = Router::new().route("/graphql", post(http::post).get(http::get)).with_state(endpoint.clone());
    // Before the CORS layer, which answers a method itself.
    let api = api.method_not_allowed_fallback(refuse_method);
    let origins = &options.api.origins;
    let api = if origins.is_empty() { api } else { api.layer(cross_origin(origins)) };
    let api = api.merge(ledger::http::routes(endpoint.clone())).merge(integrations::http::routes(endpoint.clone()));
    let api = api.merge(accounts::http::routes(endpoint)).merge(health);
    let proxies: Arc<[IpAddr]> = options.api.proxies.as_slice().into();
    let all = if options.graphiql { api.merge(web::routes()) } else { api };
    let all = all.method_not_allowed_fallback(refuse_method).fallback(refuse_path).layer(from_fn(catch_panics));
    let all = if options.tls.is_some() { all.layer(map_response(with_strict_transport)) } else { all };
    all.layer(map_response(with_safe_headers)).layer(from_fn_with_state(proxies, observe))
}

/// The router sets `Allow` itself.
async fn refuse_method() -> Response {
    respond(StatusCode::METHOD_NOT_ALLOWED, &[plain("METHOD_NOT_ALLOWED", "method not allowed")])
}

async fn refuse_path() -> Response {
    respond(StatusCode::NOT_FOUND, &[plain("NOT_FOUND", "there is nothing here")])
}

/// Turns a panic into an error response, and the connection stays open; GraphQL operations handle their own panics.
async fn catch_panics(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        let error = Error::internal("a handler panicked");
        respond(StatusCode::INTERNAL_SERVER_ERROR, &[unplaced(error)])
    })
}

/// Headers every response must have.
async fn with_safe_headers(mut response: Response) -> Response {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    // The rest of the body may still be in transit.
    if matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// HSTS: browsers that were here once return only over TLS.
async fn with_strict_transport(mut response: Response) -> Response {
    let a_year = HeaderValue::from_static("max-age=31536000");
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, a_year);
    response
}

/// Serves until `stop`; then stops accepting, lets running requests finish, and ends streams and sockets. Error:
/// shutdown was caused by a failed background task.
pub async fn run(
    app: App,
    options: Options,
    listeners: impl Into<Listeners>,
    stop: CancellationToken,
) -> Result<(), TaskFailed> {
    let Listeners { api, monitor } = listeners.into();
    METRICS.begin();
    // Aborted on drop.
    let mut background = JoinSet::new();
    background.spawn(sweep(app.clone()));
    background.spawn(relay(app.clone(), options.outbox.clone()));
    background.spawn(rotation::sweep(app.clone()));
    background.spawn(customer_value::keep_fitted(app.clone()));
    background.spawn(app.access_cache.clone().watch());
    background.spawn(housekeeping::run(app.clone(), options.keep));
    if let Some(tls) = options.tls.clone() {
        background.spawn(tls.watch());
    }
    let endpoint = endpoint(app, &options, stop.clone());
    let sockets = endpoint.sockets.clone();
    // Stays up during shutdown, so that it can be observed.
    let ended = CancellationToken::new();
    let monitored = async {
        if let Some(listener) = monitor {
            let routes = monitor::routes(endpoint.clone()).layer(map_response(with_safe_headers));
            accept(listener, None, &routes, &ended).await;
        }
    };
    let served = async {
        accept(api, options.tls.as_ref(), &routes(endpoint.clone(), &options), &stop).await;
        sockets.close();
        sockets.wait().await;
        ended.cancel();
    };
    let overdue = async {
        stop.cancelled().await;
        match options.grace {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    let serving = async {
        tokio::select! {
            biased;
            _ = async { tokio::join!(monitored, served) } => {}
            () = overdue => tracing::warn!("requests were cut off"),
        }
    };
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        () = serving.as_mut() => Ok(()),
        () = failure(&mut background) => {
            stop.cancel();
            serving.await;
            Err(TaskFailed)
        }
    }
}

/// Resolves when a background task fails. The server would continue without that function, so it shuts down and relies
/// on its supervisor to restart it.
async fn failure(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the server has failed; the server ends");
            return;
        }
    }
    std::future::pending().await
}

/// Serves each connection in its own task.
async fn accept(listener: TcpListener, tls: Option<&Tls>, routes: &Router, stop: &CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    // Out of file descriptors: an immediate retry would fail again.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        // A live update is a small packet that must not be held back.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "packets may be held back");
        }
        let stream = timed(stream);
        let peer = Peer { address: peer, is_encrypted: tls.is_some() };
        let (routes, tls, stop) = (routes.clone(), tls.cloned(), stop.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, peer, routes, &stop).await,
                // A handshake unfinished at shutdown has not requested anything yet.
                Some(tls) => {
                    if let Some(stream) = stop.run_until_cancelled(tls.accept(stream)).await.flatten() {
                        serve(stream, peer, routes, &stop).await;
                    }
                }
            }
        });
    }
    // New connections are refused at once, so that clients can go to another server.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// `stream`, given up once nothing of what is written to it gets through.
fn timed<S: AsyncRead + AsyncWrite>(stream: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WAIT));
    Box::pin(stream)
}

/// Serves a connection to its end; after `stop`, only the request in flight.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    routes: Router,
    stop: &CancellationToken,
) {
    let service = routes.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection.with_upgrades());
    let served = match stop.run_until_cancelled(connection.as_mut()).await {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn who_says_too_little_is_left() {
        for said in ["", "P", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(said.as_bytes()).await.expect("sent");
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), is_encrypted: false };
            let stop = CancellationToken::new();
            let served = serve(server, peer, Router::new(), &stop);
            tokio::time::timeout(Duration::from_secs(10), served).await.expect(said);
        }
    }

    #[tokio::test]
    async fn who_does_not_read_is_left() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), is_encrypted: false };
        let routes = Router::new().route("/", get(|| async { vec![0; 1024 * 1024] }));
        let stop = CancellationToken::new();
        tokio::time::timeout(Duration::from_secs(10), serve(timed(server), peer, routes, &stop)).await.expect("left");
    }

    async fn breaks() -> Response {
        panic!("what nobody is to read")
    }

    #[tokio::test]
    async fn what_panics_outside_of_operations_is_an_error_that_says_nothing() {
        let routes = Router::new().route("/", get(breaks)).layer(from_fn(catch_panics));
        let answer = routes.oneshot(Request::new(Body::empty())).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["errors"][0]["extensions"]["code"], "INTERNAL_SERVER_ERROR", "{body}");
        assert!(
            body["errors"][0]["extensions"]["errorId"].is_string() && !body.to_string().contains("nobody"),
            "{body}"
        );
    }
}
