//! What comes over a socket: messages of every kind and frames of every form.

use std::fmt;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::documents::texts;
use super::{any_bytes, edited, edits, fuzz};
use crate::socket_protocol::{Raw, init};
use crate::support::{Server, TestApp};

/// Long before it, whatever came has had its answer.
const WAIT: Duration = Duration::from_secs(20);
/// With what the server may close on a client that does not wait for anything.
const CLOSES: [u16; 9] = [1002, 1003, 1007, 1009, 4400, 4401, 4403, 4409, 4429];
/// What the client closes with at its end.
const CLIENT_CLOSE: u16 = 1000;
/// What a client may close with, and is answered in kind.
const CLIENT_CLOSES: std::ops::RangeInclusive<u16> = 1000..=4999;
const ANSWERS: [&str; 5] = ["connection_ack", "pong", "next", "error", "complete"];
/// Bytes of an answer that refuses.
const ERROR_BYTES_MAX: usize = 4096;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// What a client sends.
#[derive(Clone)]
enum Part {
    /// A message of the protocol, or near it.
    Message(Vec<u8>),
    /// A frame: its first byte, whether it is masked, what it says its length is, and its bytes.
    Frame(u8, bool, Option<u64>, Vec<u8>),
    Bytes(Vec<u8>),
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Message(text) if text.len() > 2_000 => write!(f, "a message of {} bytes", text.len()),
            Part::Message(text) => write!(f, "{}", text.escape_ascii()),
            Part::Frame(first, is_masked, length, bytes) => {
                write!(f, "a frame {first:#x} {is_masked} {length:?} {}", bytes.escape_ascii())
            }
            Part::Bytes(bytes) => write!(f, "bytes {}", bytes.escape_ascii()),
        }
    }
}

impl Part {
    fn encode(&self) -> Vec<u8> {
        match self {
            Part::Message(text) => frame(TEXT, true, text.len() as u64, text),
            Part::Frame(first, is_masked, length, bytes) => {
                frame(*first, *is_masked, length.unwrap_or(bytes.len() as u64), bytes)
            }
            Part::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// A frame whose mask, where it has one, changes nothing.
fn frame(first: u8, is_masked: bool, length: u64, bytes: &[u8]) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut frame = match length {
        0..126 => vec![first, mask | length as u8],
        126..65_536 => [&[first, mask | 126], (length as u16).to_be_bytes().as_slice()].concat(),
        _ => [&[first, mask | 127], length.to_be_bytes().as_slice()].concat(),
    };
    if is_masked {
        frame.extend([0; 4]);
    }
    frame.extend(bytes);
    frame
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let members = vec((any::<String>(), inner.clone()), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
        ]
    })
}

/// A message with each member as it is to be, or as it is not.
fn message(good: Value) -> impl Strategy<Value = Value> {
    const KINDS: [&str; 9] =
        ["connection_init", "ping", "pong", "subscribe", "subscribe", "subscribe", "complete", "next", "unknown"];
    let kind = prop_oneof![15 => select(&KINDS[..]).prop_map(Value::from), 1 => any_json()];
    let ids = ["1", "2", "3", "é", ""].map(Value::from).into_iter().chain([json!("x".repeat(129))]);
    let id = prop_oneof![8 => select(ids.collect::<Vec<_>>()), 1 => any_json()];
    let queries = ["{ me { role } }", "{ __typename }", "{ nothing }", "{", "mutation { logout }"].map(str::to_owned);
    let query = prop_oneof![3 => select(queries.to_vec()), 2 => texts()];
    let asked = (query, proptest::option::of(any_json()), proptest::option::of(any_json()));
    let asked = asked.prop_map(|(query, variables, extensions)| match (variables, extensions) {
        (None, None) => json!({ "query": query }),
        (variables, extensions) => json!({ "query": query, "variables": variables, "extensions": extensions }),
    });
    let bad = select(vec![json!({ "Authorization": "Bearer x" }), json!({ "Authorization": 1 }), json!({})]);
    let payload = prop_oneof![3 => asked, 2 => Just(good), 1 => bad, 1 => any_json()];
    (kind, proptest::option::weighted(0.9, id), proptest::option::weighted(0.9, payload)).prop_map(
        |(kind, id, payload)| {
            let mut message = json!({ "type": kind });
            for (name, value) in [("id", id), ("payload", payload)] {
                if let Some(value) = value {
                    message[name] = value;
                }
            }
            message
        },
    )
}

fn part(good: Value) -> impl Strategy<Value = Part> {
    let spoilt = (message(good.clone()), edits(any_bytes()))
        .prop_map(|(message, edits)| Part::Message(edited(message.to_string().as_bytes(), &edits)));
    let heads = prop_oneof![select(vec![TEXT, BINARY, CLOSE, 0x01, 0x80, 0x00, 0x89, 0x8a, 0x09]), any::<u8>()];
    let length = proptest::option::weighted(0.1, prop_oneof![0..70_000u64, any::<u64>()]);
    let frame = (heads, proptest::bool::weighted(0.9), length, any_bytes());
    let code = select(vec![1000u16, 1001, 1005, 3000, 4000, 4999, 999, 5000, 0]);
    let close = (code, any_bytes()).prop_map(|(code, reason)| [code.to_be_bytes().as_slice(), &reason].concat());
    prop_oneof![
        12 => message(good).prop_map(|message| Part::Message(message.to_string().into_bytes())),
        3 => spoilt,
        1 => any::<String>().prop_map(|text| Part::Message(text.into_bytes())),
        1 => (0..400usize).prop_map(|kib| Part::Message(vec![b'['; kib << 10])),
        3 => frame.prop_map(|(first, is_masked, length, bytes)| Part::Frame(first, is_masked, length, bytes)),
        1 => close.prop_map(|bytes| Part::Frame(CLOSE, true, None, bytes)),
        1 => any_bytes().prop_map(Part::Bytes),
    ]
}

/// Sends it all and a close; checks each answer, and that the last one is a close with a code that there is.
async fn try_socket(server: &Server, parts: &[Part]) {
    let close = frame(CLOSE, true, 2, &CLIENT_CLOSE.to_be_bytes());
    let sent: Vec<u8> = parts.iter().flat_map(Part::encode).chain(close).collect();
    // What is no message may be a close as well, or the beginning of something that does not come.
    let is_wild = parts.iter().any(|part| !matches!(part, Part::Message(_)));
    let mut raw = Raw::connect(server).await;
    let mut is_known = false;
    let talk = async {
        raw.send_last(&sent).await;
        loop {
            match raw.receive_any().await {
                Some(Ok(Message::Text(text))) => {
                    check(&text, is_known);
                    is_known |= text.contains("connection_ack");
                }
                Some(Ok(Message::Close(frame))) => return Ok(frame.map(|frame| u16::from(frame.code))),
                Some(Ok(_)) => {}
                Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
                    return Err("nothing");
                }
                Some(Err(error)) => panic!("no frame of a server: {error}"),
            }
        }
    };
    let closed = tokio::time::timeout(WAIT, talk).await.expect("an end");
    let is_good = match closed {
        Ok(Some(code)) => CLOSES.contains(&code) || code == CLIENT_CLOSE || is_wild && CLIENT_CLOSES.contains(&code),
        Ok(None) | Err(_) => is_wild,
    };
    assert!(is_good, "closed with {closed:?}");
}

/// Whether it is known who is there.
fn check(text: &str, is_known: bool) {
    let answer: Value = serde_json::from_str(text).expect("JSON");
    let kind = answer["type"].as_str().expect("a type");
    assert!(ANSWERS.contains(&kind), "{text}");
    assert!(is_known || ["connection_ack", "pong"].contains(&kind), "somebody unknown is told {text}");
    assert!(kind != "error" || text.len() <= ERROR_BYTES_MAX, "{} bytes", text.len());
    assert!(!text.contains("INTERNAL_SERVER_ERROR"), "{text}");
}

#[test]
fn whatever_comes_over_a_socket_is_answered_or_closes_it() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let test = runtime.block_on(TestApp::start());
    let acme = runtime.block_on(test.tenant("acme"));
    let server = runtime.block_on(Server::start(&test));
    let good = init(&acme.viewer().token());
    let greeting = Part::Message(good.to_string().into_bytes());
    let inputs = (proptest::bool::weighted(0.8), vec(part(good["payload"].clone()), 0..12));
    fuzz(inputs, |(is_greeted, mut parts)| {
        if is_greeted {
            parts.insert(0, greeting.clone());
        }
        runtime.block_on(try_socket(&server, &parts));
    });
    runtime.block_on(async {
        Raw::acknowledged_as(&server, &acme.viewer()).await;
        server.stop().await;
    });
}
