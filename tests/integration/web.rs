//! Clients without a token, or with one, and how they get it.

use reqwest::{Method, StatusCode};
use salespulse::auth::Role;
use salespulse::auth::password::Passwords;
use salespulse::db::get;
use salespulse::outbox::{self, Senders};
use salespulse::server::Options;
use serde_json::{Value, json};

use crate::support::{Server, TestApp, TestTenant};

pub const PASSWORD: &str = "correct horse battery staple";

/// A client without a token, or with one.
pub struct Web<'a> {
    pub server: &'a Server,
    pub token: Option<String>,
}

impl Web<'_> {
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> reqwest::Response {
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

    pub async fn ask(&self, query: &str, variables: Value) -> (StatusCode, Value) {
        let answer = self.send(Method::POST, "/graphql", &[], json!({ "query": query, "variables": variables })).await;
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON"))
    }

    pub async fn data(&self, query: &str, variables: Value) -> Value {
        let (_, body) = self.ask(query, variables).await;
        assert!(body["errors"].is_null(), "{body}");
        body["data"].clone()
    }

    pub async fn code(&self, query: &str, variables: Value) -> String {
        let (_, body) = self.ask(query, variables).await;
        body["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

pub fn anonymous(server: &Server) -> Web<'_> {
    Web { server, token: None }
}

pub fn with<'a>(server: &'a Server, token: &Value) -> Web<'a> {
    Web { server, token: Some(token.as_str().expect("a token").to_owned()) }
}

pub const LOGIN: &str = "mutation ($tenant: String!, $email: String!, $password: String!) {
    login(tenant: $tenant, email: $email, password: $password) { accessToken refreshToken expiresAt user { email role } } }";
pub const REFRESH: &str =
    "mutation ($token: String!) { refresh(refreshToken: $token) { accessToken refreshToken user { role } } }";
pub const SET: &str = "mutation ($token: String!, $password: String!) {
    setPassword(token: $token, password: $password) { accessToken user { email role } } }";
pub const ME: &str = "{ me { id email role permissions } }";

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

pub async fn login(server: &Server, tenant: &str, email: &str) -> Value {
    let variables = json!({ "tenant": tenant, "email": email, "password": PASSWORD });
    anonymous(server).data(LOGIN, variables).await["login"].clone()
}

/// A server whose mail server does not answer: what is mailed is kept, to be tried again.
pub async fn start(test: &TestApp) -> Server {
    let smtp_url = Some("smtp://127.0.0.1:1".to_owned());
    let settings =
        outbox::Settings { smtp_url, mail_from: Some("sales@acme.example".to_owned()), ..Default::default() };
    let outbox = Senders::new(&settings).expect("valid");
    Server::with(test.app.clone(), Options { outbox, ..Options::default() }).await
}

/// The token of the newest mail with a link.
pub async fn mailed_token(tenant: &TestTenant<'_>) -> String {
    mailed_tokens(tenant).await.pop().expect("a mail")
}

/// The tokens of all mails with links, the oldest first.
pub async fn mailed_tokens(tenant: &TestTenant<'_>) -> Vec<String> {
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
