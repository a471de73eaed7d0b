//! The audit log, and who may read what only some may read.

use salespulse::auth::Role;
use serde_json::json;

use crate::support::TestApp;

#[tokio::test]
async fn each_change_is_in_the_log_with_who_made_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let team =
        acme.admin().query(r#"mutation { createTeam(input: {name: "T"}) { id } }"#).await["createTeam"]["id"].take();
    let sku = r#"mutation { updateProduct(input: {sku: "tea", inventory: 3}) { id } }"#;
    acme.actor(Role::Manager).query(sku).await;
    let rates =
        r#"mutation { setExchangeRates(rates: [{from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.85"}]) }"#;
    acme.actor(Role::Manager).query(rates).await;
    acme.viewer().query(r#"mutation { createDashboard(input: {name: "D"}) { id } }"#).await;
    // What is refused leaves nothing in it.
    acme.admin().error_code(r#"mutation { createTeam(input: {name: "T"}) { id } }"#).await;
    let log = acme.admin().query("{ auditLog { nodes { at actor { name } action subject } } }").await;
    let entries = log["auditLog"]["nodes"].as_array().expect("entries");
    let in_short: Vec<_> = entries[..4].iter().map(|e| (e["action"].clone(), e["actor"]["name"].clone())).collect();
    let expected = [
        ("dashboard.create", "viewer"),
        ("rates.set", "manager"),
        ("product.update", "manager"),
        ("team.create", "admin"),
    ];
    assert_eq!(in_short, expected.map(|(action, actor)| (json!(action), json!(actor))));
    assert_eq!(entries[3]["subject"], team);
    assert_eq!((&entries[4]["action"], &entries[4]["actor"]), (&json!("tenant.create"), &json!(null)));
    assert_eq!(entries.len(), 5);
    assert_eq!(entries[1]["subject"], "EUR/GBP");
    assert_eq!(entries[2]["subject"], "p1");
    let admin = acme.admin();
    admin
        .refused(
            &format!("{{ auditLog(filter: {{action: \"{}\"}}) {{ nodes {{ id }} }} }}", "a".repeat(201)),
            "filter.action",
        )
        .await;
    // No user has such an id.
    let nobody = admin.query(r#"{ auditLog(filter: {actorId: "x"}) { nodes { id } } }"#).await;
    assert_eq!(nobody["auditLog"]["nodes"], json!([]));
    assert_eq!(entries[3]["at"], "2026-06-15T12:00:00Z");
}

/// What many rates are about can be looked for too.
#[tokio::test]
async fn a_subject_is_short_enough_to_be_a_filter() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let currencies = [
        "EUR", "USD", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "JPY", "CNY", "INR", "AUD",
        "NZD", "CAD", "MXN", "BRL", "ZAR", "KRW", "SGD", "HKD", "THB", "MYR", "IDR", "PHP",
    ];
    let rates = currencies.map(|from| format!(r#"{{from: "{from}", to: "GBP", validFrom: "2026-01-01", rate: "1"}}"#));
    acme.admin().query(&format!("mutation {{ setExchangeRates(rates: [{}]) }}", rates.join(", "))).await;
    let log = acme.admin().query("{ auditLog(first: 1) { nodes { subject } } }").await;
    let subject = log["auditLog"]["nodes"][0]["subject"].as_str().expect("a subject").to_owned();
    assert!(subject.ends_with(" +8"), "{subject}");
    let found =
        acme.admin().query(&format!("{{ auditLog(filter: {{subject: \"{subject}\"}}) {{ totalCount }} }}")).await;
    assert_eq!(found["auditLog"]["totalCount"], 1);
}

#[tokio::test]
async fn the_log_and_the_sources_need_permissions_of_their_own() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let now = test.app.clock.now();
    let tx = test.app.db.write(acme.id()).await.expect("a transaction");
    let sql = "INSERT INTO data_sources (tenant_id, id, kind, name, last_sync_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    for (name, kind, synced) in [("Shop", "shopify", Some(now.0)), ("Files", "csv", None)] {
        let values = [uuid::Uuid::now_v7().into(), kind.into(), name.into(), synced.into(), now.0.into()];
        tx.execute(sql, values).await.expect("inserted");
    }
    tx.commit().await.expect("committed");
    let sources = acme.admin().query("{ dataSources { name kind lastSyncAt } }").await;
    let expected = json!([
        { "name": "Files", "kind": "csv", "lastSyncAt": null },
        { "name": "Shop", "kind": "shopify", "lastSyncAt": "2026-06-15T12:00:00Z" },
    ]);
    assert_eq!(sources["dataSources"], expected);
    for role in [Role::Manager, Role::Analyst, Role::Viewer] {
        assert_eq!(acme.actor(role).error_code("{ dataSources { id } }").await, "FORBIDDEN");
        assert_eq!(acme.actor(role).error_code("{ auditLog { nodes { id } } }").await, "FORBIDDEN");
    }
    let other = test.tenant("other").await;
    assert_eq!(other.admin().query("{ dataSources { id } }").await["dataSources"], json!([]));
}

#[tokio::test]
async fn reading_needs_a_permission_that_a_token_may_lack() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut actor = acme.admin();
    actor.caller.permissions.clear();
    for query in [
        "organizations { id }",
        "teams { id }",
        r#"dashboard(id: "x") { id }"#,
        "dashboards { nodes { id } }",
        "customers { nodes { id } }",
        r#"customerAnalytics(customerId: "c1") { frequency }"#,
        "products { nodes { id } }",
        "orders { nodes { id } }",
        r#"salesPerformance(period: {preset: TODAY}, userId: "x") { dealsWon }"#,
    ] {
        assert_eq!(actor.error_code(&format!("{{ {query} }}")).await, "FORBIDDEN", "{query}");
    }
    let mine = actor.query("{ me { permissions } tenant { name } }").await;
    assert_eq!(mine, json!({ "me": { "permissions": [] }, "tenant": { "name": "acme" } }));
}

#[tokio::test]
async fn nothing_in_the_log_is_changed_or_removed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.admin().query(r#"mutation { createTeam(input: {name: "T"}) { id } }"#).await;
    for sql in [
        "UPDATE audit_logs SET actor_id = NULL WHERE tenant_id = $1",
        "DELETE FROM audit_logs WHERE tenant_id = $1",
        // A row that is there already, and would be another.
        "INSERT INTO audit_logs (tenant_id, id, at, action, subject) SELECT tenant_id, id, 0, 'x', '' FROM audit_logs \
         WHERE tenant_id = $1 ON CONFLICT (tenant_id, id) DO UPDATE SET action = 'x'",
    ] {
        let tx = test.app.db.write(acme.id()).await.expect("begun");
        assert!(tx.execute(sql, []).await.is_err(), "{sql}");
    }
    let log = acme.admin().query("{ auditLog { nodes { action actor { name } } } }").await;
    let expected = json!([{ "action": "team.create", "actor": { "name": "admin" } }, { "action": "tenant.create", "actor": null }]);
    assert_eq!(log["auditLog"]["nodes"], expected);
}
