//! Signing in, sessions, invitations, API keys: who comes in, and who no longer.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use salespulse::app::App;
use salespulse::auth::opaque::{Kind, Opaque};
use salespulse::auth::password::Passwords;
use salespulse::auth::sessions::{self, Client};
use salespulse::auth::token::Subject;
use salespulse::auth::{Role, Through};
use salespulse::clock::{DAY, SECOND, Timestamp};
use salespulse::db::{TenantId, get};
use salespulse::error::{Code, Error};
use salespulse::graphql::endpoint::Settings;
use salespulse::outbox::{self, Senders};
use salespulse::server::Options;
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::support::{NOW, Server, TestApp, TestTenant, in_time};

pub const PASSWORD: &str = "correct horse battery staple";

/// A client without a token, or with one.
struct Web<'a> {
    server: &'a Server,
    token: Option<String>,
}

impl Web<'_> {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> reqwest::Response {
        let url = format!("http://{}{path}", self.server.address);
        let mut request = reqwest::Client::new().request(method, url).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.to_string()).send().await.expect("an answer")
    }

    async fn ask(&self, query: &str, variables: Value) -> (StatusCode, Value) {
        let answer = self.send(Method::POST, "/graphql", &[], json!({ "query": query, "variables": variables })).await;
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON"))
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        let (_, body) = self.ask(query, variables).await;
        assert!(body["errors"].is_null(), "{body}");
        body["data"].clone()
    }

    async fn code(&self, query: &str, variables: Value) -> String {
        let (_, body) = self.ask(query, variables).await;
        body["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

fn anonymous(server: &Server) -> Web<'_> {
    Web { server, token: None }
}

fn with<'a>(server: &'a Server, token: &Value) -> Web<'a> {
    Web { server, token: Some(token.as_str().expect("a token").to_owned()) }
}

const LOGIN: &str = "mutation ($tenant: String!, $email: String!, $password: String!) {
    login(tenant: $tenant, email: $email, password: $password) { accessToken refreshToken expiresAt user { email role } } }";
const REFRESH: &str =
    "mutation ($token: String!) { refresh(refreshToken: $token) { accessToken refreshToken user { role } } }";
const SET: &str = "mutation ($token: String!, $password: String!) {
    setPassword(token: $token, password: $password) { accessToken user { email role } } }";
const ME: &str = "{ me { id email role permissions } }";

/// Lets the user of a role sign in by password; gives the address.
pub async fn let_in(tenant: &TestTenant<'_>, role: Role) -> String {
    let hash = Passwords::default().hash(PASSWORD.to_owned()).await.expect("hashed");
    let tx = tenant.test.app.db.write(tenant.id()).await.expect("begun");
    let sql = "UPDATE users SET password_hash = $2 WHERE tenant_id = $1 AND role = $3 RETURNING email";
    let row = tx.query_one(sql, [hash.into(), role.as_str().into()]).await.expect("written").expect("a user");
    let email = get(&row, 0).expect("an address");
    tx.commit().await.expect("committed");
    email
}

async fn login(server: &Server, tenant: &str, email: &str) -> Value {
    let variables = json!({ "tenant": tenant, "email": email, "password": PASSWORD });
    anonymous(server).data(LOGIN, variables).await["login"].clone()
}

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

/// A server whose mail server does not answer: what is mailed is kept, to be tried again.
async fn start(test: &TestApp) -> Server {
    let smtp_url = Some("smtp://127.0.0.1:1".to_owned());
    let settings =
        outbox::Settings { smtp_url, mail_from: Some("sales@acme.example".to_owned()), ..Default::default() };
    let outbox = Senders::new(&settings).expect("valid");
    Server::with(test.app.clone(), Options { outbox, ..Options::default() }).await
}

/// The token of the newest mail with a link.
async fn mailed_token(tenant: &TestTenant<'_>) -> String {
    mailed_tokens(tenant).await.pop().expect("a mail")
}

/// The tokens of all mails with links, the oldest first.
async fn mailed_tokens(tenant: &TestTenant<'_>) -> Vec<String> {
    let tx = tenant.test.app.db.read(tenant.id()).await.expect("begun");
    let sql = "SELECT text FROM deliveries WHERE tenant_id = $1 AND alert_no IS NULL ORDER BY id";
    let rows = tx.query(sql, []).await.expect("read");
    let token = |row| {
        let text: String = get(row, 0).expect("text");
        let (_, rest) = text.split_once("/auth/password#")?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    rows.iter().filter_map(token).collect()
}

#[tokio::test]
async fn without_a_mail_server_nobody_waits_for_mail() {
    let test = TestApp::start().await.rewired(|app| App { sends_mail: false, ..app });
    let acme = test.tenant("acme").await;
    let invite = r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: MANAGER}) { state } }"#;
    assert_eq!(acme.admin().error_code(invite).await, "MAIL_NOT_CONFIGURED");
    let members = acme.admin().query("{ users(first: 10) { nodes { user { email } } } }").await;
    assert!(!members.to_string().contains("ann@acme.example"), "{members}");
    let reset = r#"mutation { requestPasswordReset(tenant: "acme", email: "ann@acme.example") }"#;
    assert_eq!(acme.admin().error_code(reset).await, "MAIL_NOT_CONFIGURED");
}

#[tokio::test]
async fn who_is_invited_sets_a_password_and_may_set_another_one() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let invite = r#"mutation { inviteUser(input: {email: "Ann@Acme.example", name: "Ann", role: MANAGER}) { state user { email } } }"#;
    let invited = acme.admin().query(invite).await;
    assert_eq!(invited["inviteUser"], json!({ "state": "INVITED", "user": { "email": "ann@acme.example" } }));
    let first = mailed_token(&acme).await;
    acme.admin().query(invite).await;
    let token = mailed_token(&acme).await;
    let set = |token: &str, password: &str| json!({ "token": token, "password": password });
    // Only the newest link is good, for a good password, and once.
    assert_eq!(anonymous(&server).code(SET, set(&first, PASSWORD)).await, "INVALID_GRANT");
    assert_eq!(anonymous(&server).code(SET, set(&token, "short")).await, "BAD_USER_INPUT");
    let signed_in = anonymous(&server).data(SET, set(&token, PASSWORD)).await;
    assert_eq!(signed_in["setPassword"]["user"], json!({ "email": "ann@acme.example", "role": "MANAGER" }));
    assert_eq!(anonymous(&server).code(SET, set(&token, PASSWORD)).await, "INVALID_GRANT");
    assert_eq!(acme.admin().error_code(invite).await, "CONFLICT");

    let session = login(&server, "acme", "ann@acme.example").await;
    let ask = "mutation ($email: String!) { requestPasswordReset(tenant: \"acme\", email: $email) }";
    for email in ["ann@acme.example", "nobody@acme.example"] {
        assert_eq!(anonymous(&server).data(ask, json!({ "email": email })).await["requestPasswordReset"], true);
    }
    let token = mailed_token(&acme).await;
    anonymous(&server).data(SET, set(&token, "another horse battery")).await;
    // What was open is not any more.
    assert_eq!(with(&server, &session["accessToken"]).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let users = acme.admin().query("{ users { nodes { state user { id email } } } }").await;
    let ann = &users["users"]["nodes"][2];
    assert_eq!((&ann["state"], &ann["user"]["email"]), (&json!("ACTIVE"), &json!("ann@acme.example")));
    // A link does not last.
    anonymous(&server).data(ask, json!({ "email": "ann@acme.example" })).await;
    let late = mailed_token(&acme).await;
    test.clock.set(Timestamp(NOW.0 + 3601 * SECOND));
    assert_eq!(anonymous(&server).code(SET, set(&late, PASSWORD)).await, "INVALID_GRANT");
    server.stop().await;
}

#[tokio::test]
async fn who_asks_for_links_of_somebody_else_ends_none_and_fills_no_mailbox() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Analyst).await;
    let server = start(&test).await;
    let ask = "mutation ($email: String!) { requestPasswordReset(tenant: \"acme\", email: $email) }";
    let asked = async || anonymous(&server).data(ask, json!({ "email": email })).await["requestPasswordReset"].clone();
    for _ in 0..4 {
        assert_eq!(asked().await, true);
    }
    let tokens = mailed_tokens(&acme).await;
    assert_eq!(tokens.len(), 3);
    let set = |token: &str| json!({ "token": token, "password": "another horse battery" });
    anonymous(&server).data(SET, set(&tokens[0])).await;
    for token in &tokens {
        assert_eq!(anonymous(&server).code(SET, set(token)).await, "INVALID_GRANT");
    }
    // Links that were used or are over leave room for others.
    for sent in [4, 5, 6, 6] {
        asked().await;
        assert_eq!(mailed_tokens(&acme).await.len(), sent);
    }
    test.clock.set(Timestamp(NOW.0 + 3601 * SECOND));
    asked().await;
    assert_eq!(mailed_tokens(&acme).await.len(), 7);
    server.stop().await;
}

#[tokio::test]
async fn keys_end_for_good_with_who_is_sent_off_and_with_a_password_by_mail() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // Somebody else is left who manages users.
    let_in(&acme, Role::Admin).await;
    let (here, there) = (start(&test).await, Server::of(test.another().await).await);
    let invite =
        r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: ADMIN}) { user { id } } }"#;
    let id = acme.admin().query(invite).await["inviteUser"]["user"]["id"].clone();
    let set = |token: &str| json!({ "token": token, "password": PASSWORD });
    anonymous(&here).data(SET, set(&mailed_token(&acme).await)).await;
    let create = r#"mutation { createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { secret } }"#;
    let key = async || {
        let signed_in = login(&here, "acme", "ann@acme.example").await;
        with(&here, &signed_in["accessToken"]).data(create, Value::Null).await["createApiKey"]["secret"].clone()
    };
    let status = async |server: &Server, key: &Value| with(server, key).ask(ME, Value::Null).await.0;

    let first = key().await;
    let mut far = Socket::open(&there, first.as_str().expect("a secret")).await;
    far.ready().await;
    for is_active in [false, true] {
        let update = format!("mutation {{ updateUser(id: {id}, input: {{isActive: {is_active}}}) {{ state }} }}");
        acme.admin().query(&update).await;
        assert_eq!(status(&here, &first).await, StatusCode::UNAUTHORIZED, "{is_active}");
    }
    assert_eq!(far.closed().await, 4403);
    assert_eq!(status(&there, &first).await, StatusCode::UNAUTHORIZED);

    // Another password alone leaves keys; one by mail ends them.
    let second = key().await;
    let signed_in = login(&here, "acme", "ann@acme.example").await;
    let change = "mutation ($p: String!) { changePassword(current: $p, new: $p) { accessToken } }";
    let changed = with(&here, &signed_in["accessToken"]).data(change, json!({ "p": PASSWORD })).await;
    with(&here, &changed["changePassword"]["accessToken"]).data("mutation { logoutEverywhere }", Value::Null).await;
    assert_eq!(status(&here, &second).await, StatusCode::OK);
    let ask = r#"mutation { requestPasswordReset(tenant: "acme", email: "ann@acme.example") }"#;
    anonymous(&here).data(ask, Value::Null).await;
    anonymous(&here).data(SET, set(&mailed_token(&acme).await)).await;
    assert_eq!(status(&here, &second).await, StatusCode::UNAUTHORIZED);
    here.stop().await;
    there.stop().await;
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
async fn identities_end_with_who_is_sent_off_and_with_a_password_by_mail() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let ann = acme.another_user(Role::Viewer).await;
    let link = async || {
        let tx = test.app.db.write(acme.id()).await.expect("begun");
        let sql = "INSERT INTO user_identities (tenant_id, issuer, subject, user_id, created_at) \
                   VALUES ($1, 'https://id.example', 's', $2, 0)";
        tx.execute(sql, [ann.into()]).await.expect("linked");
        tx.commit().await.expect("committed");
    };
    let count = async || {
        let tx = test.app.db.read(acme.id()).await.expect("begun");
        tx.count("SELECT count(*) FROM user_identities WHERE tenant_id = $1", []).await.expect("counted")
    };
    let update = |input: &str| format!(r#"mutation {{ updateUser(id: "{ann}", input: {{{input}}}) {{ state }} }}"#);
    link().await;
    acme.admin().query(&update("name: \"Ann\"")).await;
    assert_eq!(count().await, 1);
    acme.admin().query(&update("isActive: false")).await;
    assert_eq!(count().await, 0);
    acme.admin().query(&update("isActive: true")).await;
    link().await;
    let ask = format!(r#"mutation {{ requestPasswordReset(tenant: "acme", email: "{ann}@example.com") }}"#);
    acme.admin().query(&ask).await;
    acme.admin().query_with(SET, json!({ "token": mailed_token(&acme).await, "password": PASSWORD })).await;
    assert_eq!(count().await, 0);
    let log = r#"{ auditLog(filter: { action: "identity." }) { nodes { action subject before actor { id } } } }"#;
    let log = acme.admin().query(log).await["auditLog"]["nodes"].take();
    let entry = |by| {
        let before = json!({ "provider": null, "issuer": "https://id.example" });
        json!({ "action": "identity.unlink", "subject": ann, "before": before, "actor": { "id": by } })
    };
    assert_eq!(log, json!([entry(ann), entry(acme.admin().caller.user_id)]));
}

#[tokio::test]
async fn keys_in_use_are_good_from_an_address_that_has_sent_too_many_others() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = r#"mutation { createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { secret } }"#;
    let secret = acme.admin().query(create).await["createApiKey"]["secret"].take();
    let good = Opaque::parse(Kind::ApiKey, secret.as_str().expect("a secret")).expect("a key");
    let cache = &test.app.access_cache;
    let code = async |key: &Opaque| {
        let limited = || Err(Error::new(Code::RateLimited, "too many"));
        cache.caller_of(key, limited).await.err().map(|error| error.code)
    };
    cache.changed(acme.id());
    assert_eq!(code(&good).await, None, "whatever has changed");
    // Until it is a second since the database was asked, there is nothing to refuse.
    let unknown = Opaque::random(Kind::ApiKey, acme.id());
    in_time(async {
        while code(&unknown).await == Some(Code::Unauthenticated) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(code(&unknown).await, Some(Code::RateLimited));
    let of_nobody = Opaque::random(Kind::ApiKey, TenantId(uuid::Uuid::now_v7()));
    assert_eq!(code(&of_nobody).await, Some(Code::RateLimited), "a tenant that there is not");
    let before = test.app.db.statements();
    assert_eq!(code(&good).await, None, "whatever else was sent");
    assert_eq!(test.app.db.statements(), before, "the database is not asked");
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
async fn who_was_sent_off_does_not_come_back_by_an_old_link() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let invite =
        r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: VIEWER}) { user { id } } }"#;
    let id = acme.admin().query(invite).await["inviteUser"]["user"]["id"].clone();
    let invitation = mailed_token(&acme).await;
    let update = |input: &str| format!("mutation {{ updateUser(id: {id}, input: {input}) {{ state }} }}");
    assert_eq!(acme.admin().error_code(&update("{isActive: true}")).await, "CONFLICT");
    let state = acme.admin().query(&update("{isActive: false}")).await;
    assert_eq!(state["updateUser"]["state"], "DEACTIVATED");
    // Unless invited again.
    let again = r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: VIEWER}) { state } }"#;
    assert_eq!(acme.admin().query(again).await["inviteUser"]["state"], "INVITED");
    acme.admin().query(&update("{isActive: false}")).await;
    let set = |token: &str| json!({ "token": token, "password": PASSWORD });
    assert_eq!(anonymous(&server).code(SET, set(&invitation)).await, "INVALID_GRANT");
    // Nor does somebody whose password was forgotten before.
    let email = let_in(&acme, Role::Analyst).await;
    let ask = "mutation ($email: String!) { requestPasswordReset(tenant: \"acme\", email: $email) }";
    anonymous(&server).data(ask, json!({ "email": email })).await;
    let reset = mailed_token(&acme).await;
    let signed_in = login(&server, "acme", &email).await;
    let change = "mutation ($current: String!) { changePassword(current: $current, new: \"another horse battery\") { accessToken } }";
    let changing = with(&server, &signed_in["accessToken"]);
    // The session goes on.
    assert_eq!(changing.code(change, json!({ "current": "guess" })).await, "BAD_USER_INPUT");
    let changed = changing.data(change, json!({ "current": PASSWORD })).await;
    with(&server, &changed["changePassword"]["accessToken"]).data(ME, Value::Null).await;
    assert_eq!(changing.ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(anonymous(&server).code(SET, set(&reset)).await, "INVALID_GRANT");
    server.stop().await;
}

#[tokio::test]
async fn a_key_does_not_make_more_of_itself() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let admin = Web { server: &server, token: Some(acme.admin().token()) };
    let create = "mutation ($permissions: [Permission!]!, $expiresAt: DateTime) {
        createApiKey(input: {name: \"k\", permissions: $permissions, expiresAt: $expiresAt}) { secret } }";
    let manages =
        json!({ "permissions": ["USERS_MANAGE", "INTEGRATIONS_MANAGE"], "expiresAt": "2026-06-16T12:00:00Z" });
    let key = admin.data(create, manages).await["createApiKey"]["secret"].clone();
    let key = with(&server, &key);
    let invite = r#"mutation { inviteUser(input: {email: "x@acme.example", name: "X", role: ADMIN}) { state } }"#;
    assert_eq!(key.code(invite, Value::Null).await, "FORBIDDEN");
    // Nor is somebody invited again with less, who was invited with more.
    acme.admin().query(invite).await;
    let sees = json!({ "permissions": ["USERS_MANAGE", "SALES_VIEW"], "expiresAt": "2026-06-16T12:00:00Z" });
    let sees = admin.data(create, sees).await["createApiKey"]["secret"].clone();
    let less = invite.replace("ADMIN", "VIEWER");
    assert_eq!(with(&server, &sees).code(&less, Value::Null).await, "FORBIDDEN");
    let another = with(&server, &sees).data(&less.replace("x@", "y@"), Value::Null).await;
    assert_eq!(another["inviteUser"]["state"], "INVITED");
    let viewer = acme.viewer().caller.user_id;
    let promote = format!(r#"mutation {{ updateUser(id: "{viewer}", input: {{role: ADMIN}}) {{ state }} }}"#);
    assert_eq!(key.code(&promote, Value::Null).await, "FORBIDDEN");
    for expires_at in [Value::Null, json!("2026-06-17T12:00:00Z")] {
        let longer = json!({ "permissions": ["INTEGRATIONS_MANAGE"], "expiresAt": expires_at });
        assert_eq!(key.code(create, longer).await, "FORBIDDEN");
    }
    key.data(create, json!({ "permissions": ["INTEGRATIONS_MANAGE"], "expiresAt": "2026-06-16T12:00:00Z" })).await;
    assert_eq!(key.code("mutation { logoutEverywhere }", Value::Null).await, "FORBIDDEN");
    let own = r#"mutation { endSession(id: "00000000-0000-0000-0000-000000000000") }"#;
    assert_eq!(key.code(own, Value::Null).await, "FORBIDDEN");
    server.stop().await;
}

#[tokio::test]
async fn somebody_is_left_who_manages_users() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let update = |input: &str| {
        format!(r#"mutation {{ updateUser(id: "{}", input: {input}) {{ state }} }}"#, admin.caller.user_id)
    };
    for input in ["{role: VIEWER}", "{isActive: false}"] {
        assert_eq!(admin.error_code(&update(input)).await, "CONFLICT");
    }
    assert_eq!(acme.viewer().error_code(&update("{name: \"X\"}")).await, "FORBIDDEN");
    assert_eq!(test.tenant("other").await.admin().error_code(&update("{name: \"X\"}")).await, "NOT_FOUND");
    // Somebody who cannot sign in by themselves is not enough, where there was one who can.
    let second =
        r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: ADMIN}) { user { id } } }"#;
    let ann = admin.query(second).await["inviteUser"]["user"]["id"].clone();
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let sql =
        "UPDATE users SET is_active = true, invited_at = NULL, password_hash = 'x' WHERE tenant_id = $1 AND email = $2";
    tx.execute(sql, ["ann@acme.example".into()]).await.expect("written");
    tx.commit().await.expect("committed");
    let demote = format!("mutation {{ updateUser(id: {ann}, input: {{role: VIEWER}}) {{ state }} }}");
    assert_eq!(admin.error_code(&demote).await, "CONFLICT");
    admin.query(&update("{role: VIEWER}")).await;
}

#[tokio::test]
async fn an_api_key_does_what_it_is_for_until_it_or_its_user_ends() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let admin = Web { server: &server, token: Some(acme.admin().token()) };
    let create = "mutation ($permissions: [Permission!]!, $expiresAt: DateTime) {
        createApiKey(input: {name: \"shop\", permissions: $permissions, expiresAt: $expiresAt}) { secret key { id hint permissions } } }";
    let created = admin.data(create, json!({ "permissions": ["SALES_VIEW"] })).await["createApiKey"].clone();
    let secret = created["secret"].as_str().expect("a secret");
    assert!(secret.ends_with(created["key"]["hint"].as_str().expect("a hint")));
    let program = Web { server: &server, token: Some(secret.to_owned()) };
    let me = program.data(ME, Value::Null).await;
    assert_eq!(me["me"]["permissions"], json!(["SALES_VIEW"]));
    assert_eq!(program.code(r#"mutation { createTeam(input: {name: "T"}) { id } }"#, Value::Null).await, "FORBIDDEN");
    Socket::open(&server, secret).await.ready().await;
    // How its user comes in is not for it to see.
    for query in ["{ sessions { address agent } }", "{ identities { issuer subject } }"] {
        assert_eq!(program.code(query, Value::Null).await, "FORBIDDEN", "{query}");
        admin.data(query, Value::Null).await;
    }
    // It cannot make keys that may more, and nobody can who may less.
    let mut narrow = acme.admin();
    narrow.caller.permissions.retain(|p| *p != salespulse::auth::Permission::SalesEdit);
    let wide = r#"mutation { createApiKey(input: {name: "x", permissions: [SALES_EDIT]}) { secret } }"#;
    assert_eq!(narrow.error_code(wide).await, "FORBIDDEN");
    assert_eq!(acme.viewer().error_code(wide).await, "FORBIDDEN");

    let mut socket = Socket::open(&server, secret).await;
    let revoke = format!(r#"mutation {{ revokeApiKey(id: {}) {{ revokedAt }} }}"#, created["key"]["id"]);
    admin.data(&revoke, Value::Null).await;
    admin.data(&revoke, Value::Null).await;
    let logged = r#"{ auditLog(filter: { action: "api-key.revoke" }) { totalCount } }"#;
    assert_eq!(admin.data(logged, Value::Null).await["auditLog"]["totalCount"], 1);
    assert_eq!(socket.closed().await, 4403);
    assert_eq!(program.ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let shown = admin.data("{ apiKeys { name revokedAt user { name } } }", Value::Null).await;
    assert_eq!(
        shown["apiKeys"],
        json!([{ "name": "shop", "revokedAt": "2026-06-15T12:00:00Z", "user": { "name": "admin" } }])
    );
    // One that ends by itself.
    let brief = json!({ "permissions": ["SALES_VIEW"], "expiresAt": "2026-06-15T12:01:00Z" });
    let brief = admin.data(create, brief).await["createApiKey"]["secret"].clone();
    with(&server, &brief).data(ME, Value::Null).await;
    test.clock.set(Timestamp(NOW.0 + 60 * SECOND));
    assert_eq!(with(&server, &brief).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    // The database has no secrets.
    let tx = test.app.db.read(acme.id()).await.expect("begun");
    let rows = tx.query("SELECT hash FROM api_keys WHERE tenant_id = $1", []).await.expect("read");
    let hash: Vec<u8> = get(&rows[0], 0).expect("a hash");
    assert!(hash.len() == 32 && !secret.as_bytes().windows(8).any(|part| hash.starts_with(part)));
    server.stop().await;
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
