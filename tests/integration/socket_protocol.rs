//! graphql-transport-ws to the letter: each close code, and whose turn it is to speak.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use salespulse::clock::{SECOND, Timestamp};
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::server::Options;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::ledger::{event, order};
use crate::support::{Actor, NOW, Server, TestApp, TestTenant, in_time};

/// A connection without manners of its own.
pub struct Raw(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Raw {
    pub async fn connect(server: &Server) -> Raw {
        let (stream, _) =
            try_connect(server, &[("Sec-WebSocket-Protocol", "graphql-transport-ws")]).await.expect("open");
        Raw(stream)
    }

    async fn acknowledged(server: &Server, tenant: &TestTenant<'_>) -> Raw {
        Raw::acknowledged_as(server, &tenant.viewer()).await
    }

    pub async fn acknowledged_as(server: &Server, actor: &Actor<'_>) -> Raw {
        let mut raw = Raw::connect(server).await;
        raw.say(init(&actor.token())).await;
        assert_eq!(raw.hear().await, json!({ "type": "connection_ack" }));
        raw
    }

    pub async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    async fn send(&mut self, message: Message) {
        self.0.send(message).await.expect("sent");
    }

    /// Sends bytes that need be no message.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.expect("sent");
    }

    /// Sends bytes and that there are no more; a server that has gone meanwhile takes none.
    pub async fn send_last(&mut self, bytes: &[u8]) {
        let stream = self.0.get_mut();
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.shutdown().await;
        }
    }

    /// Whatever comes next.
    pub async fn receive_any(&mut self) -> Option<Result<Message, Error>> {
        self.0.next().await
    }

    async fn receive(&mut self) -> Message {
        let message = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await.expect("within 20 s");
        message.expect("open").expect("a message")
    }

    pub async fn hear(&mut self) -> Value {
        loop {
            match self.receive().await {
                Message::Text(text) => return serde_json::from_str(&text).expect("json"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} instead of a text"),
            }
        }
    }

    /// The code and reason with which the server closes.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.receive().await {
                let frame = frame.expect("a reason");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}

pub async fn try_connect(
    server: &Server,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<MaybeTlsStream<TcpStream>>, u16), u16> {
    let mut request = format!("ws://{}/graphql", server.address).into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    match connect_async(request).await {
        Ok((stream, response)) => Ok((stream, response.status().as_u16())),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

pub fn init(token: &str) -> Value {
    json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } })
}

pub fn subscribe(id: &str, query: &str) -> Value {
    json!({ "type": "subscribe", "id": id, "payload": { "query": query } })
}

fn watch(tenant: &TestTenant<'_>) -> String {
    format!("subscription {{ metricsUpdated(tenantId: \"{}\") {{ ordersCount }} }}", tenant.id().0)
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let long = "x".repeat(129);
    for (message, code) in [
        ("{", 4400),
        ("[]", 4400),
        ("{}", 4400),
        (r#"{"type": "unknown"}"#, 4400),
        (r#"{"type": 1}"#, 4400),
        (r#"{"type": "subscribe", "payload": {"query": "{ me { role } }"}}"#, 4400),
        (r#"{"type": "subscribe", "id": "", "payload": {"query": "{ me { role } }"}}"#, 4400),
        (r#"{"type": "subscribe", "id": 1, "payload": {"query": "{ me { role } }"}}"#, 4400),
        (&subscribe(&long, "{ me { role } }").to_string(), 4400),
        (r#"{"type": "subscribe", "id": "1"}"#, 4400),
        (r#"{"type": "subscribe", "id": "1", "payload": {}}"#, 4400),
        (r#"{"type": "subscribe", "id": "1", "payload": {"query": 1}}"#, 4400),
        (r#"{"type": "subscribe", "id": "1", "payload": {"query": "{a}", "variables": []}}"#, 4400),
        (r#"{"type": "complete"}"#, 4400),
        (r#"{"type": "connection_init"}"#, 4429),
        (&format!("\"{}\"", "x".repeat(300 * 1024)), 1009),
    ] {
        let mut raw = Raw::acknowledged(&server, &acme).await;
        raw.send(Message::text(message)).await;
        let (found, reason) = raw.closed().await;
        assert_eq!(found, code, "{} {reason}", &message[..message.len().min(80)]);
        assert!(!reason.is_empty() && reason.len() <= 123);
    }
    let mut raw = Raw::acknowledged(&server, &acme).await;
    raw.send(Message::binary(vec![1])).await;
    assert_eq!(raw.closed().await.0, 1003);

    let mut raw = Raw::connect(&server).await;
    raw.say(subscribe("1", "{ me { role } }")).await;
    assert_eq!(raw.closed().await, (4401, "Unauthorized".to_owned()));
    for payload in
        [Value::Null, json!({}), json!({ "Authorization": "Basic x" }), json!({ "Authorization": "Bearer x" })]
    {
        let mut raw = Raw::connect(&server).await;
        raw.say(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(raw.closed().await, (4403, "Forbidden".to_owned()), "{payload}");
    }
    let mut raw = Raw::acknowledged(&server, &acme).await;
    for n in 0..300 {
        raw.say(json!({ "type": "ping", "payload": { "n": n } })).await;
    }
    assert_eq!(raw.closed().await, (4429, "Too many messages".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn an_id_is_one_operation_at_a_time_and_free_again_at_its_end() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut raw = Raw::acknowledged(&server, &acme).await;
    raw.say(json!({ "type": "complete", "id": "unknown" })).await;
    for _ in 0..3 {
        raw.say(subscribe("1", "{ me { role } }")).await;
        let next = json!({ "type": "next", "id": "1", "payload": { "data": { "me": { "role": "VIEWER" } } } });
        assert_eq!((raw.hear().await, raw.hear().await), (next, json!({ "type": "complete", "id": "1" })));
    }
    for (query, code) in [("{", "GRAPHQL_PARSE_FAILED"), ("{ nothing }", "GRAPHQL_VALIDATION_FAILED")] {
        raw.say(subscribe("1", query)).await;
        let error = raw.hear().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("1")));
        assert_eq!(error["payload"][0]["extensions"]["code"], code);
    }
    // Ended by the client, nothing more is heard of it, and its id may be taken at once.
    raw.say(subscribe("1", &watch(&acme))).await;
    assert_eq!(raw.hear().await["payload"]["data"]["metricsUpdated"]["ordersCount"], 0);
    raw.say(json!({ "type": "complete", "id": "1" })).await;
    raw.say(subscribe("1", "{ tenant { name } }")).await;
    let sale = order("o1", 1, "c", "1.00");
    acme.apply(vec![event("e1", "2026-06-15T11:00:00Z", salespulse::ledger::event::Fact::OrderPlaced(sale))]).await;
    assert_eq!(raw.hear().await["payload"]["data"]["tenant"]["name"], "acme");
    assert_eq!(raw.hear().await, json!({ "type": "complete", "id": "1" }));

    // A client's close is answered in kind.
    let mut leaving = Raw::acknowledged(&server, &acme).await;
    leaving.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "bye".into() }))).await;
    assert_eq!(leaving.closed().await, (1000, "bye".to_owned()));

    raw.say(subscribe("2", &watch(&acme))).await;
    raw.say(subscribe("2", "{ me { role } }")).await;
    assert_eq!(raw.closed().await, (4409, "Subscriber already exists".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_ping_may_come_before_the_beginning_and_a_second_beginning_may_not_come() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut raw = Raw::connect(&server).await;
    let ping = json!({ "type": "ping" });
    raw.say(ping.clone()).await;
    assert_eq!(raw.hear().await, json!({ "type": "pong" }));
    let init = init(&acme.viewer().token());
    raw.say(init.clone()).await;
    assert_eq!(raw.hear().await, json!({ "type": "connection_ack" }));
    raw.say(ping).await;
    assert_eq!(raw.hear().await, json!({ "type": "pong" }));

    // The second is there before the first is answered.
    let mut hasty = Raw::connect(&server).await;
    for _ in 0..2 {
        hasty.0.feed(Message::text(init.to_string())).await.expect("taken");
    }
    hasty.0.flush().await.expect("sent");
    assert_eq!(hasty.closed().await, (4429, "Too many initialisation requests".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_socket_has_at_most_a_hundred_operations() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut raw = Raw::acknowledged(&server, &acme).await;
    for n in 0..=100 {
        raw.say(subscribe(&n.to_string(), &watch(&acme))).await;
    }
    let mut errors = Vec::new();
    for _ in 0..=100 {
        let message = raw.hear().await;
        if message["type"] == "error" {
            errors.push(message["payload"][0]["extensions"]["code"].clone());
        }
    }
    assert_eq!(errors, [json!("TOO_MANY_SUBSCRIPTIONS")]);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let token = acme.viewer().token();
    // One second before the token of a day ends.
    test.clock.set(Timestamp(NOW.0 + (24 * 3600 - 1) * SECOND));
    let mut raw = Raw::connect(&server).await;
    raw.say(init(&token)).await;
    assert_eq!(raw.hear().await, json!({ "type": "connection_ack" }));
    assert_eq!(raw.closed().await, (4403, "the token has ended".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_closes_and_completes_no_subscription() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut raw = Raw::acknowledged(&server, &acme).await;
    raw.say(subscribe("1", &watch(&acme))).await;
    assert_eq!(raw.hear().await["type"], "next");
    let last = async {
        loop {
            match raw.receive().await {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    };
    let (last, ()) = tokio::join!(last, server.stop());
    let restart = CloseFrame { code: CloseCode::Restart, reason: "the server restarts".into() };
    assert_eq!(last, Message::Close(Some(restart)));
}

#[tokio::test]
async fn a_server_that_ends_gives_the_answers_under_way_and_begins_no_more() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut raw = Raw::acknowledged_as(&server, &acme.admin()).await;
    raw.say(subscribe("1", &watch(&acme))).await;
    assert_eq!(raw.hear().await["type"], "next");
    // The mutation waits for somebody else's transaction.
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let sql = "UPDATE ledger_heads SET policy_epoch = policy_epoch WHERE tenant_id = $1";
    tx.execute(sql, []).await.expect("locked");
    let create = r#"mutation { createAlert(input: { name: "Busy", metric: ORDERS_COUNT, condition: ABOVE,
        threshold: "2", windowMinutes: 120 }) { state } }"#;
    raw.say(subscribe("2", create)).await;
    let ping = json!({ "type": "ping" });
    raw.say(ping.clone()).await;
    assert_eq!(raw.hear().await, json!({ "type": "pong" }));
    server.begin_to_stop();
    // Its turn comes within a millisecond.
    tokio::time::sleep(Duration::from_millis(300)).await;
    raw.say(subscribe("3", "{ me { role } }")).await;
    raw.say(ping).await;
    assert_eq!(raw.hear().await, json!({ "type": "pong" }));
    tx.commit().await.expect("unlocked");
    let created = json!({ "data": { "createAlert": { "state": "OK" } } });
    assert_eq!(raw.hear().await, json!({ "type": "next", "id": "2", "payload": created }));
    assert_eq!(raw.hear().await, json!({ "type": "complete", "id": "2" }));
    let (closed, ()) = tokio::join!(raw.closed(), server.stop());
    assert_eq!(closed, (1012, "the server restarts".to_owned()));
}

#[tokio::test]
async fn only_its_own_pages_those_allowed_and_programs_may_upgrade() {
    let test = TestApp::start().await;
    let origins = vec!["https://shop.example".parse().expect("an origin")];
    let api = Settings { origins, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let own = format!("http://{}", server.address);
    let protocol = ("Sec-WebSocket-Protocol", "graphql-transport-ws");
    for (headers, status) in [
        (vec![protocol, ("Origin", own.as_str())], Ok(101)),
        (vec![("Sec-WebSocket-Protocol", "graphql-ws, graphql-transport-ws")], Ok(101)),
        (vec![protocol, ("Origin", "https://shop.example")], Ok(101)),
        (vec![protocol, ("Origin", "http://shop.example")], Err(403)),
        (vec![protocol, ("Origin", "http://evil.example")], Err(403)),
        (vec![protocol, ("Origin", "null")], Err(403)),
        (vec![("Sec-WebSocket-Protocol", "graphql-ws")], Err(400)),
        (vec![], Err(400)),
    ] {
        assert_eq!(try_connect(&server, &headers).await.map(|(_, status)| status), status, "{headers:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_address_has_so_many_sockets_that_have_not_said_who_they_are() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { address_sockets: NonZeroU32::new(1), ..Limits::default() };
    let api = Settings { limits, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let protocol = [("Sec-WebSocket-Protocol", "graphql-transport-ws")];
    let Ok((stream, _)) = try_connect(&server, &protocol).await else { panic!("the first is taken") };
    assert_eq!(try_connect(&server, &protocol).await.err(), Some(503));
    // Once it is known whose it is, it counts among theirs.
    let mut first = Raw(stream);
    first.say(init(&acme.viewer().token())).await;
    assert_eq!(first.hear().await["type"], "connection_ack");
    let Ok((second, _)) = try_connect(&server, &protocol).await else { panic!("there is room for another") };
    // So there is again when one goes without a word.
    drop(second);
    in_time(async { while try_connect(&server, &protocol).await.is_err() {} }).await;
    server.stop().await;
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_fails_its_operation_alone() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut raw = Raw::acknowledged(&server, &acme).await;
    let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    for (n, value) in [r#""\ud800""#, "1e999", deep.as_str()].into_iter().enumerate() {
        let payload = format!(r#"{{"query":"query($s: String) {{ me {{ id }} }}","variables":{{"s":{value}}}}}"#);
        raw.send(Message::text(format!(r#"{{"payload":{payload},"id":"{n}","type":"subscribe"}}"#))).await;
        let answer = raw.hear().await;
        assert_eq!((&answer["id"], &answer["type"]), (&json!(n.to_string()), &json!("error")), "{answer}");
        assert_eq!(answer["payload"][0]["extensions"]["code"], "BAD_REQUEST", "{answer}");
    }
    raw.say(json!({ "id": "after", "type": "subscribe", "payload": { "query": "{ me { role } }" } })).await;
    assert_eq!(raw.hear().await["payload"]["data"]["me"]["role"], "VIEWER");
    assert_eq!(raw.hear().await, json!({ "id": "after", "type": "complete" }));
    raw.send(Message::text(r#"{"id":"x","type":"ping","payload":{"s":"\ud800"}}"#)).await;
    assert_eq!(raw.closed().await.0, 4400);
    server.stop().await;
}
