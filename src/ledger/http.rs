//! `POST /v1/events`: event ingestion for clients that do not speak GraphQL. The body holds the arguments of
//! `recordEvents` and the response is its result, with the same checks, limits and errors. But an event with a value of the
//! wrong type is refused alone, since this is not bound by what GraphQL says of variables.

use async_graphql::ID;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value};

use super::graphql::RecordEventsResult;
use super::input::read_event;
use crate::audit::By;
use crate::auth::{Caller, Permission};
use crate::error::{Error, Result};
use crate::graphql::context::check_may;
use crate::graphql::endpoint::{Endpoint, Requester};
use crate::graphql::errors::{Refusal, plain, refuse, respond, status_of};
use crate::graphql::http::{is_json, read_body};
use crate::graphql::params::parse_json;
use crate::telemetry::metrics::METRICS;

/// What a batch is charged: the fields of `recordEvents`, all of which the response has.
const FIELDS: usize = 8;

pub fn routes(endpoint: Endpoint) -> Router {
    Router::new().route("/v1/events", post(record)).with_state(endpoint)
}

async fn record(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        let error = plain("UNSUPPORTED_MEDIA_TYPE", "send application/json, without a Content-Encoding");
        return respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, &[error]);
    }
    let Requester { caller, client, .. } = match endpoint.authenticate(&parts).await {
        Ok(requester) => requester,
        Err(error) => return refuse(error),
    };
    let Some(caller) = caller else { return refuse(Error::unauthenticated()) };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err((status, code, message)) => return respond(status, &[plain(code, message)]),
    };
    let members = members(&body).and_then(|members| endpoint.usage.spend(&caller, FIELDS).map(|()| members));
    let members = match members {
        Ok(members) => members,
        Err(refusal) => return respond(status_of(refusal.code), &[refusal.to_error()]),
    };
    match record_members(&endpoint, &caller, By::caller(&caller, &client), members).await {
        Ok(result) => Json(result).into_response(),
        Err(error) => refuse(error),
    }
}

/// The body's members; only the arguments of `recordEvents` are allowed.
fn members(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let bad = |message: &str| Refusal::new("BAD_REQUEST", message);
    let Value::Object(members) = parse_json(body)? else { return Err(bad("send an object with events")) };
    if let Some(name) = members.keys().find(|name| !["events", "backfill"].contains(&name.as_str())) {
        return Err(bad(&format!("there is no {name} here; send events and backfill")));
    }
    Ok(members)
}

/// Errors: FORBIDDEN; BAD_USER_INPUT, unless the members are a list of 1 to 1000 and a Boolean; those of the ledger.
async fn record_members(
    endpoint: &Endpoint,
    caller: &Caller,
    by: By,
    mut members: Map<String, Value>,
) -> Result<RecordEventsResult> {
    let _timer = METRICS.operation_duration.with_label_values(&["mutation"]).start_timer();
    check_may(caller, Permission::SalesEdit)?;
    let Some(Value::Array(events)) = members.remove("events") else {
        return Err(Error::bad_input("events", "events must be a list"));
    };
    let is_backfill = match members.remove("backfill") {
        Some(Value::Bool(backfill)) => backfill,
        None | Some(Value::Null) => false,
        Some(_) => return Err(Error::bad_input("backfill", "backfill must be true or false")),
    };
    let ids = events.iter().map(id_of).collect();
    let given = events.into_iter().enumerate().map(|(index, event)| read_event(index, event)).collect();
    let answer = endpoint.app.ledger.record_given(caller.tenant, by, given, is_backfill).await?;
    Ok(RecordEventsResult::new(ids, answer))
}

/// The id of what may be an event; empty if it has none.
fn id_of(event: &Value) -> ID {
    match &event["eventId"] {
        Value::String(id) => ID(id.clone()),
        Value::Number(id) => ID(id.to_string()),
        _ => ID::default(),
    }
}
