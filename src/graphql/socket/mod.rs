//! GraphQL over WebSocket: the protocol graphql-transport-ws, with all its close codes.
//!
//! A socket has a task that reads and one that writes, so a client that reads slowly holds up neither pings nor the end of
//! its token. The writer asks the operations of the socket in turn, as they have answers, so none starves another; while a
//! message does not leave, none is asked, and what a subscription gives next is the newest state. Queries and mutations run
//! in tasks of their own.
//!
//! When the server ends, a socket takes no more operations and lets queries and mutations give their answers. Subscriptions
//! are not completed: clients begin them anew after the close 1012, and never after `complete`.

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
use super::errors::{plain, respond};
use super::http::Endpoint;
use super::limits::UnauthenticatedSocket;
use super::origin::{client_of, is_foreign};
use crate::auth::sessions::Client;
use crate::telemetry::requests::socket_span;

const PROTOCOL: &str = "graphql-transport-ws";
/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The library's own is 128 KiB for each socket.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// For the client to answer a close. What it still sends is read, since a connection that is dropped with bytes unread
/// takes the close with it.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// For queries and mutations that are under way when the server ends.
const FINISH_WAIT: Duration = Duration::from_secs(10);

/// The upgrade. The token comes in `connection_init`, as `Authorization`.
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
        let message = "too many sockets of this address have not said who they are";
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
                // There are many, and they mostly wait: what holds this future is not to be as large too.
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
    // It logs nothing, and is woken for each answer, so it goes without the socket's span.
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
        // What a slow client does not take in time is not waited for.
        let _ = tokio::time::timeout(WRITE_WAIT, &mut writing).await;
    }
    if close.is_some() {
        // The client's answer is waited for.
        let _ = tokio::time::timeout(CLOSE_WAIT, reader.drain()).await;
    }
}
