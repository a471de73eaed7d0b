//! GraphQL over WebSocket: the protocol graphql-transport-ws, with all its close codes.
//!
//! A socket has a reader task and a writer task, so a slow client delays neither pings nor the expiry of its token. The
//! writer polls the socket's operations round-robin, so none starves another; while a message cannot be sent, none is
//! polled (back-pressure), and a subscription then yields its newest state. Queries and mutations run in their own
//! tasks.
//!
//! At shutdown, a socket accepts no more operations and lets queries and mutations finish. Subscriptions are not
//! completed: clients resubscribe after close code 1012, but never after `complete`.

mod close;
mod reader;
mod running;
mod shared;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use axum::extract::{FromRequestParts, Request, WebSocketUpgrade};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::StreamExt;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use self::close::RESTART;
use self::reader::SocketReader;
use self::shared::Shared;
use self::writer::{SocketWriter, WRITE_WAIT};
use super::endpoint::Endpoint;
use super::errors::{plain, respond};
use super::limits::{Place, UnauthenticatedSocket};
use super::origin::{client_of, is_foreign};
use crate::auth::sessions::Client;
use crate::telemetry::requests::socket_span;

const PROTOCOL: &str = "graphql-transport-ws";
/// Maximum length of a message, in bytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The library's default is 128 KiB per socket. Longer messages are read in several turns.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// How long the client has to answer a close. What it still sends is read, since dropping a connection with unread
/// bytes discards the close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long running queries and mutations have at shutdown.
const FINISH_WAIT: Duration = Duration::from_secs(10);

/// The WebSocket upgrade. The token is sent in `connection_init`, as `Authorization`.
pub async fn upgrade(endpoint: Endpoint, request: Request) -> HttpResponse {
    let (mut parts, _) = request.into_parts();
    let client = Arc::new(client_of(&parts, &endpoint.proxies));
    if is_foreign(&parts, &endpoint.origins) {
        return refuse(StatusCode::FORBIDDEN, "FORBIDDEN", "pages of other origins may not connect");
    }
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offers = |value: &HeaderValue| value.to_str().is_ok_and(|v| v.split(',').any(|p| p.trim() == PROTOCOL));
    if !offered.iter().any(offers) {
        return refuse(StatusCode::BAD_REQUEST, "BAD_REQUEST", "the subprotocol is graphql-transport-ws");
    }
    let Some(place) = endpoint.usage.place() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "too many sockets and streams");
    };
    let Some(waiting) = endpoint.usage.wait(client.address) else {
        let message = "too many sockets from this address have not authenticated";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message);
    };
    let span = socket_span(&parts.extensions);
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .protocols([PROTOCOL])
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .read_buffer_size(READ_BUFFER_BYTES)
            .on_upgrade(move |socket| {
                let sockets = endpoint.sockets.clone();
                // Boxed: there are many, mostly idle, and the enclosing future must not be as large.
                Box::pin(sockets.track_future(serve(socket, endpoint, client, waiting, place).instrument(span)))
            })
            .into_response(),
        Err(refused) => refuse(refused.status(), "BAD_REQUEST", &refused.body_text()),
    }
}

fn refuse(status: StatusCode, code: &'static str, message: &str) -> HttpResponse {
    respond(status, &[plain(code, message)])
}

/// Serves a socket that takes its `place` until it has closed.
async fn serve(
    socket: WebSocket,
    endpoint: Endpoint,
    client: Arc<Client>,
    waiting: UnauthenticatedSocket,
    _place: Place,
) {
    let (sink, stream) = socket.split();
    let shared = Arc::new(Shared::default());
    // It logs nothing and wakes for each answer, so it runs outside the socket's span.
    let mut writing = AbortOnDropHandle::new(tokio::spawn(SocketWriter::new(sink, Arc::clone(&shared)).run()));
    let mut reader = SocketReader::new(endpoint.clone(), Arc::clone(&shared), stream, client, waiting);
    let end = async {
        endpoint.turn_to_end().await;
        shared.finish();
        tokio::time::sleep(FINISH_WAIT).await;
    };
    let close = tokio::select! {
        close = reader.read() => close,
        close = &mut writing => close.unwrap_or(None),
        () = end => Some(RESTART),
    };
    shared.close(close);
    shared.end_all();
    if !writing.is_finished() {
        // What a slow client does not read in time is dropped.
        let _ = tokio::time::timeout(WRITE_WAIT, &mut writing).await;
    }
    if close.is_some() {
        // Waits for the client's close frame.
        let _ = tokio::time::timeout(CLOSE_WAIT, reader.drain()).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use hyper::server::conn::http1;
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_util::sync::CancellationToken;

    use super::reader::SILENCE_MAX;
    use super::writer::PING_INTERVAL;
    use super::*;
    use crate::app::App;
    use crate::auth::token::{Subject, Tokens};
    use crate::clock::{ManualClock, SECOND, Timestamp, until};
    use crate::db::{Db, Owner, migrations};
    use crate::graphql::endpoint::Settings;
    use crate::graphql::http;
    use crate::sealing::kek::LocalKek;
    use crate::stream::memory::MemoryStream;
    use crate::tenancy::{NewTenant, create_tenant};

    /// What fits into a connection that nobody reads.
    const UNREAD_BYTES_MAX: usize = 512;
    /// More than that.
    const LONG: &str = r#"{ __type(name: "Query") { fields { name description } } }"#;
    const SHORT: &str = "{ __typename }";
    const TEXT: u8 = 1;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;

    /// An endpoint over a database of its own, and a token.
    struct Test {
        endpoint: Endpoint,
        clock: Arc<ManualClock>,
        token: String,
        token_end: Timestamp,
        watch: String,
        _files: tempfile::TempDir,
    }

    impl Test {
        async fn start() -> Test {
            let files = tempfile::tempdir().expect("a folder");
            let url = format!("sqlite://{}", files.path().join("test.db").display());
            let owner = Owner::connect(&url).await.expect("connected");
            migrations::up(&owner).await.expect("migrated");
            owner.close().await.expect("closed");
            let db = Db::connect(&url, 2).await.expect("connected");
            let new = NewTenant { slug: "acme", name: "acme", timezone: chrono_tz::UTC, currency: "GBP" };
            let tenant = create_tenant(&db, &new, Timestamp(0)).await.expect("a tenant");
            let clock = ManualClock::at(Timestamp(0));
            let kek = Arc::new(LocalKek::from_texts(["dGhlIGtleS1lbmNyeXB0aW9uIGtleSBvZiB0ZXN0cyE="]).expect("a key"));
            let tokens = Tokens::new("a secret of the tests, long enough", "salespulse");
            let (role, user_id) = tenant.users[0];
            let subject = Subject { tenant: tenant.id, user_id, role, session: None };
            let token = tokens.mint(&subject, Timestamp(0), 3600).expect("a token");
            let app = App::new(db, Arc::<ManualClock>::clone(&clock), Arc::new(MemoryStream::default()), tokens, kek);
            let schema = crate::schema::build(app.clone());
            let endpoint = Endpoint::new(app, schema, &Settings::default(), CancellationToken::new());
            let watch = format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", tenant.id.0);
            Test { endpoint, clock, token, token_end: Timestamp(3600 * SECOND), watch, _files: files }
        }

        /// A socket that is acknowledged.
        async fn connect(&self) -> Client {
            let (client, server) = tokio::io::duplex(UNREAD_BYTES_MAX);
            let routes = Router::new().route("/graphql", get(http::get)).with_state(self.endpoint.clone());
            let service = TowerToHyperService::new(routes);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades());
            let mut client = Client(client);
            let request = "GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                           Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
            client.0.write_all(request.as_bytes()).await.expect("sent");
            let mut response = Vec::new();
            while !response.ends_with(b"\r\n\r\n") {
                response.push(client.0.read_u8().await.expect("a response"));
            }
            assert!(response.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&response));
            let authorization = format!("Bearer {}", self.token);
            client.say(json!({ "type": "connection_init", "payload": { "Authorization": authorization } })).await;
            assert_eq!(client.hear().await, json!({ "type": "connection_ack" }));
            client
        }

        /// A socket whose writer waits for the client to read, in the middle of the answer to `long`.
        async fn connect_blocked(&self) -> Client {
            let mut client = self.connect().await;
            client.subscribe("long", LONG).await;
            while client.frame_start().await != TEXT {
                client.frame_rest().await;
            }
            client
        }
    }

    /// A client that reads only when it is told to, so that it answers no ping by itself.
    struct Client(DuplexStream);

    impl Client {
        async fn say(&mut self, message: Value) {
            self.send(TEXT, message.to_string().as_bytes()).await;
        }

        async fn subscribe(&mut self, id: &str, query: &str) {
            self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
        }

        /// Sends a frame whose mask changes nothing.
        async fn send(&mut self, opcode: u8, bytes: &[u8]) {
            let mut frame = vec![0x80 | opcode];
            match u8::try_from(bytes.len()) {
                Ok(length) if length < 126 => frame.push(0x80 | length),
                _ => {
                    frame.push(0x80 | 126);
                    frame.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
                }
            }
            frame.extend([0; 4]);
            frame.extend(bytes);
            self.0.write_all(&frame).await.expect("sent");
        }

        /// The opcode of the next frame.
        async fn frame_start(&mut self) -> u8 {
            let start = tokio::time::timeout(Duration::from_secs(20), self.0.read_u8()).await.expect("within 20 s");
            start.expect("open") & 0x0f
        }

        async fn frame_rest(&mut self) -> Vec<u8> {
            let length = match self.0.read_u8().await.expect("a length") {
                126 => self.0.read_u16().await.expect("a length").into(),
                127 => self.0.read_u64().await.expect("a length"),
                length => length.into(),
            };
            let mut bytes = vec![0; usize::try_from(length).expect("short")];
            self.0.read_exact(&mut bytes).await.expect("read");
            bytes
        }

        async fn frame(&mut self) -> (u8, Vec<u8>) {
            (self.frame_start().await, self.frame_rest().await)
        }

        /// The next frame that is no ping.
        async fn frame_after_pings(&mut self) -> (u8, Vec<u8>) {
            loop {
                let (opcode, bytes) = self.frame().await;
                if opcode != PING {
                    return (opcode, bytes);
                }
            }
        }

        async fn hear(&mut self) -> Value {
            let (opcode, bytes) = self.frame_after_pings().await;
            assert_eq!(opcode, TEXT, "{}", String::from_utf8_lossy(&bytes));
            serde_json::from_slice(&bytes).expect("JSON")
        }
    }

    /// The bytes of a close frame.
    fn close_bytes(close: close::Close) -> Vec<u8> {
        [&close.0.to_be_bytes(), close.1.as_bytes()].concat()
    }

    #[tokio::test]
    async fn who_gives_no_sign_of_life_is_left() {
        let test = Test::start().await;
        let mut client = test.connect().await;
        assert_eq!(client.frame().await, (PING, Vec::new()));
        assert_eq!(client.frame_after_pings().await, (CLOSE, close_bytes(close::GOING_AWAY)));
    }

    #[tokio::test]
    async fn who_answers_pings_stays() {
        let test = Test::start().await;
        let mut client = test.connect().await;
        let pings = 2 * SILENCE_MAX.as_millis() / PING_INTERVAL.as_millis();
        for _ in 0..pings {
            assert_eq!(client.frame().await, (PING, Vec::new()));
            client.send(PONG, &[]).await;
        }
        client.subscribe("1", SHORT).await;
        assert_eq!(client.hear().await["type"], "next");
    }

    #[tokio::test]
    async fn what_a_client_completes_while_it_does_not_read_is_not_sent() {
        let test = Test::start().await;
        let mut client = test.connect_blocked().await;
        client.subscribe("1", &test.watch).await;
        client.say(json!({ "type": "complete", "id": "1" })).await;
        // Its id is free.
        client.subscribe("1", SHORT).await;
        let long: Value = serde_json::from_slice(&client.frame_rest().await).expect("JSON");
        assert_eq!((&long["type"], &long["id"]), (&json!("next"), &json!("long")));
        let mut heard = [client.hear().await, client.hear().await, client.hear().await];
        // Operations take turns.
        heard.sort_by_key(|message| message["id"] != "1");
        let short = json!({ "data": { "__typename": "Query" } });
        assert_eq!(heard[0], json!({ "type": "next", "id": "1", "payload": short }));
        assert_eq!(heard[1], json!({ "type": "complete", "id": "1" }));
        assert_eq!(heard[2], json!({ "type": "complete", "id": "long" }));
    }

    #[tokio::test]
    async fn a_token_ends_while_its_client_does_not_read() {
        let test = Test::start().await;
        // Less than the client may be silent.
        test.clock.set(Timestamp(test.token_end.0 - SECOND / 2));
        let mut client = test.connect_blocked().await;
        client.subscribe("1", &test.watch).await;
        // The server began to wait for that earlier.
        until(test.clock.as_ref(), test.token_end).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let long: Value = serde_json::from_slice(&client.frame_rest().await).expect("JSON");
        assert_eq!((&long["type"], &long["id"]), (&json!("next"), &json!("long")));
        assert_eq!(client.frame_after_pings().await, (CLOSE, close_bytes(close::TOKEN_ENDED)));
    }
}
