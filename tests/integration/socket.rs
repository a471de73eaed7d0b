//! A client of graphql-transport-ws that knows just what the tests need.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::Server;

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// An acknowledged connection.
    pub async fn open(server: &Server, token: &str) -> Socket {
        let payload = json!({ "Authorization": format!("Bearer {token}") });
        Socket::try_open(server, payload).await.expect("acknowledged")
    }

    /// `None` when the server closes instead of acknowledging.
    pub async fn try_open(server: &Server, payload: Value) -> Option<Socket> {
        Socket::try_open_at(server.address, payload).await
    }

    pub async fn try_open_at(address: SocketAddr, payload: Value) -> Option<Socket> {
        let mut request = format!("ws://{address}/graphql").into_client_request().expect("a request");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "graphql-transport-ws".parse().expect("a header"));
        let (stream, response) = tokio_tungstenite::connect_async(request).await.expect("upgraded");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "graphql-transport-ws");
        let mut socket = Socket(stream);
        socket.send(json!({ "type": "connection_init", "payload": payload })).await;
        let answer = socket.receive().await?;
        assert_eq!(answer["type"], "connection_ack");
        Some(socket)
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({ "query": query, "variables": variables });
        self.send(json!({ "type": "subscribe", "id": id, "payload": payload })).await;
    }

    /// The payload of the next `next` or `error` of an operation.
    pub async fn next(&mut self, id: &str) -> Value {
        loop {
            let message = self.receive().await.expect("an open socket");
            match message["type"].as_str() {
                Some("next") if message["id"] == id => return message["payload"].clone(),
                Some("error") if message["id"] == id => return json!({ "errors": message["payload"] }),
                _ => {}
            }
        }
    }

    /// One exchange with the server, so that what was sent before is under way.
    pub async fn ready(&mut self) {
        self.subscribe("ready", "{ __typename }", Value::Null).await;
        self.next("ready").await;
    }

    /// Presents another token; the answer is not waited for.
    pub async fn renew(&mut self, token: &str) {
        self.send(json!({ "type": "ping", "payload": { "Authorization": format!("Bearer {token}") } })).await;
    }

    /// The code with which the server closes.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("not closed: {other:?}"),
            }
        }
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// The next message; `None` when the socket is closed.
    async fn receive(&mut self) -> Option<Value> {
        let message = async {
            loop {
                match self.0.next().await? {
                    Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("json")),
                    Ok(Message::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), message).await.expect("within 20 s")
    }
}
