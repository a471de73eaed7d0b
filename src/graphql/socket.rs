//! GraphQL over WebSocket: the protocol graphql-transport-ws, with all its close codes.
//!
//! A socket has a task that reads and one that writes, so a client that reads slowly holds up neither pings nor the end of
//! its token. The writer asks the operations of the socket in turn, as they have answers, so none starves another; while a
//! message does not leave, none is asked, and what a subscription gives next is the newest state. Queries and mutations run
//! in tasks of their own.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::extract::{FromRequestParts, Request, WebSocketUpgrade};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SelectAll, SplitSink, SplitStream};
use futures_util::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::errors::Refusal;
use super::http::{Asker, Endpoint};
use super::limits::Seat;
use super::origin::{client_of, is_foreign};
use super::params::{Params, parse_json};
use super::payload::Payload;
use crate::auth::Caller;
use crate::auth::sessions::Client;
use crate::error::Code;
use crate::telemetry::metrics::METRICS;
use crate::telemetry::requests::socket_span;

const PROTOCOL: &str = "graphql-transport-ws";

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The library's own is 128 KiB for each socket.
const READ_BUFFER_BYTES: usize = 4 * 1024;
const ID_CHARS_MAX: usize = 128;
/// Operations under way on one socket.
const OPERATIONS_MAX: usize = 100;
/// Messages of a client in one second.
const MESSAGES_MAX: u32 = 200;
/// Acknowledgements and pongs that wait for the writer: what a client may ask for in a second, and more.
const ORDERS_MAX: usize = 256;

/// From the upgrade to `connection_init`.
const INIT_WAIT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// From a sign of life of the client to the end, when no other comes.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// For one message to leave.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// For the client to answer a close. What it still sends is read, since a connection that is dropped with bytes unread
/// takes the close with it.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long the sockets of a server that ends take to close: this for each, and no longer than that in all.
const CLOSE_EACH_MICROS: u32 = 500;
const CLOSE_SPREAD_MAX: Duration = Duration::from_secs(5);

/// Why the server closes, as the protocol numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Close(u16, &'static str);

const GOING_AWAY: Close = Close(1001, "no sign of life");
const BINARY: Close = Close(1003, "text messages only");
const NOT_UTF8: Close = Close(1007, "not UTF-8");
const TOO_BIG: Close = Close(1009, "the message is too long");
const TOO_SLOW: Close = Close(1013, "answers are not read");
const TOO_MANY_SOCKETS: Close = Close(1013, "too many sockets");
const UNAVAILABLE: Close = Close(1013, "try again later");
const RESTART: Close = Close(1012, "the server restarts");
const BAD_MESSAGE: Close = Close(4400, "Invalid message");
const UNAUTHORIZED: Close = Close(4401, "Unauthorized");
const FORBIDDEN: Close = Close(4403, "Forbidden");
const TOKEN_ENDED: Close = Close(4403, "the token has ended");
const INIT_TIMEOUT: Close = Close(4408, "Connection initialisation timeout");
const TOO_MANY_INITS: Close = Close(4429, "Too many initialisation requests");
const TOO_MANY_MESSAGES: Close = Close(4429, "Too many messages");

/// The upgrade. The token comes in `connection_init`, as `Authorization`.
pub async fn upgrade(endpoint: Endpoint, request: Request) -> HttpResponse {
    let (mut parts, _) = request.into_parts();
    let client = Arc::new(client_of(&parts, &endpoint.proxies));
    if is_foreign(&parts) {
        return (StatusCode::FORBIDDEN, "pages of other origins may not connect").into_response();
    }
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offers = |value: &HeaderValue| value.to_str().is_ok_and(|v| v.split(',').any(|p| p.trim() == PROTOCOL));
    if !offered.iter().any(offers) {
        return (StatusCode::BAD_REQUEST, "the subprotocol is graphql-transport-ws").into_response();
    }
    if !endpoint.usage.takes_socket(endpoint.sockets.len()) {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "too many sockets").into_response();
    }
    let span = socket_span(&parts.extensions);
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .protocols([PROTOCOL])
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .read_buffer_size(READ_BUFFER_BYTES)
            .on_upgrade(move |socket| {
                let sockets = endpoint.sockets.clone();
                // There are many, and they mostly wait: what holds this future is not to be as large too.
                Box::pin(sockets.track_future(serve(socket, endpoint, client).instrument(span)))
            })
            .into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn serve(socket: WebSocket, endpoint: Endpoint, client: Arc<Client>) {
    let (sink, stream) = socket.split();
    let shared = Arc::new(Shared::default());
    let mut writer = Writer { sink, shared: Arc::clone(&shared), running: SelectAll::new() };
    let reader = Reader {
        endpoint: endpoint.clone(),
        shared: Arc::clone(&shared),
        stream,
        client,
        caller: None,
        seat: None,
        opened: 0,
    };
    let mut reading = AbortOnDropHandle::new(tokio::spawn(reader.run().in_current_span()));
    let (close, stream) = tokio::select! {
        read = &mut reading => read.map_or((None, None), |(close, stream)| (close, Some(stream))),
        () = writer.run() => (None, None),
        () = turn_to_end(&endpoint) => (Some(RESTART), None),
    };
    METRICS.socket_closes.with_label_values(&[&close.map_or("none".into(), |Close(code, _)| code.to_string())]).inc();
    let ended = shared.end_all();
    let completes = if close == Some(RESTART) { ended } else { Vec::new() };
    // What a slow client does not take in time is not waited for.
    let _ = tokio::time::timeout(WRITE_WAIT, writer.close(completes, close)).await;
    // The client's answer is waited for.
    match stream {
        Some(mut stream) if close.is_some() => {
            let rest = async { while let Some(Ok(_)) = stream.next().await {} };
            let _ = tokio::time::timeout(CLOSE_WAIT, rest).await;
        }
        Some(_) => {}
        None if close.is_some() => {
            let _ = tokio::time::timeout(CLOSE_WAIT, reading).await;
        }
        None => {}
    }
}

/// When the server ends, sockets close one after the other, so that not all their clients come back at once.
async fn turn_to_end(endpoint: &Endpoint) {
    endpoint.stop.cancelled().await;
    let spread = u32::try_from(endpoint.sockets.len()).unwrap_or(u32::MAX).saturating_mul(CLOSE_EACH_MICROS);
    let spread = CLOSE_SPREAD_MAX.min(Duration::from_micros(spread.into()));
    tokio::time::sleep(spread.mul_f64(rand::random::<f64>())).await;
}

/// What reader and writer share.
#[derive(Default)]
struct Shared {
    /// The operations under way, by id; the number tells one from an earlier one of the same id.
    live: Mutex<HashMap<String, (u64, AbortHandle)>>,
    /// What the reader has for the writer.
    orders: Mutex<VecDeque<Order>>,
    has_orders: Notify,
}

/// What goes before all answers.
enum Order {
    Send(Message),
    Run(Abortable<Running>),
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, HashMap<String, (u64, AbortHandle)>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: &str) {
        if let Some((_, operation)) = self.live().remove(id) {
            operation.abort();
        }
    }

    /// Takes an operation out that has said its last, so that its id is free before the client can know; `false` when the
    /// client has ended it meanwhile.
    fn has_ended(&self, id: &str, number: u64) -> bool {
        let mut live = self.live();
        let is_live = live.get(id).is_some_and(|(other, _)| *other == number);
        if is_live {
            live.remove(id);
        }
        is_live
    }

    /// Ends all and gives their ids.
    fn end_all(&self) -> Vec<String> {
        let mut live = self.live();
        let ended = live.drain().map(|(id, (_, operation))| {
            operation.abort();
            id
        });
        ended.collect()
    }

    /// Error: too many wait.
    fn order(&self, order: Order) -> Result<(), Close> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() >= ORDERS_MAX {
            return Err(TOO_SLOW);
        }
        orders.push_back(order);
        self.has_orders.notify_one();
        Ok(())
    }

    fn next_order(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// One operation of a socket: its answers as messages, then its end.
struct Running {
    id: String,
    number: u64,
    payloads: BoxStream<'static, Payload>,
    is_done: bool,
}

/// What an operation has to say.
enum Said {
    Next(Message),
    /// The last message, and whose it is.
    Last(Message, String, u64),
}

impl Running {
    /// A response under the operation's id.
    fn next_message(&self, json: &str) -> Message {
        const START: &str = r#"{"type":"next","payload":"#;
        let id = Value::from(self.id.as_str()).to_string();
        let mut text = String::with_capacity(START.len() + json.len() + id.len() + 8);
        for part in [START, json, r#","id":"#, &id, "}"] {
            text.push_str(part);
        }
        Message::text(text)
    }
}

impl Stream for Running {
    type Item = Said;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Said>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let last = match ready!(self.payloads.poll_next_unpin(context)) {
            Some(Payload { json, refused: None, .. }) => {
                return Poll::Ready(Some(Said::Next(self.next_message(&json))));
            }
            Some(Payload { refused: Some(errors), .. }) => {
                let error = json!({ "type": "error", "id": self.id, "payload": *errors });
                Message::text(error.to_string())
            }
            None => complete(&self.id),
        };
        self.is_done = true;
        Poll::Ready(Some(Said::Last(last, self.id.clone(), self.number)))
    }
}

struct Writer {
    sink: SplitSink<WebSocket, Message>,
    shared: Arc<Shared>,
    running: SelectAll<Abortable<Running>>,
}

impl Writer {
    /// Until a message does not leave in time.
    async fn run(&mut self) {
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            let message = match self.shared.next_order() {
                Some(Order::Send(message)) => message,
                Some(Order::Run(operation)) => {
                    self.running.push(operation);
                    continue;
                }
                None => tokio::select! {
                    biased;
                    () = self.shared.has_orders.notified() => continue,
                    _ = pings.tick() => Message::Ping(axum::body::Bytes::new()),
                    Some(said) = self.running.next() => match said {
                        Said::Next(message) => message,
                        Said::Last(message, id, number) if self.shared.has_ended(&id, number) => message,
                        Said::Last(..) => continue,
                    },
                },
            };
            let sent = tokio::time::timeout(WRITE_WAIT, self.sink.send(message)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Sends what was ordered, completes operations, and closes.
    async fn close(mut self, completes: Vec<String>, close: Option<Close>) -> Result<(), axum::Error> {
        while let Some(order) = self.shared.next_order() {
            if let Order::Send(message) = order {
                self.sink.feed(message).await?;
            }
        }
        for id in completes {
            self.sink.feed(complete(&id)).await?;
        }
        match close {
            Some(Close(code, reason)) => {
                let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                self.sink.send(Message::Close(Some(frame))).await
            }
            // The reply to a client's close waits in the sink.
            None => self.sink.close().await,
        }
    }
}

fn complete(id: &str) -> Message {
    Message::text(json!({ "type": "complete", "id": id }).to_string())
}

struct Reader {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    stream: SplitStream<WebSocket>,
    client: Arc<Client>,
    /// Known after `connection_init`; a ping may bring a newer token of the same.
    caller: Option<Arc<Caller>>,
    /// Counts it among the sockets of its caller.
    seat: Option<Seat>,
    /// Operations opened so far.
    opened: u64,
}

impl Reader {
    /// Until the client has gone (`None`), or the server has a reason to close. What comes after is left in the stream.
    async fn run(mut self) -> (Option<Close>, SplitStream<WebSocket>) {
        let close = self.read().await;
        (close, self.stream)
    }

    async fn read(&mut self) -> Option<Close> {
        let opened = Instant::now();
        let mut last_sign = opened;
        let mut second = (opened, 0u32);
        loop {
            let init_end = if self.caller.is_none() { opened + INIT_WAIT } else { last_sign + SILENCE_MAX };
            let message = tokio::select! {
                message = self.stream.next() => message?,
                () = sleep_until(init_end) => {
                    return Some(if self.caller.is_none() { INIT_TIMEOUT } else { GOING_AWAY });
                }
                () = self.endpoint.ended(self.caller.as_deref()) => return Some(TOKEN_ENDED),
            };
            last_sign = Instant::now();
            if last_sign - second.0 >= Duration::from_secs(1) {
                second = (last_sign, 0);
            }
            second.1 += 1;
            if second.1 > MESSAGES_MAX {
                return Some(TOO_MANY_MESSAGES);
            }
            let taken = match message {
                Ok(Message::Text(text)) => self.take(&text).await,
                Ok(Message::Binary(_)) => Err(BINARY),
                Ok(Message::Ping(_) | Message::Pong(_)) => Ok(()),
                Ok(Message::Close(_)) => return None,
                Err(error) => return close_of(&error),
            };
            if let Err(close) = taken {
                return Some(close);
            }
        }
    }

    async fn take(&mut self, text: &str) -> Result<(), Close> {
        let message = parse_json(text.as_bytes()).map_err(|_| BAD_MESSAGE)?;
        let Value::Object(mut message) = message else { return Err(BAD_MESSAGE) };
        let payload = message.remove("payload").filter(|payload| !payload.is_null());
        let kind = message.get("type").and_then(Value::as_str).ok_or(BAD_MESSAGE)?;
        match kind {
            "connection_init" => self.init(payload.as_ref()).await,
            "ping" => self.ping(payload.as_ref()).await,
            "pong" => Ok(()),
            "subscribe" => self.subscribe(id_of(&message)?, payload),
            "complete" => {
                self.shared.end(id_of(&message)?);
                Ok(())
            }
            _ => Err(BAD_MESSAGE),
        }
    }

    fn order(&self, message: Value) -> Result<(), Close> {
        self.shared.order(Order::Send(Message::text(message.to_string())))
    }

    async fn init(&mut self, payload: Option<&Value>) -> Result<(), Close> {
        if self.caller.is_some() {
            return Err(TOO_MANY_INITS);
        }
        if payload.is_some_and(|payload| !payload.is_object()) {
            return Err(BAD_MESSAGE);
        }
        let authorization = authorization(payload).ok_or(FORBIDDEN)?;
        let caller = self.verify(authorization).await?;
        self.seat = Some(self.endpoint.usage.seat(&caller).ok_or(TOO_MANY_SOCKETS)?);
        self.caller = Some(caller);
        self.order(json!({ "type": "connection_ack" }))
    }

    /// A ping may bring a fresh token, which the socket goes on with, as long as it is for the same user and no other rights.
    async fn ping(&mut self, payload: Option<&Value>) -> Result<(), Close> {
        if let (Some(authorization), Some(caller)) = (authorization(payload), &self.caller) {
            let caller = Arc::clone(caller);
            let fresh = self.verify(authorization).await?;
            let is_same = |fresh: &Caller| {
                (fresh.tenant, fresh.user_id, &fresh.permissions)
                    == (caller.tenant, caller.user_id, &caller.permissions)
            };
            if !is_same(&fresh) {
                return Err(FORBIDDEN);
            }
            self.caller = Some(fresh);
        }
        self.order(json!({ "type": "pong" }))
    }

    async fn verify(&self, authorization: &str) -> Result<Arc<Caller>, Close> {
        self.endpoint.verify(authorization).await.map_err(|error| match error.code {
            Code::Unauthenticated => FORBIDDEN,
            _ => UNAVAILABLE,
        })
    }

    fn subscribe(&mut self, id: &str, payload: Option<Value>) -> Result<(), Close> {
        let caller = Arc::clone(self.caller.as_ref().ok_or(UNAUTHORIZED)?);
        let params = payload.and_then(|payload| Params::from_json(payload).ok()).ok_or(BAD_MESSAGE)?;
        if params.query.is_none() && !params.extensions.contains_key("persistedQuery") {
            return Err(BAD_MESSAGE);
        }
        let mut live = self.shared.live();
        if live.contains_key(id) {
            return Err(Close(4409, "Subscriber already exists"));
        }
        self.opened += 1;
        let payloads = if live.len() >= OPERATIONS_MAX {
            let message = format!("more than {OPERATIONS_MAX} operations on one socket");
            refused(&Refusal::new("TOO_MANY_SUBSCRIPTIONS", message))
        } else {
            self.start(params, Asker { caller: Some(caller), client: Arc::clone(&self.client) })
        };
        let running = Running { id: id.to_owned(), number: self.opened, payloads, is_done: false };
        let (handle, registration) = AbortHandle::new_pair();
        live.insert(id.to_owned(), (self.opened, handle));
        drop(live);
        self.shared.order(Order::Run(Abortable::new(running, registration)))
    }

    /// The answers of an operation, which is under way.
    fn start(&self, params: Params, asker: Asker) -> BoxStream<'static, Payload> {
        let operations = &self.endpoint.operations;
        let prepared = operations.prepare(params).and_then(|prepared| self.endpoint.spend(&asker, prepared));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return refused(&refusal),
        };
        if prepared.kind() == OperationType::Subscription {
            return operations.stream(prepared, asker);
        }
        let operations = operations.clone();
        let run = async move { Payload::plain(operations.run(prepared, asker).await.0) };
        let task = tokio::spawn(run.in_current_span());
        let task = AbortOnDropHandle::new(task);
        let answer = async move {
            task.await.unwrap_or_else(|error| {
                let error = async_graphql::Error::from(crate::error::Error::internal(error));
                Payload::refused(error.into_server_error(async_graphql::Pos::default()))
            })
        };
        futures_util::stream::once(answer).boxed()
    }
}

fn refused(refusal: &Refusal) -> BoxStream<'static, Payload> {
    futures_util::stream::once(std::future::ready(Payload::refused(refusal.to_error()))).boxed()
}

/// The token that a payload brings.
fn authorization(payload: Option<&Value>) -> Option<&str> {
    ["Authorization", "authorization"].iter().find_map(|name| payload?.get(name)?.as_str())
}

fn id_of(message: &serde_json::Map<String, Value>) -> Result<&str, Close> {
    let id = message.get("id").and_then(Value::as_str).ok_or(BAD_MESSAGE)?;
    if id.is_empty() || id.chars().count() > ID_CHARS_MAX { Err(BAD_MESSAGE) } else { Ok(id) }
}

/// What to tell a client that broke the rules of WebSocket itself.
fn close_of(error: &axum::Error) -> Option<Close> {
    use tungstenite::Error;
    let inner = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match inner {
        Some(Error::Capacity(_)) => Some(TOO_BIG),
        Some(Error::Utf8(_)) => Some(NOT_UTF8),
        Some(Error::Protocol(_)) => Some(Close(1002, "protocol error")),
        _ => None,
    }
}
