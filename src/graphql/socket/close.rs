//! Why the server closes a socket.

/// A close code of the protocol, and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close(pub u16, pub &'static str);

pub const GOING_AWAY: Close = Close(1001, "no sign of life");
pub const BINARY: Close = Close(1003, "text messages only");
pub const PROTOCOL_ERROR: Close = Close(1002, "protocol error");
pub const NOT_UTF8: Close = Close(1007, "not UTF-8");
pub const TOO_BIG: Close = Close(1009, "the message is too long");
pub const TOO_SLOW: Close = Close(1013, "answers are not read");
pub const TOO_MANY_SOCKETS: Close = Close(1013, "too many sockets");
pub const UNAVAILABLE: Close = Close(1013, "try again later");
pub const RESTART: Close = Close(1012, "the server restarts");
pub const BAD_MESSAGE: Close = Close(4400, "Invalid message");
pub const UNAUTHORIZED: Close = Close(4401, "Unauthorized");
pub const FORBIDDEN: Close = Close(4403, "Forbidden");
pub const TOKEN_ENDED: Close = Close(4403, "the token has ended");
pub const INIT_TIMEOUT: Close = Close(4408, "Connection initialisation timeout");
pub const EXISTS: Close = Close(4409, "Subscriber already exists");
pub const TOO_MANY_INITS: Close = Close(4429, "Too many initialisation requests");
pub const TOO_MANY_MESSAGES: Close = Close(4429, "Too many messages");

/// The close for a client that violated the WebSocket protocol itself.
pub fn close_of(error: &axum::Error) -> Option<Close> {
    use tungstenite::Error;
    let inner = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match inner {
        Some(Error::Capacity(_)) => Some(TOO_BIG),
        Some(Error::Utf8(_)) => Some(NOT_UTF8),
        Some(Error::Protocol(_)) => Some(PROTOCOL_ERROR),
        _ => None,
    }
}
