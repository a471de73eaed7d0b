//! `POST /webhooks/<tenant>/<integration>`: answered soon, since senders do not wait long.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use uuid::Uuid;

use super::receive::{find_sender, receive};
use crate::accounts::http::refuse;
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::graphql::errors::{plain, respond};
use crate::graphql::http::{Endpoint, read_body_of};
use crate::graphql::origin::client_of;

/// Whoever sends gives up after 5 s, and comes again.
const ANSWER_WAIT: Duration = Duration::from_millis(2_500);
/// An order with a thousand lines is not much shorter.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

pub fn routes(endpoint: Endpoint) -> Router {
    Router::new().route("/webhooks/{tenant}/{integration}", post(webhook)).with_state(endpoint)
}

/// The address of an integration, below the server's own.
pub fn path_of(tenant: TenantId, integration: Uuid) -> String {
    format!("/webhooks/{}/{integration}", tenant.0)
}

async fn webhook(
    State(endpoint): State<Endpoint>,
    Path((tenant, integration)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        let error = plain("UNSUPPORTED_MEDIA_TYPE", "send the body as it is, without a Content-Encoding");
        return respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, &[error]);
    }
    // What is no id is nobody's, like an id that is not there.
    let id = |text: &str| Uuid::parse_str(text).unwrap_or_default();
    let (tenant, integration) = (TenantId(id(&tenant)), id(&integration));
    let sender = || find_sender(&endpoint.app, tenant, integration);
    // Of nobody's nothing is read.
    if let Err(error) = soon(sender()).await {
        return refuse_of(&endpoint, &parts, error);
    }
    let body = match read_body_of(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err((status, code, message)) => return respond(status, &[plain(code, message)]),
    };
    // By its secrets as they are now, since a body may be slow.
    let received = async { receive(&endpoint.app, tenant, &sender().await?, &parts.headers, &body).await };
    match soon(received).await {
        Ok(outcome) => (StatusCode::OK, Json(json!({ "outcome": outcome }))).into_response(),
        Err(error) => refuse_of(&endpoint, &parts, error),
    }
}

/// What the ledger has begun when it takes too long is ended; the same request finds it there.
async fn soon<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Code::ServiceUnavailable, "it takes too long now; send it again");
    tokio::time::timeout(ANSWER_WAIT, work).await.map_err(late)?
}

/// Senders of many tenants share addresses: who signs is never refused for another's sake.
fn refuse_of(endpoint: &Endpoint, parts: &request::Parts, error: Error) -> Response {
    if error.code != Code::Unauthenticated {
        return refuse(error);
    }
    let address = client_of(parts, &endpoint.proxies).address;
    refuse(endpoint.usage.take_stranger(address).err().unwrap_or(error))
}
