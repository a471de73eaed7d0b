//! One operation of a socket: its answers as messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Message;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use crate::graphql::payload::Payload;

/// One operation of a socket: its answers as messages, then its end.
pub struct Running {
    id: String,
    number: u64,
    payloads: BoxStream<'static, Payload>,
    is_done: bool,
}

/// A message of an operation.
pub enum OperationMessage {
    Next(Message),
    /// The last message, and the operation's id and number.
    Last(Message, String, u64),
}

impl Running {
    pub fn new(id: &str, number: u64, payloads: BoxStream<'static, Payload>) -> Self {
        Running { id: id.to_owned(), number, payloads, is_done: false }
    }

    /// A `next` message with the operation's id.
    fn next_message(&self, json: &str) -> Message {
        const START: &str = r#"{"type":"next","payload":"#;
        let id = Value::from(self.id.as_str()).to_string();
        let mut text = String::with_capacity(START.len() + json.len() + id.len() + 8);
        for part in [START, json, r#","id":"#, &id, "}"] {
            text.push_str(part);
        }
        Message::text(text)
    }
}

impl Stream for Running {
    type Item = OperationMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OperationMessage>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let last = match ready!(self.payloads.poll_next_unpin(context)) {
            Some(Payload { json, refused: None, .. }) => {
                return Poll::Ready(Some(OperationMessage::Next(self.next_message(&json))));
            }
            Some(Payload { refused: Some(errors), .. }) => {
                let error = json!({ "type": "error", "id": self.id, "payload": *errors });
                Message::text(error.to_string())
            }
            None => complete(&self.id),
        };
        self.is_done = true;
        Poll::Ready(Some(OperationMessage::Last(last, self.id.clone(), self.number)))
    }
}

fn complete(id: &str) -> Message {
    Message::text(json!({ "type": "complete", "id": id }).to_string())
}
