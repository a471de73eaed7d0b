//! Mapping of responses to HTTP: in the format the client asks for, with the status that reflects the outcome.

use async_graphql::{Response, ServerError};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};

use super::accept::{Accepted, Format};
use super::errors::{self, Refusal};
use super::executor::{is_request_error, to_json};
use crate::error::{Code, Error};

/// The response format of a request.
pub struct Reply {
    pub accepted: Accepted,
    format: Format,
}

impl Reply {
    /// The negotiated format; the error response, where the client accepts none of ours.
    pub fn to(headers: &HeaderMap) -> Result<Reply, Box<HttpResponse>> {
        let accepted = Accepted::of(headers);
        match accepted.for_answer() {
            Some(format) => Ok(Reply { accepted, format }),
            None => {
                let reply = Reply { accepted, format: Format::Json };
                let message = "answers are application/graphql-response+json or application/json";
                Err(Box::new(reply.refuse(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", message)))
            }
        }
    }

    /// The format of all responses, where the client accepts streams only.
    pub fn stream_format(&self) -> Option<Format> {
        matches!(self.format, Format::Events | Format::Multipart).then_some(self.format)
    }

    pub fn send(&self, response: &Response) -> HttpResponse {
        let status = match errors::status_of_response(response) {
            Some(status) => status,
            None if is_request_error(response) => self.request_error(),
            None => StatusCode::OK,
        };
        let mut answer = self.json(status, to_json(response));
        errors::set_retry_after(&mut answer, &response.errors);
        answer
    }

    /// The response to a request that cannot be executed.
    pub fn error(&self, error: Error) -> HttpResponse {
        if error.code == Code::Unauthenticated {
            return self.unauthenticated();
        }
        self.send(&Response::from_errors(vec![errors::unplaced(error)]))
    }

    /// The status of requests that are well-formed but cannot be executed: clients of plain JSON expect 200.
    fn request_error(&self) -> StatusCode {
        if self.format == Format::Json { StatusCode::OK } else { StatusCode::BAD_REQUEST }
    }

    pub fn refusal(&self, refusal: &Refusal) -> HttpResponse {
        let status = match refusal.code {
            "BAD_REQUEST" => StatusCode::BAD_REQUEST,
            "RATE_LIMITED" => StatusCode::TOO_MANY_REQUESTS,
            "PERSISTED_QUERY_NOT_FOUND" if self.format != Format::Json => StatusCode::NOT_FOUND,
            _ => self.request_error(),
        };
        let errors = [refusal.to_error()];
        self.failed(status, &errors)
    }

    pub fn unauthenticated(&self) -> HttpResponse {
        let Error { code, message, .. } = Error::unauthenticated();
        let mut response = self.refuse(StatusCode::UNAUTHORIZED, code.as_str(), &message);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }

    pub fn refuse(&self, status: StatusCode, code: &'static str, message: &str) -> HttpResponse {
        self.failed(status, &[errors::plain(code, message)])
    }

    fn failed(&self, status: StatusCode, errors: &[ServerError]) -> HttpResponse {
        let mut answer = self.json(status, errors::only(errors));
        errors::set_retry_after(&mut answer, errors);
        answer
    }

    pub fn json(&self, status: StatusCode, body: impl Into<Body>) -> HttpResponse {
        let mime = match self.format {
            Format::ResponseJson => "application/graphql-response+json; charset=utf-8",
            _ => "application/json; charset=utf-8",
        };
        (status, [(header::CONTENT_TYPE, mime)], body.into()).into_response()
    }
}
