//! GraphQL over HTTP, and the upgrade to WebSocket.

use std::sync::Arc;

use async_graphql::{Data, Request, Response};
use async_graphql_axum::{GraphQLProtocol, GraphQLWebSocket};
use axum::body::Bytes;
use axum::extract::{FromRequestParts, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};

use super::answers::{Answers, Key};
use super::errors;
use super::heads::Heads;
use super::operation::Operations;
use crate::app::App;
use crate::auth::{Caller, token};
use crate::schema::Schema;

const RESPONSE_JSON: &str = "application/graphql-response+json";

/// What the handlers share.
#[derive(Clone)]
pub struct Endpoint {
    app: App,
    schema: Schema,
    answers: Answers,
    heads: Heads,
}

impl Endpoint {
    pub fn new(app: App, schema: Schema) -> Self {
        Endpoint { heads: Heads::new(app.db.clone()), answers: Answers::default(), app, schema }
    }

    /// The finished answer to the same request, if it is still the answer.
    async fn kept(&self, caller: &Caller, key: &Key) -> Option<Bytes> {
        let kept = self.answers.get(key)?;
        let head = self.heads.get(caller.tenant).await?;
        kept.0.holds(head, self.app.clock.now()).then(|| kept.1.clone())
    }
}

/// POST: one operation as JSON.
pub async fn post(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> HttpResponse {
    let accepts_response_json =
        headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|v| v.contains(RESPONSE_JSON)));
    let reply = Reply { accepts_response_json };
    let is_json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        return reply.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "send application/json");
    }
    let Some(caller) = authenticate(&endpoint.app, &headers) else {
        let mut response = reply.refuse(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "a bearer token is needed");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    let key = Key::new(&caller, &body);
    if let Some(body) = endpoint.kept(&caller, &key).await {
        return reply.json(StatusCode::OK, body);
    }
    let Ok(request) = serde_json::from_slice::<Request>(&body) else {
        return reply.refuse(StatusCode::BAD_REQUEST, "BAD_REQUEST", "the body is not a GraphQL request in JSON");
    };
    let (response, freshness) = Operations(endpoint.schema).run(request.data(caller)).await;
    let Some(freshness) = freshness else { return reply.send(response) };
    match serde_json::to_vec(&response) {
        Ok(body) => {
            let body = Bytes::from(body);
            endpoint.answers.put(key, freshness, body.clone());
            reply.json(StatusCode::OK, body)
        }
        Err(_) => reply.send(response),
    }
}

/// The caller of an `Authorization` header.
fn authenticate(app: &App, headers: &HeaderMap) -> Option<Arc<Caller>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    verify(app, value.to_str().ok()?)
}

fn verify(app: &App, authorization: &str) -> Option<Arc<Caller>> {
    let token = token::from_header(authorization)?;
    app.tokens.verify(token, app.clock.now()).ok()
}

/// How a response is put into HTTP.
struct Reply {
    accepts_response_json: bool,
}

impl Reply {
    fn send(&self, response: Response) -> HttpResponse {
        let is_request_error = response.data == async_graphql::Value::Null
            && !response.errors.is_empty()
            && response.errors.iter().all(|error| error.path.is_empty());
        let status =
            if is_request_error && self.accepts_response_json { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        if is_request_error {
            return self.json(status, serde_json::json!({ "errors": response.errors }).to_string());
        }
        match serde_json::to_string(&response) {
            Ok(body) => self.json(status, body),
            Err(_) => self.refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL_SERVER_ERROR",
                "something went wrong on the server",
            ),
        }
    }

    fn refuse(&self, status: StatusCode, code: &str, message: &str) -> HttpResponse {
        let errors = [errors::plain(code, message)];
        self.json(status, serde_json::json!({ "errors": errors }).to_string())
    }

    fn json(&self, status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
        let mime = if self.accepts_response_json {
            "application/graphql-response+json; charset=utf-8"
        } else {
            "application/json; charset=utf-8"
        };
        (status, [(header::CONTENT_TYPE, mime), (header::CACHE_CONTROL, "no-store")], body.into()).into_response()
    }
}

/// The upgrade to graphql-transport-ws. The token comes in `connection_init`, as `Authorization`.
pub async fn websocket(State(endpoint): State<Endpoint>, request: axum::extract::Request) -> HttpResponse {
    const PROTOCOL: &str = "graphql-transport-ws";
    let (mut parts, _) = request.into_parts();
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offers = |value: &HeaderValue| value.to_str().is_ok_and(|v| v.split(',').any(|p| p.trim() == PROTOCOL));
    if !offered.iter().any(offers) {
        return (StatusCode::BAD_REQUEST, "the subprotocol is graphql-transport-ws").into_response();
    }
    // The library takes the first protocol offered, which may be the legacy one.
    parts.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let protocol = match GraphQLProtocol::from_request_parts(&mut parts, &()).await {
        Ok(protocol) => protocol,
        Err(refused) => return refused.into_response(),
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.into_response(),
    };
    let app = endpoint.app.clone();
    upgrade
        .protocols([PROTOCOL])
        .on_upgrade(move |socket| {
            GraphQLWebSocket::new(socket, Operations(endpoint.schema), protocol)
                .on_connection_init(move |payload| async move { init(&app, &payload) })
                .serve()
        })
        .into_response()
}

fn init(app: &App, payload: &serde_json::Value) -> async_graphql::Result<Data> {
    let authorization = ["Authorization", "authorization"].iter().find_map(|name| payload.get(name)?.as_str());
    let caller = authorization
        .and_then(|value| verify(app, value))
        .ok_or_else(|| crate::error::Error::new(crate::error::Code::Unauthenticated, "a bearer token is needed"))?;
    let mut data = Data::default();
    data.insert(caller);
    Ok(data)
}
