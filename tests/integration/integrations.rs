//! Webhooks: how integrations are set up, who is let in, and when a sender is asked to come again.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use salespulse::app::App;
use salespulse::auth::{Permission, Role};
use salespulse::clock::SECOND;
use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::graphql::origin::Peer;
use salespulse::ledger::store::lock_head;
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::senders::{SECRET, Sender, as_standard, as_standard_at, hmac, june, quarantine, reply, send, shop_order};
use crate::support::{NOW, TestApp, kek, test_redis_url};

#[tokio::test]
async fn who_does_not_sign_is_nobody_before_anything_is_read() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let theirs = Sender::of(&other, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    let unauthenticated = (401, "UNAUTHENTICATED");
    assert_eq!(shop.send(&[], "{ no JSON").await.code(), unauthenticated);
    assert_eq!(shop.shopify("another secret", "orders/create", "e", &body).await.code(), unauthenticated);
    // Signed, but not these bytes.
    let signature = STANDARD.encode(hmac(SECRET.as_bytes(), body.as_bytes()));
    let headers = [("X-Shopify-Topic", "orders/create".to_owned()), ("X-Shopify-Hmac-Sha256", signature)];
    assert_eq!(shop.send(&headers, &body.replace("95.00", "95.0")).await.code(), unauthenticated);
    for path in [
        format!("/webhooks/{}/{}", acme.id().0, theirs.id),
        format!("/webhooks/{}/{}", other.id().0, shop.id),
        format!("/webhooks/{}/{}", uuid::Uuid::nil(), shop.id),
        "/webhooks/acme/shop".to_owned(),
    ] {
        assert_eq!(send(&shop.router, &path, &headers, body.clone()).await.code(), unauthenticated, "{path}");
    }
    assert_eq!(shop.send(&headers, &body).await.outcome(), "recorded");
    assert_eq!(june(&other).await["ordersCount"], 0);
    // The newer names of the headers are the same.
    let newer = headers.clone().map(|(name, value)| (&name[2..], value));
    assert_eq!(shop.send(&newer, &body).await.outcome(), "recorded");
    // Who signs is let in however many from the same address do not.
    let server = crate::support::Server::with(test.app.clone(), Options::default()).await;
    let url = format!("http://{}{}", server.address, shop.path);
    let client = reqwest::Client::new();
    for _ in 0..150 {
        let status = client.post(&url).body("{}").send().await.expect("an answer").status();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let signed = headers.iter().fold(client.post(&url), |request, (name, value)| request.header(*name, value));
    assert_eq!(signed.body(body).send().await.expect("an answer").status(), StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn during_a_change_of_secrets_two_are_good() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    let change = async |secret: &str| {
        let update = "mutation($id: ID!, $secret: String) { updateIntegration(id: $id, secret: $secret, input: { name: \"shop\" }) { id } }";
        acme.admin().query_with(update, json!({ "id": shop.id, "secret": secret })).await;
    };
    let statuses = async || {
        let secrets = [SECRET, "a second secret of it", "a third secret of it"];
        let replies = join_all(secrets.map(|secret| shop.shopify(secret, "orders/create", "e", &body))).await;
        replies.iter().map(|reply| reply.status.as_u16()).collect::<Vec<_>>()
    };
    assert_eq!(statuses().await, [200, 401, 401]);
    change("a second secret of it").await;
    assert_eq!(statuses().await, [200, 200, 401]);
    change("a third secret of it").await;
    assert_eq!(statuses().await, [401, 200, 200]);
    // The same once more changes nothing; who says so ends the old one at once.
    change("a third secret of it").await;
    assert_eq!(statuses().await, [401, 200, 200]);
    let end = "mutation($id: ID!, $secret: String) { updateIntegration(id: $id, secret: $secret, endOldSecret: true, input: { name: \"shop\" }) { id } }";
    acme.admin().query_with(end, json!({ "id": shop.id, "secret": "a third secret of it" })).await;
    assert_eq!(statuses().await, [401, 401, 200]);
    // Without a new one, the last that was set is left.
    change(SECRET).await;
    assert_eq!(statuses().await, [200, 401, 200]);
    let end = "mutation($id: ID!) { updateIntegration(id: $id, endOldSecret: true, input: { name: \"shop\" }) { id } }";
    acme.admin().query_with(end, json!({ "id": shop.id })).await;
    assert_eq!(statuses().await, [200, 401, 401]);
    // The secrets are nowhere in the answers, the log or the table.
    let log = acme.admin().query("{ auditLog(first: 50) { nodes { action before after } } }").await.to_string();
    assert!(log.contains("integration.update") && !log.contains("secret of"), "{log}");
    let tx = test.app.db.read(acme.id()).await.expect("a transaction");
    let row = tx.query_one("SELECT secrets FROM integrations WHERE tenant_id = $1", []).await.expect("read");
    let stored: Vec<u8> = salespulse::db::get(&row.expect("a row"), 0).expect("bytes");
    assert!(!String::from_utf8_lossy(&stored).contains("secret of"));
}

/// Another order can end in a deadlock on PostgreSQL: whoever quarantines or reseals locks the head before these rows.
#[tokio::test]
async fn a_change_of_secrets_locks_the_head_before_it_writes() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let App { mut db, clock, tokens, .. } = test.app.clone();
    let statements: Arc<Mutex<Vec<String>>> = Arc::default();
    let sent = Arc::clone(&statements);
    db.mutate(move |sql| {
        sent.lock().expect("no panic").push(sql.to_owned());
        None
    });
    let stream = salespulse::stream::connect(test_redis_url().as_deref()).await.expect("a stream");
    let router = router(App::new(db, clock, stream, tokens, kek()), &Options::default());
    let headers = [
        ("Authorization", format!("Bearer {}", acme.admin().token())),
        ("Content-Type", "application/json".to_owned()),
    ];
    let post = async |query: &str| {
        let body = json!({ "query": query, "variables": { "id": shop.id } }).to_string();
        let reply = send(&router, "/graphql", &headers, body).await;
        assert!(reply.body["errors"].is_null(), "{}", reply.body);
        std::mem::take(&mut *statements.lock().expect("no panic"))
    };
    let first = |sent: &[String], part: &str| sent.iter().position(|sql| sql.contains(part)).expect("sent");
    let sent = post("mutation($id: ID!) { updateIntegration(id: $id, secret: \"a second secret of it\", input: { name: \"s\" }) { id } }").await;
    assert!(first(&sent, "FROM ledger_heads") < first(&sent, "UPDATE integrations"), "{sent:#?}");
    let sent = post("mutation($id: ID!) { deleteIntegration(id: $id) }").await;
    assert!(first(&sent, "SELECT 1 FROM integrations") < first(&sent, "DELETE FROM data_sources"), "{sent:#?}");
}

#[tokio::test]
async fn whoever_signs_as_the_standard_has_it_sends_any_event() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let secret = "whsec_YSBzZWNyZXQgdGhhdCBpcyBpbiBiYXNlNjQ=";
    let sender = Sender::of(&acme, "STANDARD", secret, json!({ "name": "tills" })).await;
    let signed = |id: &str, seconds: i64, body: &str| as_standard_at("a secret that is in base64", id, seconds, body);
    let now = NOW.0 / SECOND;
    let sale = json!({ "eventId": "till-1", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "1", "amount": "12.34" } });
    let body = json!({ "events": [sale] }).to_string();
    assert_eq!(sender.send(&signed("m1", now - 301, &body), &body).await.code(), (401, "UNAUTHENTICATED"));
    assert_eq!(sender.send(&signed("m1", now, &body), &body).await.outcome(), "recorded");
    assert_eq!(june(&acme).await["grossRevenue"], "12.34");
    for (n, (wrong, reason)) in [
        (json!({ "events": [{ "eventId": "x" }] }), "DateTime"),
        (json!({ "events": [{ "eventId": "x", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "2", "amout": "1" } }] }), "amout"),
        (json!({ "event": [] }), "column"),
        (json!({ "events": [{ "eventId": "y" }] }), "events.0: "),
        // The same id with other content.
        (json!({ "events": [{ "eventId": "till-1", "occurredAt": "2026-06-10T10:00:00Z", "orderPlaced": { "orderId": "1", "amount": "99" } }] }), "other content"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = wrong.to_string();
        assert_eq!(sender.send(&signed(&format!("w{n}"), now, &body), &body).await.outcome(), "quarantined", "{body}");
        let newest = quarantine(&acme).await[0].take();
        assert!(newest["reason"].as_str().is_some_and(|text| text.contains(reason)), "{newest}");
    }
    assert_eq!(june(&acme).await["grossRevenue"], "12.34");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_cannot_be_taken_in_the_sender_is_asked_to_come_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop", "enabled": false })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    let off = shop.shopify(SECRET, "orders/create", "e", &body).await;
    assert_eq!(off.code(), (503, "SERVICE_UNAVAILABLE"));
    assert!(off.headers.contains_key(header::RETRY_AFTER));
    let update =
        "mutation($id: ID!) { updateIntegration(id: $id, input: { name: \"shop\", enabled: true }) { enabled } }";
    acme.admin().query_with(update, json!({ "id": shop.id })).await;
    // Somebody keeps the ledger waiting for longer than a shop would.
    let held = test.app.db.write(acme.id()).await.expect("a transaction");
    lock_head(&held).await.expect("locked");
    let waits = shop.shopify(SECRET, "orders/create", "e", &body).await;
    assert_eq!(waits.code(), (503, "SERVICE_UNAVAILABLE"));
    drop(held);
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &body).await.outcome(), "recorded");
    assert_eq!(june(&acme).await["ordersCount"], 1);
}

#[tokio::test]
async fn integrations_are_checked_before_they_are_made() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop", "channel": "online" })).await;
    let create = |kind: &str, secret: &str, input: &str| {
        format!("mutation {{ createIntegration(kind: {kind}, secret: \"{secret}\", input: {{ {input} }}) {{ id }} }}")
    };
    let admin = acme.admin();
    admin.refused(&create("SHOPIFY", "short", "name: \"a\""), "secret").await;
    admin.refused(&create("STRIPE", SECRET, "name: \"a\""), "secret").await;
    admin.refused(&create("PIPEDRIVE", "no password but long", "name: \"a\""), "secret").await;
    admin.refused(&create("STANDARD", "whsec_is no base64 at all", "name: \"a\""), "secret").await;
    admin.refused(&create("SHOPIFY", SECRET, "name: \" \""), "name").await;
    assert_eq!(admin.error_code(&create("SHOPIFY", SECRET, "name: \"shop\"")).await, "CONFLICT");
    let stranger = other.admin().caller.user_id;
    let owners = format!("name: \"a\", owners: [{{ externalId: \"1\", userId: \"{stranger}\" }}]");
    assert_eq!(admin.error_code(&create("PIPEDRIVE", "user:password of it", &owners)).await, "NOT_FOUND");
    let organization = format!("name: \"a\", organizationId: \"{stranger}\"");
    assert_eq!(admin.error_code(&create("SHOPIFY", SECRET, &organization)).await, "NOT_FOUND");
    for change in ["deleteIntegration(id: ID)", "updateIntegration(id: ID, input: { name: \"b\" }) { id }"] {
        let change = format!("mutation {{ {} }}", change.replace("ID", &format!("\"{}\"", shop.id)));
        assert_eq!(other.admin().error_code(&change).await, "NOT_FOUND");
    }
    let listed =
        admin.query("{ integrations { name kind channel enabled lastDeliveryAt } dataSources { name kind } }").await;
    let expected =
        json!({ "name": "shop", "kind": "SHOPIFY", "channel": "online", "enabled": true, "lastDeliveryAt": null });
    assert_eq!(listed, json!({ "integrations": [expected], "dataSources": [{ "name": "shop", "kind": "shopify" }] }));
    // Tests of the shop do not count, unless they are to.
    let tried = shop_order("2026-06-10T10:00:00Z", json!({ "test": true }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &tried).await.outcome(), "ignored");
    let counted = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "trial", "countsTests": true })).await;
    assert_eq!(counted.shopify(SECRET, "orders/create", "e", &tried).await.outcome(), "recorded");
    let named = admin.query("{ integrations { name lastDeliveryAt } }").await;
    assert!(
        named["integrations"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["lastDeliveryAt"] == "2026-06-15T12:00:00Z")
    );
}

#[tokio::test]
async fn nothing_is_read_of_what_is_for_nobody() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let limits = Limits { address_requests: NonZeroU32::new(2), ..Limits::default() };
    let router =
        router(test.app.clone(), &Options { api: Settings { limits, ..Settings::default() }, ..Options::default() });
    let unknown = format!("/webhooks/{}/{}", acme.id().0, uuid::Uuid::now_v7());
    for (path, code) in [
        (unknown.as_str(), (401, "UNAUTHENTICATED")),
        ("/webhooks/acme/shop", (401, "UNAUTHENTICATED")),
        (unknown.as_str(), (429, "RATE_LIMITED")),
    ] {
        // It never comes.
        let body = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let peer = Peer { address: "192.0.2.1:1".parse().expect("an address"), is_encrypted: false };
        let request = Request::post(path).extension(peer).body(body).expect("a request");
        assert_eq!(reply(router.clone().oneshot(request).await.expect("a response")).await.code(), code, "{path}");
    }
}

#[tokio::test]
async fn a_secret_is_given_by_whoever_may_do_what_it_opens() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let tills = Sender::of(&acme, "STANDARD", SECRET, json!({ "name": "tills" })).await;
    let create = |kind: &str| {
        format!(
            r#"mutation {{ createIntegration(kind: {kind}, secret: "{SECRET}", input: {{ name: "{kind} too" }}) {{ id }} }}"#
        )
    };
    let change = |id: &str, secret: &str| {
        format!(r#"mutation {{ updateIntegration(id: "{id}", {secret} input: {{ name: "{id}" }}) {{ id }} }}"#)
    };
    let with_secret = |id: &str| change(id, r#"secret: "another secret of it","#);
    let key = |permissions: &[Permission]| {
        let mut key = acme.admin();
        key.caller.permissions = [&[Permission::IntegrationsManage][..], permissions].concat();
        key
    };
    let manages = key(&[]);
    for refused in [create("SHOPIFY"), create("STANDARD"), with_secret(&shop.id), with_secret(&tills.id)] {
        assert_eq!(manages.error_code(&refused).await, "FORBIDDEN", "{refused}");
    }
    manages.query(&change(&shop.id, "")).await;
    let sells = key(&[Permission::SalesEdit]);
    for refused in [create("SHOPIFY"), with_secret(&shop.id)] {
        assert_eq!(sells.error_code(&refused).await, "FORBIDDEN", "{refused}");
    }
    sells.query(&create("STANDARD")).await;
    sells.query(&with_secret(&tills.id)).await;
    let erases = key(&[Permission::SalesEdit, Permission::PersonalManage]);
    erases.query(&create("SHOPIFY")).await;
    erases.query(&with_secret(&shop.id)).await;
}

#[tokio::test]
async fn what_a_change_leaves_out_stays() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.organization("north", chrono_tz::UTC, "GBP").await;
    let organizations = acme.admin().query("{ organizations { id slug } }").await;
    let organizations = organizations["organizations"].as_array().expect("a list");
    let north = organizations.iter().find(|one| one["slug"] == "north").expect("north")["id"].clone();
    let seller = acme.actor(Role::Manager).caller.user_id.to_string();
    let input = json!({ "name": "crm", "organizationId": north, "channel": "deals", "countsTests": true, "enabled": false,
        "owners": [{ "externalId": "1", "userId": seller }] });
    let crm = Sender::of(&acme, "PIPEDRIVE", "crm:a password of it", input.clone()).await;
    let change = async |input: Value| {
        let update = "mutation($id: ID!, $input: IntegrationChanges!) { updateIntegration(id: $id, secret: \"crm:another of it\", input: $input) { \
                      name organizationId channel countsTests enabled owners { externalId userId } } }";
        acme.admin().query_with(update, json!({ "id": crm.id, "input": input })).await["updateIntegration"].take()
    };
    assert_eq!(change(json!({ "name": "crm" })).await, input);
    assert_eq!(change(json!({})).await, input);
    let cleared =
        change(json!({ "name": "deals", "organizationId": null, "channel": null, "countsTests": false, "owners": [] }))
            .await;
    assert_eq!(change(json!({ "organizationId": "north" })).await["organizationId"], north);
    assert_eq!(change(json!({ "organizationId": null })).await, cleared);
    let elsewhere = r#"mutation { createIntegration(kind: SHOPIFY, secret: "a secret that is long enough",
        input: { name: "shop", organizationId: "south" }) { id } }"#;
    let refused = acme.admin().run(elsewhere, json!({})).await;
    let extensions = refused.errors[0].extensions.as_ref().expect("extensions");
    assert_eq!(extensions.get("argument"), Some(&"organizationId".into()));
    let expected = json!({ "name": "deals", "organizationId": null, "channel": null, "countsTests": false, "enabled": false, "owners": [] });
    assert_eq!(cleared, expected);
    for (owner, code, argument) in [
        (json!({ "externalId": "", "userId": seller }), "BAD_USER_INPUT", "externalId"),
        (json!({ "externalId": "2", "userId": "nobody" }), "NOT_FOUND", "userId"),
        (json!({ "externalId": "2", "userId": north }), "NOT_FOUND", "userId"),
        (json!({ "externalId": "1", "userId": seller }), "BAD_USER_INPUT", "externalId"),
    ] {
        let owners = [json!({ "externalId": "1", "userId": seller }), owner];
        let create = r#"mutation($owners: [IntegrationOwnerInput!]!) {
            createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: { name: "other", owners: $owners }) { id } }"#;
        let refused = acme.admin().run(create, json!({ "owners": owners })).await;
        let extensions = refused.errors[0].extensions.as_ref().expect("extensions");
        let told = ["code", "argument"].map(|name| extensions.get(name).cloned());
        assert_eq!(told, [Some(code.into()), Some(format!("owners.1.{argument}").into())]);
    }
}

#[tokio::test]
async fn of_several_events_all_but_the_refused_ones_are_recorded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let tills = Sender::of(&acme, "STANDARD", SECRET, json!({ "name": "tills" })).await;
    let sale = |id: &str, at: &str| json!({ "eventId": id, "occurredAt": at, "orderPlaced": { "orderId": id, "amount": "1.00" } });
    let malformed = json!({ "eventId": "b", "occurredAt": "2026-06-10T10:00:00Z" });
    for (n, (events, code, orders)) in [
        (json!([sale("a", "2026-06-10T10:00:00Z"), malformed, sale("c", "2026-06-10T10:00:00Z")]), "BAD_USER_INPUT", 2),
        (
            json!([sale("d", "2026-06-10T10:00:00Z"), sale("e", "2036-06-10T10:00:00Z"), malformed]),
            "TIME_OUT_OF_RANGE",
            3,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "events": events }).to_string();
        assert_eq!(tills.send(&as_standard(SECRET, &format!("w{n}"), &body), &body).await.outcome(), "quarantined");
        let newest = quarantine(&acme).await[0].take();
        assert_eq!(newest["code"], code);
        assert!(newest["reason"].as_str().is_some_and(|reason| reason.starts_with("events.1: ")), "{newest}");
        assert_eq!(june(&acme).await["ordersCount"], orders);
    }
}
