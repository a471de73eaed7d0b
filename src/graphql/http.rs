//! GraphQL over HTTP: POST and GET, one operation or a batch, answered as JSON or as a stream.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response as HttpResponse;
use futures_util::stream::{BoxStream, StreamExt};
use serde_json::Value;

use super::endpoint::{Endpoint, Requester};
use super::errors::{self, Refusal};
use super::executor::to_json;
use super::limits::{Place, Seat};
use super::params::{Params, parse_json};
use super::payload::Payload;
use super::prepared::Prepared;
use super::reply::Reply;
use super::response_cache::Key;
use super::streams::{self, Answer, CutOff};
use super::{origin, socket};
use crate::auth::Caller;
use crate::error::Code;
use crate::telemetry::requests;

/// Maximum length of a request body, which must arrive within [`BODY_WAIT`].
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Maximum length without a valid token: enough for signing in.
pub const PUBLIC_BYTES_MAX: usize = 64 * 1024;
const BODY_WAIT: Duration = Duration::from_secs(15);
/// Maximum number of operations in a batch.
const BATCH_MAX: usize = 10;

/// POST: an operation, or a batch, as JSON.
pub async fn post(State(endpoint): State<Endpoint>, request: Request) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let reply = match Reply::to(headers) {
        Ok(reply) => reply,
        Err(refused) => return *refused,
    };
    if !is_json(headers) {
        return reply.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "send application/json");
    }
    let requester = match endpoint.authenticate(&parts).await {
        // A client that signs in or refreshes may still send the expired token.
        Err(error) if error.code == Code::Unauthenticated => {
            endpoint.requester(None, Arc::new(origin::client_of(&parts, &endpoint.proxies)))
        }
        Err(error) => return reply.error(error),
        Ok(requester) => requester,
    };
    // A client that is refused before it has sent everything may not see why.
    let is_known = requester.caller.is_some() || endpoint.has_expired(headers);
    let body = match read_body_of(body, if is_known { BODY_BYTES_MAX } else { PUBLIC_BYTES_MAX }).await {
        Ok(body) => body,
        Err((StatusCode::PAYLOAD_TOO_LARGE, ..)) if !is_known => return reply.unauthenticated(),
        Err((status, code, message)) => return reply.refuse(status, code, message),
    };
    let key = requester.caller.as_ref().map(|caller| Key::new(caller, "POST", &body));
    if let Some(cached) = endpoint.cached(&reply, &requester, key.as_ref()).await {
        return cached;
    }
    match parse_json(&body) {
        Ok(Value::Array(_)) if requester.caller.is_none() => reply.unauthenticated(),
        Ok(Value::Array(requests)) => batch(&endpoint, &reply, requester, requests).await,
        Ok(request) => {
            let params = Params::from_json(request).map(|params| with_event_id(params, headers));
            let prepared = params.and_then(|params| endpoint.executor.prepare(params, requester.caller.as_deref()));
            run(&endpoint, &reply, requester, key, prepared).await
        }
        Err(_) if requester.caller.is_none() => reply.unauthenticated(),
        Err(refusal) => reply.refusal(&refusal),
    }
}

/// GET: a query in the URL, or the WebSocket upgrade.
pub async fn get(State(endpoint): State<Endpoint>, request: Request) -> HttpResponse {
    if is_for_socket(request.headers()) {
        return socket::upgrade(endpoint, request).await;
    }
    query(endpoint, &request.into_parts().0).await
}

/// Whether the client asks for a WebSocket upgrade; HTTP/2 (`h2c`) is merely offered.
fn is_for_socket(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

async fn query(endpoint: Endpoint, parts: &RequestParts) -> HttpResponse {
    let query = parts.uri.query().unwrap_or_default();
    let reply = match Reply::to(&parts.headers) {
        Ok(reply) => reply,
        Err(refused) => return *refused,
    };
    let requester = match endpoint.authenticate(parts).await {
        Ok(requester) => requester,
        Err(error) => return reply.error(error),
    };
    if requester.caller.is_none() {
        return reply.unauthenticated();
    }
    let key = requester.caller.as_ref().map(|caller| Key::new(caller, "GET", query.as_bytes()));
    if let Some(cached) = endpoint.cached(&reply, &requester, key.as_ref()).await {
        return cached;
    }
    let params = Params::from_query_string(query).map(|params| with_event_id(params, &parts.headers));
    let prepared = params.and_then(|params| endpoint.executor.prepare(params, requester.caller.as_deref()));
    if prepared.as_ref().is_ok_and(|prepared| prepared.kind == OperationType::Mutation) {
        let mut refused =
            reply.refuse(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "mutations must be sent by POST");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    run(&endpoint, &reply, requester, key, prepared).await
}

async fn run(
    endpoint: &Endpoint,
    reply: &Reply,
    requester: Requester,
    key: Option<Key>,
    prepared: Result<Prepared, Refusal>,
) -> HttpResponse {
    if requester.caller.is_none() && !prepared.as_ref().is_ok_and(|prepared| prepared.is_public) {
        return reply.unauthenticated();
    }
    if let Ok(prepared) = &prepared {
        requests::note_operation(&prepared.kind.to_string(), prepared.name.as_deref());
    }
    let prepared = prepared.and_then(|prepared| endpoint.spend(&requester, prepared));
    let is_subscription = prepared.as_ref().is_ok_and(|prepared| prepared.kind == OperationType::Subscription);
    let stream_format = if is_subscription { reply.accepted.for_stream() } else { reply.stream_format() };
    if let Some(format) = stream_format {
        let seat = match &requester.caller {
            Some(caller) if is_subscription => {
                endpoint.usage.place().zip(endpoint.usage.seat(caller)).map(Some).ok_or_else(too_many_streams)
            }
            _ => Ok(None),
        };
        return match prepared.and_then(|prepared| Ok((prepared, seat?))) {
            Ok((prepared, seat)) => {
                let ends = ends(endpoint, requester.caller.clone());
                let answers = endpoint.executor.stream(prepared, requester);
                let answers = answers.map(Ok).boxed();
                streams::respond(format, if is_subscription { until(answers, ends, seat) } else { answers })
            }
            Err(refusal) => {
                let refused = Payload::refused(refusal.to_error());
                streams::respond(format, futures_util::stream::once(std::future::ready(Ok(refused))).boxed())
            }
        };
    }
    match prepared {
        Ok(_) if is_subscription => reply.refuse(
            StatusCode::BAD_REQUEST,
            "BAD_REQUEST",
            "a subscription needs a WebSocket, or Accept: text/event-stream or multipart/mixed",
        ),
        Err(refusal) => reply.refusal(&refusal),
        Ok(prepared) => {
            let (response, freshness) = endpoint.executor.run(prepared, requester).await;
            let (Some(key), Some(freshness)) = (key, freshness) else { return reply.send(&response) };
            match serde_json::to_vec(&response) {
                Ok(mut body) => {
                    // It is kept, and was given up to twice the room.
                    body.shrink_to_fit();
                    let body = Bytes::from(body);
                    endpoint.response_cache.put(key, freshness, body.clone());
                    reply.json(StatusCode::OK, body)
                }
                Err(_) => reply.send(&response),
            }
        }
    }
}

/// Resolves when a stream must end: at shutdown, or when its caller loses access, which is then reported.
fn ends(endpoint: &Endpoint, caller: Option<Arc<Caller>>) -> impl Future<Output = Answer> + Send + use<> {
    let endpoint = endpoint.clone();
    let open = endpoint.streams.token();
    async move {
        let _open = open;
        tokio::select! {
            () = endpoint.turn_to_end() => Err(CutOff),
            () = endpoint.ended(caller.as_deref()) => {
                Ok(Payload::refused(errors::plain("UNAUTHENTICATED", "the token has ended")))
            }
        }
    }
}

fn too_many_streams() -> Refusal {
    Refusal::new("TOO_MANY_SUBSCRIPTIONS", "too many sockets and streams")
}

/// Yields `answers` until `end` resolves, then its output; holds place and seat meanwhile.
fn until(
    answers: BoxStream<'static, Answer>,
    end: impl Future<Output = Answer> + Send + 'static,
    seat: Option<(Place, Seat)>,
) -> BoxStream<'static, Answer> {
    let state = Some((answers, Box::pin(end), seat));
    let stream = futures_util::stream::unfold(state, async |state| {
        let (mut answers, mut end, seat) = state?;
        tokio::select! {
            biased;
            // Polled only when the client reads on, so answers produced after the end are not sent.
            last = &mut end => Some((last, None)),
            answer = answers.next() => Some((answer?, Some((answers, end, seat)))),
        }
    });
    stream.boxed()
}

/// Runs requests sequentially; each has its own response, in request order.
async fn batch(endpoint: &Endpoint, reply: &Reply, requester: Requester, requests: Vec<Value>) -> HttpResponse {
    if requests.is_empty() || requests.len() > BATCH_MAX || !requests.iter().all(Value::is_object) {
        let message = format!("a batch has 1 to {BATCH_MAX} requests");
        return reply.refuse(StatusCode::BAD_REQUEST, "BATCH_NOT_ALLOWED", &message);
    }
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let prepared = Params::from_json(request)
            .and_then(|params| endpoint.executor.prepare(params, requester.caller.as_deref()))
            .and_then(|prepared| endpoint.spend(&requester, prepared));
        answers.push(match prepared {
            Ok(prepared) if prepared.kind == OperationType::Subscription => {
                errors::only(&[errors::plain("BAD_REQUEST", "a batch cannot contain a subscription")])
            }
            Ok(prepared) => to_json(&endpoint.executor.run(prepared, requester.clone()).await.0),
            Err(refusal) => errors::only(&[refusal.to_error()]),
        });
    }
    reply.json(StatusCode::OK, format!("[{}]", answers.join(",")))
}

/// Reads a request body, bounded in length and time; otherwise the status and message to respond with.
pub async fn read_body(body: Body) -> Result<Bytes, (StatusCode, &'static str, &'static str)> {
    read_body_of(body, BODY_BYTES_MAX).await
}

/// Like [`read_body`], with a given length limit.
pub async fn read_body_of(body: Body, bytes_max: usize) -> Result<Bytes, (StatusCode, &'static str, &'static str)> {
    let too_long = (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "the body is too long");
    // By the declared length, before any of it is read.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_long);
    }
    match tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(too_long),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "BAD_REQUEST", "the body cannot be read")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body arrives too slowly")),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// Resumes a server-sent events subscription from `Last-Event-ID`.
fn with_event_id(params: Params, headers: &HeaderMap) -> Params {
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Params { last_event_id, ..params }
}

pub fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let mime = value.to_str().ok().and_then(|value| value.split(';').next());
    mime.is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
        && !headers.contains_key(header::CONTENT_ENCODING)
}
