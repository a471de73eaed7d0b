//! The writer of a socket.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::stream::{Abortable, SelectAll, SplitSink};
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;

use super::close::{Close, TOO_SLOW};
use super::running::{OperationMessage, Running};
use super::shared::{Shared, WriterCommand};
use crate::telemetry::metrics::METRICS;

pub const PING_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 30 } else { 15_000 });
/// Timeout for sending one message.
pub const WRITE_WAIT: Duration = Duration::from_secs(10);

pub struct SocketWriter {
    sink: SplitSink<WebSocket, Message>,
    shared: Arc<Shared>,
    running: SelectAll<Abortable<Running>>,
}

impl SocketWriter {
    pub fn new(sink: SplitSink<WebSocket, Message>, shared: Arc<Shared>) -> Self {
        SocketWriter { sink, shared, running: SelectAll::new() }
    }

    /// Writes until the client has gone (`None`) or does not accept a message in time, the server shuts down and all
    /// answers are sent, or a close is queued, which it returns.
    pub async fn run(mut self) -> Option<Close> {
        let close = self.write().await;
        let code = close.map_or("none".into(), |Close(code, _)| code.to_string());
        METRICS.socket_closes.with_label_values(&[&code]).inc();
        let _ = tokio::time::timeout(WRITE_WAIT, self.close(close)).await;
        close
    }

    async fn write(&mut self) -> Option<Close> {
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            let message = tokio::select! {
                biased;
                command = poll_fn(|context| self.shared.poll_command(context)) => match command {
                    WriterCommand::Send(message) => message,
                    WriterCommand::Run(operation) => {
                        self.running.push(operation);
                        continue;
                    }
                    WriterCommand::Close(close) => return close,
                },
                _ = pings.tick() => Message::Ping(axum::body::Bytes::new()),
                Some(said) = self.running.next() => match said {
                    OperationMessage::Next(message) => message,
                    OperationMessage::Last(message, id, number) if self.shared.has_ended(&id, number) => message,
                    OperationMessage::Last(..) => continue,
                },
            };
            match tokio::time::timeout(WRITE_WAIT, self.sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(TOO_SLOW),
            }
        }
    }

    /// Sends what is queued, and closes.
    async fn close(&mut self, close: Option<Close>) -> Result<(), axum::Error> {
        let Some(Close(code, reason)) = close else {
            // The reply to a client's close is buffered in the sink. Sending anything else would fail, and lose that
            // reply.
            return self.sink.close().await;
        };
        while let Some(command) = self.shared.next_command() {
            if let WriterCommand::Send(message) = command {
                self.sink.feed(message).await?;
            }
        }
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        self.sink.send(Message::Close(Some(frame))).await
    }
}
