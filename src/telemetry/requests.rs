//! Observation of requests: the request id, which the response carries too, the span, and the completion.
//!
//! Everything logged while a request is served is in its span, and so carries its id and that of its trace. Completions
//! are logged at level debug only: their number and duration are what metrics are for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::metrics::METRICS;
use super::traceparent::TraceParent;
use crate::graphql::origin::Peer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARS_MAX: usize = 64;
/// Maximum length of an operation name, which may be as long as its document.
const OPERATION_NAME_CHARS_MAX: usize = 64;

/// The id of a request, given by its client or generated.
#[derive(Clone, Debug)]
pub struct RequestId(Arc<str>);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_well_formed(id));
        RequestId(given.map_or_else(|| Uuid::now_v7().to_string().into(), Arc::from))
    }
}

/// Accepts only what cannot be mistaken for anything else, wherever it is shown.
fn is_well_formed(id: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(is_fine)
}

/// A layer around all routes. The parent trace is accepted from `proxies` only: others could force theirs to be
/// recorded, or add to anybody's.
pub async fn observe(State(proxies): State<Arc<[IpAddr]>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers());
    let method = name_of(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    // Spans have the highest level, so that log events are in them at any level.
    let span = tracing::error_span!(
        "request",
        otel.kind = "server",
        request_id = &*id.0,
        trace_id = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        tenant = Empty,
        graphql.operation.r#type = Empty,
        graphql.operation.name = Empty,
    );
    join(&span, request.headers(), is_of(&request, &proxies));
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    let took = begun.elapsed();
    span.record("http.response.status_code", status.as_u16());
    span.in_scope(|| tracing::debug!(took_ms = took.as_secs_f64() * 1e3, "answered"));
    METRICS.http_requests.with_label_values(&[method, route, status.as_str()]).inc();
    METRICS.http_request_duration.with_label_values(&[route]).observe(took.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Whether one of our proxies is the peer.
fn is_of(request: &Request, proxies: &[IpAddr]) -> bool {
    let peer = request.extensions().get::<Peer>();
    peer.is_some_and(|peer| proxies.contains(&peer.address.ip().to_canonical()))
}

/// Joins the span to the trace of the request, if it is trusted, and records the trace's id.
fn join(span: &Span, headers: &HeaderMap, is_believed: bool) {
    let given = headers.get("traceparent").filter(|_| is_believed);
    let parent = given.and_then(|value| TraceParent::parse(value.to_str().ok()?));
    #[cfg(feature = "otlp")]
    let trace_id = super::otlp::join(span, parent);
    #[cfg(not(feature = "otlp"))]
    let trace_id = parent.map(|parent| parent.trace_id);
    if let Some(trace_id) = trace_id {
        span.record("trace_id", format_args!("{trace_id:032x}"));
    }
}

/// The span of a socket, which outlives the request that opened it. It is not part of a trace: its operations are.
pub fn socket_span(request: &Extensions) -> Span {
    let id = request.get::<RequestId>().map(|id| &*id.0);
    tracing::error_span!(target: "socket", parent: None, "socket", request_id = id, tenant = Empty)
}

/// Records the tenant of a request or socket, once known.
pub fn note_tenant(tenant: Uuid) {
    Span::current().record("tenant", tracing::field::display(tenant));
}

/// Records the operation of a request.
pub fn note_operation(kind: &str, name: Option<&str>) {
    let span = Span::current();
    span.record("graphql.operation.type", kind);
    if let Some(name) = name {
        span.record("graphql.operation.name", shortened(name));
    }
}

fn shortened(name: &str) -> &str {
    name.get(..OPERATION_NAME_CHARS_MAX).unwrap_or(name)
}

/// The span of a running operation, without a tenant where it needs no token.
pub fn operation_span(kind: &str, name: Option<&str>, tenant: Option<Uuid>) -> Span {
    let name = name.map(shortened);
    let tenant = tenant.map(tracing::field::display);
    tracing::error_span!("operation", graphql.operation.r#type = kind, graphql.operation.name = name, tenant)
}

/// Unknown methods share one name.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_taken_when_they_are_nothing_but_ids() {
        let id = |given: &str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(given).expect("a header"))]);
            RequestId::of(&headers).0.to_string()
        };
        for good in ["a", "0196a5f4-9d1c-7c1e", "A_b.9", &"x".repeat(64)] {
            assert_eq!(id(good), good);
        }
        for bad in ["", "a b", "a\"b", "{}", "someone@example.com", "é", &"x".repeat(65)] {
            assert!(Uuid::parse_str(&id(bad)).is_ok(), "{bad}");
        }
    }

    #[test]
    fn traces_are_believed_of_our_own_proxies() {
        let proxies = ["10.0.0.1".parse().expect("an address")];
        let is_believed = |peer: Option<&str>| {
            let mut request = Request::new(axum::body::Body::empty());
            if let Some(peer) = peer {
                let address = peer.parse().expect("an address");
                request.extensions_mut().insert(Peer { address, is_encrypted: false });
            }
            is_of(&request, &proxies)
        };
        assert!(is_believed(Some("10.0.0.1:1")) && is_believed(Some("[::ffff:10.0.0.1]:1")));
        assert!(!is_believed(Some("10.0.0.2:1")) && !is_believed(None));
    }
}
