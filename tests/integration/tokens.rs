//! The rules of tokens in time: how long a session lasts, and what a token of a session that ended costs its address.

use std::num::NonZeroU32;

use salespulse::auth::Role;
use salespulse::clock::{DAY, MINUTE, SECOND, Timestamp};
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::server::Options;
use serde_json::{Value, json};

use crate::support::{NOW, Server, TestApp};
use crate::web::{PASSWORD, let_in};

const LOGIN: &str = r#"mutation ($email: String!, $password: String!) {
    session: login(tenant: "acme", email: $email, password: $password) { accessToken refreshToken expiresAt } }"#;
const REFRESH: &str = "mutation ($token: String!) {
    session: refresh(refreshToken: $token) { accessToken refreshToken expiresAt } }";

/// The status and body of an answer.
async fn ask(server: &Server, token: Option<&Value>, query: &str, variables: Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("http://{}/graphql", server.address));
    let request = request.header("content-type", "application/json");
    let request = match token {
        Some(token) => request.bearer_auth(token.as_str().expect("a token")),
        None => request,
    };
    let body = json!({ "query": query, "variables": variables }).to_string();
    let answer = request.body(body).send().await.expect("an answer");
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
}

#[tokio::test]
async fn a_session_ends_after_thirty_days_and_its_last_token_with_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = Server::start(&test).await;
    let end = NOW.0 + 30 * DAY;
    let mut session =
        ask(&server, None, LOGIN, json!({ "email": email, "password": PASSWORD })).await.1["data"]["session"].take();
    let refresh =
        async |session: &Value| ask(&server, None, REFRESH, json!({ "token": session["refreshToken"] })).await.1;
    for now in [NOW.0 + 10 * DAY, NOW.0 + 20 * DAY, end - 5 * MINUTE] {
        test.clock.set(Timestamp(now));
        session = refresh(&session).await["data"]["session"].take();
        assert!(session["accessToken"].is_string(), "{session}");
    }
    assert_eq!(session["expiresAt"], "2026-07-15T12:00:00Z");
    let me = async || ask(&server, Some(&session["accessToken"]), "{ me { role } }", Value::Null).await.0;
    test.clock.set(Timestamp(end - SECOND));
    assert_eq!(me().await, 200);
    // Clocks may differ by as much.
    test.clock.set(Timestamp(end + 10 * SECOND));
    assert_eq!(me().await, 401);
    assert_eq!(refresh(&session).await["errors"][0]["extensions"]["code"], "INVALID_GRANT");
    server.stop().await;
}

#[tokio::test]
async fn tokens_of_a_session_that_ended_take_from_their_address_and_those_that_are_over_do_not() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let limits = Limits { address_requests: NonZeroU32::new(4), ..Limits::default() };
    let api = Settings { limits, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let login = async || {
        let variables = json!({ "email": email, "password": PASSWORD });
        ask(&server, None, LOGIN, variables).await.1["data"]["session"]["accessToken"].take()
    };
    // Signing in takes one of four, each.
    let (kept, ended) = (login().await, login().await);
    let ask = async |token: &Value, query: &str| ask(&server, Some(token), query, Value::Null).await.0;
    assert_eq!(ask(&kept, "{ me { role } }").await, 200);
    assert_eq!(ask(&ended, "mutation { logout }").await, 200);
    let refused = [ask(&ended, "{ me { role } }").await, ask(&ended, "{ me { role } }").await];
    assert_eq!((refused, ask(&ended, "{ me { role } }").await), ([401, 401], 429));
    test.clock.set(Timestamp(NOW.0 + 16 * MINUTE));
    assert_eq!(ask(&kept, "{ me { role } }").await, 401);
    server.stop().await;
}
