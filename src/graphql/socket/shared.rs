//! State shared by a socket's reader and writer: the operations in flight, and the reader's commands to the writer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::extract::ws::Message;
use futures_util::stream::{AbortHandle, Abortable};
use futures_util::task::AtomicWaker;

use super::close::{Close, RESTART, TOO_SLOW};
use super::running::Running;

/// Maximum number of queued acknowledgements and pongs: more than a client may request in a second.
const COMMANDS_MAX: usize = 256;

/// State shared by reader and writer.
#[derive(Default)]
pub struct Shared {
    /// Operations in flight, by id.
    live: Mutex<HashMap<String, Live>>,
    /// Whether new operations are rejected. Changed only while `live` is locked.
    is_finishing: AtomicBool,
    /// The reader's commands to the writer.
    commands: Mutex<VecDeque<WriterCommand>>,
    writer: AtomicWaker,
}

/// An operation in flight.
pub struct Live {
    /// Distinguishes it from an earlier one with the same id.
    pub number: u64,
    pub handle: AbortHandle,
    pub is_subscription: bool,
}

/// Sent before any answers.
pub enum WriterCommand {
    Send(Message),
    Run(Abortable<Running>),
    /// The last.
    Close(Option<Close>),
}

impl Shared {
    pub fn live(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn end(&self, id: &str) {
        if let Some(operation) = self.live().remove(id) {
            operation.handle.abort();
            // The writer may be waiting for this operation's end.
            self.writer.wake();
        }
    }

    /// Ends subscriptions and rejects new operations.
    pub fn finish(&self) {
        let mut live = self.live();
        self.is_finishing.store(true, Ordering::Relaxed);
        live.retain(|_, operation| {
            if operation.is_subscription {
                operation.handle.abort();
            }
            !operation.is_subscription
        });
        self.writer.wake();
    }

    pub fn is_finishing(&self) -> bool {
        self.is_finishing.load(Ordering::Relaxed)
    }

    /// Removes a finished operation, so that its id is free before the client can know; `false` when the client has
    /// completed it meanwhile.
    pub fn has_ended(&self, id: &str, number: u64) -> bool {
        let mut live = self.live();
        let is_live = live.get(id).is_some_and(|other| other.number == number);
        if is_live {
            live.remove(id);
        }
        is_live
    }

    pub fn end_all(&self) {
        for (_, operation) in self.live().drain() {
            operation.handle.abort();
        }
    }

    /// Error: the queue is full.
    pub fn command(&self, command: WriterCommand) -> Result<(), Close> {
        let mut commands = self.commands();
        if commands.len() >= COMMANDS_MAX {
            return Err(TOO_SLOW);
        }
        commands.push_back(command);
        self.writer.wake();
        Ok(())
    }

    /// Queues the last command.
    pub fn close(&self, close: Option<Close>) {
        self.commands().push_back(WriterCommand::Close(close));
        self.writer.wake();
    }

    pub fn next_command(&self) -> Option<WriterCommand> {
        self.commands().pop_front()
    }

    /// The next command; at shutdown, once everything in flight has finished, the last one of its own accord.
    pub fn poll_command(&self, context: &mut Context<'_>) -> Poll<WriterCommand> {
        self.writer.register(context.waker());
        match self.next_command() {
            Some(command) => Poll::Ready(command),
            None if self.is_finishing() && self.live().is_empty() => Poll::Ready(WriterCommand::Close(Some(RESTART))),
            None => Poll::Pending,
        }
    }

    fn commands(&self) -> MutexGuard<'_, VecDeque<WriterCommand>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
