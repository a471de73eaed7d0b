//! `/auth/oidc`: the redirect to the provider and the callback. At the end a browser has the same as after
//! `/auth/login`.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use openidconnect::CsrfToken;
use openidconnect::url::Url;
use serde::Deserialize;
use serde_json::json;

use super::flow::{COOKIE, Flow, Purpose, is_own_path, no_cookie};
use super::provider::Provider;
use super::sign_in;
use crate::accounts::http::{Own, add_session, cookie, read_json};
use crate::auth::Through;
use crate::auth::sessions::Client;
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::graphql::endpoint::Endpoint;
use crate::graphql::errors::refuse;
use crate::tenancy::find_tenant;

const PAGE: &str = include_str!("refused.html");
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

pub fn routes() -> Router<Endpoint> {
    Router::new()
        .route("/auth/oidc", get(list))
        .route("/auth/oidc/{provider}", get(begin))
        .route("/auth/oidc/{provider}/link", post(begin_link))
        .route("/auth/oidc/{provider}/callback", get(come_back))
}

/// The parameters that start a sign-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// The tenant's slug, for a provider used by several tenants.
    tenant: Option<String>,
    /// The path to redirect to at the end.
    #[serde(default = "root")]
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    #[serde(default = "root")]
    to: String,
}

fn root() -> String {
    "/".to_owned()
}

/// The callback's parameters; unknown ones are ignored.
#[derive(Deserialize)]
struct Back {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Lists the providers, for a page to offer them.
async fn list(State(endpoint): State<Endpoint>) -> Response {
    let providers = endpoint.app.providers.0.values();
    let shown = providers.map(|provider| {
        json!({ "name": provider.name, "title": provider.settings.title, "needsTenant": provider.settings.tenant.is_none() })
    });
    Json(shown.collect::<Vec<_>>()).into_response()
}

async fn begin(
    State(endpoint): State<Endpoint>,
    Path(name): Path<String>,
    query: Result<Query<Begin>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    go_to_provider(&endpoint, &name, query).await.unwrap_or_else(|error| explain(error, &headers))
}

async fn go_to_provider(
    endpoint: &Endpoint,
    name: &str,
    query: Result<Query<Begin>, QueryRejection>,
) -> Result<Response> {
    let Query(Begin { tenant, to }) = query.map_err(|_| Error::new(Code::BadUserInput, "send tenant and to"))?;
    let provider = find(endpoint, name)?;
    let tenant = match (&provider.settings.tenant, tenant) {
        (Some(own), None) => own.clone(),
        (Some(own), Some(tenant)) if *own == tenant => tenant,
        (None, Some(tenant)) => tenant,
        _ => return Err(not_available()),
    };
    let (url, cookie) = leave(endpoint, provider, Purpose::SignIn { tenant }, to).await?;
    go_to(url.as_str(), Some(cookie))
}

fn not_available() -> Error {
    Error::bad_input("tenant", "the provider is not available to that tenant")
}

/// Sends the page of a signed-in user to the provider. The page sends the access token, which no other page has.
async fn begin_link(
    State(endpoint): State<Endpoint>,
    Path(name): Path<String>,
    Own(client): Own,
    headers: HeaderMap,
    request: Request,
) -> Response {
    match read_json(request, "to").await {
        Ok(Link { to }) => tell_provider(&endpoint, &name, &client, &headers, to).await.unwrap_or_else(refuse),
        Err(refused) => *refused,
    }
}

async fn tell_provider(
    endpoint: &Endpoint,
    name: &str,
    client: &Client,
    headers: &HeaderMap,
    to: String,
) -> Result<Response> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = endpoint.verify(authorization.unwrap_or_default(), client).await?;
    let Through::Session(session) = caller.through else {
        return Err(Error::new(Code::Forbidden, "sign in before linking an identity"));
    };
    let provider = find(endpoint, name)?;
    if let Some(own) = &provider.settings.tenant
        && find_tenant(&endpoint.app.db, own).await? != Some(caller.tenant)
    {
        return Err(not_available());
    }
    let purpose = Purpose::Link { tenant: caller.tenant.0, user_id: caller.user_id, session };
    let (url, cookie) = leave(endpoint, provider, purpose, to).await?;
    let mut response = Json(json!({ "url": url })).into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

async fn come_back(
    State(endpoint): State<Endpoint>,
    Path(name): Path<String>,
    Own(client): Own,
    query: Result<Query<Back>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let tries = &endpoint.app.tries;
    let come = match tries.check_stranger(client.address) {
        Ok(()) => {
            let kept = cookie(&headers, COOKIE).unwrap_or_default();
            let flow = Flow::from_cookie(kept, &endpoint.app.tokens.seals(), endpoint.app.clock.now());
            finish(&endpoint, &client, &name, flow, query).await
        }
        refused => refused.map(IntoResponse::into_response),
    };
    if come.as_ref().is_err_and(|error| matches!(error.code, Code::Unauthenticated | Code::InvalidGrant)) {
        tries.count_stranger(client.address);
    }
    let mut response = come.unwrap_or_else(|error| explain(error, &headers));
    if let Ok(cookie) = no_cookie() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

async fn finish(
    endpoint: &Endpoint,
    client: &Client,
    name: &str,
    flow: Option<Flow>,
    query: Result<Query<Back>, QueryRejection>,
) -> Result<Response> {
    let app = &endpoint.app;
    let provider = find(endpoint, name)?;
    let (Some(flow), Ok(Query(back))) = (flow, query) else { return Err(stray()) };
    let is_answer =
        back.state.map(CsrfToken::new).is_some_and(|state| state == flow.state) && flow.provider == provider.name;
    if !is_answer || !provider.has_answered(back.iss.as_deref()).await? {
        return Err(stray());
    }
    let (None, Some(code)) = (back.error, back.code) else {
        return Err(Error::new(Code::Unauthenticated, "the provider did not sign you in"));
    };
    let person = provider.redeem(&flow, code, app.clock.now()).await?;
    let mut response = go_to(&flow.to, None)?;
    match flow.purpose {
        Purpose::SignIn { tenant } => {
            let signed_in = sign_in::sign_in(app, client, provider, &tenant, &person).await?;
            add_session(&mut response, &signed_in);
        }
        Purpose::Link { tenant, user_id, session } => {
            sign_in::link(app, client, provider, (TenantId(tenant), user_id, session), &person).await?;
        }
    }
    Ok(response)
}

fn find<'a>(endpoint: &'a Endpoint, name: &str) -> Result<&'a Provider> {
    endpoint.app.providers.get(name).ok_or_else(|| Error::not_found("provider"))
}

/// The provider's URL for a sign-in, and the cookie with its state.
async fn leave(endpoint: &Endpoint, provider: &Provider, purpose: Purpose, to: String) -> Result<(Url, HeaderValue)> {
    if !is_own_path(&to) {
        return Err(Error::bad_input("to", "must be a path on this server, such as /graphiql"));
    }
    let flow = Flow::begin(&provider.name, purpose, to, endpoint.app.clock.now());
    Ok((provider.page(&flow).await?, flow.to_cookie(&endpoint.app.tokens.seals())?))
}

fn go_to(place: &str, cookie: Option<HeaderValue>) -> Result<Response> {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let place = HeaderValue::from_str(place).map_err(Error::internal)?;
    response.headers_mut().insert(header::LOCATION, place);
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn stray() -> Error {
    Error::new(Code::Forbidden, "this sign-in was not started in this browser, or too long ago; start again")
}

/// Reports an error as a page to browsers, otherwise as JSON.
fn explain(error: Error, headers: &HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if !accepts.is_some_and(|accepts| accepts.contains("text/html")) {
        return refuse(error);
    }
    let page = PAGE.replace("{code}", error.code.as_str()).replace("{message}", &escaped(&error.message));
    let mut response = refuse(error);
    *response.body_mut() = page.into();
    for (name, value) in
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Messages are ours, except for a provider's title, which its operator wrote.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
