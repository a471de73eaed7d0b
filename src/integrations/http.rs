//! `POST /webhooks/<tenant>/<integration>`: answered quickly, since senders time out early.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use uuid::Uuid;

use super::receive::{find_sender, receive};
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::graphql::endpoint::Endpoint;
use crate::graphql::errors::{plain, refuse, respond};
use crate::graphql::http::read_body_of;
use crate::graphql::origin::client_of;

/// Senders give up after 5 s, and retry.
const ANSWER_WAIT: Duration = Duration::from_millis(2_500);
/// An order with a thousand lines comes close to this.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

pub fn routes(endpoint: Endpoint) -> Router {
    Router::new().route("/webhooks/{tenant}/{integration}", post(webhook)).with_state(endpoint)
}

/// The path of an integration's webhook URL.
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
    // A malformed id is handled like an unknown one.
    let id = |text: &str| Uuid::parse_str(text).unwrap_or_default();
    let (tenant, integration) = (TenantId(id(&tenant)), id(&integration));
    let sender = || find_sender(&endpoint.app, tenant, integration);
    // The body of an unknown sender is not read.
    if let Err(error) = soon(sender()).await {
        return refuse_of(&endpoint, &parts, error);
    }
    let body = match read_body_of(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err((status, code, message)) => return respond(status, &[plain(code, message)]),
    };
    // Verified against the current secrets, since the body may have arrived slowly.
    let address = client_of(&parts, &endpoint.proxies).address;
    let received = async { receive(&endpoint.app, tenant, &sender().await?, address, &parts.headers, &body).await };
    match soon(received).await {
        Ok(outcome) => (StatusCode::OK, Json(json!({ "outcome": outcome }))).into_response(),
        Err(error) => refuse_of(&endpoint, &parts, error),
    }
}

/// Applies the timeout. The ledger completes what it has begun; a retried request finds it there.
async fn soon<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Code::ServiceUnavailable, "this takes too long at present; send it again");
    tokio::time::timeout(ANSWER_WAIT, work).await.map_err(late)?
}

/// Senders of many tenants share addresses: a valid signature is never rejected on account of others.
fn refuse_of(endpoint: &Endpoint, parts: &request::Parts, error: Error) -> Response {
    if error.code != Code::Unauthenticated {
        return refuse(error);
    }
    let address = client_of(parts, &endpoint.proxies).address;
    refuse(endpoint.usage.take_stranger(address).err().unwrap_or(error))
}
