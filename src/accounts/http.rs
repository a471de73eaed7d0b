//! Sign-in for browser pages: the refresh token is in an `HttpOnly` cookie, and requests prove that they can read the
//! other cookie (double-submit CSRF protection). Also the tokens' public keys, and the page behind mailed links.

use axum::Json;
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::sign_in::{self, SignedIn};
use super::{mailed, oidc};
use crate::auth::sessions::Client;
use crate::error::{Code, Error, Result};
use crate::graphql::endpoint::Endpoint;
use crate::graphql::errors::{plain, refuse, respond};
use crate::graphql::http::{PUBLIC_BYTES_MAX, is_json, read_body_of};
use crate::graphql::origin::{client_of, is_foreign};
use crate::graphql::scalars::DateTime;

/// The prefix restricts the cookies to encrypted connections and to this host.
const REFRESH_COOKIE: &str = "__Host-salespulse-refresh";
const CSRF_COOKIE: &str = "__Host-salespulse-csrf";
const CSRF_HEADER: &str = "x-csrf-token";
const COOKIE_SECS: i64 = 30 * 24 * 3600;

const PAGE: &str = include_str!("password.html");
/// Allows nothing but the page's own content.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'sha256-{script}'; style-src 'unsafe-inline'; connect-src 'self'; \
     form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

pub fn routes(endpoint: Endpoint) -> Router {
    Router::new()
        .route("/auth/login", post(login))
        .route("/auth/refresh", post(refresh))
        .route("/auth/logout", post(logout))
        .route("/auth/password", get(page).post(set_password))
        .route("/.well-known/jwks.json", get(key_set))
        .merge(oidc::http::routes())
        .with_state(endpoint)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    tenant: String,
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    token: String,
    password: String,
}

/// A request from one of this server's own pages, or not from a browser page.
pub struct Own(pub Client);

impl FromRequestParts<Endpoint> for Own {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, endpoint: &Endpoint) -> Result<Self, Response> {
        // Cookies are for this server's own pages, even where other origins may use the API.
        if is_foreign(parts, &[]) {
            return Err(refuse(Error::new(Code::Forbidden, "pages of other origins may not sign in here")));
        }
        Ok(Own(client_of(parts, &endpoint.proxies)))
    }
}

async fn login(State(endpoint): State<Endpoint>, Own(client): Own, request: Request) -> Response {
    let Login { tenant, email, password } = match read_json(request, "tenant, email and password").await {
        Ok(login) => login,
        Err(refused) => return *refused,
    };
    answer(sign_in::by_password(&endpoint.app, &client, &tenant, &email, password).await)
}

async fn set_password(State(endpoint): State<Endpoint>, Own(client): Own, request: Request) -> Response {
    let NewPassword { token, password } = match read_json(request, "token and password").await {
        Ok(new) => new,
        Err(refused) => return *refused,
    };
    answer(mailed::redeem(&endpoint.app, &client, &token, password).await)
}

async fn refresh(State(endpoint): State<Endpoint>, Own(client): Own, headers: HeaderMap) -> Response {
    match token_of(&headers) {
        Ok(token) => answer(sign_in::refresh(&endpoint.app, &client, token).await),
        Err(error) => refuse(error),
    }
}

async fn logout(State(endpoint): State<Endpoint>, Own(client): Own, headers: HeaderMap) -> Response {
    let ended = match token_of(&headers) {
        Ok(token) => sign_in::end_of(&endpoint.app, &client, token).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => (StatusCode::NO_CONTENT, AppendHeaders(cookies("", "", 0))).into_response(),
        Err(error) => refuse(error),
    }
}

async fn key_set(State(endpoint): State<Endpoint>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, endpoint.app.tokens.key_set().to_owned()).into_response()
}

async fn page() -> Response {
    let policy = PAGE_POLICY.replace("{script}", &script_hash());
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy.as_str())];
    (headers, PAGE).into_response()
}

/// The hash by which the page's policy allows its one script.
fn script_hash() -> String {
    use base64::Engine;
    use sha2::Digest;
    let script = PAGE.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>"));
    let script = script.map_or("", |(script, _)| script);
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(script))
}

/// The refresh token of a request that passes the double-submit check.
fn token_of(headers: &HeaderMap) -> Result<&str> {
    let shown = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    match (cookie(headers, CSRF_COOKIE), shown) {
        (Some(known), Some(shown)) if !known.is_empty() && known == shown => {}
        _ => return Err(Error::new(Code::Forbidden, format!("send the value of {CSRF_COOKIE} as {CSRF_HEADER}"))),
    }
    let token = cookie(headers, REFRESH_COOKIE).filter(|token| !token.is_empty());
    token.ok_or_else(|| Error::new(Code::InvalidGrant, "there is no session; sign in"))
}

/// The value of a request's cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs
        .find_map(|value| value.split(';').filter_map(|pair| pair.trim().split_once('=')).find(|(n, _)| *n == name))
        .map(|(_, value)| value)
}

fn cookies(refresh: &str, csrf: &str, secs: i64) -> [(HeaderName, HeaderValue); 2] {
    let cookie = |name, value, more| {
        let text = format!("{name}={value}; Path=/; Secure; SameSite=Strict; Max-Age={secs}{more}");
        // Tokens consist of characters that are valid in headers.
        (header::SET_COOKIE, HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")))
    };
    [cookie(REFRESH_COOKIE, refresh, "; HttpOnly"), cookie(CSRF_COOKIE, csrf, "")]
}

fn answer(signed_in: Result<SignedIn>) -> Response {
    let signed_in = match signed_in {
        Ok(signed_in) => signed_in,
        Err(error) => return refuse(error),
    };
    let body = json!({ "accessToken": signed_in.access_token, "expiresAt": DateTime(signed_in.ends_at).to_text() });
    let mut response = (StatusCode::OK, Json(body)).into_response();
    add_session(&mut response, &signed_in);
    response
}

/// Stores a session in the browser's cookies.
pub fn add_session(response: &mut Response, signed_in: &SignedIn) {
    let csrf = uuid::Uuid::new_v4().simple().to_string();
    for (name, value) in cookies(&signed_in.refresh_token, &csrf, COOKIE_SECS) {
        response.headers_mut().append(name, value);
    }
}

/// Reads a JSON body, which an HTML form cannot send; otherwise the response to it.
pub async fn read_json<T: DeserializeOwned>(request: Request, what: &str) -> Result<T, Box<Response>> {
    let malformed = || Box::new(refuse(Error::new(Code::BadUserInput, format!("send {what} as application/json"))));
    if !is_json(request.headers()) {
        let error = plain("UNSUPPORTED_MEDIA_TYPE", "send application/json, without a Content-Encoding");
        return Err(Box::new(respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, &[error])));
    }
    match read_body_of(request.into_body(), PUBLIC_BYTES_MAX).await {
        Ok(body) => serde_json::from_slice(&body).map_err(|_| malformed()),
        Err((status, code, message)) => Err(Box::new(respond(status, &[plain(code, message)]))),
    }
}
