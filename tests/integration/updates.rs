//! Updates change what they name: what is omitted stays, and null clears what may be empty, or is refused.

use salespulse::clock::{SECOND, Timestamp};
use salespulse::ledger::event::Fact;
use serde_json::{Value, json};

use crate::ledger::{event, order};
use crate::support::{Actor, NOW, TestApp};

/// An object of each kind that an update changes: the mutation with its key, the type of its input, what is selected, and
/// some fields that may be empty and that may not.
struct Updated {
    mutation: &'static str,
    key: String,
    input: &'static str,
    selected: &'static str,
    empty: &'static [&'static str],
    filled: &'static [&'static str],
}

impl Updated {
    fn document(&self) -> String {
        let Updated { mutation, key, input, selected, .. } = self;
        format!("mutation($input: {input}!) {{ {mutation}({key}input: $input) {{ {selected} }} }}")
    }

    async fn update(&self, actor: &Actor<'_>, input: Value) -> Value {
        actor.query_with(&self.document(), json!({ "input": self.with_sku(input) })).await[self.mutation].take()
    }

    /// The input of a product has its key in it.
    fn with_sku(&self, mut input: Value) -> Value {
        if self.mutation == "updateProduct" {
            input["sku"] = json!("tea");
        }
        input
    }
}

async fn objects(admin: &Actor<'_>) -> Vec<Updated> {
    let widget = r#"{ key: "a", kind: LINE, title: "A", layout: { x: 0, y: 0, width: 1, height: 1 } }"#;
    let create = format!(
        r#"mutation {{
        dashboard: createDashboard(input: {{ name: "D", description: "d", sharing: TENANT, isDefault: true, columns: 6,
            filters: {{ channels: ["web"] }}, widgets: [{widget}] }}) {{ id }}
        organization: createOrganization(input: {{ slug: "b", name: "B", timezone: "Asia/Tokyo", currency: "JPY" }}) {{ id }}
        team: createTeam(input: {{ name: "T", memberIds: ["{}"] }}) {{ id }}
        product: updateProduct(input: {{ sku: "tea", title: "Tea", category: "drinks", inventory: 3 }}) {{ id }}
        kpi: createKpi(name: "k", input: {{ formula: "visits", description: "v", format: PERCENT, decimals: 1 }}) {{ name }}
        integration: createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: {{ name: "I", channel: "deals",
            countsTests: true, enabled: false, owners: [{{ externalId: "1", userId: "{}" }}] }}) {{ id }} }}"#,
        admin.caller.user_id, admin.caller.user_id
    );
    let created = admin.query(&create).await;
    let key = |name: &str| format!("id: {}, ", created[name]["id"]);
    vec![
        Updated {
            mutation: "updateDashboard",
            key: key("dashboard"),
            input: "DashboardChanges",
            selected: "name description sharing isDefault columns filters updatedAt widgets { key }",
            empty: &["description", "filters"],
            filled: &["name", "sharing", "isDefault", "columns", "widgets"],
        },
        Updated {
            mutation: "updateOrganization",
            key: key("organization"),
            input: "OrganizationChanges",
            selected: "slug name timezone currency",
            empty: &[],
            filled: &["slug", "name", "timezone", "currency"],
        },
        Updated {
            mutation: "updateTeam",
            key: key("team"),
            input: "TeamChanges",
            selected: "name members { id }",
            empty: &[],
            filled: &["name", "memberIds"],
        },
        Updated {
            mutation: "updateProduct",
            key: String::new(),
            input: "ProductInput",
            selected: "title category inventory",
            empty: &["title", "category", "inventory"],
            filled: &[],
        },
        Updated {
            mutation: "updateUser",
            key: format!("id: \"{}\", ", admin.caller.user_id),
            input: "UserChanges",
            selected: "state user { name role }",
            empty: &[],
            filled: &["name", "role", "isActive"],
        },
        Updated {
            mutation: "updateKpi",
            key: "name: \"k\", ".to_owned(),
            input: "KpiChanges",
            selected: "formula description format decimals updatedAt",
            empty: &["description"],
            filled: &["formula", "format", "decimals"],
        },
        Updated {
            mutation: "updateIntegration",
            key: key("integration"),
            input: "IntegrationChanges",
            selected: "name organizationId channel countsTests enabled owners { externalId userId }",
            empty: &["organizationId", "channel"],
            filled: &["name", "countsTests", "enabled", "owners"],
        },
    ]
}

#[tokio::test]
async fn what_is_omitted_stays_and_null_clears_or_is_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    for object in objects(&admin).await {
        let before = object.update(&admin, json!({})).await;
        for field in object.filled {
            let input = object.with_sku(json!({ *field: null }));
            let refused = admin.run(&object.document(), json!({ "input": input })).await;
            let extensions = serde_json::to_value(&refused.errors[0].extensions).expect("JSON");
            assert_eq!(extensions, json!({ "code": "BAD_USER_INPUT", "argument": field }), "{}", object.mutation);
        }
        assert_eq!(object.update(&admin, json!({})).await, before, "{}", object.mutation);
        let mut expected = before;
        for field in object.empty {
            let mut changed = object.update(&admin, json!({ *field: null })).await;
            expected[*field] = Value::Null;
            for timed in [&mut expected, &mut changed] {
                timed.as_object_mut().and_then(|fields| fields.remove("updatedAt"));
            }
            assert_eq!(changed, expected, "{} {field}", object.mutation);
        }
    }
    let secret =
        r#"mutation { updateIntegration(id: "01900000-0000-7000-8000-000000000000", secret: null, input: {}) { id } }"#;
    admin.refused(secret, "secret").await;
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_trace() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let objects = objects(&admin).await;
    let rule = r#"input: { name: "R", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 60, includeOpen: true,
        filters: { organizationId: "acme" }, recipients: [{ channel: WEBHOOK, target: "https://hook.example/a"SECRET }] }"#;
    let create = format!(
        "mutation {{ createAlert({}) {{ id }} }}",
        rule.replace("SECRET", r#", secret: "a secret of the tests, long""#)
    );
    let alert = admin.query(&create).await["createAlert"]["id"].take();
    let sets = [
        r#"setQuota(input: { userId: "USER", start: "2026-01-01", end: "2026-02-01", amount: "5" }) { id }"#,
        r#"setExchangeRates(rates: [{ from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "0.85" }])"#,
        r#"setCalendarEvent(input: { name: "Fair", days: [{ first: "2026-01-01" }] }) { id }"#,
    ];
    let sets = sets.map(|set| format!("mutation {{ {} }}", set.replace("USER", &admin.caller.user_id.to_string())));
    for set in &sets {
        admin.query(set).await;
    }
    // The rule fires.
    acme.apply(vec![event("e", "2026-06-15T11:50:00Z", Fact::OrderPlaced(order("o", 1, "c", "10.00")))]).await;
    let newest = async || admin.query("{ auditLog(first: 1) { nodes { id } } }").await;
    let last = newest().await;
    let whole = [
        (
            "updateDashboard",
            json!({ "name": "D", "description": "d", "sharing": "TENANT", "isDefault": true, "columns": 6,
            "filters": { "channels": ["web"] }, "widgets": [{ "key": "a", "kind": "LINE", "title": "A", "layout": { "x": 0, "y": 0, "width": 1, "height": 1 } }] }),
        ),
        ("updateOrganization", json!({ "slug": "b", "name": "B", "timezone": "Asia/Tokyo", "currency": "JPY" })),
        ("updateTeam", json!({ "name": "T", "memberIds": [admin.caller.user_id.to_string()] })),
        ("updateProduct", json!({ "title": "Tea", "category": "drinks", "inventory": 3 })),
        ("updateUser", json!({ "name": "admin", "role": "ADMIN", "isActive": true })),
        ("updateKpi", json!({ "formula": "visits", "description": "v", "format": "PERCENT", "decimals": 1 })),
        ("updateIntegration", json!({ "name": "I", "channel": "deals", "countsTests": true, "enabled": false })),
    ];
    test.clock.set(Timestamp(NOW.0 + SECOND));
    for (object, (mutation, input)) in objects.iter().zip(whole) {
        assert_eq!(object.mutation, mutation);
        let same = object.update(&admin, json!({})).await;
        assert_eq!(object.update(&admin, input).await, same);
        assert!(same.get("updatedAt").is_none_or(|at| at == "2026-06-15T12:00:00Z"), "{same}");
        assert_eq!(newest().await, last, "{mutation}");
    }
    for set in &sets {
        admin.query(set).await;
        assert_eq!(newest().await, last, "{set}");
    }
    let update = format!("mutation {{ updateAlert(id: {alert}, {}) {{ state }} }}", rule.replace("SECRET", ""));
    assert_eq!(admin.query(&update).await, json!({ "updateAlert": { "state": "FIRING" } }));
    assert_eq!(newest().await, last);
    // Whoever set a secret is in the log, whatever it is.
    let secret = format!(
        r#"mutation {{ updateIntegration({}secret: "crm:a password of it", input: {{}}) {{ id }} }}"#,
        objects[6].key
    );
    admin.query(&secret).await;
    assert_ne!(newest().await, last);
}
