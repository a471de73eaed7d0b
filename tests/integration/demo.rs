//! What `make demo` starts.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use salespulse::auth::Role;
use serde_json::{Value, json};

use crate::command_line::{Program, signal};

/// A demo, which ends with the test.
struct Demo {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Demo {
    /// The answer to a query, once `holds` of it.
    async fn until(&self, what: &str, token: &str, query: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let body = json!({ "query": query }).to_string();
            let asked =
                self.http.post(&self.url).bearer_auth(token).header("content-type", "application/json").body(body);
            let answer = asked.send().await.expect("an answer").text().await.expect("a body");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert!(answer["errors"].is_null(), "{answer}");
            if holds(&answer["data"]) {
                return answer["data"].clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}: {answer}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The first word of what is printed is a role, the second its token.
fn token_of(printed: &[String], role: Role) -> String {
    let words = printed.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let token = words.filter(|words| words.len() == 2).find(|words| words[0] == role.as_str()).expect("a token")[1];
    token.to_owned()
}

#[tokio::test]
async fn a_demo_has_two_tenants_with_history_new_sales_and_an_alert_within_a_minute() {
    let program = Program::new();
    let address = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("bound").to_string()
    };
    let mut command = program.command(&["demo"], &[("SALESPULSE_LISTEN", &address)]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut printed = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let url = format!("http://{address}/graphql");
    let mut demo = Demo { process, url, http: reqwest::Client::new() };
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("Ctrl-C ends")) {
        lines.push(printed.next().expect("a line").expect("text"));
    }
    let file = std::fs::read_to_string(program.path().join("data/demo-tokens.txt")).expect("tokens");
    let tokens: Vec<Vec<&str>> = file.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(tokens.len(), 8);
    let me = "{ me { role } }";
    for role in Role::ALL {
        let token = token_of(&lines, role);
        let data = demo.until("who it is", &token, me, |_| true).await;
        assert_eq!(data["me"]["role"], role.as_str().to_uppercase());
        assert!(tokens.iter().any(|words| words[0] == "demo" && words[3] == token));
    }
    let of_abroad = tokens.iter().find(|words| words[0] == "demo-abroad").expect("a token")[3];
    let admin = token_of(&lines, Role::Admin);
    // 102,876 lines of 3,988 orders, and a tenth of them from abroad.
    let history = "{ salesMetrics(period: { preset: LAST_90_DAYS }) { ordersCount refunds } }";
    let orders = |data: &Value| data["salesMetrics"]["ordersCount"].as_i64().expect("a number");
    demo.until("history", &admin, history, |data| orders(data) > 3_000).await;
    demo.until("history from abroad", of_abroad, history, |data| orders(data) > 200).await;
    let newest = "{ orders(first: 1) { nodes { externalId } } }";
    let is_live =
        |data: &Value| data["orders"]["nodes"][0]["externalId"].as_str().is_some_and(|id| id.starts_with("live-"));
    demo.until("a new sale", &admin, newest, is_live).await;
    let by = "{ recordings(first: 1) { nodes { actor { id } through } } }";
    let by = demo.until("who recorded it", &admin, by, |data| data["recordings"]["nodes"][0].is_object()).await;
    assert_eq!(by["recordings"]["nodes"], json!([{ "actor": null, "through": "demo" }]));
    let alerts = "{ alertHistory(last: 1) { nodes { state } } }";
    let fired = demo.until("an alert", &admin, alerts, |data| data["alertHistory"]["nodes"][0].is_object()).await;
    assert_eq!(fired["alertHistory"]["nodes"][0]["state"], "FIRING");
    signal("TERM", demo.process.id());
    assert_eq!(demo.process.wait().expect("ended").code(), Some(0));
    let settings = [("DATABASE_URL", "sqlite://data/demo.db")];
    let verified = program.command(&["verify"], &settings).output().expect("it runs");
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
}
