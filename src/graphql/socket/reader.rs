//! The reader of a socket.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::extract::ws::{Message, WebSocket};
use futures_util::future::BoxFuture;
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SplitStream};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::close::{
    BAD_MESSAGE, BINARY, Close, EXISTS, FORBIDDEN, GOING_AWAY, INIT_TIMEOUT, TOKEN_ENDED, TOO_MANY_INITS,
    TOO_MANY_MESSAGES, TOO_MANY_SOCKETS, UNAUTHORIZED, UNAVAILABLE, close_of,
};
use super::running::Running;
use super::shared::{Live, Shared, WriterCommand};
use crate::auth::Caller;
use crate::auth::sessions::Client;
use crate::error::Code;
use crate::graphql::endpoint::{Endpoint, Requester};
use crate::graphql::errors::{Refusal, unplaced};
use crate::graphql::limits::{Seat, UnauthenticatedSocket};
use crate::graphql::params::{Params, parse_json};
use crate::graphql::payload::Payload;

const ID_CHARS_MAX: usize = 128;
/// Maximum number of concurrent operations per socket.
const OPERATIONS_MAX: usize = 100;
/// Maximum number of client messages per second.
const MESSAGES_MAX: u32 = 200;
/// From the upgrade to `connection_init`.
const INIT_WAIT: Duration = Duration::from_secs(10);
/// Idle timeout: maximum time between signs of life from the client.
pub const SILENCE_MAX: Duration = Duration::from_millis(if cfg!(test) { 3_000 } else { 30_000 });

pub struct SocketReader {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    stream: SplitStream<WebSocket>,
    client: Arc<Client>,
    /// Set by `connection_init`; a ping may replace it with a newer token of the same user.
    caller: Option<Arc<Caller>>,
    /// Resolves when the caller loses access. It lasts from message to message: to find out takes a read, which a client
    /// could otherwise interrupt by sending.
    ended: BoxFuture<'static, ()>,
    /// Counts the socket towards its address, until `connection_init`.
    waiting: Option<UnauthenticatedSocket>,
    /// Counts the socket towards its caller.
    seat: Option<Seat>,
    /// Number of operations opened so far.
    opened: u64,
}

impl SocketReader {
    pub fn new(
        endpoint: Endpoint,
        shared: Arc<Shared>,
        stream: SplitStream<WebSocket>,
        client: Arc<Client>,
        waiting: UnauthenticatedSocket,
    ) -> Self {
        let ended = std::future::pending().boxed();
        let waiting = Some(waiting);
        SocketReader { endpoint, shared, stream, client, caller: None, ended, waiting, seat: None, opened: 0 }
    }

    /// Reads and discards what arrives after the end.
    pub async fn drain(&mut self) {
        while let Some(Ok(_)) = self.stream.next().await {}
    }

    /// Reads until the client has gone (`None`) or the server has a reason to close.
    pub async fn read(&mut self) -> Option<Close> {
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
                () = &mut self.ended => return Some(TOKEN_ENDED),
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
        let message = match parse_json(text.as_bytes()) {
            Ok(message) => message,
            Err(refusal) => return self.refuse(text, &refusal),
        };
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

    /// Answers an operation whose payload cannot be read, such as one with half a surrogate pair, under its id.
    fn refuse(&mut self, text: &str, refusal: &Refusal) -> Result<(), Close> {
        let envelope: Envelope = serde_json::from_str(text).map_err(|_| BAD_MESSAGE)?;
        if envelope.kind != "subscribe" {
            return Err(BAD_MESSAGE);
        }
        self.caller.as_ref().ok_or(UNAUTHORIZED)?;
        self.run(check_id(&envelope.id)?, |_| (refused(refusal), false))
    }

    fn send(&self, message: Value) -> Result<(), Close> {
        self.shared.command(WriterCommand::Send(Message::text(message.to_string())))
    }

    async fn init(&mut self, payload: Option<&Value>) -> Result<(), Close> {
        if self.caller.is_some() {
            return Err(TOO_MANY_INITS);
        }
        if payload.is_some_and(|payload| !payload.is_object()) {
            return Err(BAD_MESSAGE);
        }
        // A missing token is rejected like an invalid one.
        let caller = self.verify(authorization(payload).unwrap_or_default()).await?;
        self.seat = Some(self.endpoint.usage.seat(&caller).ok_or(TOO_MANY_SOCKETS)?);
        self.waiting = None;
        self.let_in(caller);
        self.send(json!({ "type": "connection_ack" }))
    }

    /// A ping may carry a fresh token, which replaces the socket's, as long as it is for the same user and permissions.
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
            self.let_in(fresh);
        }
        self.send(json!({ "type": "pong" }))
    }

    fn let_in(&mut self, caller: Arc<Caller>) {
        self.caller = Some(Arc::clone(&caller));
        let endpoint = self.endpoint.clone();
        self.ended = async move { endpoint.ended(Some(&caller)).await }.boxed();
    }

    async fn verify(&mut self, authorization: &str) -> Result<Arc<Caller>, Close> {
        self.endpoint.verify(authorization, &self.client).await.map_err(|error| match error.code {
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
        let requester = self.endpoint.requester(Some(caller), Arc::clone(&self.client));
        self.run(id, |reader| reader.start(params, requester))
    }

    /// Runs an operation under an id that must be free: its answers, and whether it is a subscription.
    fn run(&mut self, id: &str, start: impl FnOnce(&Self) -> (BoxStream<'static, Payload>, bool)) -> Result<(), Close> {
        // Only this task adds operations, and the writer, which removes them, is not held up while the document is
        // parsed.
        let (exists, count) = {
            let live = self.shared.live();
            (live.contains_key(id), live.len())
        };
        if exists {
            return Err(EXISTS);
        }
        if self.shared.is_finishing() {
            // The close that follows tells the client to retry.
            return Ok(());
        }
        self.opened += 1;
        let (payloads, is_subscription) = if count >= OPERATIONS_MAX {
            let message = format!("more than {OPERATIONS_MAX} operations on one socket");
            (refused(&Refusal::new("TOO_MANY_SUBSCRIPTIONS", message)), false)
        } else {
            start(self)
        };
        let running = Running::new(id, self.opened, payloads);
        let (handle, registration) = AbortHandle::new_pair();
        let mut live = self.shared.live();
        if self.shared.is_finishing() {
            return Ok(());
        }
        live.insert(id.to_owned(), Live { number: self.opened, handle, is_subscription });
        drop(live);
        self.shared.command(WriterCommand::Run(Abortable::new(running, registration)))
    }

    /// The answers of an operation, which is started, and whether it is a subscription.
    fn start(&self, params: Params, requester: Requester) -> (BoxStream<'static, Payload>, bool) {
        let executor = &self.endpoint.executor;
        let prepared = executor
            .prepare(params, requester.caller.as_deref())
            .and_then(|prepared| self.endpoint.spend(&requester, prepared));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return (refused(&refusal), false),
        };
        if prepared.kind == OperationType::Subscription {
            return (executor.stream(prepared, requester), true);
        }
        let executor = executor.clone();
        let run = async move { Payload::plain(executor.run(prepared, requester).await.0) };
        let task = tokio::spawn(run.in_current_span());
        let task = AbortOnDropHandle::new(task);
        let answer = async move {
            task.await.unwrap_or_else(|error| Payload::refused(unplaced(crate::error::Error::internal(error))))
        };
        (futures_util::stream::once(answer).boxed(), false)
    }
}

fn refused(refusal: &Refusal) -> BoxStream<'static, Payload> {
    futures_util::stream::once(std::future::ready(Payload::refused(refusal.to_error()))).boxed()
}

/// The token in a payload.
fn authorization(payload: Option<&Value>) -> Option<&str> {
    ["Authorization", "authorization"].iter().find_map(|name| payload?.get(name)?.as_str())
}

/// A message without its payload.
#[derive(serde::Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

fn id_of(message: &serde_json::Map<String, Value>) -> Result<&str, Close> {
    check_id(message.get("id").and_then(Value::as_str).ok_or(BAD_MESSAGE)?)
}

fn check_id(id: &str) -> Result<&str, Close> {
    if id.is_empty() || id.chars().count() > ID_CHARS_MAX { Err(BAD_MESSAGE) } else { Ok(id) }
}
