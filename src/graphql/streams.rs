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
const KEEP_ALIVE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 12_000 });

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

#[cfg(test)]
mod tests {
    use async_graphql::Response;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_stream_without_answers_is_kept_alive() {
        let part = |json: &str| format!("\r\nContent-Type: application/json\r\n\r\n{json}\r\n--graphql");
        for (format, start, alive, next) in [
            (Format::Events, ":\n\n", ":\n\n".to_owned(), "event: next\ndata: {\"data\":1}\n\n".to_owned()),
            (Format::Multipart, "\r\n--graphql", part("{}"), part(r#"{"payload":{"data":1}}"#)),
        ] {
            let (sender, receiver) = mpsc::channel(1);
            let answers = futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Answer>| {
                Some((receiver.recv().await?, receiver))
            });
            let mut body = respond(format, answers.boxed()).into_body().into_data_stream();
            let mut chunk = async || body.next().await.expect("more").expect("read");
            assert_eq!(chunk().await, start);
            for _ in 0..2 {
                assert_eq!(chunk().await, alive);
            }
            assert!(sender.send(Ok(Payload::plain(Response::new(1)))).await.is_ok());
            // One may have been under way.
            let first = chunk().await;
            assert_eq!(if first == alive { chunk().await } else { first }, next);
            assert_eq!(chunk().await, alive);
        }
    }
}
