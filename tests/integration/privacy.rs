//! Customers and tenants are erased, and customers exported.

use std::collections::BTreeSet;

use salespulse::audit::By;
use salespulse::auth::Role;
use salespulse::db::get;
use salespulse::ledger::event::{Customer, Fact, OrderPlaced, Outcome, RefundIssued, RefusalCode};
use salespulse::privacy::erasure::erase_tenant;
use serde_json::{Value, json};

use crate::ledger::{event, money, order};
use crate::sealed::{first, person, sale};
use crate::support::{NOW, TestApp, TestTenant, kek};

const ERASE: &str = r#"mutation { eraseCustomer(customerId: "c1") { id externalId name email phone address erasedAt ordersCount revenue } }"#;

#[tokio::test]
async fn an_erased_customer_is_nobody_and_counts() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale("1", person("a", "Zoe")), sale("2", person("b", "Max"))]).await;
    for role in [Role::Manager, Role::Analyst, Role::Viewer] {
        assert_eq!(acme.actor(role).error_code(ERASE).await, "FORBIDDEN");
    }
    let erased = acme.admin().query(ERASE).await["eraseCustomer"].take();
    let id = erased["externalId"].as_str().expect("text").to_owned();
    assert!(id.starts_with("erased:") && id.len() == 7 + 64, "{id}");
    let expected = json!({
        "id": "c1", "externalId": id, "name": null, "email": null, "phone": null, "address": null,
        "erasedAt": "2026-06-15T12:00:00Z", "ordersCount": 1, "revenue": "5.00",
    });
    assert_eq!(erased, expected);
    // Done again, it changes nothing.
    assert_eq!(acme.admin().query(ERASE).await["eraseCustomer"], expected);
    let missing = r#"mutation { eraseCustomer(customerId: "c9") { id } }"#;
    assert_eq!(acme.admin().error_code(missing).await, "NOT_FOUND");
    assert_eq!(test.tenant("other").await.admin().error_code(ERASE).await, "NOT_FOUND");
    let search = r#"{ customers(email: "zoe@example.com") { nodes { id } } }"#;
    assert_eq!(acme.admin().query(search).await["customers"]["nodes"], json!([]));

    // What was recorded before is known; later orders are the same customer's, of whom nothing is taken.
    let again = vec![sale("1", person("a", "Zoe")), sale("3", person("a", "Zoe")), sale("4", person("c", "Ann"))];
    let answer = acme.record(again).await;
    assert!(
        matches!(answer.outcomes[..], [Outcome::Repeated { .. }, Outcome::Applied { .. }, Outcome::Applied { .. }]),
        "{answer:?}"
    );
    let data = acme.admin().query("{ customers { nodes { id externalId name email ordersCount revenue } } }").await;
    assert_eq!(
        data["customers"]["nodes"],
        json!([
            { "id": "c1", "externalId": id, "name": null, "email": null, "ordersCount": 2, "revenue": "10.00" },
            { "id": "c2", "externalId": "b", "name": "Max", "email": "Max@Example.com", "ordersCount": 1, "revenue": "5.00" },
            { "id": "c3", "externalId": "c", "name": "Ann", "email": "Ann@Example.com", "ordersCount": 1, "revenue": "5.00" },
        ])
    );
    let metrics = acme
        .viewer()
        .query("{ salesMetrics(period: { preset: LAST_30_DAYS }) { ordersCount uniqueCustomers newCustomers } }")
        .await;
    assert_eq!(metrics["salesMetrics"], json!({ "ordersCount": 4, "uniqueCustomers": 3, "newCustomers": 3 }));
    // An order changes hands: from the erased customer, and back.
    let moved =
        |version, customer: Customer| OrderPlaced { customer: Some(customer), ..order("3", version, "", "5.00") };
    for (version, customer) in [(2, person("c", "Ann")), (3, person("a", "Zoe"))] {
        let fact = Fact::OrderPlaced(moved(version, customer));
        acme.apply(vec![event(&format!("3#{version}"), "2026-06-14T10:00:00Z", fact)]).await;
    }
    assert_eq!(first(&acme.admin()).await["externalId"], json!(id));
    acme.verified().await;

    let log = acme
        .admin()
        .query(
            r#"{ auditLog(filter: { action: "customer." }) { nodes { action subject before after actor { name } } } }"#,
        )
        .await;
    let entry = json!({ "action": "customer.erase", "subject": "c1", "before": null, "after": null, "actor": { "name": "admin" } });
    assert_eq!(log["auditLog"]["nodes"], json!([entry]));
}

async fn text(tenant: &TestTenant<'_>, sql: &str) -> Option<String> {
    let tx = tenant.test.app.db.read(tenant.id()).await.expect("begun");
    get(&tx.query_one(sql, []).await.expect("read").expect("a row"), 0).expect("text")
}

#[tokio::test]
async fn a_tenants_keys_are_destroyed_and_with_them_all_that_they_sealed() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    for tenant in [&acme, &other] {
        tenant.apply(vec![sale("1", person("a", "Zoe")), sale("2", person("b", "Max"))]).await;
    }
    let stolen = {
        let tx = test.app.db.read(acme.id()).await.expect("begun");
        let sql = "SELECT name FROM customers WHERE tenant_id = $1 AND customer_no = 1";
        get::<Vec<u8>>(&tx.query_one(sql, []).await.expect("read").expect("a row"), 0).expect("bytes")
    };
    // The keys are at hand in another process that does not hear of it.
    let awake = test.beside(kek()).await;
    assert_eq!(first(&acme.of(&awake).admin()).await["name"], "Zoe");
    assert_eq!(erase_tenant(&test.app.db, acme.id(), NOW).await.expect("erased"), 2);
    assert_eq!(erase_tenant(&test.app.db, acme.id(), NOW).await.expect("again"), 0);
    let mut nobody =
        json!({ "name": null, "email": null, "phone": null, "address": null, "erasedAt": "2026-06-15T12:00:00Z" });
    nobody["externalId"] = first(&acme.admin()).await["externalId"].take();
    let id = nobody["externalId"].as_str().expect("text");
    assert!(id.starts_with("erased:") && id.ends_with(":1"), "{id}");
    for process in [&test, &awake] {
        assert_eq!(first(&acme.of(process).admin()).await, nobody);
        let refused =
            process.app.ledger.record(acme.id(), By::default(), vec![sale("3", person("c", "Ann"))], false).await;
        // Who has a key still is refused once, and then knows.
        let answer = match refused {
            Err(_) => acme.of(process).record(vec![sale("3", person("c", "Ann"))]).await,
            Ok(answer) => answer,
        };
        let Outcome::Refused(refusal) = &answer.outcomes[0] else { panic!("{answer:?}") };
        assert_eq!(refusal.code, RefusalCode::Erased);
    }
    // From a backup, the bytes of before are of no use.
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    tx.execute("UPDATE customers SET name = $2 WHERE tenant_id = $1 AND customer_no = 1", [stolen.into()])
        .await
        .expect("written");
    tx.commit().await.expect("committed");
    let fresh = test.beside(kek()).await;
    assert_eq!(first(&acme.of(&fresh).admin()).await["name"], Value::Null);

    let guest = OrderPlaced { customer: None, ..order("g", 1, "", "2.00") };
    acme.apply(vec![event("g", "2026-06-14T10:00:00Z", Fact::OrderPlaced(guest))]).await;
    let data = acme.admin().query("{ salesMetrics(period: { preset: LAST_30_DAYS }) { totalRevenue ordersCount } dataKeys { keys { version } } }").await;
    assert_eq!(
        data,
        json!({ "salesMetrics": { "totalRevenue": "12.00", "ordersCount": 3 }, "dataKeys": { "keys": [] } })
    );
    assert_eq!(acme.admin().error_code("mutation { rotateKeys { rowsLeft } }").await, "CONFLICT");
    assert_eq!(
        text(&acme, "SELECT action FROM audit_logs WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1").await.as_deref(),
        Some("tenant.erase")
    );
    acme.verified().await;
    assert_eq!(first(&other.admin()).await["name"], "Zoe");
}

#[tokio::test]
async fn a_tenant_is_erased_whatever_its_customers_are_called() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for (order, id) in [("1", "erased:2"), ("2", "erased:1"), ("3", "erased:9")] {
        acme.apply(vec![sale(order, person(id, "Zoe"))]).await;
    }
    assert_eq!(erase_tenant(&test.app.db, acme.id(), NOW).await.expect("erased"), 3);
    let data = acme.admin().query("{ customers { nodes { externalId name } } }").await;
    let ids: BTreeSet<&str> = data["customers"]["nodes"]
        .as_array()
        .expect("customers")
        .iter()
        .map(|customer| customer["externalId"].as_str().expect("text"))
        .collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| id.len() > "erased:1".len() + 32), "{ids:?}");
    acme.verified().await;
}

#[tokio::test]
async fn all_that_is_held_of_a_customer_is_exported() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let refund = RefundIssued {
        refund_id: Some("r".into()),
        order_id: Some("1".into()),
        amount: Some(money("2.00")),
        ..RefundIssued::default()
    };
    acme.apply(vec![
        sale("1", person("a", "Zoe")),
        sale("2", person("b", "Max")),
        event("r", "2026-06-14T12:00:00Z", Fact::RefundIssued(refund)),
    ])
    .await;
    let export = r#"mutation { exportCustomer(customerId: "c1") }"#;
    for role in [Role::Manager, Role::Viewer] {
        assert_eq!(acme.actor(role).error_code(export).await, "FORBIDDEN");
    }
    let exported = acme.admin().query(export).await["exportCustomer"].take();
    let expected = json!({
        "asOf": "3",
        "customer": {
            "id": "c1", "externalId": "a", "erasedAt": null, "firstPurchaseAt": "2026-06-14T10:00:00Z",
            "lastPurchaseAt": "2026-06-14T10:00:00Z", "ordersCount": 1, "revenue": "3.00", "otherRevenue": [],
            "profile": {
                "name": "Zoe", "email": "Zoe@Example.com", "phone": "+44 20 7946 0101", "address": "1 Zoe Street\nLondon",
            },
        },
        "orders": [{
            "id": "o1", "externalId": "1", "version": 1, "isCancelled": false, "placedAt": "2026-06-14T10:00:00Z",
            "currency": "GBP", "amount": "5.00", "discount": "0.00", "channel": "web", "region": "North",
            "organization": "acme",
            "lines": [{ "productId": "tea", "title": null, "category": "drinks", "quantity": 2, "amount": "5.00", "discount": "0.00" }],
            "refunds": [{ "externalId": "r", "issuedAt": "2026-06-14T12:00:00Z", "currency": "GBP", "amount": "2.00" }],
        }],
        "predictions": null,
        "quarantined": [],
        "audit": [],
    });
    assert_eq!(exported, expected);
    // The second one tells of the first.
    let again = acme.admin().query(export).await["exportCustomer"]["audit"].take();
    assert_eq!(
        (again[0]["action"].as_str(), again[0]["at"].as_str()),
        (Some("customer.export"), Some("2026-06-15T12:00:00Z"))
    );
    assert_eq!(acme.admin().error_code(r#"mutation { exportCustomer(customerId: "c9") }"#).await, "NOT_FOUND");
    assert_eq!(test.tenant("other").await.admin().error_code(export).await, "NOT_FOUND");
}
