//! Updates change what they name: what is omitted stays, and null clears what may be empty, or is refused.

use serde_json::{Value, json};

use crate::support::{Actor, TestApp};

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
            input: "DashboardInput",
            selected: "name description sharing isDefault columns filters updatedAt widgets { key }",
            empty: &["description", "filters"],
            filled: &["name", "sharing", "isDefault", "columns", "widgets"],
        },
        Updated {
            mutation: "updateOrganization",
            key: key("organization"),
            input: "OrganizationInput",
            selected: "slug name timezone currency",
            empty: &[],
            filled: &["slug", "name", "timezone", "currency"],
        },
        Updated {
            mutation: "updateTeam",
            key: key("team"),
            input: "TeamInput",
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
            input: "UserInput",
            selected: "state user { name role }",
            empty: &[],
            filled: &["name", "role", "isActive"],
        },
        Updated {
            mutation: "updateKpi",
            key: "name: \"k\", ".to_owned(),
            input: "KpiInput",
            selected: "formula description format decimals updatedAt",
            empty: &["description"],
            filled: &["formula", "format", "decimals"],
        },
        Updated {
            mutation: "updateIntegration",
            key: key("integration"),
            input: "IntegrationInput",
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
    let whole = r#"mutation { createOrganization(input: { name: "C", timezone: "UTC", currency: "GBP" }) { id } }"#;
    admin.refused(whole, "slug").await;
    for (create, argument) in [
        ("createTeam(input: {}) { id }", "name"),
        (r#"createKpi(name: "new", input: {}) { name }"#, "formula"),
        (r#"createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: {}) { id }"#, "name"),
        ("createDashboard(input: {}) { id }", "name"),
    ] {
        admin.refused(&format!("mutation {{ {create} }}"), argument).await;
    }
}
