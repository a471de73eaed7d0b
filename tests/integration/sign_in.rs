//! Signing in: who comes in, and what those learn who do not.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use salespulse::auth::Role;
use salespulse::graphql::endpoint::Settings;
use salespulse::server::Options;
use serde_json::{Value, json};

use crate::support::{Server, TestApp};
use crate::web::{LOGIN, ME, PASSWORD, REFRESH, anonymous, let_in, login, start, with};

#[tokio::test]
async fn what_another_process_made_of_somebody_is_known_when_they_sign_in() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Analyst).await;
    let server = start(&test).await;
    // Who may come in is known here from now on, and is not asked for again at once.
    with(&server, &acme.viewer().token().into()).data(ME, Value::Null).await;
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let sql = "UPDATE users SET role = 'viewer' WHERE tenant_id = $1 AND email = $2";
    tx.execute(sql, [email.clone().into()]).await.expect("written");
    tx.commit().await.expect("committed");
    let signed_in = login(&server, "acme", &email).await;
    let me = with(&server, &signed_in["accessToken"]).data(ME, Value::Null).await;
    assert_eq!(me["me"]["role"], "VIEWER");
    server.stop().await;
}

#[tokio::test]
async fn who_signs_in_is_who_they_are_and_who_does_not_learns_nothing() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Analyst).await;
    let server = start(&test).await;
    let signed_in = login(&server, "acme", " Analyst@ACME.example ").await;
    assert_eq!(signed_in["user"], json!({ "email": email, "role": "ANALYST" }));
    assert_eq!(signed_in["expiresAt"], "2026-06-15T12:15:00Z");
    let me = with(&server, &signed_in["accessToken"]).data(ME, Value::Null).await;
    assert_eq!(me["me"]["email"], "analyst@acme.example");

    let mut refusals = Vec::new();
    for (tenant, email, password) in [
        ("acme", email.as_str(), "wrong"),
        ("acme", "nobody@acme.example", PASSWORD),
        ("none", email.as_str(), PASSWORD),
    ] {
        let variables = json!({ "tenant": tenant, "email": email, "password": password });
        refusals.push(anonymous(&server).ask(LOGIN, variables).await);
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    assert_eq!(refusals[0].1["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    // Without a token there is nothing but signing in, also beside it.
    assert_eq!(anonymous(&server).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let beside = r#"mutation { refresh(refreshToken: "x") { accessToken } createTeam(input: {name: "T"}) { id } }"#;
    assert_eq!(anonymous(&server).ask(beside, Value::Null).await.0, StatusCode::UNAUTHORIZED);

    let log = acme.admin().query("{ auditLog { nodes { action subject actor { name } } } }").await;
    let nodes = log["auditLog"]["nodes"].as_array().expect("entries");
    let actions: Vec<_> = nodes.iter().map(|entry| entry["action"].as_str().expect("an action")).collect();
    assert_eq!(actions, ["session.refuse", "session.refuse", "session.open", "tenant.create"]);
    assert_eq!(nodes[2]["actor"]["name"], "analyst");
    // Whose password was guessed is told, by nobody who is known.
    let analyst = acme.actor(Role::Analyst).caller.user_id.to_string();
    assert_eq!((&nodes[0]["subject"], &nodes[1]["subject"]), (&json!(""), &json!(analyst)));
    assert!(nodes[..2].iter().all(|entry| entry["actor"].is_null()), "{nodes:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_page_that_sends_no_json_does_not_sign_in() {
    let test = TestApp::start().await;
    let server = start(&test).await;
    let body = json!({ "tenant": "acme", "email": "viewer@acme.example", "password": PASSWORD }).to_string();
    for path in ["/auth/login", "/auth/password"] {
        for kind in [Some("text/plain"), Some("application/x-www-form-urlencoded"), None] {
            let request = reqwest::Client::new().post(format!("http://{}{path}", server.address)).body(body.clone());
            let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {kind:?}");
            assert!(answer.text().await.expect("a body").contains("\"UNSUPPORTED_MEDIA_TYPE\""), "{path}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_account_and_the_address() {
    let test = TestApp::start().await;
    test.tenant("acme").await;
    let server = start(&test).await;
    let guess = json!({ "tenant": "acme", "email": "admin@acme.example", "password": "guess" });
    let answers = join_all((0..12).map(|_| {
        let body = json!({ "query": LOGIN, "variables": guess.clone() });
        let server = &server;
        async move { anonymous(server).send(Method::POST, "/graphql", &[], body).await }
    }))
    .await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS).collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|answer| answer.headers().contains_key("retry-after")));
    let other = json!({ "tenant": "acme", "email": "viewer@acme.example", "password": "guess" });
    assert_eq!(anonymous(&server).code(LOGIN, other).await, "RATE_LIMITED");
    server.stop().await;
}

#[tokio::test]
async fn one_address_does_not_use_up_the_tries_of_others() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let proxies = vec!["127.0.0.1".parse().expect("an address")];
    let api = Settings { proxies, ..Settings::default() };
    let server = Server::with(test.app.clone(), Options { api, ..Options::default() }).await;
    let try_from = async |address: &str, tenant: &str, email: &str, password: &str| {
        let body = json!({ "tenant": tenant, "email": email, "password": password });
        anonymous(&server).send(Method::POST, "/auth/login", &[("x-forwarded-for", address)], body).await.status()
    };
    for _ in 0..10 {
        assert_eq!(try_from("1.1.1.1", "acme", "admin@acme.example", "guess").await, StatusCode::UNAUTHORIZED);
    }
    // What it has no tries for any more, it takes from nobody.
    for _ in 0..10 {
        assert_eq!(try_from("1.1.1.1", "acme", &email, "guess").await, StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(try_from("2.2.2.2", "acme", &email, PASSWORD).await, StatusCode::OK);
    // Whose account it is about is not kept out by it either, but where many addresses guess.
    assert_eq!(try_from("2.2.2.2", "acme", "admin@acme.example", "guess").await, StatusCode::UNAUTHORIZED);
    for n in 0..89 {
        let address = format!("5.5.5.{n}");
        assert_eq!(try_from(&address, "acme", "admin@acme.example", "guess").await, StatusCode::UNAUTHORIZED, "{n}");
    }
    // The account is the same however the tenant is written.
    let id = acme.id().0;
    for tenant in [id.to_string(), id.to_string().to_uppercase(), id.simple().to_string(), id.urn().to_string()] {
        let again = try_from("3.3.3.3", &tenant, "admin@acme.example", "guess").await;
        assert_eq!(again, StatusCode::TOO_MANY_REQUESTS, "{tenant}");
    }
    assert_eq!(try_from("4.4.4.4", "acme\0", &email, PASSWORD).await, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test]
async fn who_signs_in_may_still_send_a_token_that_is_over() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = start(&test).await;
    let first = login(&server, "acme", &email).await;
    with(&server, &first["accessToken"]).data("mutation { logoutEverywhere }", Value::Null).await;
    let over = with(&server, &first["accessToken"]);
    assert_eq!(over.ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let variables = json!({ "tenant": "acme", "email": email, "password": PASSWORD });
    let again = over.data(LOGIN, variables).await["login"].take();
    let next = over.data(REFRESH, json!({ "token": again["refreshToken"] })).await["refresh"].take();
    assert_eq!(with(&server, &next["accessToken"]).data(ME, Value::Null).await["me"]["email"], email);
    server.stop().await;
}

#[tokio::test]
async fn an_identity_is_not_named_by_what_no_text_has() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for (issuer, subject, argument) in [(r"https://id.example\u0000", "s", "issuer"), ("i", r"\u0000", "subject")] {
        let unlink = format!(r#"mutation {{ unlinkIdentity(issuer: "{issuer}", subject: "{subject}") }}"#);
        acme.viewer().refused(&unlink, argument).await;
    }
}

#[tokio::test]
async fn pages_keep_the_refresh_token_in_a_cookie_and_show_that_they_are_pages_of_ours() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Viewer).await;
    let server = start(&test).await;
    let web = anonymous(&server);
    let own = format!("http://{}", server.address);
    let credentials = json!({ "tenant": "acme", "email": email, "password": PASSWORD });
    let foreign =
        web.send(Method::POST, "/auth/login", &[("origin", "https://evil.example")], credentials.clone()).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let form = web.server.address;
    let simple = reqwest::Client::new().post(format!("http://{form}/auth/login")).header("content-type", "text/plain");
    let refused = simple.body(credentials.to_string()).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = web.send(Method::POST, "/auth/login", &[("origin", &own)], credentials).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let cookies: Vec<String> =
        answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().expect("text").to_owned()).collect();
    assert_eq!(cookies.len(), 2);
    for cookie in &cookies {
        assert!(cookie.starts_with("__Host-") && cookie.contains("; Path=/; Secure; SameSite=Strict"), "{cookie}");
    }
    assert!(cookies[0].contains("HttpOnly") && !cookies[1].contains("HttpOnly"));
    let body: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
    assert!(body.get("refreshToken").is_none());
    with(&server, &body["accessToken"]).data(ME, Value::Null).await;

    let jar: Vec<&str> = cookies.iter().map(|cookie| cookie.split(';').next().expect("a pair")).collect();
    let csrf = jar[1].split_once('=').expect("a value").1;
    let jar = jar.join("; ");
    for headers in [
        vec![("cookie", jar.as_str())],
        vec![("cookie", jar.as_str()), ("x-csrf-token", "guess")],
        vec![("x-csrf-token", csrf)],
        vec![("cookie", jar.as_str()), ("x-csrf-token", csrf), ("origin", "null")],
    ] {
        let refused = web.send(Method::POST, "/auth/refresh", &headers, Value::Null).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{headers:?}");
    }
    let headers = [("cookie", jar.as_str()), ("x-csrf-token", csrf)];
    let refreshed = web.send(Method::POST, "/auth/refresh", &headers, Value::Null).await;
    assert_eq!(refreshed.status(), StatusCode::OK);
    let ended = web.send(Method::POST, "/auth/logout", &headers, Value::Null).await;
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    let left: Vec<&str> =
        ended.headers().get_all("set-cookie").iter().map(|value| value.to_str().expect("text")).collect();
    assert!(left.len() == 2 && left.iter().all(|cookie| cookie.contains("Max-Age=0")), "{left:?}");
    assert_eq!(with(&server, &body["accessToken"]).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);

    let page = web.send(Method::GET, "/auth/password", &[], Value::Null).await;
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'; script-src 'sha256-"), "{policy}");
    let keys = web.send(Method::GET, "/.well-known/jwks.json", &[], Value::Null).await;
    assert_eq!(keys.text().await.expect("a body"), r#"{"keys":[]}"#);
    server.stop().await;
}
