//! Response streams over HTTP: server-sent events (graphql-sse, distinct connections) and Apollo's multipart
//! subscriptions.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::stream::{BoxStream, StreamExt};

use super::accept::Format;
use super::payload::Payload;

/// A keep-alive is sent after this time without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// An item of a stream.
pub type Answer = Result<Payload, CutOff>;

/// The server shuts down before the stream ends. The body breaks off without its end marker, which clients would take
/// for the end of the subscription and not reconnect.
#[derive(Debug, thiserror::Error)]
#[error("the server ends")]
pub struct CutOff;

/// How answers are framed in one body.
struct Framing {
    content_type: &'static str,
    start: &'static str,
    next: fn(&Payload) -> String,
    alive: &'static str,
    end: &'static str,
}

/// JSON has no line breaks, so it fits one `data` line. Browsers drop an event without data. Clients send an event's id
/// back as `Last-Event-ID`.
const EVENTS: Framing = Framing {
    content_type: "text/event-stream",
    start: ":\n\n",
    next: |answer| match &answer.cursor {
        Some(cursor) => format!("event: next\nid: {cursor}\ndata: {}\n\n", answer.json),
        None => format!("event: next\ndata: {}\n\n", answer.json),
    },
    alive: ":\n\n",
    end: "event: complete\ndata: \n\n",
};

/// Each part is sent with its trailing boundary, since clients process a part only when they see its end.
const PARTS: Framing = Framing {
    content_type: "multipart/mixed; boundary=\"graphql\"; subscriptionSpec=1.0",
    start: "\r\n--graphql",
    next: |answer| format!("\r\nContent-Type: application/json\r\n\r\n{{\"payload\":{}}}\r\n--graphql", answer.json),
    alive: "\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql",
    end: "--\r\n",
};

/// Sends `answers` as they arrive; multipart unless events are requested.
pub fn respond(format: Format, answers: BoxStream<'static, Answer>) -> HttpResponse {
    let framing = if format == Format::Events { &EVENTS } else { &PARTS };
    let start = futures_util::stream::once(std::future::ready(Ok(framing.start.to_owned())));
    let chunks = futures_util::stream::unfold(Some(answers), move |state| async move {
        let mut answers = state?;
        match tokio::time::timeout(KEEP_ALIVE, answers.next()).await {
            Ok(Some(Ok(answer))) => Some((Ok((framing.next)(&answer)), Some(answers))),
            Ok(Some(Err(cut_off))) => Some((Err(cut_off), None)),
            Ok(None) => Some((Ok(framing.end.to_owned()), None)),
            Err(_) => Some((Ok(framing.alive.to_owned()), Some(answers))),
        }
    });
    let headers = [(CONTENT_TYPE, framing.content_type), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(start.chain(chunks))).into_response()
}
