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
use super::limits::UnauthenticatedSocket;
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
    if !endpoint.usage.takes_socket(endpoint.sockets.len()) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "too many sockets");
    }
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
                Box::pin(sockets.track_future(serve(socket, endpoint, client, waiting).instrument(span)))
            })
            .into_response(),
        Err(refused) => refuse(refused.status(), "BAD_REQUEST", &refused.body_text()),
    }
}

fn refuse(status: StatusCode, code: &'static str, message: &str) -> HttpResponse {
    respond(status, &[plain(code, message)])
}

async fn serve(socket: WebSocket, endpoint: Endpoint, client: Arc<Client>, waiting: UnauthenticatedSocket) {
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
