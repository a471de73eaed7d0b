//! What a hostile or broken client meets that no other test shows: its slowness, frames that break the rules, and what panics.

use std::sync::Arc;

use salespulse::sealing::KeyBytes;
use salespulse::sealing::kek::{KekError, KeyEncryption, KeyName, LocalKek};
use sea_orm::ConnectionTrait;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::monitor::until;
use crate::sealed::{person, sale};
use crate::socket_protocol::{Raw, subscribe};
use crate::support::{KEK, Server, TestApp};

/// Sends these bytes and then nothing; gives what comes until the server ends the connection.
async fn answer_to(server: &Server, sent: &str) -> String {
    let mut connection = TcpStream::connect(server.address).await.expect("connected");
    connection.write_all(sent.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("ended");
    String::from_utf8(answer).expect("text")
}

/// Takes the time that the server gives: 15 s.
#[tokio::test]
async fn who_is_too_slow_is_not_waited_for() {
    const DESCRIBE_ALL: &str =
        "{ __schema { types { name description fields { name description args { name description } } } } }";
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let token = acme.viewer().token();

    let mut reads_nothing = Raw::acknowledged_as(&server, &acme.viewer()).await;
    for n in 0..90 {
        reads_nothing.say(subscribe(&n.to_string(), DESCRIBE_ALL)).await;
    }
    let headers = async {
        let answer = answer_to(&server, "POST /graphql HTTP/1.1\r\nHost: localhost\r\nAccept:").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    };
    let body = async {
        let sent = format!(
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"query\":"
        );
        let answer = answer_to(&server, &sent).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"REQUEST_TIMEOUT\""), "{answer}");
    };
    let says_nothing = async { Raw::connect(&server).await.closed().await };
    let says_it_in_parts = async {
        let mut raw = Raw::connect(&server).await;
        // The first part of a text, masked with zeros: one opening brace.
        raw.send_bytes(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await;
        raw.closed().await
    };
    let ((), (), nothing, parts) = tokio::join!(headers, body, says_nothing, says_it_in_parts);
    let late = (4408, "Connection initialisation timeout".to_owned());
    assert_eq!((nothing, parts), (late.clone(), late));
    // It must not begin to read before it is given up.
    until(&server, |scrape| scrape.get(r#"salespulse_socket_closes_total{code="1013"}"#) > 0.0).await;
    assert_eq!(reads_nothing.closed().await, (1013, "answers are not read".to_owned()));
    server.stop().await;
}

/// PostgreSQL: where readers never wait, no query of the suite takes that long.
#[tokio::test]
async fn a_query_that_takes_too_long_is_given_up_in_the_database_too() {
    let test = TestApp::start().await;
    if test.server_url().starts_with("sqlite:") {
        return;
    }
    let acme = test.tenant("acme").await;
    let owner = test.owner().await;
    owner.connection().execute_unprepared("BEGIN; LOCK TABLE customers").await.expect("locked");
    let (code, message) = acme.viewer().error("{ customers { nodes { id } } }").await;
    assert_eq!((code.as_str(), message), ("QUERY_TIMEOUT", None));
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, waiting);
    assert!(test.owner().await.connection().query_one_raw(waiting).await.expect("asked").is_none());
    owner.connection().execute_unprepared("ROLLBACK").await.expect("unlocked");
    assert_eq!(acme.viewer().query("{ customers { nodes { id } } }").await["customers"]["nodes"], json!([]));
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_socket() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let long =
        |first: u8, len: u64| [&[first, 0xff][..], &len.to_be_bytes(), &[0; 4], &vec![b'x'; len as usize]].concat();
    for (what, bytes, code) in [
        ("no UTF-8", vec![0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("not masked", vec![0x81, 0x01, b'x'], 1002),
        ("a reserved bit", vec![0xc1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("a reserved opcode", vec![0x83, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("a continuation of nothing", vec![0x80, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("a ping in parts", vec![0x09, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("a long ping", long(0x89, 126), 1002),
        ("a binary message", vec![0x82, 0x81, 0, 0, 0, 0, b'x'], 1003),
        ("long by its parts", [long(0x01, 200 << 10), long(0x80, 200 << 10)].concat(), 1009),
    ] {
        let mut raw = Raw::acknowledged_as(&server, &acme.viewer()).await;
        raw.send_bytes(&bytes).await;
        assert_eq!(raw.closed().await.0, code, "{what}");
    }
    server.stop().await;
}

/// A key-encryption key that fails as nothing should.
struct Panics(LocalKek);

#[async_trait::async_trait]
impl KeyEncryption for Panics {
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError> {
        self.0.wrap(name, key).await
    }

    async fn unwrap(&self, _: &KeyName, _: &str) -> Result<KeyBytes, KekError> {
        panic!("what nobody is to read")
    }

    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError> {
        self.0.rewrap(name, wrapped).await
    }
}

#[tokio::test]
async fn what_panics_takes_nothing_along_and_says_nothing() {
    let started = TestApp::start().await;
    let acme = started.tenant("acme").await;
    acme.apply(vec![sale("1", person("a", "Zoe"))]).await;
    let test = started.beside(Arc::new(Panics(LocalKek::from_texts([KEK]).expect("a key")))).await;
    let server = Server::start(&test).await;
    let mut raw = Raw::acknowledged_as(&server, &acme.admin()).await;
    raw.say(subscribe("1", "{ customers { nodes { name } } }")).await;
    let answer = raw.hear().await;
    let error = &answer["payload"]["errors"][0];
    assert_eq!(answer["payload"]["data"], serde_json::Value::Null);
    assert_eq!(error["extensions"]["code"], "INTERNAL_SERVER_ERROR", "{answer}");
    assert!(error["extensions"]["errorId"].is_string() && !answer.to_string().contains("nobody"), "{answer}");
    assert_eq!(raw.hear().await, json!({ "type": "complete", "id": "1" }));
    raw.say(subscribe("1", "{ customers { nodes { externalId } } }")).await;
    assert_eq!(raw.hear().await["payload"]["data"]["customers"]["nodes"][0]["externalId"], "a");
    server.stop().await;
}
