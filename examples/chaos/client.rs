//! GraphQL over HTTP and WebSocket, where anything may fail at any time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Servers ping more often.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Complete answers with 5xx that had no code.
pub static NAMELESS: AtomicU64 = AtomicU64::new(0);

pub type Socket = WebSocketStream<TcpStream>;

/// The data of an answer without errors; `None` when there was none.
pub async fn post(address: SocketAddr, token: &str, query: &str, variables: Value) -> Option<Value> {
    let body = json!({ "query": query, "variables": variables }).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = tokio::time::timeout(ANSWER_WAIT, exchange(address, &request)).await.ok()??;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let answer = serde_json::from_str::<Value>(body).ok();
    let code = answer.as_ref().and_then(|answer| answer["errors"][0]["extensions"]["code"].as_str());
    if head.starts_with("HTTP/1.1 5") && code.is_none() && is_complete(head, body) {
        NAMELESS.fetch_add(1, Ordering::Relaxed);
    }
    answer.filter(|answer| answer.get("errors").is_none()).map(|answer| answer["data"].clone())
}

/// Whether the server was not killed while it answered.
fn is_complete(head: &str, body: &str) -> bool {
    let length = head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| *name == "content-length");
    length.is_none_or(|(_, length)| length.parse() == Ok(body.len()))
}

pub async fn is_ready(address: SocketAddr) -> bool {
    let request = "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = tokio::time::timeout(ANSWER_WAIT, exchange(address, request)).await;
    answer.ok().flatten().is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

async fn exchange(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// A socket that is subscribed to one thing.
pub async fn subscribe(address: SocketAddr, token: &str, query: &str, variables: Value) -> Option<Socket> {
    let opened = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let mut request = format!("ws://{address}/graphql").into_client_request().ok()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "graphql-transport-ws".parse().ok()?);
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.ok()?;
        let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } });
        socket.send(Message::text(init.to_string())).await.ok()?;
        let payload = json!({ "query": query, "variables": variables });
        let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
        let ack = socket.next().await?.ok()?;
        if !ack.to_text().ok()?.contains("connection_ack") {
            return None;
        }
        socket.send(Message::text(subscribe.to_string())).await.ok()?;
        Some(socket)
    };
    tokio::time::timeout(ANSWER_WAIT, opened).await.ok()?
}

/// The next answer; `None` when the socket is of no use any more.
pub async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        let message = tokio::time::timeout(SILENCE_MAX, socket.next()).await.ok()??.ok()?;
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).ok()?;
        match message["type"].as_str() {
            Some("next") => return Some(message["payload"].clone()),
            Some("error" | "complete") => return None,
            _ => {}
        }
    }
}
