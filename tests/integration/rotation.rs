//! Data keys are rotated while events come in, by whoever goes on with it, and destroyed when nobody needs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use salespulse::audit::By;
use salespulse::clock::{MINUTE, SECOND, Timestamp};
use salespulse::error::Code;
use salespulse::ledger::event::{Customer, Event};
use salespulse::privacy::rotation::{destroy_unused, reseal, sweep_once};
use salespulse::privacy::wrapping::{list_keks, rewrap};
use salespulse::sealing::kek::LocalKek;
use serde_json::{Value, json};

use crate::sealed::{first, person, sale};
use crate::support::{KEK, NOW, TestApp, TestTenant, kek};

const ROTATE: &str = "mutation { rotateKeys { rowsLeft keys { version } } }";
const CUSTOMERS: usize = 1200;

fn sales(from: usize, count: usize) -> Vec<Event> {
    (from..from + count).map(|n| sale(&format!("o{n}"), person(&format!("c{n}"), &format!("Zoe {n}")))).collect()
}

async fn keys(tenant: &TestTenant<'_>) -> Value {
    tenant.admin().query("{ dataKeys { rowsLeft keys { version retiredAt rows } } }").await["dataKeys"].take()
}

/// Every customer is read, and is who it was.
async fn all_are_read(tenant: &TestTenant<'_>, customers: usize) {
    let (mut after, mut seen) = (Value::Null, 0);
    loop {
        let query = "query($after: String) { customers(first: 100, after: $after) { nodes { externalId name email phone } \
                     pageInfo { endCursor hasNextPage } } }";
        let page = tenant.admin().query_with(query, json!({ "after": after })).await["customers"].take();
        for node in page["nodes"].as_array().expect("nodes") {
            let name = format!("Zoe {}", &node["externalId"].as_str().expect("text")[1..]);
            assert_eq!(
                (&node["name"], &node["email"]),
                (&json!(name), &json!(format!("{}@Example.com", name.replace(' ', "."))))
            );
            assert!(node["phone"].is_string());
            seen += 1;
        }
        if page["pageInfo"]["hasNextPage"] == false {
            assert_eq!(seen, customers);
            return;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_under_writes_and_after_its_process_died() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for n in [0, 600] {
        acme.apply(sales(n, 600)).await;
    }
    let one = json!({ "version": 1, "retiredAt": null, "rows": CUSTOMERS });
    assert_eq!(keys(&acme).await, json!({ "rowsLeft": 0, "keys": [one] }));
    let begun = acme.admin().query(ROTATE).await["rotateKeys"].take();
    assert_eq!(begun, json!({ "rowsLeft": CUSTOMERS, "keys": [{ "version": 2 }, { "version": 1 }] }));

    // It dies in the midst of it.
    let is_begun = AtomicBool::new(false);
    tokio::select! {
        ended = reseal(&test.app, acme.id(), |_| is_begun.store(true, Ordering::SeqCst)) => panic!("not killed: {ended:?}"),
        () = async { while !is_begun.load(Ordering::SeqCst) { tokio::task::yield_now().await } } => {}
    }
    let left = keys(&acme).await["rowsLeft"].as_i64().expect("a number");
    assert!(0 < left && left < CUSTOMERS as i64, "{left}");
    all_are_read(&acme, CUSTOMERS).await;

    // Others go on with it, two at once, while events come in and customers are read.
    let (one, two) = (test.beside(kek()).await, test.beside(kek()).await);
    let is_done = AtomicBool::new(false);
    let rotated = async {
        let (one, two) = tokio::join!(sweep_once(&one.app), sweep_once(&two.app));
        one.and(two).expect("rotated");
        is_done.store(true, Ordering::SeqCst);
    };
    let recorded = async {
        let mut n = CUSTOMERS;
        while !is_done.load(Ordering::SeqCst) || n == CUSTOMERS {
            // Old customers are written too, which must not bring back what an old key sealed.
            let again =
                sale(&format!("again{n}"), Customer { id: format!("c{}", n % CUSTOMERS), ..Customer::default() });
            acme.apply([sales(n, 1), vec![again]].concat()).await;
            all_are_read(&acme, n + 1).await;
            n += 1;
        }
        n
    };
    let ((), customers) = tokio::join!(rotated, recorded);
    let now = keys(&acme).await;
    assert_eq!(
        (&now["rowsLeft"], &now["keys"][0]["rows"], &now["keys"][1]["rows"]),
        (&json!(0), &json!(customers), &json!(0))
    );
    all_are_read(&acme, customers).await;
    all_are_read(&acme.of(&one), customers).await;

    // A key is destroyed when no process can have it any more.
    assert_eq!(destroy_unused(&test.app, acme.id()).await.expect("looked"), [0; 0]);
    test.clock.set(Timestamp(NOW.0 + 10 * MINUTE - SECOND));
    assert_eq!(destroy_unused(&test.app, acme.id()).await.expect("looked"), [0; 0]);
    test.clock.set(Timestamp(NOW.0 + 10 * MINUTE));
    sweep_once(&test.app).await.expect("swept");
    assert_eq!(keys(&acme).await["keys"], json!([{ "version": 2, "retiredAt": null, "rows": customers }]));
    all_are_read(&acme, customers).await;
    acme.verified().await;
    let log = acme
        .admin()
        .query(r#"{ auditLog(filter: { action: "data-key." }) { nodes { action subject actor { name } } } }"#)
        .await;
    assert_eq!(
        log["auditLog"]["nodes"],
        json!([
            { "action": "data-key.destroy", "subject": "1", "actor": null },
            { "action": "data-key.rotate", "subject": "2", "actor": { "name": "admin" } },
            { "action": "data-key.create", "subject": "1", "actor": null },
        ])
    );
}

#[tokio::test]
async fn a_process_that_slept_cannot_seal_with_a_key_that_was_destroyed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // Its clock stands still, so it takes its keys for good.
    let asleep = test.beside(kek()).await;
    acme.of(&asleep).apply(sales(0, 1)).await;
    acme.admin().query(ROTATE).await;
    // What it seals while the old key is there, is sealed anew.
    acme.of(&asleep).apply(sales(1, 1)).await;
    sweep_once(&test.app).await.expect("rotated");
    acme.of(&asleep).apply(sales(2, 1)).await;
    test.clock.set(Timestamp(NOW.0 + 11 * MINUTE));
    assert_eq!(destroy_unused(&test.app, acme.id()).await.expect("looked"), [0; 0]);
    sweep_once(&test.app).await.expect("rotated");
    let versions = keys(&acme).await;
    assert_eq!(versions["keys"], json!([{ "version": 2, "retiredAt": null, "rows": 3 }]));

    let refused = asleep
        .app
        .ledger
        .record(acme.id(), By::default(), sales(3, 1), false)
        .await
        .expect_err("not sealed for nobody");
    assert_eq!(refused.code, Code::ServiceUnavailable);
    acme.of(&asleep).apply(sales(3, 1)).await;
    all_are_read(&acme.of(&asleep), 4).await;
    all_are_read(&acme, 4).await;
}

#[tokio::test]
async fn a_damaged_value_keeps_its_key_and_holds_nobody_up() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(sales(0, 3)).await;
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let damage = "UPDATE customers SET phone = email WHERE tenant_id = $1 AND customer_no = 2";
    tx.execute(damage, []).await.expect("written");
    tx.commit().await.expect("committed");
    acme.admin().query(ROTATE).await;
    test.clock.set(Timestamp(NOW.0 + 11 * MINUTE));
    sweep_once(&test.app).await.expect("swept");
    let keys = keys(&acme).await;
    assert_eq!(
        (&keys["keys"][0]["rows"], &keys["keys"][1]["rows"], &keys["rowsLeft"]),
        (&json!(2), &json!(1), &json!(1))
    );
}

#[tokio::test]
async fn keys_are_wrapped_anew_and_stay_as_they_are() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(sales(0, 2)).await;
    let new = "bmV3IGtleS1lbmNyeXB0aW9uIGtleSBmb3IgdGVzdHM=";
    let of = |texts: &[&str]| Arc::new(LocalKek::from_texts(texts.iter().copied()).expect("keys"));
    let before = list_keks(&test.app.db).await.expect("read");
    let both = of(&[new, KEK]);
    assert_eq!(rewrap(&test.app.db, both.as_ref(), acme.id()).await.expect("wrapped").count, 2);
    let after = list_keks(&test.app.db).await.expect("read");
    assert_eq!((before.len(), after.len(), before[0].1, after[0].1), (1, 1, 2, 2));
    assert_ne!(before[0].0, after[0].0);
    let with_new = test.beside(of(&[new])).await;
    assert_eq!(first(&acme.of(&with_new).admin()).await["name"], "Zoe 0");
    let with_old = test.beside(kek()).await;
    assert_eq!(
        acme.of(&with_old).admin().error_code("{ customers(first: 1) { nodes { name } } }").await,
        "SERVICE_UNAVAILABLE"
    );
}
