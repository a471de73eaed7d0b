//! A client that uses every transport.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use hmac::Mac;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::error::{Error, Result};
use crate::mac::keyed;

/// A response that takes longer fails the run.
const WAIT: Duration = Duration::from_secs(30);

/// How a question is sent to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Post,
    Get,
    /// Batched with another operation.
    Batch,
    Socket,
    /// Server-sent events.
    Events,
    Multipart,
}

impl Transport {
    /// Those that carry queries.
    pub const QUERIES: [Transport; 5] =
        [Transport::Post, Transport::Get, Transport::Batch, Transport::Socket, Transport::Events];
    /// Those that carry subscriptions.
    pub const SUBSCRIPTIONS: [Transport; 3] = [Transport::Socket, Transport::Events, Transport::Multipart];
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client { http: reqwest::Client::new(), address }
    }

    /// The whole response, with `data` and `errors`.
    pub async fn ask(&self, transport: Transport, token: &str, document: &str) -> Result<Json> {
        let question = json!({ "query": document });
        match transport {
            Transport::Post => self.answer(self.post(token, &question)).await,
            Transport::Batch => {
                let batch = json!([question, { "query": "{ __typename }" }]);
                Ok(self.answer(self.post(token, &batch)).await?[0].take())
            }
            Transport::Get => {
                let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", document).finish();
                self.answer(self.authorized(self.http.get(self.url(&format!("?{query}"))), token)).await
            }
            Transport::Events | Transport::Multipart | Transport::Socket => {
                self.open(transport, token, &question).await?.next().await
            }
        }
    }

    /// Opens a subscription, or a query that yields a single response.
    pub async fn open(&self, transport: Transport, token: &str, question: &Json) -> Result<Answers> {
        let to = format!("{transport:?}: {question}");
        if transport == Transport::Socket {
            let mut socket = self.socket(token).await?;
            socket.send(json!({ "type": "subscribe", "id": "1", "payload": question })).await?;
            return Ok(Answers { to, from: From::Socket(socket) });
        }
        let accept = if transport == Transport::Events {
            "text/event-stream"
        } else {
            "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/json"
        };
        let request = self.post(token, question).header(ACCEPT, accept);
        let response = request.send().await.map_err(Error::internal)?;
        Ok(Answers { to, from: From::Stream(Stream { response, read: Vec::new() }) })
    }

    /// The status of a shop's webhook to `path`, signed with `secret`.
    pub async fn send_as_shop(&self, path: &str, secret: &str, body: &str) -> Result<u16> {
        let signature = STANDARD.encode(keyed(secret.as_bytes()).chain_update(body).finalize().into_bytes());
        let request = self.http.post(format!("http://{}{path}", self.address)).body(body.to_owned());
        let request = request.header("X-Shopify-Topic", "app/uninstalled").header("X-Shopify-Hmac-Sha256", signature);
        Ok(request.timeout(WAIT).send().await.map_err(Error::internal)?.status().as_u16())
    }

    async fn socket(&self, token: &str) -> Result<Socket> {
        let url = format!("ws://{}/graphql", self.address);
        let mut request = url.into_client_request().map_err(Error::internal)?;
        let protocol = "graphql-transport-ws".parse().map_err(Error::internal)?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (stream, _) = tokio_tungstenite::connect_async(request).await.map_err(Error::internal)?;
        let mut socket = Socket(stream);
        let authorization = json!({ "Authorization": format!("Bearer {token}") });
        socket.send(json!({ "type": "connection_init", "payload": authorization })).await?;
        socket.receive().await?;
        Ok(socket)
    }

    fn url(&self, query: &str) -> String {
        format!("http://{}/graphql{query}", self.address)
    }

    fn post(&self, token: &str, body: &Json) -> reqwest::RequestBuilder {
        let request = self.http.post(self.url("")).header(CONTENT_TYPE, "application/json");
        self.authorized(request, token).body(body.to_string())
    }

    /// Without a token if it is empty.
    fn authorized(&self, request: reqwest::RequestBuilder, token: &str) -> reqwest::RequestBuilder {
        if token.is_empty() { request } else { request.header(AUTHORIZATION, format!("Bearer {token}")) }
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Json> {
        let response = request.timeout(WAIT).send().await.map_err(Error::internal)?;
        let bytes = response.bytes().await.map_err(Error::internal)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// The responses of one operation.
pub struct Answers {
    /// Transport and operation, for messages.
    to: String,
    from: From,
}

enum From {
    Socket(Socket),
    Stream(Stream),
}

impl Answers {
    /// The next response; null after the last.
    pub async fn next(&mut self) -> Result<Json> {
        let next = async {
            match &mut self.from {
                From::Socket(socket) => socket.next().await,
                From::Stream(stream) => stream.next().await,
            }
        };
        let answer = tokio::time::timeout(WAIT, next).await;
        answer.map_err(|_| Error::internal(format!("no answer came in time to {}", self.to)))?
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn send(&mut self, message: Json) -> Result<()> {
        self.0.send(Message::text(message.to_string())).await.map_err(Error::internal)
    }

    async fn receive(&mut self) -> Result<Json> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Error::internal("the socket was closed")),
                Some(Ok(_)) => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Json> {
        loop {
            let mut message = self.receive().await?;
            match message["type"].as_str() {
                Some("next") => return Ok(message["payload"].take()),
                Some("error") => return Ok(json!({ "errors": message["payload"].take() })),
                Some("complete") => return Ok(Json::Null),
                _ => {}
            }
        }
    }
}

/// Responses in one body: events or parts, each with its JSON on a line of its own.
struct Stream {
    response: reqwest::Response,
    read: Vec<u8>,
}

impl Stream {
    async fn next(&mut self) -> Result<Json> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if let Some(answer) = answer_of(&line) {
                    return Ok(answer);
                }
            }
            match self.response.chunk().await.map_err(Error::internal)? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                // A rejection is a single object without a line end.
                None => return Ok(answer_of(&std::mem::take(&mut self.read)).unwrap_or_default()),
            }
        }
    }
}

/// The response on a line; parts wrap it in `payload`.
fn answer_of(line: &[u8]) -> Option<Json> {
    let text = line.strip_prefix(b"data:").unwrap_or(line);
    let mut json: Json = serde_json::from_slice(text).ok()?;
    match json.get_mut("payload") {
        Some(payload) if payload.is_object() => Some(payload.take()),
        _ => json.as_object().is_some_and(|object| !object.is_empty()).then_some(json),
    }
}
