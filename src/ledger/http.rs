//! `POST /v1/events`: event ingestion for clients that do not speak GraphQL. The body holds the arguments of
//! `recordEvents` and the response is its result; it runs the same operation, with the same checks, limits and errors.

use async_graphql::{Response as Answer, Variables};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;

use crate::error::Error;
use crate::graphql::endpoint::Endpoint;
use crate::graphql::errors::{Refusal, plain, refuse, respond, status_of};
use crate::graphql::http::{is_json, read_body};
use crate::graphql::params::{Params, parse_json};

const RECORD: &str = "mutation RecordEvents($events: [SalesEventInput!]!, $backfill: Boolean) { \
    recordEvents(events: $events, backfill: $backfill) { results { eventId outcome position code reason } position } }";

pub fn routes(endpoint: Endpoint) -> Router {
    Router::new().route("/v1/events", post(record)).with_state(endpoint)
}

async fn record(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        let error = plain("UNSUPPORTED_MEDIA_TYPE", "send application/json, without a Content-Encoding");
        return respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, &[error]);
    }
    let requester = match endpoint.authenticate(&parts).await {
        Ok(requester) if requester.caller.is_some() => requester,
        Ok(_) => return refuse(Error::unauthenticated()),
        Err(error) => return refuse(error),
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err((status, code, message)) => return respond(status, &[plain(code, message)]),
    };
    let prepared = variables(&body)
        .and_then(|variables| {
            let params = Params { variables, ..Params::default() };
            endpoint.executor.prepare_own(RECORD, params, requester.caller.as_deref())
        })
        .and_then(|prepared| endpoint.spend(&requester, prepared));
    match prepared {
        Ok(prepared) => answer(endpoint.executor.run(prepared, requester).await.0),
        Err(refusal) => respond(status_of(refusal.code), &[refusal.to_error()]),
    }
}

/// The body's members; only the operation's arguments are allowed.
fn variables(body: &[u8]) -> Result<Variables, Refusal> {
    let bad = |message: &str| Refusal::new("BAD_REQUEST", message);
    let Value::Object(members) = parse_json(body)? else { return Err(bad("send an object with events")) };
    if let Some(name) = members.keys().find(|name| !["events", "backfill"].contains(&name.as_str())) {
        return Err(bad(&format!("there is no {name} here; send events and backfill")));
    }
    Ok(Variables::from_json(Value::Object(members)))
}

fn answer(answer: Answer) -> Response {
    if let Some(error) = answer.errors.first() {
        let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
        let status = match code {
            Some(async_graphql::Value::String(code)) => status_of(code),
            _ => StatusCode::BAD_REQUEST,
        };
        return respond(status, &answer.errors);
    }
    match answer.data.into_json() {
        Ok(mut data) => Json(data["recordEvents"].take()).into_response(),
        Err(error) => refuse(error.into()),
    }
}
