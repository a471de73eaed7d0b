//! `recordings`: who recorded which events, through what, and from where.

use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use salespulse::audit::{By, Means};
use salespulse::auth::Role;
use salespulse::clock::{SECOND, Timestamp};
use salespulse::ledger::event::{Event, Fact, Outcome, VisitsCounted};
use salespulse::server::Options;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ledger::{event, money, order};
use crate::real_data::import;
use crate::senders::{hmac, post_webhook, shop_order};
use crate::support::{NOW, Server, TestApp, TestTenant, kek};
use crate::web::{PASSWORD, let_in};

const RECORD: &str = "mutation($events: [SalesEventInput!]!) { recordEvents(events: $events) { results { outcome } } }";

/// Events of visits, as they are given.
fn given(ids: &[&str]) -> Value {
    let visits = |id| json!({ "eventId": id, "occurredAt": "2026-06-01T10:00:00Z", "visitsCounted": { "count": 1 } });
    ids.iter().map(visits).collect()
}

fn visits(id: &str) -> Event {
    let visits = VisitsCounted { count: 1, ..VisitsCounted::default() };
    event(id, "2026-06-01T10:00:00Z", Fact::VisitsCounted(visits))
}

fn sale(id: &str, version: i64, amount: &str) -> Event {
    let event_id = format!("{id} {version}");
    event(&event_id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(order(id, version, "c", amount)))
}

/// Somebody with an address of their own.
fn somebody(n: u8) -> By {
    let address = IpAddr::from([192, 0, 2, n]);
    By { user_id: Some(Uuid::now_v7()), through: Some(Means::ApiKey(Uuid::now_v7())), address: Some(address) }
}

/// Recordings, oldest first: what is selected of each.
async fn list(tenant: &TestTenant<'_>, filter: &str, selected: &str) -> Vec<Value> {
    let query = format!("{{ recordings(first: 100, filter: {{{filter}}}) {{ nodes {{ {selected} }} }} }}");
    let mut nodes = tenant.admin().query(&query).await["recordings"]["nodes"].take();
    let mut nodes = std::mem::take(nodes.as_array_mut().expect("nodes"));
    nodes.reverse();
    nodes
}

/// The positions that recordings have, from and to, oldest first.
async fn spans(tenant: &TestTenant<'_>, filter: &str) -> Vec<(i64, i64)> {
    let number = |position: &Value| position.as_str().expect("a position").parse().expect("a number");
    let nodes = list(tenant, filter, "firstPosition lastPosition").await;
    nodes.iter().map(|node| (number(&node["firstPosition"]), number(&node["lastPosition"]))).collect()
}

async fn post(server: &Server, path: &str, token: Option<&str>, headers: &[(&str, String)], body: String) -> Value {
    let request = reqwest::Client::new().post(format!("http://{}{path}", server.address));
    let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    let request = request.header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    let answer = request.body(body).send().await.expect("an answer").text().await.expect("a body");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert!(answer["errors"].is_null(), "{answer}");
    answer
}

async fn ask(server: &Server, token: &str, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables }).to_string();
    post(server, "/graphql", Some(token), &[], body).await["data"].take()
}

#[tokio::test]
async fn each_way_of_recording_tells_who_it_was_through_what_and_from_where() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let email = let_in(&acme, Role::Manager).await;
    let server = Server::with(test.app.clone(), Options { graphiql: false, ..Options::default() }).await;

    ask(&server, &admin.token(), RECORD, json!({ "events": given(&["token"]) })).await;
    let login = "mutation($email: String!, $password: String!) {
        login(tenant: \"acme\", email: $email, password: $password) { accessToken } }";
    let post_login = ask(&server, &admin.token(), login, json!({ "email": email, "password": PASSWORD })).await;
    let session = post_login["login"]["accessToken"].as_str().expect("a token");
    ask(&server, session, RECORD, json!({ "events": given(&["session 1", "session 2"]) })).await;
    let sessions = ask(&server, session, "{ sessions { id } }", Value::Null).await["sessions"].take();

    let create =
        "mutation { createApiKey(input: { name: \"till\", permissions: [SALES_EDIT] }) { secret key { id } } }";
    let key = ask(&server, &admin.token(), create, Value::Null).await["createApiKey"].take();
    let secret = key["secret"].as_str().expect("a secret");
    post(&server, "/v1/events", Some(secret), &[], json!({ "events": given(&["rest"]) }).to_string()).await;

    let create = "mutation { createIntegration(kind: SHOPIFY, secret: \"a secret of the shop\", input: { name: \"shop\" }) { id url } }";
    let shop = ask(&server, &admin.token(), create, Value::Null).await["createIntegration"].take();
    let path = shop["url"].as_str().and_then(|url| url.strip_prefix("http://localhost:4000")).expect("a path");
    let body = shop_order("2026-06-10T10:00:00-05:00", json!({}));
    let headers = [
        ("X-Shopify-Topic", "orders/create".to_owned()),
        ("X-Shopify-Event-Id", "1".to_owned()),
        ("X-Shopify-Hmac-Sha256", STANDARD.encode(hmac(b"a secret of the shop", body.as_bytes()))),
    ];
    assert_eq!(post(&server, path, None, &headers, body).await["outcome"], "recorded");
    server.stop().await;

    import(&acme, "shop", &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).await;

    let selected = "at actor { name } through throughId address eventsCount";
    let found = list(&acme, "", selected).await;
    let row = |name: Option<&str>, through: &str, id: &Value, address: Option<&str>, count: i64| {
        json!({
            "at": "2026-06-15T12:00:00Z", "actor": name.map(|name| json!({ "name": name })), "through": through, "throughId": id,
            "address": address, "eventsCount": count,
        })
    };
    let here = Some("127.0.0.1");
    let expected = [
        row(Some("admin"), "token", &Value::Null, here, 1),
        row(Some("manager"), "session", &sessions[0]["id"], here, 2),
        row(Some("admin"), "api-key", &key["key"]["id"], here, 1),
        row(None, "integration", &shop["id"], here, 1),
        row(None, "import", &Value::Null, None, 2),
    ];
    assert_eq!(found, expected);
}

/// What a webhook asks for is the integration's doing, and what a user has retried is the user's.
#[tokio::test]
async fn a_retried_delivery_is_recorded_by_who_retries_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = r#"mutation { createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: { name: "CRM" }) { id url } }"#;
    let made = acme.admin().query(create).await["createIntegration"].take();
    let deal = r#"{ "v": 1, "meta": { "action": "updated", "object": "deal", "id": 5, "company_id": 18, "timestamp": 1781100294, "timestamp_micro": 1781100294634900 },
        "current": { "id": 5, "user_id": 7, "value": 100, "currency": "GBP", "status": "won", "won_time": "2026-06-10 15:04:54",
                     "lost_time": null, "update_time": "2026-06-10 15:04:54" },
        "previous": { "status": "open" } }"#;
    let url = made["url"].as_str().expect("a URL");
    assert_eq!(post_webhook(&test, url, "crm:a password of it", deal).await["outcome"], "quarantined");
    assert_eq!(spans(&acme, "").await, []);
    let update = "mutation($id: ID!, $user: ID!) { updateIntegration(id: $id, input: { owners: [{ externalId: \"7\", userId: $user }] }) { id } }";
    let user = acme.viewer().caller.user_id;
    acme.admin().query_with(update, json!({ "id": made["id"], "user": user })).await;
    let kept = acme.admin().query("{ quarantine { nodes { id } } }").await["quarantine"]["nodes"][0]["id"].take();
    let retried = acme.admin().query(&format!("mutation {{ retryQuarantined(id: {kept}) {{ outcome }} }}")).await;
    assert_eq!(retried["retryQuarantined"]["outcome"], "RECORDED");
    let found = list(&acme, "", "actor { name } through").await;
    assert_eq!(found, [json!({ "actor": { "name": "admin" }, "through": "token" })]);
}

#[tokio::test]
async fn a_batch_of_several_callers_has_a_recording_for_each_of_its_runs() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (ann, bob) = (somebody(1), somebody(2));
    acme.apply(vec![visits("before")]).await;
    // The same person from elsewhere is another caller.
    let elsewhere = By { address: Some(IpAddr::from([192, 0, 2, 3])), ..ann };
    let ahead = event("ahead", "2026-07-01T10:00:00Z", visits("ahead").fact);
    let calls = [
        (ann, vec![visits("a1"), visits("a2")]),
        (ann, vec![visits("a3"), visits("before"), ahead.clone()]),
        (bob, vec![visits("a1"), ahead]),
        (elsewhere, vec![visits("e1")]),
        (bob, vec![visits("b1"), visits("b2")]),
        (ann, vec![visits("a4")]),
    ];
    let recorded = calls.map(|(by, events)| test.app.ledger.record(acme.id(), by, events, false));
    let answers: Vec<_> = join_all(recorded).await.into_iter().map(|answer| answer.expect("recorded")).collect();
    assert_eq!(answers[1].outcomes[1], Outcome::Repeated { position: 1 });
    assert!(matches!(answers[2].outcomes[1], Outcome::Refused(_)));
    let tx = test.app.db.read(acme.id()).await.expect("a snapshot");
    assert_eq!(tx.count("SELECT COUNT(*) FROM ledger_batches WHERE tenant_id = $1", []).await.expect("counted"), 2);
    let found = list(&acme, "", "firstPosition lastPosition eventsCount address").await;
    let row = |first: i64, last: i64, address: Option<&str>| {
        let count = last - first + 1;
        json!({ "firstPosition": first.to_string(), "lastPosition": last.to_string(), "eventsCount": count, "address": address })
    };
    let (a, b, e) = (Some("192.0.2.1"), Some("192.0.2.2"), Some("192.0.2.3"));
    assert_eq!(found, [row(1, 1, None), row(2, 4, a), row(5, 5, e), row(6, 7, b), row(8, 8, a)]);
    // Nothing new, nothing recorded.
    test.app.ledger.record(acme.id(), bob, vec![visits("a1")], false).await.expect("repeated");
    assert_eq!(spans(&acme, "").await.len(), 5);
}

/// On overflow a batch is rolled back, and its halves are committed.
#[tokio::test]
async fn a_batch_that_is_rolled_back_leaves_nothing() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // One more of them, and their sum would no longer fit.
    let largest = |n: usize| sale(&n.to_string(), 1, "1000000000000.00");
    let without_lines = |mut event: Event| {
        if let Fact::OrderPlaced(order) = &mut event.fact {
            order.lines.clear();
            order.amount = Some(money("1000000000000.00"));
        }
        event
    };
    acme.apply((0..922).map(largest).map(without_lines).collect()).await;
    let (ann, bob) = (somebody(1), somebody(2));
    let calls = [(ann, vec![visits("a"), without_lines(largest(1000))]), (bob, vec![visits("b1"), visits("b2")])];
    let recorded = calls.map(|(by, events)| test.app.ledger.record(acme.id(), by, events, false));
    let outcomes = join_all(recorded).await.into_iter().flat_map(|answer| answer.expect("recorded").outcomes);
    let outcomes: Vec<&str> = outcomes.map(|outcome| outcome.as_str()).collect();
    assert_eq!(outcomes, ["applied", "refused", "applied", "applied"]);
    assert_eq!(spans(&acme, "").await, [(1, 922), (923, 923), (924, 925)]);
    acme.verified().await;
}

/// A batch whose last statement fails.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_batch_that_fails_leaves_nothing() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut broken = test.another().await;
    let mut db = broken.db.clone();
    db.mutate(|sql| sql.starts_with("UPDATE ledger_heads SET position").then(|| format!("{sql} AND nothing = 1")));
    broken = salespulse::app::App::new(db, broken.clock, broken.stream, broken.tokens, kek());
    let failed = broken.ledger.record(acme.id(), somebody(1), vec![visits("a")], false).await;
    assert!(failed.is_err());
    assert_eq!(spans(&acme, "").await, []);
    acme.apply(vec![visits("a")]).await;
    assert_eq!(spans(&acme, "").await, [(1, 1)]);
}

#[tokio::test]
async fn recordings_are_found_by_who_and_when_and_by_what_was_recorded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (ann, bob) = (somebody(1), somebody(2));
    let record = async |by, events| test.app.ledger.record(acme.id(), by, events, false).await.expect("recorded");
    record(ann, vec![sale("A", 1, "5.00"), sale("B", 1, "5.00")]).await;
    test.clock.set(Timestamp(NOW.0 + SECOND));
    record(bob, vec![visits("v"), sale("A", 2, "6.00")]).await;
    test.clock.set(Timestamp(NOW.0 + 2 * SECOND));
    // Late: the customer's first order is another one now, though nobody has recorded that one again.
    let mut earlier = sale("C", 1, "5.00");
    earlier.occurred_at = Timestamp(earlier.occurred_at.0 - SECOND);
    let older = Event { event_id: "older".into(), ..sale("A", 1, "7.00") };
    record(ann, vec![earlier, older]).await;

    let all = [(1, 2), (3, 4), (5, 6)];
    let user = |by: By| by.user_id.expect("a user");
    let Some(Means::ApiKey(key)) = bob.through else { panic!("{bob:?}") };
    let orders = acme.admin().query("{ orders { nodes { id externalId } } }").await["orders"]["nodes"].take();
    let order = |id: &str| {
        let found = orders.as_array().expect("orders").iter().find(|order| order["externalId"] == id);
        found.expect("an order")["id"].clone()
    };
    for (filter, expected) in [
        (String::new(), &all[..]),
        (format!(r#"actorId: "{}""#, user(ann)), &[(1, 2), (5, 6)]),
        (format!(r#"throughId: "{key}""#), &[(3, 4)]),
        (format!(r#"throughId: "{key}", actorId: "{}""#, user(ann)), &[]),
        (r#"actorId: "nobody""#.into(), &[]),
        (r#"position: "0""#.into(), &[]),
        (r#"position: "1""#.into(), &[(1, 2)]),
        (r#"position: "2""#.into(), &[(1, 2)]),
        (r#"position: "3""#.into(), &[(3, 4)]),
        (r#"position: "6""#.into(), &[(5, 6)]),
        (r#"position: "7""#.into(), &[]),
        (r#"eventId: "v""#.into(), &[(3, 4)]),
        (r#"eventId: "nothing""#.into(), &[]),
        // The latest version counts, not what came too late or changed only whose first order it is.
        (format!("orderId: {}", order("A")), &[(3, 4)]),
        (format!("orderId: {}", order("B")), &[(1, 2)]),
        (format!("orderId: {}", order("C")), &[(5, 6)]),
        (r#"orderId: "o99""#.into(), &[]),
        (r#"orderId: "c1""#.into(), &[]),
        (r#"since: "2026-06-15T12:00:01Z""#.into(), &all[1..]),
        (r#"until: "2026-06-15T12:00:01Z""#.into(), &all[..1]),
        (r#"since: "2026-06-15T12:00:01Z", until: "2026-06-15T12:00:02Z""#.into(), &all[1..2]),
    ] {
        assert_eq!(spans(&acme, &filter).await, expected, "{filter}");
    }
    acme.admin().refused(r#"{ recordings(filter: { eventId: "a\u0000" }) { nodes { at } } }"#, "filter.eventId").await;
    for role in [Role::Manager, Role::Analyst, Role::Viewer] {
        assert_eq!(acme.actor(role).error_code("{ recordings { nodes { at } } }").await, "FORBIDDEN");
    }
    assert_eq!(spans(&test.tenant("other").await, "").await, []);
}

#[tokio::test]
async fn of_what_was_recorded_before_the_list_was_kept_nobody_is_known() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale("A", 1, "5.00"), sale("B", 1, "5.00")]).await;
    let beside = test.migrated_again("m0019_recordings").await;
    let acme = TestTenant { test: &beside, created: acme.created };
    assert_eq!(spans(&acme, "").await, []);
    acme.apply(vec![sale("B", 2, "6.00")]).await;
    assert_eq!(spans(&acme, "").await, [(3, 3)]);
    let known = [(r#"position: "2""#, 0), (r#"eventId: "A 1""#, 0), (r#"orderId: "o1""#, 0), (r#"orderId: "o2""#, 1)];
    for (filter, count) in known {
        assert_eq!(spans(&acme, filter).await.len(), count, "{filter}");
    }
    acme.verified().await;
}

#[tokio::test]
async fn no_recording_is_changed_or_removed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![visits("a")]).await;
    for sql in [
        "UPDATE ledger_recordings SET actor_id = NULL WHERE tenant_id = $1",
        "DELETE FROM ledger_recordings WHERE tenant_id = $1",
    ] {
        let tx = test.app.db.write(acme.id()).await.expect("begun");
        assert!(tx.execute(sql, []).await.is_err(), "{sql}");
    }
    assert_eq!(spans(&acme, "").await, [(1, 1)]);
}
