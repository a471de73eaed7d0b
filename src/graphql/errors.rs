//! Errors as clients see them: a message, `extensions.code`, and for server errors an `errorId` that is in the log.

use std::time::Duration;

use async_graphql::{ErrorExtensionValues, PathSegment, Pos, Response, ServerError, Value};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use uuid::Uuid;

use super::misfit::not_of_type;
use crate::error::{Code, Error, FIELD};
use crate::telemetry::metrics::METRICS;

impl From<Error> for async_graphql::Error {
    fn from(mut error: Error) -> Self {
        let mut extensions = ErrorExtensionValues::default();
        set_code(&mut extensions, error.code.as_str());
        if let Some(argument) = error.argument.take() {
            extensions.set("argument", argument.into_owned());
        }
        for (name, detail) in std::mem::take(&mut error.details) {
            if let Ok(detail) = Value::from_json(detail) {
                extensions.set(name, detail);
            }
        }
        if matches!(error.code, Code::Internal | Code::ServiceUnavailable | Code::DecryptionFailed) {
            let error_id = Uuid::now_v7().to_string();
            tracing::error!(error_id, code = error.code.as_str(), source = error.cause(), "request failed");
            extensions.set("errorId", error_id);
        }
        set_wait(&mut extensions, error.retry_after);
        async_graphql::Error { message: error.message, source: None, extensions: Some(extensions) }
    }
}

/// Maximum length of a message, in bytes: it may contain client input of any length.
const MESSAGE_BYTES_MAX: usize = 500;
/// Maximum number of errors of a request that is not executed; the last one says how many more there are.
const ERRORS_MAX: usize = 5;
const ERRORS_LEFT_OUT: &str = "errorsLeftOut";

/// A request that is rejected before execution, and why.
#[derive(Debug)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
    /// The offending variable.
    pub argument: Option<String>,
    /// How long to wait before retrying.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), argument: None, retry_after: None }
    }

    pub fn to_error(&self) -> ServerError {
        let mut error = plain(self.code, shortened(&self.message));
        if let (Some(argument), Some(extensions)) = (&self.argument, &mut error.extensions) {
            extensions.set("argument", shortened(argument));
        }
        set_wait(error.extensions.get_or_insert_default(), self.retry_after);
        error
    }
}

/// Truncates a long message, completes the path, and assigns a code to an error raised by async-graphql: validation
/// errors have no path, bad input is found during execution.
pub fn finish(error: &mut ServerError) {
    if error.path.is_empty() {
        name_argument(error);
    }
    error.message.truncate(shortened(&error.message).len());
    let extensions = error.extensions.get_or_insert_default();
    if let Some(Value::String(path)) = extensions.get(FIELD).cloned() {
        extensions.unset(FIELD);
        error.path.extend(path.split('.').map(|key| PathSegment::Field(key.to_owned())));
    }
    if extensions.get("code").is_none() {
        let code = if error.path.is_empty() { "GRAPHQL_VALIDATION_FAILED" } else { "BAD_USER_INPUT" };
        set_code(extensions, code);
    }
}

/// For an argument that does not match its type, whether a variable or inline, separates the path within it and states
/// what was expected.
fn name_argument(error: &mut ServerError) {
    let told = error.message.strip_prefix("Invalid value for argument \"").and_then(|rest| rest.split_once("\", "));
    let Some((place, why)) = told else { return };
    let expected = why.strip_prefix("expected type \"").and_then(|rest| rest.strip_suffix('"'));
    let message = expected.map_or_else(|| format!("{place}: {why}"), |name| not_of_type(place, name));
    let extensions = error.extensions.get_or_insert_default();
    set_code(extensions, "BAD_USER_INPUT");
    extensions.set("argument", shortened(place));
    error.message = message;
}

/// Omits errors of a request that is not executed, where there are many.
pub fn leave_out(errors: &mut Vec<ServerError>) {
    let left_out = errors.len().saturating_sub(ERRORS_MAX);
    errors.truncate(ERRORS_MAX);
    if let Some(last) = errors.last_mut().filter(|_| left_out > 0) {
        last.extensions.get_or_insert_default().set(ERRORS_LEFT_OUT, left_out);
    }
}

/// As much of a text as fits, escaped as JSON.
pub fn shortened(text: &str) -> &str {
    let mut bytes = 0;
    let cut = text.char_indices().find(|(_, c)| {
        bytes += match c {
            '"' | '\\' => 2,
            c if c.is_control() => 6,
            c => c.len_utf8(),
        };
        bytes > MESSAGE_BYTES_MAX
    });
    cut.map_or(text, |(at, _)| &text[..at])
}

/// The status of a response without data whose errors all map to the same HTTP status.
pub fn status_of_response(response: &Response) -> Option<StatusCode> {
    let code_of = |error: &ServerError| match error.extensions.as_ref().and_then(|extensions| extensions.get("code")) {
        Some(Value::String(code)) => Some(code.clone()),
        _ => None,
    };
    let first = response.errors.first().and_then(code_of)?;
    let is_alone = response.data == Value::Null && response.errors.iter().all(|e| code_of(e).as_ref() == Some(&first));
    if is_alone { failure_status(&first) } else { None }
}

/// The HTTP status of an error, except in answers of GraphQL.
pub fn status_of(code: &str) -> StatusCode {
    match code {
        "UNAUTHENTICATED" | "INVALID_GRANT" => StatusCode::UNAUTHORIZED,
        "FORBIDDEN" => StatusCode::FORBIDDEN,
        "NOT_FOUND" => StatusCode::NOT_FOUND,
        "CONFLICT" => StatusCode::CONFLICT,
        code => failure_status(code).unwrap_or(StatusCode::BAD_REQUEST),
    }
}

/// The HTTP status of a code whose cause the client cannot fix.
fn failure_status(code: &str) -> Option<StatusCode> {
    match code {
        "RATE_LIMITED" => Some(StatusCode::TOO_MANY_REQUESTS),
        "SERVICE_UNAVAILABLE" => Some(StatusCode::SERVICE_UNAVAILABLE),
        "INTERNAL_SERVER_ERROR" => Some(StatusCode::INTERNAL_SERVER_ERROR),
        _ => None,
    }
}

const WAIT: &str = "retryAfterSecs";

fn set_wait(extensions: &mut ErrorExtensionValues, wait: Option<Duration>) {
    if let Some(wait) = wait {
        // Rounded up, so that a client retrying on the second is not too early.
        extensions.set(WAIT, wait.as_secs().saturating_add(1));
    }
}

/// Sets `Retry-After`, where the status calls for a retry: to the wait the errors name, otherwise to a short one.
pub fn set_retry_after(response: &mut HttpResponse, errors: &[ServerError]) {
    const SOON_SECS: HeaderValue = HeaderValue::from_static("2");
    if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status()) {
        response.headers_mut().insert(header::RETRY_AFTER, wait_of(errors).unwrap_or(SOON_SECS));
    }
}

/// The longest wait that the errors name, in seconds.
fn wait_of(errors: &[ServerError]) -> Option<HeaderValue> {
    let wait = |error: &ServerError| match error.extensions.as_ref()?.get(WAIT)? {
        Value::Number(secs) => secs.as_u64(),
        _ => None,
    };
    errors.iter().filter_map(wait).max().map(HeaderValue::from)
}

/// The body of a response that consists of errors only.
pub fn only(errors: &[ServerError]) -> String {
    serde_json::json!({ "errors": errors }).to_string()
}

/// A response that consists of errors only, without content negotiation.
pub fn respond(status: StatusCode, errors: &[ServerError]) -> HttpResponse {
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], only(errors)).into_response();
    set_retry_after(&mut response, errors);
    response
}

/// The response to a request outside GraphQL that fails.
pub fn refuse(error: Error) -> HttpResponse {
    let status = status_of(error.code.as_str());
    let mut response = respond(status, &[unplaced(error)]);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Converts an application error to one without a location in a document.
pub fn unplaced(error: Error) -> ServerError {
    let mut error = async_graphql::Error::from(error).into_server_error(Pos::default());
    error.locations.clear();
    error
}

/// An error without a location in a document.
pub fn plain(code: &'static str, message: &str) -> ServerError {
    let mut extensions = ErrorExtensionValues::default();
    set_code(&mut extensions, code);
    let mut error = ServerError::new(message, None);
    error.extensions = Some(extensions);
    error
}

/// The single place where client-visible errors are assigned their code.
fn set_code(extensions: &mut ErrorExtensionValues, code: &'static str) {
    METRICS.errors.with_label_values(&[code]).inc();
    extensions.set("code", code);
}
