//! GraphQL over HTTP: POST and GET, one operation or a batch, answered as JSON or as a stream.

use std::ops::Deref;
use std::sync::Arc;

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::stream::{BoxStream, StreamExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{Accepted, Format};
use super::answers::{Answers, Key};
use super::errors::{self, Refusal};
use super::heads::Heads;
use super::operation::{Operations, Prepared, is_request_error, to_json};
use super::params::{Params, parse_json};
use super::payload::Payload;
use super::{socket, streams};
use crate::app::App;
use crate::auth::{Caller, token};
use crate::schema::Schema;

/// Operations of one batch.
const BATCH_MAX: usize = 10;

/// What the handlers share. Cheap to clone, and small: each socket has one.
#[derive(Clone)]
pub struct Endpoint(Arc<Parts>);

pub struct Parts {
    pub app: App,
    pub operations: Operations,
    /// Cancelled when the server is to end; then streams complete and sockets close.
    pub stop: CancellationToken,
    /// The sockets that are open.
    pub sockets: TaskTracker,
    answers: Answers,
    heads: Heads,
}

impl Deref for Endpoint {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Endpoint {
    pub fn new(app: App, schema: Schema, stop: CancellationToken) -> Self {
        Endpoint(Arc::new(Parts {
            heads: Heads::new(app.db.clone()),
            answers: Answers::default(),
            operations: Operations::new(schema, app.tokens.cursors()),
            sockets: TaskTracker::new(),
            stop,
            app,
        }))
    }

    /// The caller of an `Authorization` value.
    pub fn verify(&self, authorization: &str) -> Option<Arc<Caller>> {
        self.app.tokens.verify(token::from_header(authorization)?, self.app.clock.now()).ok()
    }

    fn authenticate(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        self.verify(value.to_str().ok()?)
    }

    /// The finished answer to the same request, if it is still the answer and the client takes it in one piece.
    async fn kept(&self, reply: &Reply, caller: &Caller, key: &Key) -> Option<HttpResponse> {
        if reply.stream_format().is_some() {
            return None;
        }
        let kept = self.answers.get(key)?;
        let head = self.heads.get(caller.tenant).await?;
        kept.0.holds(head, self.app.clock.now()).then(|| reply.json(StatusCode::OK, kept.1.clone()))
    }
}

/// POST: an operation, or a batch of them, as JSON.
pub async fn post(
    State(endpoint): State<Endpoint>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> HttpResponse {
    let reply = match Reply::to(&headers) {
        Ok(reply) => reply,
        Err(refused) => return *refused,
    };
    if !is_json(&headers) {
        return reply.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "send application/json");
    }
    let body = match body {
        Ok(body) => body,
        Err(rejected) if rejected.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return reply.refuse(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "the body is too long");
        }
        Err(rejected) => return reply.refuse(rejected.status(), "BAD_REQUEST", "the body cannot be read"),
    };
    let Some(caller) = endpoint.authenticate(&headers) else { return reply.unauthenticated() };
    let key = Key::new(&caller, "POST", &body);
    if let Some(kept) = endpoint.kept(&reply, &caller, &key).await {
        return kept;
    }
    match parse_json(&body) {
        Ok(Value::Array(requests)) => batch(&endpoint, &reply, caller, requests).await,
        Ok(request) => {
            let params = Params::from_json(request).map(|params| with_event_id(params, &headers));
            let prepared = params.and_then(|params| endpoint.operations.prepare(params));
            run(&endpoint, &reply, caller, key, prepared).await
        }
        Err(refusal) => reply.refusal(&refusal),
    }
}

/// GET: a query in the URL, or the upgrade to WebSocket.
pub async fn get(State(endpoint): State<Endpoint>, request: Request) -> HttpResponse {
    if request.headers().contains_key(header::UPGRADE) {
        return socket::upgrade(endpoint, request).await;
    }
    query(endpoint, request.uri().query().unwrap_or_default(), request.headers()).await
}

async fn query(endpoint: Endpoint, query: &str, headers: &HeaderMap) -> HttpResponse {
    let reply = match Reply::to(headers) {
        Ok(reply) => reply,
        Err(refused) => return *refused,
    };
    let Some(caller) = endpoint.authenticate(headers) else { return reply.unauthenticated() };
    let key = Key::new(&caller, "GET", query.as_bytes());
    if let Some(kept) = endpoint.kept(&reply, &caller, &key).await {
        return kept;
    }
    let params = Params::from_query_string(query).map(|params| with_event_id(params, headers));
    let prepared = params.and_then(|params| endpoint.operations.prepare(params));
    if prepared.as_ref().is_ok_and(|prepared| prepared.kind() == OperationType::Mutation) {
        let mut refused =
            reply.refuse(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "mutations are sent by POST");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    run(&endpoint, &reply, caller, key, prepared).await
}

async fn run(
    endpoint: &Endpoint,
    reply: &Reply,
    caller: Arc<Caller>,
    key: Key,
    prepared: Result<Prepared, Refusal>,
) -> HttpResponse {
    let is_subscription = prepared.as_ref().is_ok_and(|prepared| prepared.kind() == OperationType::Subscription);
    let stream_format = if is_subscription { reply.accepted.for_stream() } else { reply.stream_format() };
    if let Some(format) = stream_format {
        return match prepared {
            Ok(prepared) => {
                let ends = ends(endpoint, &caller);
                let answers = endpoint.operations.stream(prepared, caller);
                streams::respond(format, if is_subscription { until(answers, ends) } else { answers })
            }
            Err(refusal) => {
                let refused = Payload::refused(refusal.to_error());
                streams::respond(format, futures_util::stream::once(std::future::ready(refused)).boxed())
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
            let (response, freshness) = endpoint.operations.run(prepared, caller).await;
            let Some(freshness) = freshness else { return reply.send(&response) };
            match serde_json::to_vec(&response) {
                Ok(body) => {
                    let body = Bytes::from(body);
                    endpoint.answers.put(key, freshness, body.clone());
                    reply.json(StatusCode::OK, body)
                }
                Err(_) => reply.send(&response),
            }
        }
    }
}

/// When a stream is to end: with the server, or with the token, which it then says.
fn ends(endpoint: &Endpoint, caller: &Caller) -> impl Future<Output = Option<Payload>> + Send + use<> {
    let (stop, clock, token_end) = (endpoint.stop.clone(), Arc::clone(&endpoint.app.clock), caller.expires_at());
    async move {
        tokio::select! {
            () = stop.cancelled() => None,
            () = crate::clock::until(clock.as_ref(), token_end) => {
                Some(Payload::refused(errors::plain("UNAUTHENTICATED", "the token has ended")))
            }
        }
    }
}

/// The answers until `end`, and what that gives.
fn until(
    answers: BoxStream<'static, Payload>,
    end: impl Future<Output = Option<Payload>> + Send + 'static,
) -> BoxStream<'static, Payload> {
    let state = Some((answers, Box::pin(end)));
    let stream = futures_util::stream::unfold(state, async |state| {
        let (mut answers, mut end) = state?;
        tokio::select! {
            answer = answers.next() => Some((answer?, Some((answers, end)))),
            last = &mut end => Some((last?, None)),
        }
    });
    stream.boxed()
}

/// Runs requests one after the other; each has its own answer, in their order.
async fn batch(endpoint: &Endpoint, reply: &Reply, caller: Arc<Caller>, requests: Vec<Value>) -> HttpResponse {
    if requests.is_empty() || requests.len() > BATCH_MAX || !requests.iter().all(Value::is_object) {
        let message = format!("a batch has 1 to {BATCH_MAX} requests");
        return reply.refuse(StatusCode::BAD_REQUEST, "BATCH_NOT_ALLOWED", &message);
    }
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let prepared = Params::from_json(request).and_then(|params| endpoint.operations.prepare(params));
        answers.push(match prepared {
            Ok(prepared) if prepared.kind() == OperationType::Subscription => {
                errors::only(&[errors::plain("BAD_REQUEST", "a subscription is no part of a batch")])
            }
            Ok(prepared) => to_json(&endpoint.operations.run(prepared, Arc::clone(&caller)).await.0),
            Err(refusal) => errors::only(&[refusal.to_error()]),
        });
    }
    reply.json(StatusCode::OK, format!("[{}]", answers.join(",")))
}

/// A client of server-sent events that comes back says with which event it was left.
fn with_event_id(params: Params, headers: &HeaderMap) -> Params {
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Params { last_event_id, ..params }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let mime = value.to_str().ok().and_then(|value| value.split(';').next());
    mime.is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// How an answer is put into HTTP.
struct Reply {
    accepted: Accepted,
    format: Format,
}

impl Reply {
    /// As the client wants it; the refusal, where it takes nothing that there is.
    fn to(headers: &HeaderMap) -> Result<Reply, Box<HttpResponse>> {
        let accepted = Accepted::of(headers);
        match accepted.for_answer() {
            Some(format) => Ok(Reply { accepted, format }),
            None => {
                let reply = Reply { accepted, format: Format::Json };
                let message = "answers are application/graphql-response+json or application/json";
                Err(Box::new(reply.refuse(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", message)))
            }
        }
    }

    /// The format of all answers, where the client takes streams only.
    fn stream_format(&self) -> Option<Format> {
        matches!(self.format, Format::Events | Format::Multipart).then_some(self.format)
    }

    fn send(&self, response: &Response) -> HttpResponse {
        let status = if is_request_error(response) { self.request_error() } else { StatusCode::OK };
        self.json(status, to_json(response))
    }

    /// The status of requests that are well-formed but cannot be run: whoever reads plain JSON expects 200.
    fn request_error(&self) -> StatusCode {
        if self.format == Format::Json { StatusCode::OK } else { StatusCode::BAD_REQUEST }
    }

    fn refusal(&self, refusal: &Refusal) -> HttpResponse {
        let status = match refusal.code {
            "BAD_REQUEST" => StatusCode::BAD_REQUEST,
            "PERSISTED_QUERY_NOT_FOUND" if self.format != Format::Json => StatusCode::NOT_FOUND,
            _ => self.request_error(),
        };
        self.json(status, errors::only(&[refusal.to_error()]))
    }

    fn unauthenticated(&self) -> HttpResponse {
        let mut response = self.refuse(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "a bearer token is needed");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }

    fn refuse(&self, status: StatusCode, code: &'static str, message: &str) -> HttpResponse {
        self.json(status, errors::only(&[errors::plain(code, message)]))
    }

    fn json(&self, status: StatusCode, body: impl Into<Body>) -> HttpResponse {
        let mime = match self.format {
            Format::ResponseJson => "application/graphql-response+json; charset=utf-8",
            _ => "application/json; charset=utf-8",
        };
        let headers = [
            (header::CONTENT_TYPE, mime),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (status, headers, body.into()).into_response()
    }
}
