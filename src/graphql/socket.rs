//! GraphQL over WebSocket: the protocol graphql-transport-ws, with all its close codes.
//!
//! A socket has a task that reads and one that writes, so a client that reads slowly holds up neither pings nor the end of
//! its token. Each operation is a task of its own that hands its answers to the writer one by one: while the writer waits,
//! so does the operation, and what it gives next is the newest state. The writer takes waiting answers in the order in which
//! they came, so no operation of a socket starves another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::extract::{FromRequestParts, Request, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::errors::Refusal;
use super::http::Endpoint;
use super::params::{Params, parse_json};
use crate::auth::Caller;
use crate::clock::until;

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
/// Answers that wait for the writer, of all operations of a socket.
const WAITING_MAX: usize = 16;
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
    if is_foreign(&parts) {
        return (StatusCode::FORBIDDEN, "pages of other origins may not connect").into_response();
    }
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offers = |value: &HeaderValue| value.to_str().is_ok_and(|v| v.split(',').any(|p| p.trim() == PROTOCOL));
    if !offered.iter().any(offers) {
        return (StatusCode::BAD_REQUEST, "the subprotocol is graphql-transport-ws").into_response();
    }
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .protocols([PROTOCOL])
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .read_buffer_size(READ_BUFFER_BYTES)
            .on_upgrade(move |socket| {
                let sockets = endpoint.sockets.clone();
                sockets.track_future(serve(socket, endpoint))
            })
            .into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// Whether a browser says that the page is of another origin than the server. Other clients send no `Origin`.
fn is_foreign(parts: &Parts) -> bool {
    let text = |name| parts.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = text(header::HOST).or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    origin.split_once("://").map(|(_, host)| host) != host
}

async fn serve(socket: WebSocket, endpoint: Endpoint) {
    let (sink, mut stream) = socket.split();
    let (answers, waiting_answers) = mpsc::channel(WAITING_MAX);
    let (orders, waiting_orders) = mpsc::channel(ORDERS_MAX);
    let live = Live::default();
    let writer = Writer { sink, live: live.clone(), answers: waiting_answers, orders: waiting_orders };
    let mut writing = tokio::spawn(writer.run());
    let stop = endpoint.clone();
    let reader = Reader { endpoint, live: live.clone(), answers, orders: orders.clone(), caller: None, opened: 0 };
    let close = tokio::select! {
        close = reader.run(&mut stream) => close,
        _ = &mut writing => None,
        () = turn_to_end(&stop) => Some(RESTART),
    };
    let ended = live.end_all();
    if close == Some(RESTART) {
        for id in ended {
            let complete = Message::text(json!({ "type": "complete", "id": id }).to_string());
            let _ = tokio::time::timeout(WRITE_WAIT, orders.send(Order::Send(complete))).await;
        }
    }
    if let Some(close) = close {
        // The writer may be gone already, or busy for long.
        let _ = tokio::time::timeout(WRITE_WAIT, orders.send(Order::Close(close))).await;
    }
    drop(orders);
    // What a slow client does not take in time is not waited for.
    if !writing.is_finished() && tokio::time::timeout(WRITE_WAIT, &mut writing).await.is_err() {
        writing.abort();
    }
    if close.is_some() {
        let rest = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = tokio::time::timeout(CLOSE_WAIT, rest).await;
    }
}

/// When the server ends, sockets close one after the other, so that not all their clients come back at once.
async fn turn_to_end(endpoint: &Endpoint) {
    endpoint.stop.cancelled().await;
    let spread = u32::try_from(endpoint.sockets.len()).unwrap_or(u32::MAX).saturating_mul(CLOSE_EACH_MICROS);
    let spread = CLOSE_SPREAD_MAX.min(Duration::from_micros(spread.into()));
    tokio::time::sleep(spread.mul_f64(rand::random::<f64>())).await;
}

/// The operations under way on a socket, by id; the number tells one from an earlier one of the same id.
#[derive(Clone, Default)]
struct Live(Arc<Mutex<HashMap<String, (u64, AbortHandle)>>>);

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (u64, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, id: &str, number: u64) -> bool {
        self.lock().get(id).is_some_and(|(other, _)| *other == number)
    }

    fn end(&self, id: &str) {
        if let Some((_, task)) = self.lock().remove(id) {
            task.abort();
        }
    }

    /// Ends all and gives their ids.
    fn end_all(&self) -> Vec<String> {
        let mut live = self.lock();
        let ended = live.drain().map(|(id, (_, task))| {
            task.abort();
            id
        });
        ended.collect()
    }
}

/// What an operation has to say.
enum Answer {
    /// A response as JSON.
    Next(Arc<str>),
    Error(Value),
    Complete,
}

/// An answer and whose it is.
struct Addressed {
    id: String,
    number: u64,
    answer: Answer,
}

/// What goes before all answers.
enum Order {
    Send(Message),
    Close(Close),
}

struct Writer {
    sink: SplitSink<WebSocket, Message>,
    live: Live,
    answers: mpsc::Receiver<Addressed>,
    orders: mpsc::Receiver<Order>,
}

impl Writer {
    /// Until a close was sent, the reader has gone, or a message does not leave in time.
    async fn run(mut self) {
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            let message = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Send(message)) => message,
                    Some(Order::Close(Close(code, reason))) => {
                        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                        self.send(Message::Close(Some(frame))).await;
                        return;
                    }
                    None => {
                        // The reply to a client's close waits in the sink.
                        let _ = tokio::time::timeout(WRITE_WAIT, self.sink.close()).await;
                        return;
                    }
                },
                _ = pings.tick() => Message::Ping(axum::body::Bytes::new()),
                Some(answer) = self.answers.recv() => match self.message(answer) {
                    Some(message) => message,
                    None => continue,
                },
            };
            if !self.send(message).await {
                return;
            }
        }
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(tokio::time::timeout(WRITE_WAIT, self.sink.send(message)).await, Ok(Ok(())))
    }

    /// The message of an answer; none when the client has ended the operation meanwhile. With its last answer an operation
    /// ends, and its id is free before the client can know.
    fn message(&self, Addressed { id, number, answer }: Addressed) -> Option<Message> {
        if !self.live.has(&id, number) {
            return None;
        }
        let message = match answer {
            Answer::Next(payload) => {
                let message = format!(r#"{{"type":"next","id":{},"payload":{payload}}}"#, Value::from(id));
                return Some(Message::text(message));
            }
            Answer::Error(payload) => json!({ "type": "error", "id": id, "payload": payload }),
            Answer::Complete => json!({ "type": "complete", "id": id }),
        };
        self.live.lock().remove(&id);
        Some(Message::text(message.to_string()))
    }
}

struct Reader {
    endpoint: Endpoint,
    live: Live,
    answers: mpsc::Sender<Addressed>,
    orders: mpsc::Sender<Order>,
    /// Known after `connection_init`.
    caller: Option<Arc<Caller>>,
    /// Operations opened so far.
    opened: u64,
}

impl Reader {
    /// Until the client has gone (`None`), or the server has a reason to close.
    async fn run(mut self, stream: &mut SplitStream<WebSocket>) -> Option<Close> {
        let opened = Instant::now();
        let mut last_sign = opened;
        let mut second = (opened, 0u32);
        loop {
            let init_end = if self.caller.is_none() { opened + INIT_WAIT } else { last_sign + SILENCE_MAX };
            let message = tokio::select! {
                message = stream.next() => message?,
                () = sleep_until(init_end) => {
                    return Some(if self.caller.is_none() { INIT_TIMEOUT } else { GOING_AWAY });
                }
                () = self.token_end() => return Some(TOKEN_ENDED),
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
                Ok(Message::Text(text)) => self.take(&text),
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

    async fn token_end(&self) {
        match &self.caller {
            Some(caller) => {
                until(self.endpoint.app.clock.as_ref(), caller.expires_at()).await;
            }
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, text: &str) -> Result<(), Close> {
        let message = parse_json(text.as_bytes()).map_err(|_| BAD_MESSAGE)?;
        let Value::Object(mut message) = message else { return Err(BAD_MESSAGE) };
        let payload = message.remove("payload").filter(|payload| !payload.is_null());
        let kind = message.get("type").and_then(Value::as_str).ok_or(BAD_MESSAGE)?;
        match kind {
            "connection_init" => self.init(payload.as_ref()),
            "ping" => self.order(json!({ "type": "pong" })),
            "pong" => Ok(()),
            "subscribe" => self.subscribe(id_of(&message)?, payload),
            "complete" => {
                self.live.end(id_of(&message)?);
                Ok(())
            }
            _ => Err(BAD_MESSAGE),
        }
    }

    fn order(&self, message: Value) -> Result<(), Close> {
        self.orders.try_send(Order::Send(Message::text(message.to_string()))).map_err(|_| TOO_SLOW)
    }

    fn init(&mut self, payload: Option<&Value>) -> Result<(), Close> {
        if self.caller.is_some() {
            return Err(TOO_MANY_INITS);
        }
        if payload.is_some_and(|payload| !payload.is_object()) {
            return Err(BAD_MESSAGE);
        }
        let authorization =
            ["Authorization", "authorization"].iter().find_map(|name| payload?.get(name).and_then(Value::as_str));
        self.caller = Some(authorization.and_then(|value| self.endpoint.verify(value)).ok_or(FORBIDDEN)?);
        self.order(json!({ "type": "connection_ack" }))
    }

    fn subscribe(&mut self, id: &str, payload: Option<Value>) -> Result<(), Close> {
        let caller = Arc::clone(self.caller.as_ref().ok_or(UNAUTHORIZED)?);
        let params = payload.and_then(|payload| Params::from_json(payload).ok()).ok_or(BAD_MESSAGE)?;
        if params.query.is_none() && !params.extensions.contains_key("persistedQuery") {
            return Err(BAD_MESSAGE);
        }
        let mut live = self.live.lock();
        if live.contains_key(id) {
            return Err(Close(4409, "Subscriber already exists"));
        }
        self.opened += 1;
        let operation = Running { id: id.to_owned(), number: self.opened, answers: self.answers.clone() };
        let is_refused = live.len() >= OPERATIONS_MAX;
        let endpoint = self.endpoint.clone();
        let task = tokio::spawn(async move {
            if is_refused {
                let message = format!("more than {OPERATIONS_MAX} operations on one socket");
                operation.refuse(&Refusal::new("TOO_MANY_SUBSCRIPTIONS", message)).await;
            } else {
                operation.run(&endpoint, params, caller).await;
            }
        });
        live.insert(id.to_owned(), (self.opened, task.abort_handle()));
        Ok(())
    }
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

/// One operation of a socket.
struct Running {
    id: String,
    number: u64,
    answers: mpsc::Sender<Addressed>,
}

impl Running {
    async fn run(self, endpoint: &Endpoint, params: Params, caller: Arc<Caller>) {
        let prepared = match endpoint.operations.prepare(params) {
            Ok(prepared) => prepared,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let is_subscription = prepared.kind() == OperationType::Subscription;
        let mut payloads = endpoint.operations.stream(prepared, caller);
        while let Some(payload) = payloads.next().await {
            if let Some(errors) = payload.refused {
                return self.say(Answer::Error(json!(*errors))).await;
            }
            self.say(Answer::Next(payload.json)).await;
            if !is_subscription {
                break;
            }
        }
        self.say(Answer::Complete).await;
    }

    async fn refuse(&self, refusal: &Refusal) {
        self.say(Answer::Error(json!([refusal.to_error()]))).await;
    }

    /// Waits until the writer has room. When the writer has gone, so will this task be.
    async fn say(&self, answer: Answer) {
        let addressed = Addressed { id: self.id.clone(), number: self.number, answer };
        let _ = self.answers.send(addressed).await;
    }
}
