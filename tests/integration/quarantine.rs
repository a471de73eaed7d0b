//! What is kept of webhooks that are not understood, for how long, and who may see it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use salespulse::auth::Role;
use salespulse::clock::{SECOND, Timestamp};
use salespulse::integrations::quarantine::{Kept, Why, keep};
use salespulse::ledger::store::lock_head;
use salespulse::privacy::erasure::erase_tenant;
use salespulse::privacy::rotation::{destroy_unused, reseal};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::senders::{SECRET, Sender, as_standard, quarantine, shop_order};
use crate::support::{NOW, TestApp, TestTenant};

#[tokio::test]
async fn what_cannot_be_understood_is_kept_until_somebody_has_seen_to_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let password = "crm:a password of it";
    let crm = Sender::of(&acme, "PIPEDRIVE", password, json!({ "name": "crm" })).await;
    let basic = |password: &str| [("Authorization", format!("Basic {}", STANDARD.encode(password)))];
    let deal = |status: &str, value: &str, micros: i64| {
        format!(
            r#"{{ "v": 1, "meta": {{ "action": "updated", "object": "deal", "id": 1347, "company_id": 18, "timestamp": {}, "timestamp_micro": {micros} }},
               "current": {{ "id": 1347, "user_id": 4011602, "value": {value}, "currency": "GBP", "status": "{status}",
                             "won_time": "2026-06-10 15:04:54", "lost_time": null, "update_time": "2026-06-10 15:04:54" }},
               "previous": {{ "status": "open" }} }}"#,
            micros / SECOND
        )
    };
    let won = deal("won", "1234567890.1234", 1_781_100_294_634_900);
    assert_eq!(crm.send(&basic("crm:another password"), &won).await.code(), (401, "UNAUTHENTICATED"));
    // Nobody is known as their owner 4011602.
    for _ in 0..3 {
        assert_eq!(crm.send(&basic(password), &won).await.outcome(), "quarantined");
    }
    assert_eq!(crm.send(&basic(password), "no JSON at all").await.outcome(), "quarantined");
    let open = deal("open", "5", 1_781_100_294_634_901);
    assert_eq!(crm.send(&basic(password), &open).await.outcome(), "ignored");
    let kept = quarantine(&acme).await;
    let kept = kept.as_array().expect("a list");
    assert_eq!(kept.len(), 2, "{kept:?}");
    let (unread, unowned) = (&kept[0], &kept[1]);
    assert_eq!((&unread["code"], &unowned["topic"]), (&json!("UNCLEAR"), &json!("updated.deal")));
    assert!(unowned["reason"].as_str().is_some_and(|reason| reason.contains("4011602")), "{unowned}");
    let retry = async |id: &Value| {
        let retry = "mutation($id: ID!) { retryQuarantined(id: $id) { outcome delivery { reason } } }";
        acme.admin().query_with(retry, json!({ "id": id })).await["retryQuarantined"]["outcome"].take()
    };
    assert_eq!(retry(&unowned["id"]).await, "QUARANTINED");
    let seller = acme.actor(Role::Manager).caller.user_id;
    let update = "mutation($id: ID!, $user: ID!) { updateIntegration(id: $id, input: { name: \"crm\", owners: [{ externalId: \"4011602\", userId: $user }] }) { owners { userId } } }";
    acme.admin().query_with(update, json!({ "id": crm.id, "user": seller })).await;
    assert_eq!(retry(&unowned["id"]).await, "RECORDED");
    assert_eq!(crm.send(&basic(password), &won).await.outcome(), "recorded");
    let version_2 = r#"{ "meta": { "action": "change", "entity": "deal", "entity_id": "1347", "id": "0b1c6f1e-0000-4000-8000-000000000000", "company_id": "18", "version": "2.0", "timestamp": "2026-06-10T15:10:00.000Z" },
        "data": { "id": 1347, "owner_id": 4011602, "value": 250.5, "currency": "GBP", "status": "won", "won_time": "2026-06-10T15:04:54Z" }, "previous": { "value": 1 } }"#;
    assert_eq!(crm.send(&basic(password), version_2).await.outcome(), "recorded");
    let sold = format!(
        r#"{{ salesPerformance(userId: "{seller}", period: {{ start: "2026-04-01T00:00:00Z", end: "2026-07-01T00:00:00Z" }}) {{ dealsWon revenue }} }}"#
    );
    let sold = acme.admin().query(&sold).await;
    assert_eq!(sold["salesPerformance"], json!({ "dealsWon": 1, "revenue": "250.50" }));
    let dismiss = "mutation($id: ID!) { dismissQuarantined(id: $id) }";
    acme.admin().query_with(dismiss, json!({ "id": unread["id"] })).await;
    assert_eq!(quarantine(&acme).await, json!([]));
    // Who may not manage integrations sees nothing of it.
    for query in ["{ integrations { id } }", "{ quarantine { nodes { id } } }"] {
        assert_eq!(acme.viewer().error_code(query).await, "FORBIDDEN");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_for_integrations_goes_with_the_tenants_keys() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let body = shop_order("2026-06-10T10:00:00Z", json!({}));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e1", &body).await.outcome(), "recorded");
    assert_eq!(shop.shopify(SECRET, "orders/create", "e2", "{}").await.outcome(), "quarantined");
    // A new key: what the old one has sealed is sealed anew, so that it can be destroyed.
    acme.admin().query("mutation { rotateKeys { rowsLeft } }").await;
    reseal(&test.app, acme.id(), |_| {}).await.expect("sealed anew");
    test.clock.set(Timestamp(NOW.0 + 3600 * SECOND));
    assert_eq!(destroy_unused(&test.app, acme.id()).await.expect("destroyed"), [1]);
    assert_eq!(shop.shopify(SECRET, "orders/create", "e1", &body).await.outcome(), "recorded");
    let kept = quarantine(&acme).await;
    let retry = "mutation($id: ID!) { retryQuarantined(id: $id) { outcome } }";
    let again = acme.admin().query_with(retry, json!({ "id": kept[0]["id"] })).await;
    assert_eq!(again["retryQuarantined"]["outcome"], "QUARANTINED");
    // The shop has a customer erased, who goes from the quarantine too; who only looks alike stays.
    for (event, customer) in [("q1", 77), ("q2", 770)] {
        let waits = json!({ "currency": "none", "customer": { "id": customer } });
        let waits = shop_order("2026-06-10T10:00:00Z", waits);
        assert_eq!(shop.shopify(SECRET, "orders/create", event, &waits).await.outcome(), "quarantined");
    }
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 77, "email": "ann@example.com" }, "orders_to_redact": [] }).to_string();
    assert_eq!(shop.shopify(SECRET, "customers/redact", "e3", &redact).await.outcome(), "recorded");
    let left: Vec<Value> =
        quarantine(&acme).await.as_array().expect("a list").iter().map(|q| q["deliveryId"].clone()).collect();
    assert_eq!(left, ["orders/create:q2", "orders/create:e2"]);
    let logged = r#"{ auditLog(filter: { action: "customer.erase" }) { nodes { actor { name } through throughId } } }"#;
    let logged = acme.admin().query(logged).await["auditLog"]["nodes"].take();
    assert_eq!(logged, json!([{ "actor": null, "through": "integration", "throughId": shop.id }]));
    let customers = acme.admin().query("{ customers(first: 5) { nodes { externalId name } } }").await;
    let customer = &customers["customers"]["nodes"][0];
    assert!(customer["name"].is_null() && customer["externalId"].as_str().is_some_and(|id| id.starts_with("erased:")));
    // An erasure that waits itself names the customer, so it goes with what it erases.
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 79 } }).to_string();
    let keys = test.app.keys.get(acme.id()).await.expect("read").expect("keys");
    let integration_id = shop.id.parse().expect("an id");
    let waiting = Kept { integration_id, delivery_id: "w", topic: "customers/redact", happened_at: NOW, body: &redact };
    let tx = test.app.db.write(acme.id()).await.expect("a transaction");
    let why = Why { code: "UNCLEAR".to_owned(), reason: "for this test".to_owned() };
    keep(&tx, &keys, &waiting, &why, NOW).await.expect("kept");
    tx.commit().await.expect("committed");
    let erased = acme.admin().query_with(retry, json!({ "id": quarantine(&acme).await[0]["id"] })).await;
    assert_eq!(erased["retryQuarantined"]["outcome"], "RECORDED");
    let logged = acme.admin().query(r#"{ auditLog(filter: { action: "quarantine.retry" }) { totalCount } }"#).await;
    assert_eq!(logged["auditLog"]["totalCount"], 2);
    // So it is when an admin has a customer erased, who is told before what waits.
    let waits = json!({ "currency": "none", "customer": { "id": 78 }, "total_price": "77.00" });
    let waits = shop_order("2026-06-10T10:00:00Z", waits);
    assert_eq!(shop.shopify(SECRET, "orders/create", "q3", &waits).await.outcome(), "quarantined");
    let known = shop_order("2026-06-10T10:00:00Z", json!({ "id": 4711, "customer": { "id": 78 } }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e4", &known).await.outcome(), "recorded");
    let list = acme.admin().query("{ customers(first: 5) { nodes { id externalId } } }").await;
    let known = list["customers"]["nodes"].as_array().expect("a list").iter().find(|one| one["externalId"] == "78");
    let id = json!({ "id": known.expect("the customer")["id"] });
    let export = "mutation($id: ID!) { exportCustomer(customerId: $id) }";
    let exported = acme.admin().query_with(export, id.clone()).await["exportCustomer"]["quarantined"].take();
    assert_eq!((&exported[0]["body"]["customer"]["id"], &exported[1]), (&json!(78), &Value::Null));
    acme.admin().query_with("mutation($id: ID!) { eraseCustomer(customerId: $id) { id } }", id).await;
    let left: Vec<Value> =
        quarantine(&acme).await.as_array().expect("a list").iter().map(|q| q["deliveryId"].clone()).collect();
    assert_eq!(left, ["orders/create:q2", "orders/create:e2"]);
    // All is erased: the secrets too, so that nobody is known any more.
    erase_tenant(&test.app.db, acme.id(), NOW).await.expect("erased");
    test.app.keys.forget(acme.id());
    assert_eq!(quarantine(&acme).await, json!([]));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e1", &body).await.code(), (401, "UNAUTHENTICATED"));
    let ended =
        acme.admin().query_with("mutation($id: ID!) { deleteIntegration(id: $id) }", json!({ "id": shop.id })).await;
    assert_eq!(ended["deleteIntegration"], json!(shop.id));
    assert_eq!(
        acme.admin().query("{ integrations { id } dataSources { id } }").await,
        json!({ "integrations": [], "dataSources": [] })
    );
}

#[tokio::test]
async fn what_is_taken_when_it_comes_again_waits_no_longer() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let other = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "other" })).await;
    let euros = shop_order("2026-06-10T10:00:00Z", json!({ "currency": "EUR" }));
    for shop in [&shop, &other] {
        assert_eq!(shop.shopify(SECRET, "orders/create", "e", &euros).await.outcome(), "quarantined");
    }
    // Under the same id, of another order.
    let another = shop_order("2026-06-10T10:00:00Z", json!({ "id": 2, "currency": "CHF" }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &another).await.outcome(), "quarantined");
    let rates =
        r#"mutation { setExchangeRates(rates: [{ from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.85" }]) }"#;
    acme.admin().query(rates).await;
    assert_eq!(shop.shopify(SECRET, "orders/create", "e", &euros).await.outcome(), "recorded");
    let left = quarantine(&acme).await;
    let left: Vec<_> = left.as_array().expect("a list").iter().map(|one| one["integrationId"].clone()).collect();
    assert_eq!(left, [json!(shop.id), json!(other.id)]);
}

async fn customer_id(tenant: &TestTenant<'_>, external_id: &str) -> Value {
    let list = tenant.admin().query("{ customers(first: 20) { nodes { id externalId } } }").await;
    let customers = list["customers"]["nodes"].as_array().expect("a list").clone();
    let found = customers.into_iter().find(|one| one["externalId"] == external_id);
    json!({ "id": found.expect("the customer")["id"] })
}

const EXPORT: &str = "mutation($id: ID!) { exportCustomer(customerId: $id) }";
const ERASE: &str = "mutation($id: ID!) { eraseCustomer(customerId: $id) { id } }";

#[tokio::test]
async fn a_customer_goes_from_the_quarantine_and_nobody_else() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let tills = Sender::of(&acme, "STANDARD", SECRET, json!({ "name": "tills" })).await;
    let known = shop_order("2026-06-10T10:00:00Z", json!({ "customer": { "id": 12347 } }));
    assert_eq!(shop.shopify(SECRET, "orders/create", "k", &known).await.outcome(), "recorded");
    // Jane lives where the number of the customer is the postal code.
    let jane =
        json!({ "id": 5551234, "first_name": "Jane", "default_address": { "customer_id": 5551234, "zip": "12347" } });
    for (event, customer) in [("jane", jane), ("own", json!({ "id": 12347 })), ("damaged", json!({ "id": 12347 }))] {
        let order = shop_order("2026-06-10T10:00:00Z", json!({ "currency": "none", "customer": customer }));
        assert_eq!(shop.shopify(SECRET, "orders/create", event, &order).await.outcome(), "quarantined");
    }
    for (event, customer) in [("cut", "12347"), ("cut of others", "123470")] {
        let whole =
            json!({ "events": [{ "eventId": "e", "orderPlaced": { "customer": { "id": customer } } }] }).to_string();
        let body = &whole[..whole.len() - 1];
        assert_eq!(tills.send(&as_standard(SECRET, event, body), body).await.outcome(), "quarantined");
    }
    let tx = test.app.db.write(acme.id()).await.expect("a transaction");
    let sql = "UPDATE quarantine SET body = $2 WHERE tenant_id = $1 AND delivery_id = 'orders/create:damaged'";
    assert_eq!(tx.execute(sql, [vec![1_u8; 64].into()]).await.expect("damaged"), 1);
    tx.commit().await.expect("committed");
    let id = customer_id(&acme, "12347").await;
    let exported = acme.admin().query_with(EXPORT, id.clone()).await["exportCustomer"]["quarantined"].take();
    let exported = exported.as_array().expect("a list");
    assert_eq!((exported.len(), &exported[0]["body"]["customer"]["id"]), (1, &json!(12347)));
    acme.admin().query_with(ERASE, id).await;
    let left = async || {
        let left = quarantine(&acme).await;
        let mut left: Vec<String> =
            left.as_array().expect("a list").iter().map(|one| one["deliveryId"].to_string()).collect();
        left.sort();
        left
    };
    let others = [r#""cut of others""#, r#""orders/create:damaged""#, r#""orders/create:jane""#];
    assert_eq!(left().await, others);
    // So it is when the shop has a customer erased, known or not.
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 5551234 } }).to_string();
    assert_eq!(shop.shopify(SECRET, "customers/redact", "r", &redact).await.outcome(), "recorded");
    assert_eq!(left().await, others[..2]);
}

#[tokio::test]
async fn the_quarantine_is_searched_before_anything_is_locked_and_listed_without_bodies() {
    let statements: Arc<Mutex<Vec<String>>> = Arc::default();
    let sent = Arc::clone(&statements);
    let test = TestApp::start().await.rewired(|mut app| {
        app.db.mutate(move |sql| {
            sent.lock().expect("no panic").push(sql.to_owned());
            None
        });
        app
    });
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let known = shop_order("2026-06-10T10:00:00Z", json!({}));
    assert_eq!(shop.shopify(SECRET, "orders/create", "k", &known).await.outcome(), "recorded");
    for n in 0..20 {
        let order = shop_order("2026-06-10T10:00:00Z", json!({ "currency": "none", "id": n }));
        assert_eq!(shop.shopify(SECRET, "orders/create", &format!("q{n}"), &order).await.outcome(), "quarantined");
    }
    let take = || std::mem::take(&mut *statements.lock().expect("no panic"));
    let id = customer_id(&acme, "77").await;
    take();
    assert_eq!(quarantine(&acme).await.as_array().map(Vec::len), Some(20));
    let listed = take();
    assert!(listed.iter().any(|sql| sql.contains("FROM quarantine")), "{listed:#?}");
    assert!(!listed.iter().any(|sql| sql.contains("body")), "{listed:#?}");
    acme.admin().query_with(ERASE, id).await;
    let erased = take();
    let places = |part: &str| -> Vec<usize> {
        erased.iter().enumerate().filter(|(_, sql)| sql.contains(part)).map(|(at, _)| at).collect()
    };
    let (searched, locked) = (places("body FROM quarantine"), places("erased_at FROM customers WHERE"));
    // Only what has come since is searched under the lock.
    let after = |locked: &usize| searched.iter().filter(|at| *at > locked).count();
    assert!(searched.len() > 3 && locked.iter().any(|locked| after(locked) == 1), "{erased:#?}");
    assert_eq!(quarantine(&acme).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_completed_though_nobody_waits_for_it() {
    let begun = Arc::new(Notify::new());
    let searches = Arc::clone(&begun);
    let test = TestApp::start().await.rewired(|mut app| {
        app.db.mutate(move |sql| {
            if sql.contains("body FROM quarantine") {
                searches.notify_one();
            }
            None
        });
        app
    });
    let acme = test.tenant("acme").await;
    let shop = Sender::of(&acme, "SHOPIFY", SECRET, json!({ "name": "shop" })).await;
    let known = shop_order("2026-06-10T10:00:00Z", json!({}));
    assert_eq!(shop.shopify(SECRET, "orders/create", "k", &known).await.outcome(), "recorded");
    let held = test.app.db.write(acme.id()).await.expect("a transaction");
    lock_head(&held).await.expect("locked");
    let redact = json!({ "shop_id": 1, "shop_domain": "shop.example", "customer": { "id": 77 } }).to_string();
    // The sender leaves while the erasure waits for the lock.
    tokio::select! {
        reply = shop.shopify(SECRET, "customers/redact", "r", &redact) => panic!("{}", reply.body),
        () = begun.notified() => {}
    }
    drop(held);
    let erased = async {
        let query = "{ customers(first: 5) { nodes { erasedAt } } }";
        while acme.admin().query(query).await["customers"]["nodes"][0]["erasedAt"].is_null() {}
    };
    tokio::time::timeout(Duration::from_secs(20), erased).await.expect("it is completed");
}
