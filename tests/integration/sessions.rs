//! Sessions: how they go on, and what ends them.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use salespulse::auth::sessions::{self, Client};
use salespulse::auth::token::Subject;
use salespulse::auth::{Role, Through};
use salespulse::clock::{DAY, SECOND, Timestamp};
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::support::{NOW, Server, TestApp};
use crate::web::{ME, REFRESH, Web, anonymous, let_in, login, start, with};

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_lost_answer_can_be_had_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = start(&test).await;
    let first = login(&server, "acme", &email).await;
    let refresh = async |token: &Value| anonymous(&server).ask(REFRESH, json!({ "token": token })).await.1;
    // Ten at once get the same next one.
    let answers = join_all((0..10).map(|_| refresh(&first["refreshToken"]))).await;
    let second = answers[0]["data"]["refresh"].clone();
    assert!(second["refreshToken"].is_string(), "{}", answers[0]);
    assert!(answers.iter().all(|a| a["data"]["refresh"]["refreshToken"] == second["refreshToken"]), "{answers:?}");
    assert_eq!(with(&server, &second["accessToken"]).data(ME, Value::Null).await["me"]["email"], email);
    // Once the next one is used, the first is stolen goods, and the session ends.
    let third = refresh(&second["refreshToken"]).await["data"]["refresh"].clone();
    let again = refresh(&first["refreshToken"]).await;
    assert_eq!(again["errors"][0]["extensions"]["code"], "INVALID_GRANT");
    for token in [&second["refreshToken"], &third["refreshToken"]] {
        assert_eq!(refresh(token).await["errors"][0]["extensions"]["code"], "INVALID_GRANT");
    }
    let (status, _) = with(&server, &third["accessToken"]).ask(ME, Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let log = acme.admin().query("{ auditLog(first: 1) { nodes { action } } }").await;
    assert_eq!(log["auditLog"]["nodes"][0]["action"], "session.reuse");

    // So it is when it comes back too late.
    let other = login(&server, "acme", &email).await;
    refresh(&other["refreshToken"]).await;
    test.clock.set(Timestamp(NOW.0 + 11 * SECOND));
    assert_eq!(refresh(&other["refreshToken"]).await["errors"][0]["extensions"]["code"], "INVALID_GRANT");
    // A session that nobody uses ends.
    let idle = login(&server, "acme", &email).await;
    test.clock.set(Timestamp(NOW.0 + 15 * DAY));
    assert_eq!(refresh(&idle["refreshToken"]).await["errors"][0]["extensions"]["code"], "INVALID_GRANT");
    server.stop().await;
}

#[tokio::test]
async fn whoever_is_sent_off_is_so_on_open_sockets_of_other_processes_too() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Analyst).await;
    let (here, there) = (start(&test).await, Server::of(test.another().await).await);
    let user_id = acme.actor(Role::Analyst).caller.user_id;
    let admin = Web { server: &here, token: Some(acme.admin().token()) };
    let changes = [json!({ "role": "VIEWER" }), json!({ "role": "ANALYST" }), json!({ "isActive": false })];
    for input in changes {
        let signed_in = login(&here, "acme", &email).await;
        let token = signed_in["accessToken"].as_str().expect("a token");
        let (mut near, mut far) = (Socket::open(&here, token).await, Socket::open(&there, token).await);
        near.ready().await;
        far.ready().await;
        let update =
            "mutation ($id: ID!, $input: UserChanges!) { updateUser(id: $id, input: $input) { state user { role } } }";
        let updated = admin.data(update, json!({ "id": user_id, "input": input })).await;
        assert_eq!(near.closed().await, 4403);
        assert_eq!(far.closed().await, 4403);
        for server in [&here, &there] {
            let (status, _) = with(server, &signed_in["accessToken"]).ask(ME, Value::Null).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
        // Another role is had by refreshing.
        let variables = json!({ "token": signed_in["refreshToken"] });
        if input["isActive"].is_null() {
            let refreshed = anonymous(&here).data(REFRESH, variables).await;
            assert_eq!(refreshed["refresh"]["user"]["role"], updated["updateUser"]["user"]["role"]);
        } else {
            assert_eq!(anonymous(&here).code(REFRESH, variables).await, "INVALID_GRANT");
        }
    }
    let log = acme.admin().query(r#"{ auditLog(first: 1) { nodes { action before after } } }"#).await;
    let entry = &log["auditLog"]["nodes"][0];
    assert_eq!(entry["before"], json!({ "role": "analyst", "isActive": true, "isInvited": false }));
    assert_eq!(entry["after"], json!({ "role": "analyst", "isActive": false, "isInvited": false }));
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn signing_out_ends_one_session_and_everywhere_ends_all() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = start(&test).await;
    let (one, two) = (login(&server, "acme", &email).await, login(&server, "acme", &email).await);
    let sessions = with(&server, &two["accessToken"]).data("{ sessions { isCurrent address } }", Value::Null).await;
    let expected =
        json!([{ "isCurrent": true, "address": "127.0.0.1" }, { "isCurrent": false, "address": "127.0.0.1" }]);
    assert_eq!(sessions["sessions"], expected);
    let three = login(&server, "acme", &email).await;
    let listed = with(&server, &three["accessToken"]).data("{ sessions { id isCurrent } }", Value::Null).await;
    let end = format!("mutation {{ endSession(id: {}) }}", listed["sessions"][0]["id"]);
    let admins = Web { server: &server, token: Some(acme.admin().token()) };
    assert_eq!(admins.code(&end, Value::Null).await, "NOT_FOUND");
    let mut lost = Socket::open(&server, three["accessToken"].as_str().expect("a token")).await;
    let ended = with(&server, &two["accessToken"]).data(&end, Value::Null).await;
    assert_eq!(ended["endSession"], listed["sessions"][0]["id"]);
    assert_eq!(lost.closed().await, 4403);
    assert_eq!(with(&server, &three["accessToken"]).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    for gone in [end, "mutation { endSession(id: \"x\") }".to_owned()] {
        assert_eq!(with(&server, &two["accessToken"]).code(&gone, Value::Null).await, "NOT_FOUND");
    }

    with(&server, &one["accessToken"]).data("mutation { logout }", Value::Null).await;
    assert_eq!(with(&server, &one["accessToken"]).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let mut socket = Socket::open(&server, two["accessToken"].as_str().expect("a token")).await;
    let ended = with(&server, &two["accessToken"]).data("mutation { logoutEverywhere }", Value::Null).await;
    assert_eq!(ended["logoutEverywhere"], 1);
    assert_eq!(socket.closed().await, 4403);
    // An operator's token is of no session, and of everywhere.
    let operators = Web { server: &server, token: Some(acme.viewer().token()) };
    assert_eq!(operators.ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let admin = Web { server: &server, token: Some(acme.admin().token()) };
    assert_eq!(admin.code("mutation { logout }", Value::Null).await, "BAD_USER_INPUT");
    server.stop().await;
}

#[tokio::test]
async fn a_socket_goes_on_with_a_fresh_token() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let viewer = acme.viewer();
    let token = |lifetime_secs| {
        let subject = Subject { tenant: acme.id(), user_id: viewer.caller.user_id, role: Role::Viewer, session: None };
        test.app.tokens.mint(&subject, NOW, lifetime_secs).expect("a token")
    };
    let (mut renewed, mut left) = (Socket::open(&server, &token(2)).await, Socket::open(&server, &token(2)).await);
    renewed.renew(&token(3600)).await;
    assert_eq!(left.closed().await, 4403);
    renewed.ready().await;
    // Nobody else goes on in its place.
    renewed.renew(&acme.admin().token()).await;
    assert_eq!(renewed.closed().await, 4403);
    server.stop().await;
}

/// As if its user had just been let in, here or by a server that has not heard since of what took their access away.
#[tokio::test]
async fn a_request_changes_nothing_once_its_user_has_lost_access() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let ann = acme.another_user(Role::Admin).await;
    let through = |through: Through| {
        let mut actor = acme.admin();
        (actor.caller.user_id, actor.caller.through) = (ann, through);
        actor
    };
    let update = |input: &str| format!(r#"mutation {{ updateUser(id: "{ann}", input: {{{input}}}) {{ state }} }}"#);
    let create = r#"mutation { createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { key { id } } }"#;
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let session = sessions::open(&tx, ann, Role::Admin, &Client::default(), NOW).await.expect("opened").id;
    tx.commit().await.expect("committed");
    let token = through(Through::Token { issued_at_secs: NOW.0 / SECOND });
    let key = token.query(create).await["createApiKey"]["key"]["id"].as_str().expect("an id").to_owned();
    let revoke = format!(r#"mutation {{ revokeApiKey(id: "{key}") {{ id }} }}"#);
    let later = || through(Through::Token { issued_at_secs: NOW.0 / SECOND + 1 });
    let session = through(Through::Session(session));
    for (what, actor, by, mutation) in [
        ("a revoked key", through(Through::ApiKey(key.parse().expect("an id"))), acme.admin(), revoke),
        ("a session that ended", session.clone(), session.clone(), "mutation { logout }".to_owned()),
        ("an earlier token", token.clone(), token.clone(), "mutation { logoutEverywhere }".to_owned()),
        ("another role", later(), acme.admin(), update("role: VIEWER")),
        ("a deactivated user", later(), acme.admin(), update("isActive: false")),
    ] {
        actor.query(&format!(r#"mutation {{ createTeam(input: {{name: "{what}"}}) {{ id }} }}"#)).await;
        by.query(&mutation).await;
        for refused in [create, &update("isActive: true, role: ADMIN"), &update("name: \"X\"")] {
            assert_eq!(actor.error_code(refused).await, "UNAUTHENTICATED", "{what}: {refused}");
        }
        if what == "another role" {
            acme.admin().query(&update("role: ADMIN")).await;
        }
    }
    let keys = acme.admin().query("{ apiKeys { revokedAt } }").await;
    assert_eq!(keys["apiKeys"].as_array().map(Vec::len), Some(1), "{keys}");
}

#[tokio::test]
async fn a_stolen_refresh_token_is_noticed_however_late_it_comes() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = start(&test).await;
    let stolen = login(&server, "acme", &email).await["refreshToken"].take();
    let mut newest = stolen.clone();
    for day in [0, 13] {
        test.clock.set(Timestamp(NOW.0 + day * DAY));
        newest = anonymous(&server).data(REFRESH, json!({ "token": newest })).await["refresh"]["refreshToken"].take();
    }
    test.clock.set(Timestamp(NOW.0 + 15 * DAY));
    for token in [stolen, newest] {
        assert_eq!(anonymous(&server).code(REFRESH, json!({ "token": token })).await, "INVALID_GRANT");
    }
    let log = acme.admin().query("{ auditLog(first: 1) { nodes { action } } }").await;
    assert_eq!(log["auditLog"]["nodes"][0]["action"], "session.reuse");
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_not_refreshed_without_end() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = start(&test).await;
    let (busy, other) = (login(&server, "acme", &email).await, login(&server, "acme", &email).await);
    let jar = |session: &Value| {
        let token = session["refreshToken"].as_str().expect("a token");
        format!("__Host-salespulse-refresh={token}; __Host-salespulse-csrf=c")
    };
    let refresh = async |jar: &str| {
        let headers = [("cookie", jar), ("x-csrf-token", "c")];
        anonymous(&server).send(Method::POST, "/auth/refresh", &headers, Value::Null).await
    };
    // The same again and again, as if each answer had been lost.
    let jars = (jar(&busy), jar(&other));
    let answers = join_all((0..80).map(|_| refresh(&jars.0))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() != StatusCode::OK).collect();
    assert!((1..=20).contains(&refused.len()), "{}", refused.len());
    for answer in refused {
        let wait = answer.headers()["retry-after"].to_str().expect("text").parse::<u32>().expect("seconds");
        assert!(answer.status() == StatusCode::TOO_MANY_REQUESTS && (1..=10).contains(&wait), "{answer:?}");
    }
    let again = json!({ "token": busy["refreshToken"] });
    assert_eq!(anonymous(&server).code(REFRESH, again).await, "RATE_LIMITED");
    assert_eq!(refresh(&jars.1).await.status(), StatusCode::OK);
    // Nor is much read of whoever has no token.
    let long = json!({ "tenant": "acme", "email": email, "password": "x".repeat(64 * 1024) });
    for path in ["/auth/login", "/auth/password"] {
        let answer = anonymous(&server).send(Method::POST, path, &[], long.clone()).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
    server.stop().await;
}
