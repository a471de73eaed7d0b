//! What identifies customers is stored sealed, read by those who may, found by whole values, and opens nowhere but where it
//! was stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use salespulse::audit::By;
use salespulse::auth::Role;
use salespulse::clock::{MINUTE, Timestamp};
use salespulse::db::{TenantTx, get};
use salespulse::error::Code;
use salespulse::ledger::event::{Customer, Event, Fact, OrderPlaced, Outcome, RefusalCode, VisitsCounted};
use salespulse::privacy::rotation::begin;
use salespulse::sealing::KeyBytes;
use salespulse::sealing::kek::{KekError, KeyEncryption, KeyName, LocalKek};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::ledger::{event, order};
use crate::support::{Actor, KEK, NOW, TestApp, TestTenant, kek};

pub const FIELDS: &str = "{ customers { nodes { externalId name email phone address erasedAt } } }";

/// A customer of whom all is known.
pub fn person(id: &str, name: &str) -> Customer {
    Customer {
        id: id.into(),
        name: Some(name.into()),
        email: Some(format!("{}@Example.com", name.replace(' ', "."))),
        phone: Some(format!("+44 20 7946 {:04}", 100 + id.len())),
        address: Some(format!("1 {name} Street\nLondon")),
    }
}

/// An order that a customer placed.
pub fn sale(id: &str, customer: Customer) -> Event {
    let placed = OrderPlaced { customer: Some(customer), ..order(id, 1, "", "5.00") };
    event(id, "2026-06-14T10:00:00Z", Fact::OrderPlaced(placed))
}

/// The first customer, as a caller sees it.
pub async fn first(actor: &Actor<'_>) -> Value {
    actor.query(FIELDS).await["customers"]["nodes"][0].take()
}

async fn bytes(tx: &TenantTx, column: &str, customer_no: i64) -> Vec<u8> {
    let sql = format!("SELECT {column} FROM customers WHERE tenant_id = $1 AND customer_no = $2");
    get(&tx.query_one(&sql, [customer_no.into()]).await.expect("read").expect("a row"), 0).expect("bytes")
}

async fn put(tenant: &TestTenant<'_>, column: &str, customer_no: i64, value: &[u8]) {
    let tx = tenant.test.app.db.write(tenant.id()).await.expect("begun");
    let sql = format!("UPDATE customers SET {column} = $3 WHERE tenant_id = $1 AND customer_no = $2");
    assert_eq!(tx.execute(&sql, [customer_no.into(), value.to_vec().into()]).await.expect("written"), 1);
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn what_identifies_a_customer_is_stored_sealed_and_shown_to_those_who_may_see_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale("1", person("a", "Zoe Canary"))]).await;
    let shown = json!({
        "externalId": "a", "name": "Zoe Canary", "email": "Zoe.Canary@Example.com", "phone": "+44 20 7946 0101",
        "address": "1 Zoe Canary Street\nLondon", "erasedAt": null,
    });
    for role in [Role::Admin, Role::Manager] {
        assert_eq!(first(&acme.actor(role)).await, shown);
    }
    let hidden =
        json!({ "externalId": "a", "name": null, "email": null, "phone": null, "address": null, "erasedAt": null });
    for role in [Role::Analyst, Role::Viewer] {
        assert_eq!(first(&acme.actor(role)).await, hidden);
    }
    // A token that is narrowed sees no more.
    let mut narrowed = acme.admin();
    narrowed.caller.permissions.retain(|permission| *permission != salespulse::auth::Permission::PersonalView);
    assert_eq!(first(&narrowed).await, hidden);

    let tx = test.app.db.read(acme.id()).await.expect("begun");
    for column in ["name", "email", "phone", "address"] {
        let stored = bytes(&tx, column, 1).await;
        assert!(stored.len() > 33 && stored[..5] == [1, 0, 0, 0, 1], "{column}");
    }
    drop(tx);

    // What is not said, or empty, stays.
    let later = Customer {
        id: "a".into(),
        phone: Some("+1 555 0100".into()),
        name: Some(String::new()),
        ..Customer::default()
    };
    acme.apply(vec![sale("2", later)]).await;
    let mut changed = shown;
    changed["phone"] = json!("+1 555 0100");
    assert_eq!(first(&acme.admin()).await, changed);
    acme.verified().await;
}

#[tokio::test]
async fn details_given_again_are_not_stored_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let stored = async || {
        let tx = test.app.db.read(acme.id()).await.expect("begun");
        [bytes(&tx, "name", 1).await, bytes(&tx, "phone", 1).await]
    };
    acme.apply(vec![sale("1", person("a", "Zoe"))]).await;
    let first = stored().await;
    acme.apply(vec![sale("2", person("a", "Zoe")), sale("3", person("b", "Max"))]).await;
    assert_eq!(stored().await, first);
    // Each of the details counts; what is left out of them keeps its value.
    let renamed = Customer { id: "a".into(), name: Some("Zoé".into()), ..Customer::default() };
    acme.apply(vec![sale("4", renamed)]).await;
    let second = stored().await;
    assert!(second[0] != first[0] && second[1] == first[1]);
    assert_eq!(self::first(&acme.admin()).await["name"], "Zoé");
    // Those before are others now.
    acme.apply(vec![sale("5", person("a", "Zoe"))]).await;
    assert!(stored().await[0] != second[0]);
    let shown = self::first(&acme.admin()).await;
    assert_eq!((&shown["name"], &shown["phone"]), (&json!("Zoe"), &json!("+44 20 7946 0101")));
    // By what recognizes them, customers cannot be compared.
    let named = |id: &str| Customer { id: id.into(), name: Some("Ann".into()), ..Customer::default() };
    acme.apply(vec![sale("6", named("c")), sale("7", named("d"))]).await;
    let tx = test.app.db.read(acme.id()).await.expect("begun");
    assert!(bytes(&tx, "details_print", 3).await != bytes(&tx, "details_print", 4).await);
    drop(tx);
    acme.verified().await;
}

#[tokio::test]
async fn customers_are_found_by_whole_addresses_and_numbers_within_their_tenant() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    for tenant in [&acme, &other] {
        tenant
            .apply(vec![sale("1", person("a", "Zoe")), sale("2", person("bb", "Max")), sale("3", person("c", "Zoe"))])
            .await;
    }
    let found = async |actor: Actor<'_>, arguments: &str| {
        let data = actor.query(&format!("{{ customers({arguments}) {{ nodes {{ externalId }} }} }}")).await;
        let nodes = data["customers"]["nodes"].as_array().expect("nodes").clone();
        nodes.iter().map(|node| node["externalId"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(acme.admin(), r#"email: " ZOE@example.COM ""#).await, ["a", "c"]);
    assert_eq!(found(acme.admin(), r#"email: "zoe@example.com", last: 1"#).await, ["c"]);
    assert_eq!(found(acme.admin(), r#"phone: "+44 (20) 7946-0102""#).await, ["bb"]);
    assert_eq!(found(acme.admin(), r#"phone: "+442079460102", email: "zoe@example.com""#).await, [""; 0]);
    // Not by parts, nor by what is not indexed.
    assert_eq!(found(acme.admin(), r#"email: "zoe""#).await, [""; 0]);
    acme.admin().refused(r#"{ customers(phone: "none") { nodes { id } } }"#, "phone").await;
    for role in [Role::Analyst, Role::Viewer] {
        let query = r#"{ customers(email: "zoe@example.com") { nodes { id } } }"#;
        assert_eq!(acme.actor(role).error_code(query).await, "FORBIDDEN");
    }
    let nobody = test.tenant("nobody").await;
    assert_eq!(found(nobody.admin(), r#"email: "zoe@example.com""#).await, [""; 0]);
    // Equal values of two tenants are not equal to who reads the database.
    let (ours, theirs) =
        (test.app.db.read(acme.id()).await.expect("begun"), test.app.db.read(other.id()).await.expect("begun"));
    assert_eq!(bytes(&ours, "email_index", 1).await, bytes(&ours, "email_index", 3).await);
    for column in ["email_index", "phone_index"] {
        assert_ne!(bytes(&ours, column, 1).await, bytes(&theirs, column, 1).await, "{column}");
    }
}

/// Of every kind of attack that moves or changes stored bytes: nothing is shown, and others' values are.
#[tokio::test]
async fn moved_or_changed_bytes_do_not_open() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    acme.apply(vec![sale("1", person("a", "Zoe")), sale("2", person("b", "Max"))]).await;
    other.apply(vec![sale("1", person("a", "Eve"))]).await;
    let theirs = bytes(&test.app.db.read(other.id()).await.expect("begun"), "name", 1).await;
    let tx = test.app.db.read(acme.id()).await.expect("begun");
    let (name, email, of_max) =
        (bytes(&tx, "name", 1).await, bytes(&tx, "email", 1).await, bytes(&tx, "name", 2).await);
    drop(tx);
    let changed = |at: usize| {
        let mut bytes = name.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (attack, forged) in [
        ("another row", of_max),
        ("another column", email),
        ("another tenant", theirs),
        ("another version", changed(4)),
        ("another nonce", changed(5)),
        ("truncation", name[..name.len() - 1].to_vec()),
        ("a changed text", changed(17)),
        ("clear text", b"Mallory".to_vec()),
    ] {
        put(&acme, "name", 1, &forged).await;
        let response = acme.admin().run(FIELDS, Value::Null).await;
        let error = serde_json::to_value(&response.errors).expect("json");
        assert_eq!(error.as_array().map(Vec::len), Some(1), "{attack}: {error}");
        assert_eq!(error[0]["extensions"]["code"], "DECRYPTION_FAILED", "{attack}");
        assert!(error[0]["extensions"]["errorId"].is_string(), "{attack}");
        assert_eq!(error[0]["path"], json!(["customers", "nodes", 0, "name"]), "{attack}");
        let data = response.data.into_json().expect("json");
        let nodes = &data["customers"]["nodes"];
        assert_eq!(
            (&nodes[0]["name"], &nodes[0]["email"], &nodes[1]["name"]),
            (&Value::Null, &json!("Zoe@Example.com"), &json!("Max"))
        );
        // Nor does it go to who may not see it, as an error.
        assert_eq!(first(&acme.viewer()).await["name"], Value::Null, "{attack}");
    }
    put(&acme, "name", 1, &name).await;
    assert_eq!(first(&acme.admin()).await["name"], "Zoe");
}

#[tokio::test]
async fn a_tenants_wrapped_key_is_of_no_use_to_another() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    for tenant in [&acme, &other] {
        tenant.apply(vec![sale("1", person("a", "Zoe"))]).await;
    }
    let tx = test.app.db.read(other.id()).await.expect("begun");
    let sql = "SELECT wrapped FROM tenant_keys WHERE tenant_id = $1 AND version = 1";
    let theirs: String = get(&tx.query_one(sql, []).await.expect("read").expect("a key"), 0).expect("text");
    drop(tx);
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let sql = "UPDATE tenant_keys SET wrapped = $2 WHERE tenant_id = $1 AND version = 1";
    tx.execute(sql, [theirs.into()]).await.expect("written");
    tx.commit().await.expect("committed");
    // The keys at hand serve on; who reads them anew finds out.
    assert_eq!(first(&acme.admin()).await["name"], "Zoe");
    let fresh = test.beside(kek()).await;
    let (acme, other) = (acme.of(&fresh), other.of(&fresh));
    assert_eq!(acme.admin().error_code("{ customers { nodes { name } } }").await, "DECRYPTION_FAILED");
    assert_eq!(first(&other.admin()).await["name"], "Zoe");
}

#[tokio::test]
async fn repeats_are_known_by_a_hash_that_only_the_tenants_key_makes() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let event = sale("1", person("a", "Zoe"));
    let hash = async |tenant: &TestTenant<'_>| {
        let tx = tenant.test.app.db.read(tenant.id()).await.expect("begun");
        let sql = "SELECT payload_hash FROM ledger_events WHERE tenant_id = $1 AND event_id = '1'";
        get::<Vec<u8>>(&tx.query_one(sql, []).await.expect("read").expect("an event"), 0).expect("bytes")
    };
    acme.apply(vec![event.clone()]).await;
    other.apply(vec![event.clone()]).await;
    assert_ne!(hash(&acme).await, hash(&other).await);
    assert_ne!(hash(&acme).await, Sha256::digest(serde_json::to_vec(&event).expect("json")).to_vec());
    let answer = acme.record(vec![event, sale("1", person("a", "Zoë"))]).await;
    assert!(matches!(answer.outcomes[0], Outcome::Repeated { position: 1 }), "{answer:?}");
    let Outcome::Refused(refusal) = &answer.outcomes[1] else { panic!("{answer:?}") };
    assert_eq!(refusal.code, RefusalCode::IdempotencyConflict);
}

/// A key-encryption key that may be out of reach.
struct Reachable {
    kek: LocalKek,
    is_away: AtomicBool,
}

impl Reachable {
    fn check(&self) -> Result<(), KekError> {
        let is_away = self.is_away.load(Ordering::SeqCst);
        if is_away { Err(KekError::Unavailable("no answer".into())) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl KeyEncryption for Reachable {
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError> {
        self.check()?;
        self.kek.wrap(name, key).await
    }

    async fn unwrap(&self, name: &KeyName, wrapped: &str) -> Result<KeyBytes, KekError> {
        self.check()?;
        self.kek.unwrap(name, wrapped).await
    }

    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError> {
        self.check()?;
        self.kek.rewrap(name, wrapped).await
    }
}

#[tokio::test]
async fn without_the_key_encryption_key_only_what_is_sealed_waits() {
    let started = TestApp::start().await;
    let acme = started.tenant("acme").await;
    let reachable =
        Arc::new(Reachable { kek: LocalKek::from_texts([KEK]).expect("a key"), is_away: AtomicBool::new(false) });
    let test = started.beside(Arc::<Reachable>::clone(&reachable) as Arc<dyn KeyEncryption>).await;
    let acme = acme.of(&test);
    acme.apply(vec![sale("1", person("a", "Zoe"))]).await;
    reachable.is_away.store(true, Ordering::SeqCst);
    // What is at hand serves for ten minutes.
    test.clock.set(Timestamp(NOW.0 + 9 * MINUTE));
    assert_eq!(first(&acme.admin()).await["name"], "Zoe");
    acme.apply(vec![sale("2", person("b", "Max"))]).await;
    // What another process seals with a new key is not for this one now.
    let elsewhere = started.beside(kek()).await;
    begin(&elsewhere.app, acme.id()).await.expect("rotated");
    acme.of(&elsewhere).apply(vec![sale("r", person("r", "Eve"))]).await;
    let response = acme.admin().run("{ customers { nodes { externalId name } } }", Value::Null).await;
    let codes: Vec<Value> = response.errors.iter().map(|error| json!(error)["extensions"]["code"].take()).collect();
    assert_eq!(codes, ["SERVICE_UNAVAILABLE"]);
    let nodes = response.data.into_json().expect("json")["customers"]["nodes"].take();
    let names: Vec<&Value> = nodes.as_array().expect("nodes").iter().map(|node| &node["name"]).collect();
    assert_eq!(json!(names), json!(["Zoe", "Max", null]));

    test.clock.set(Timestamp(NOW.0 + 11 * MINUTE));
    let response = acme.admin().run("{ customers { nodes { externalId email } } }", Value::Null).await;
    let errors = serde_json::to_value(&response.errors).expect("json");
    assert_eq!(errors[0]["extensions"]["code"], "SERVICE_UNAVAILABLE");
    assert_eq!(
        response.data.into_json().expect("json")["customers"]["nodes"][0],
        json!({ "externalId": "a", "email": null })
    );
    assert_eq!(first(&acme.viewer()).await["externalId"], "a");
    let refused = test.app.ledger.record(acme.id(), By::default(), vec![sale("3", person("c", "Ann"))], false).await;
    assert_eq!(refused.expect_err("not stored in the clear").code, Code::ServiceUnavailable);
    let visit = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
    acme.apply(vec![event("v", "2026-06-15T11:00:00Z", visit)]).await;

    reachable.is_away.store(false, Ordering::SeqCst);
    test.clock.set(Timestamp(NOW.0 + 12 * MINUTE));
    acme.apply(vec![sale("3", person("c", "Ann"))]).await;
    assert_eq!(first(&acme.admin()).await["name"], "Zoe");
}
