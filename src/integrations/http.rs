//! `POST /webhooks/<tenant>/<integration>`: answered soon, since senders do not wait long.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use uuid::Uuid;

use super::receive::receive;
use crate::accounts::http::refuse;
use crate::db::TenantId;
use crate::error::{Code, Error};
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
    // What is no id is nobody's, like an id that is not there.
    let id = |text: &str| Uuid::parse_str(text).unwrap_or_default();
    let (tenant, integration) = (TenantId(id(&tenant)), id(&integration));
    let body = match read_body_of(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err((status, code, message)) => return respond(status, &[plain(code, message)]),
    };
    let received = receive(&endpoint.app, tenant, integration, &parts.headers, &body);
    match tokio::time::timeout(ANSWER_WAIT, received).await {
        Ok(Ok(outcome)) => (StatusCode::OK, Json(json!({ "outcome": outcome }))).into_response(),
        Ok(Err(error)) if error.code == Code::Unauthenticated => {
            // Senders of many tenants share addresses: who signs is never refused for another's sake.
            let address = client_of(&parts, &endpoint.proxies).address;
            refuse(endpoint.usage.take_stranger(address).err().unwrap_or(error))
        }
        Ok(Err(error)) => refuse(error),
        // What the ledger has begun is ended; the same request finds it there.
        Err(_) => refuse(Error::new(Code::ServiceUnavailable, "it takes too long now; send it again")),
    }
}
