//! Alerts reach their recipients, or are given up where that can be seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use salespulse::clock::{MINUTE, SECOND, Timestamp};
use salespulse::ledger::event::Fact;
use salespulse::outbox::{Senders, Settings, relay_once};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::ledger::{event, order};
use crate::support::{TestApp, TestTenant};

/// What a receiver got, and what it answers next, the last one for ever.
#[derive(Default)]
struct Receiver {
    got: Vec<(HeaderMap, Value, String)>,
    answers: Vec<StatusCode>,
}

type Shared = Arc<Mutex<Receiver>>;

async fn receive(State(receiver): State<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    let mut receiver = receiver.lock().expect("a lock");
    receiver.got.push((headers, serde_json::from_str(&body).expect("JSON"), body));
    if receiver.answers.len() > 1 { receiver.answers.remove(0) } else { receiver.answers[0] }
}

async fn receiver(answers: &[StatusCode]) -> (String, Shared) {
    let shared = Arc::new(Mutex::new(Receiver { got: Vec::new(), answers: answers.to_vec() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hook?token=hidden", listener.local_addr().expect("an address"));
    let routes = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, shared)
}

/// Senders of mail through a server on `port`.
fn mailers(port: u16, wait: Duration) -> Senders {
    let smtp_url = Some(format!("smtp://user:password@127.0.0.1:{port}"));
    let mail_from = Some("sales@acme.example".to_owned());
    Senders::new(&Settings { smtp_url, mail_from, wait, ..Settings::default() }).expect("good settings")
}

/// A mail server with these replies, by command; the others are positive. Returns its port.
async fn mail_server(replies: &[(&'static str, &'static str)]) -> u16 {
    let mut all = BTreeMap::from([
        ("CONNECT", "220 here"),
        ("EHLO", "250-here\r\n250 AUTH PLAIN"),
        ("AUTH", "235 welcome"),
        ("DATA", "354 go on"),
        ("QUIT", "221 bye"),
    ]);
    all.extend(replies.iter().copied());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It ends when the client is gone.
            tokio::spawn(converse(stream, all.clone()));
        }
    });
    port
}

async fn converse(mut stream: TcpStream, replies: BTreeMap<&str, &str>) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(format!("{}\r\n", replies["CONNECT"]).as_bytes()).await?;
    while let Some(line) = lines.next_line().await? {
        let command = line.split([' ', ':']).next().unwrap_or_default();
        let reply = replies.get(command).copied().unwrap_or("250 fine");
        write.write_all(format!("{reply}\r\n").as_bytes()).await?;
        if reply.starts_with("354") {
            while lines.next_line().await?.is_some_and(|line| line != ".") {}
            write.write_all(b"250 taken\r\n").await?;
        }
    }
    Ok(())
}

fn senders(allows_private: bool) -> Senders {
    Senders::new(&Settings { allows_private, ..Settings::default() }).expect("good settings")
}

/// A rule that fires with the first sale, and that sale.
pub async fn fire(acme: &TestTenant<'_>, channel: &str, target: &str) {
    let secret = if channel == "WEBHOOK" { r#", secret: "a secret of the tests, long""# } else { "" };
    let create = format!(
        r#"mutation {{ createAlert(input: {{ name: "First", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0",
            windowMinutes: 120, recipients: [{{ channel: {channel}, target: "{target}"{secret} }}] }})
            {{ recipients {{ channel target }} }} }}"#
    );
    let created = acme.admin().query(&create).await;
    assert_eq!(created["createAlert"]["recipients"], json!([{ "channel": channel, "target": target }]));
    let sale = event("e1", "2026-06-15T11:00:00Z", Fact::OrderPlaced(order("o1", 1, "c", "10.00")));
    acme.apply(vec![sale]).await;
}

async fn deliveries(acme: &TestTenant<'_>) -> Value {
    let query = "{ alertDeliveries { nodes { id subject state attempts lastError deliveredAt nextAt } } }";
    acme.admin().query(query).await["alertDeliveries"]["nodes"].clone()
}

#[tokio::test]
async fn a_webhook_is_tried_again_under_the_same_id_until_it_is_taken() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (url, got) = receiver(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK]).await;
    fire(&acme, "WEBHOOK", &url).await;
    relay_once(&test.app, &senders(true)).await.expect("relayed");
    let after_one = deliveries(&acme).await;
    assert_eq!(
        (&after_one[0]["state"], &after_one[0]["attempts"], &after_one[0]["lastError"]),
        (&json!("PENDING"), &json!(1), &json!("the receiver answered 500"))
    );
    assert_eq!(after_one[0]["subject"], "[FIRING] First");
    // It is not due yet.
    relay_once(&test.app, &senders(true)).await.expect("relayed");
    assert_eq!(got.lock().expect("a lock").got.len(), 1);
    let now = salespulse::clock::Clock::now(test.clock.as_ref());
    test.clock.set(Timestamp(now.0 + SECOND));
    relay_once(&test.app, &senders(true)).await.expect("relayed");
    let after_two = deliveries(&acme).await;
    assert_eq!((&after_two[0]["state"], &after_two[0]["nextAt"]), (&json!("DELIVERED"), &Value::Null));

    let got = got.lock().expect("a lock");
    let (first, second) = (&got.got[0], &got.got[1]);
    assert_eq!(first.0["webhook-id"], after_one[0]["id"].as_str().expect("an id"));
    assert_eq!((&first.0["webhook-id"], &first.1), (&second.0["webhook-id"], &second.1));
    assert!(first.0["webhook-signature"].to_str().expect("text").starts_with("v1,"));
    assert_eq!(first.1["type"], "alert.firing");
    assert_eq!((&first.1["alert"]["value"], &first.1["alert"]["position"]), (&json!("1.00"), &json!("1")));
    assert_eq!(first.1["tenantId"], json!(acme.id().0));
}

#[tokio::test]
async fn what_never_arrives_is_given_up_and_may_be_tried_anew() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let (url, got) = receiver(&[StatusCode::SERVICE_UNAVAILABLE]).await;
    fire(&acme, "WEBHOOK", &url).await;
    let mut now = salespulse::clock::Clock::now(test.clock.as_ref());
    for _ in 0..20 {
        relay_once(&test.app, &senders(true)).await.expect("relayed");
        now = Timestamp(now.0 + 60 * MINUTE);
        test.clock.set(now);
    }
    let dead = deliveries(&acme).await;
    assert_eq!((&dead[0]["state"], &dead[0]["attempts"]), (&json!("DEAD"), &json!(12)));
    assert!(!dead.to_string().contains("hidden"), "errors do not show the URL");

    let retry = format!(
        r#"mutation {{ retryAlertDelivery(id: "{}") {{ state attempts }} }}"#,
        dead[0]["id"].as_str().expect("an id")
    );
    assert_eq!(other.admin().error_code(&retry).await, "NOT_FOUND");
    assert_eq!(acme.viewer().error_code(&retry).await, "FORBIDDEN");
    got.lock().expect("a lock").answers = vec![StatusCode::NO_CONTENT];
    let retried = acme.admin().query(&retry).await;
    assert_eq!(retried, json!({ "retryAlertDelivery": { "state": "PENDING", "attempts": 0 } }));
    relay_once(&test.app, &senders(true)).await.expect("relayed");
    assert_eq!(deliveries(&acme).await[0]["state"], "DELIVERED");
    assert_eq!(acme.admin().error_code(&retry).await, "NOT_FOUND", "it is not dead any more");
}

#[tokio::test]
async fn private_addresses_and_missing_mail_servers_are_refused_at_once() {
    let (url, got) = receiver(&[StatusCode::OK]).await;
    let named = url.replace("http://127.0.0.1", "https://localhost");
    for (channel, target, why) in [
        ("WEBHOOK", url.as_str(), "must use https"),
        ("WEBHOOK", &named, "private addresses"),
        ("WEBHOOK", "https://169.254.169.254/latest", "private addresses"),
        ("WEBHOOK", "https://[::1]/", "private addresses"),
        ("EMAIL", "someone@example.com", "no mail server"),
    ] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        fire(&acme, channel, target).await;
        relay_once(&test.app, &senders(false)).await.expect("relayed");
        let dead = deliveries(&acme).await;
        assert_eq!(dead[0]["state"], "DEAD", "{target}");
        assert!(dead[0]["lastError"].as_str().expect("text").contains(why), "{dead}");
    }
    assert!(got.lock().expect("a lock").got.is_empty());
}

#[tokio::test]
async fn recipients_are_shown_to_those_who_may_set_them() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    fire(&acme, "EMAIL", "someone@example.com").await;
    let query = "{ alerts { recipients { target } } }";
    assert_eq!(acme.viewer().query(query).await, json!({ "alerts": [{ "recipients": null }] }));
    let shown = acme.admin().query(query).await;
    assert_eq!(shown, json!({ "alerts": [{ "recipients": [{ "target": "someone@example.com" }] }] }));
    assert_eq!(acme.viewer().error_code("{ alertDeliveries { nodes { id } } }").await, "FORBIDDEN");
}

#[tokio::test]
async fn recipients_that_make_no_sense_are_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let long = format!("https://example.com/{}", "x".repeat(2000));
    let secret = r#"secret: "a secret of the tests, long""#;
    for (recipient, argument) in [
        (r#"channel: EMAIL, target: "nobody""#.to_owned(), "target"),
        (format!(r#"channel: EMAIL, target: "a@example.com", {secret}"#), "secret"),
        (r#"channel: WEBHOOK, target: "https://example.com""#.to_owned(), "secret"),
        (r#"channel: WEBHOOK, target: "https://example.com", secret: "short""#.to_owned(), "secret"),
        (
            r#"channel: WEBHOOK, target: "https://example.com", secret: "whsec_this is no base64 at all""#.to_owned(),
            "secret",
        ),
        (format!(r#"channel: WEBHOOK, target: "ftp://example.com", {secret}"#), "target"),
        (format!(r#"channel: WEBHOOK, target: "https://user@example.com", {secret}"#), "target"),
        (format!(r#"channel: WEBHOOK, target: "{long}", {secret}"#), "target"),
    ] {
        let create = format!(
            r#"mutation {{ createAlert(input: {{ name: "x", metric: VISITS, condition: NO_DATA,
                recipients: [{{ channel: EMAIL, target: "ann@example.com" }}, {{ {recipient} }}] }}) {{ id }} }}"#
        );
        acme.admin().refused(&create, &format!("recipients.1.{argument}")).await;
    }
}

#[tokio::test]
async fn a_mail_server_that_says_nothing_keeps_nobody_waiting() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // It lets the client in and is silent.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    fire(&acme, "EMAIL", "ann@example.com").await;
    let senders = mailers(port, Duration::from_millis(50));
    let relayed = tokio::time::timeout(Duration::from_secs(20), relay_once(&test.app, &senders)).await;
    relayed.expect("it does not wait for ever").expect("relayed");
    let waits = deliveries(&acme).await;
    assert_eq!((&waits[0]["state"], &waits[0]["attempts"]), (&json!("PENDING"), &json!(1)));
    assert_eq!(waits[0]["lastError"], "no answer in time");
}

#[tokio::test]
async fn only_who_lets_us_in_refuses_a_mail_for_good() {
    for (replies, state) in [
        (&[][..], "DELIVERED"),
        (&[("CONNECT", "554 no service here")], "PENDING"),
        (&[("AUTH", "535 5.7.8 bad credentials")], "PENDING"),
        (&[("AUTH", "550 no")], "PENDING"),
        (&[("MAIL", "530 5.7.0 authentication required")], "PENDING"),
        (&[("RCPT", "450 later")], "PENDING"),
        (&[("MAIL", "550 not from you")], "DEAD"),
        (&[("RCPT", "550 5.1.1 nobody")], "DEAD"),
        (&[("DATA", "554 nothing of this")], "DEAD"),
    ] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        fire(&acme, "EMAIL", "ann@example.com").await;
        let senders = mailers(mail_server(replies).await, Settings::default().wait);
        relay_once(&test.app, &senders).await.expect("relayed");
        let sent = deliveries(&acme).await;
        assert_eq!((&sent[0]["state"], &sent[0]["attempts"]), (&json!(state), &json!(1)), "{replies:?}: {sent}");
    }
}

#[tokio::test]
async fn what_has_not_arrived_is_signed_with_the_secret_of_now() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (url, got) = receiver(&[StatusCode::GONE, StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK]).await;
    fire(&acme, "WEBHOOK", &url).await;
    relay_once(&test.app, &senders(true)).await.expect("relayed");
    let dead = deliveries(&acme).await;
    assert_eq!(dead[0]["state"], "DEAD");
    let update = |id: &Value, secret: &str| {
        format!(
            r#"mutation {{ updateAlert(id: {id}, input: {{ name: "First", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0",
                windowMinutes: 120, recipients: [{{ channel: WEBHOOK, target: "{url}", secret: "{secret}" }}] }}) {{ id }} }}"#
        )
    };
    // Another rule's recipient has the same URL, and keeps its secret.
    let other = format!(
        r#"mutation {{ createAlert(input: {{ name: "Other", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 120,
            recipients: [{{ channel: WEBHOOK, target: "{url}", secret: "the other one's secret, as it is" }}] }}) {{ id }} }}"#
    );
    acme.admin().query(&other).await;
    acme.apply(vec![event("e2", "2026-06-15T11:10:00Z", Fact::OrderPlaced(order("o2", 1, "c", "10.00")))]).await;
    let rules = acme.admin().query("{ alerts { id name } }").await;
    let rule = rules["alerts"].as_array().expect("a list").iter().find(|rule| rule["name"] == "First");
    // Of the first rule, one was given up, and one says that it is resolved; of the other rule, one waits.
    acme.admin().query(&update(&rule.expect("the rule")["id"], "the secret that is right now")).await;
    let retry = format!(r#"mutation {{ retryAlertDelivery(id: {}) {{ state }} }}"#, dead[0]["id"]);
    acme.admin().query(&retry).await;
    got.lock().expect("a lock").got.clear();
    relay_once(&test.app, &senders(true)).await.expect("relayed");
    let got = got.lock().expect("a lock");
    let signed = |(headers, _, body): &(HeaderMap, Value, String), secret: &str| {
        let text = |name: &str| headers[name].to_str().expect("text");
        let keyed = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        let content = format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp"));
        let tag = keyed.chain_update(content).finalize().into_bytes();
        text("webhook-signature") == format!("v1,{}", STANDARD.encode(tag))
    };
    let by = |secret: &str| {
        let mut names: Vec<&str> = got
            .got
            .iter()
            .filter(|one| signed(one, secret))
            .map(|(_, body, _)| body["type"].as_str().expect("a type"))
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(by("the secret that is right now"), ["alert.firing", "alert.resolved"], "{:?}", got.got);
    assert_eq!(by("the other one's secret, as it is"), ["alert.firing"]);
}
