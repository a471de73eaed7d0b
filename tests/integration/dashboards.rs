//! Dashboards: whose they are, who sees them, what they may hold.

use salespulse::auth::Role;
use salespulse::clock::{SECOND, Timestamp};
use serde_json::{Value, json};

use crate::support::{NOW, TestApp};

const CREATE: &str = "mutation($input: DashboardInput!) { createDashboard(input: $input) { id name description sharing \
    isDefault columns filters updatedAt owner { name } widgets { key kind title metrics kpis options layout { x y width height } } } }";

fn widget(key: &str, x: i32, width: i32) -> Value {
    json!({ "key": key, "kind": "LINE", "title": "Sales", "metrics": ["TOTAL_REVENUE"], "kpis": [],
            "layout": { "x": x, "y": 0, "width": width, "height": 2 }, "options": { "color": "red" } })
}

#[tokio::test]
async fn a_dashboard_is_stored_as_it_was_given() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let input = json!({ "name": " Mine ", "description": "two\nlines", "sharing": "TENANT", "isDefault": true, "columns": 6,
                        "filters": { "channels": ["web"], "customerSegment": "NEW" }, "widgets": [widget("a", 0, 6), widget("b", 5, 1)] });
    let created = acme.viewer().query_with(CREATE, json!({ "input": input })).await["createDashboard"].take();
    let expected = json!({ "id": created["id"], "name": "Mine", "description": "two\nlines", "sharing": "TENANT",
        "isDefault": true, "columns": 6, "filters": { "channels": ["web"], "customerSegment": "NEW" },
        "updatedAt": "2026-06-15T12:00:00Z", "owner": { "name": "viewer" }, "widgets": [widget("a", 0, 6), widget("b", 5, 1)] });
    assert_eq!(created, expected);
    let query =
        format!("{{ dashboard(id: {}) {{ name filters owner {{ name }} widgets {{ key options }} }} }}", created["id"]);
    let read = acme.admin().query(&query).await["dashboard"].take();
    assert_eq!((&read["filters"], &read["owner"]["name"]), (&expected["filters"], &json!("viewer")));
    let plain =
        acme.viewer().query_with(CREATE, json!({ "input": { "name": "Plain" } })).await["createDashboard"].take();
    assert_eq!(
        (&plain["sharing"], &plain["columns"], &plain["filters"]),
        (&json!("PRIVATE"), &json!(12), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_private_is_seen_by_its_owner_alone() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (viewer, admin, other) = (acme.viewer(), acme.admin(), test.tenant("other").await);
    let mut ids = Vec::new();
    for sharing in ["PRIVATE", "TENANT"] {
        let input = json!({ "name": sharing, "sharing": sharing });
        ids.push(viewer.query_with(CREATE, json!({ "input": input })).await["createDashboard"]["id"].take());
    }
    let seen = async |actor: &crate::support::Actor<'_>| {
        let mut seen = Vec::new();
        for id in &ids {
            seen.push(actor.query(&format!("{{ dashboard(id: {id}) {{ id }} }}")).await["dashboard"] != Value::Null);
        }
        let listed = actor.query("{ dashboards { nodes { id } } }").await["dashboards"]["nodes"].take();
        assert_eq!(listed.as_array().expect("a list").len(), seen.iter().filter(|seen| **seen).count());
        seen
    };
    assert_eq!(seen(&viewer).await, [true, true]);
    assert_eq!(seen(&admin).await, [false, true]);
    assert_eq!(seen(&other.admin()).await, [false, false]);
    assert_eq!(viewer.query(r#"{ dashboard(id: "nonsense") { id } }"#).await["dashboard"], Value::Null);
    // Even what is shared is changed by its owner alone.
    for actor in [&admin, &other.admin()] {
        for id in &ids {
            let update = format!(r#"mutation {{ updateDashboard(id: {id}, input: {{name: "x"}}) {{ id }} }}"#);
            assert_eq!(actor.error_code(&update).await, "NOT_FOUND");
            assert_eq!(actor.error_code(&format!("mutation {{ deleteDashboard(id: {id}) }}")).await, "NOT_FOUND");
        }
    }
    let delete = format!("mutation {{ deleteDashboard(id: {}) }}", ids[0]);
    assert_eq!(viewer.query(&delete).await["deleteDashboard"], ids[0]);
    assert_eq!(viewer.error_code(&delete).await, "NOT_FOUND");
}

#[tokio::test]
async fn one_dashboard_of_an_owner_is_the_default() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let viewer = acme.viewer();
    let admins = json!({ "input": { "name": "admin's", "isDefault": true, "sharing": "TENANT" } });
    acme.admin().query_with(CREATE, admins).await;
    for name in ["one", "two"] {
        viewer.query_with(CREATE, json!({ "input": { "name": name, "isDefault": true } })).await;
    }
    let defaults = async || {
        let list = viewer.query("{ dashboards { nodes { id name isDefault } } }").await["dashboards"]["nodes"].take();
        let list = list.as_array().expect("a list").clone();
        let defaults: Vec<Value> = list.iter().filter(|d| d["isDefault"] == true).map(|d| d["name"].clone()).collect();
        (list, defaults)
    };
    let (list, names) = defaults().await;
    assert_eq!(names, ["two", "admin's"]);
    let update = format!(
        r#"mutation {{ updateDashboard(id: {}, input: {{name: "one", isDefault: true}}) {{ isDefault }} }}"#,
        list[1]["id"]
    );
    test.clock.set(Timestamp(NOW.0 + SECOND));
    viewer.query(&update).await;
    assert_eq!(defaults().await.1, ["one", "admin's"]);
    // The one that was has changed too: who has opened it before does not take the default back unseen.
    let unseen = format!(
        r#"mutation {{ updateDashboard(id: {}, input: {{name: "two", isDefault: true}}, ifUpdatedAt: "2026-06-15T12:00:00Z") {{ id }} }}"#,
        list[0]["id"]
    );
    assert_eq!(viewer.error_code(&unseen).await, "CONFLICT");
    let log = acme.admin().query("{ auditLog(first: 2) { nodes { action subject before after } } }").await;
    let nodes = &log["auditLog"]["nodes"];
    assert_eq!((&nodes[0]["subject"], &nodes[1]["subject"]), (&list[1]["id"], &list[0]["id"]));
    assert_eq!(
        (&nodes[1]["action"], &nodes[1]["before"]["isDefault"], &nodes[1]["after"]["isDefault"]),
        (&json!("dashboard.update"), &json!(true), &json!(false))
    );
}

/// Stored documents are answered as they are, so they are small, and many of them are too many.
#[tokio::test]
async fn stored_documents_are_limited() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = async |filters: Value| {
        let response = acme.viewer().run(CREATE, json!({ "input": { "name": "D", "filters": filters } })).await;
        let extensions = response.errors.first().and_then(|error| error.extensions.clone());
        extensions.and_then(|extensions| extensions.get("argument").cloned()).map(|argument| argument.to_string())
    };
    assert_eq!(
        create(json!({ "channels": ["web", "x".repeat(501)] })).await.as_deref(),
        Some("\"filters.channels.1\"")
    );
    assert_eq!(create(json!({ "channels": vec!["x".repeat(500); 33] })).await.as_deref(), Some("\"filters\""));
    assert_eq!(create(json!({ "channels": vec!["x".repeat(500); 32] })).await, None);
    let question = |times: usize| {
        let fields = (0..times).map(|n| format!("a{n}: dashboards {{ nodes {{ filters }} }}"));
        format!("{{ {} }}", fields.collect::<Vec<_>>().join(" "))
    };
    for _ in 0..19 {
        assert_eq!(create(json!({ "channels": vec!["x".repeat(500); 32] })).await, None);
    }
    acme.viewer().query(&question(60)).await;
    // So are those of alert rules.
    let rule = json!({ "name": "R", "metric": "VISITS", "condition": "ABOVE", "threshold": "1", "filters": { "channels": vec!["x".repeat(500); 32] } });
    acme.admin()
        .query_with(
            "mutation ($input: AlertRuleInput!) { createAlert(input: $input) { id } }",
            json!({ "input": rule }),
        )
        .await;
    let rules = |times: usize| (0..times).map(|n| format!("a{n}: alerts {{ filters }} ")).collect::<String>();
    acme.viewer().query(&format!("{{ {} }}", rules(100))).await;
    let both = format!(
        "{{ {} {} }}",
        rules(38),
        (0..62).map(|n| format!("b{n}: dashboards {{ nodes {{ filters }} }} ")).collect::<String>()
    );
    assert!(!acme.viewer().run(&both, Value::Null).await.errors.is_empty());
    acme.viewer().run(&question(65), Value::Null).await.errors.iter().for_each(|error| {
        let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code").cloned());
        assert_eq!(code, Some("BAD_USER_INPUT".into()));
    });
    assert!(!acme.viewer().run(&question(65), Value::Null).await.errors.is_empty());
}

/// Numbers to the last digit, and what only looks like a NUL.
#[tokio::test]
async fn options_of_widgets_are_kept_as_given() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let options = json!({ "at": 393.353_623_069_839_56, "regex": "\\u0000", "\\u0000": [0.1] });
    let mut shown = widget("a", 0, 6);
    shown["options"] = options.clone();
    let input = json!({ "input": { "name": "Mine", "widgets": [shown] } });
    let created = acme.viewer().query_with(CREATE, input).await["createDashboard"].take();
    let read = format!("{{ dashboard(id: {}) {{ widgets {{ options }} }} }}", created["id"]);
    let found = acme.viewer().query(&read).await["dashboard"]["widgets"][0]["options"].take();
    assert_eq!((&created["widgets"][0]["options"], &found), (&options, &options));
    for bad in [json!("\u{0}"), json!({ "a\u{0}": 1 }), json!([["\u{0}"]])] {
        let mut shown = widget("a", 0, 6);
        shown["options"] = bad;
        let refused = acme.viewer().run(CREATE, json!({ "input": { "name": "Mine", "widgets": [shown] } })).await;
        assert_eq!(refused.errors.len(), 1);
    }
}

#[tokio::test]
async fn widgets_show_kpis() {
    const KPI: &str =
        r#"mutation { createKpi(name: "net_per_order", input: { formula: "totalRevenue / ordersCount" }) { name } }"#;
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    other.actor(Role::Analyst).query(KPI).await;
    let mut shown = widget("a", 0, 6);
    shown["kpis"] = json!(["net_per_order"]);
    let input = json!({ "input": { "name": "Mine", "widgets": [widget("b", 6, 6), shown] } });
    let refused = acme.viewer().run(CREATE, input.clone()).await;
    let extensions = refused.errors.first().and_then(|error| error.extensions.clone()).expect("an error");
    assert_eq!(extensions.get("code"), Some(&"NOT_FOUND".into()), "another tenant's KPI");
    assert_eq!(extensions.get("argument"), Some(&"widgets.1.kpis.0".into()));
    acme.actor(Role::Analyst).query(KPI).await;
    let created = acme.viewer().query_with(CREATE, input).await["createDashboard"].take();
    assert_eq!(created["widgets"], json!([widget("b", 6, 6), shown]));
    // Who deletes a KPI is not held up by the dashboards of others.
    acme.actor(Role::Analyst).query(r#"mutation { deleteKpi(name: "net_per_order") }"#).await;
    let read = format!("{{ dashboard(id: {}) {{ widgets {{ kpis }} }} }}", created["id"]);
    assert_eq!(
        acme.viewer().query(&read).await["dashboard"]["widgets"],
        json!([{ "kpis": [] }, { "kpis": ["net_per_order"] }])
    );
}

#[tokio::test]
async fn what_refers_to_something_gone_can_be_saved_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let (viewer, analyst) = (acme.viewer(), acme.actor(Role::Analyst));
    for name in ["kept", "gone"] {
        let create = format!(r#"mutation {{ createKpi(name: "{name}", input: {{ formula: "visits" }}) {{ name }} }}"#);
        analyst.query(&create).await;
    }
    let with = |key: &str, kpis: &[&str]| {
        let mut widget = widget(key, 0, 6);
        widget["kpis"] = json!(kpis);
        widget
    };
    let input = json!({ "name": "Mine", "widgets": [with("a", &["kept", "gone"]), with("b", &["kept"])] });
    let id = viewer.query_with(CREATE, json!({ "input": input })).await["createDashboard"]["id"].take();
    analyst.query(r#"mutation { deleteKpi(name: "gone") }"#).await;
    let document = "mutation($id: ID!, $input: DashboardChanges!) { updateDashboard(id: $id, input: $input) { \
        missingOrganizationId widgets { key missingKpis } } }";
    let update = async |input: Value| viewer.run(document, json!({ "id": id, "input": input })).await;
    let missing = json!([{ "key": "a", "missingKpis": ["gone"] }, { "key": "b", "missingKpis": [] }]);
    let read = format!(
        "{{ dashboards {{ nodes {{ widgets {{ key missingKpis }} }} }} dashboard(id: {id}) {{ widgets {{ key missingKpis }} }} }}"
    );
    let expected = json!({ "dashboards": { "nodes": [{ "widgets": missing }] }, "dashboard": { "widgets": missing } });
    assert_eq!(viewer.query(&read).await, expected);
    let saved = update(json!({ "name": "Ours", "widgets": input["widgets"] })).await;
    assert!(saved.errors.is_empty(), "{:?}", saved.errors);
    let expected = json!({ "updateDashboard": { "missingOrganizationId": null, "widgets": missing } });
    assert_eq!(saved.data.into_json().expect("JSON"), expected);
    // Also elsewhere in the dashboard, where it is after its widget got another key.
    for widgets in [json!([with("a", &[]), with("b", &["gone"])]), json!([with("c", &["gone"]), with("d", &[])])] {
        assert!(update(json!({ "widgets": widgets })).await.errors.is_empty());
    }
    assert!(update(json!({ "widgets": [] })).await.errors.is_empty());
    let new = json!({ "widgets": [with("a", &[]), with("b", &["gone"])] });
    let refused = serde_json::to_value(&update(new).await.errors[0]).expect("JSON");
    assert_eq!(refused["extensions"], json!({ "code": "NOT_FOUND", "argument": "widgets.1.kpis.0" }));

    // Filters used to be stored with the slug of their organization, which may have another one since.
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let filters: Value = json!({ "organizationId": "before", "channels": ["web"] });
    tx.execute("UPDATE dashboards SET filters = $2 WHERE tenant_id = $1", [filters.into()]).await.expect("written");
    tx.commit().await.expect("committed");
    let saved = update(json!({ "filters": { "organizationId": "before" } })).await;
    assert_eq!(saved.data.into_json().expect("JSON")["updateDashboard"]["missingOrganizationId"], json!("before"));
    let refused = serde_json::to_value(&update(json!({ "filters": { "organizationId": "other" } })).await.errors[0]);
    assert_eq!(refused.expect("JSON")["extensions"]["argument"], "filters.organizationId");
    let saved = update(json!({ "filters": { "organizationId": "acme" } })).await;
    assert_eq!(saved.data.into_json().expect("JSON")["updateDashboard"]["missingOrganizationId"], Value::Null);
}

#[tokio::test]
async fn bad_dashboards_are_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let with = |change: Value| {
        let mut widget = widget("a", 0, 1);
        for (key, value) in change.as_object().expect("fields") {
            widget[key] = value.clone();
        }
        json!({ "name": "D", "widgets": [widget] })
    };
    let layout = |x: i32, y: i32, width: i32, height: i32| {
        with(json!({ "layout": { "x": x, "y": y, "width": width, "height": height } }))
    };
    let many: Vec<Value> = (0..51).map(|n| widget(&n.to_string(), 0, 1)).collect();
    for (input, argument) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "n".repeat(201) }), "name"),
        (json!({ "name": "nul\u{0}" }), "name"),
        (json!({ "name": "D", "description": "d".repeat(2001) }), "description"),
        (json!({ "name": "D", "description": "nul\u{0}" }), "description"),
        (json!({ "name": "D", "columns": 0 }), "columns"),
        (json!({ "name": "D", "columns": 49 }), "columns"),
        (json!({ "name": "D", "filters": { "channels": ["web", "nul\u{0}"] } }), "filters.channels.1"),
        (json!({ "name": "D", "widgets": many }), "widgets"),
        (json!({ "name": "D", "widgets": [widget("a", 0, 1), widget("a", 1, 1)] }), "widgets.1.key"),
        (with(json!({ "key": "" })), "widgets.0.key"),
        (with(json!({ "title": "t".repeat(201) })), "widgets.0.title"),
        (with(json!({ "metrics": ["VISITS", "VISITS"] })), "widgets.0.metrics"),
        (with(json!({ "kpis": ["net_per_order", "net_per_order"] })), "widgets.0.kpis"),
        (with(json!({ "kpis": (0..51).map(|n| n.to_string()).collect::<Vec<_>>() })), "widgets.0.kpis"),
        (with(json!({ "options": { "text": "o".repeat(4096) } })), "widgets.0.options"),
        (with(json!({ "options": "nul\u{0}" })), "widgets.0.options"),
        (layout(-1, 0, 1, 1), "widgets.0.layout"),
        (layout(0, -1, 1, 1), "widgets.0.layout"),
        (layout(0, 0, 0, 1), "widgets.0.layout"),
        (layout(0, 0, 1, 0), "widgets.0.layout"),
        (layout(11, 0, 2, 1), "widgets.0.layout"),
        (layout(i32::MAX, 0, i32::MAX, 1), "widgets.0.layout"),
    ] {
        let response = acme.viewer().run(CREATE, json!({ "input": input })).await;
        let extensions = response.errors.first().and_then(|error| error.extensions.clone()).expect("an error");
        assert_eq!(extensions.get("code"), Some(&"BAD_USER_INPUT".into()), "{input}");
        assert_eq!(extensions.get("argument"), Some(&argument.into()), "{input}");
    }
    for organization in ["nowhere", "01900000-0000-7000-8000-000000000000"] {
        let input = json!({ "name": "D", "filters": { "organizationId": organization } });
        let update = "mutation($id: ID!, $input: DashboardChanges!) { updateDashboard(id: $id, input: $input) { id } }";
        let stored = acme.viewer().query_with(CREATE, json!({ "input": { "name": "D" } })).await;
        let id = &stored["createDashboard"]["id"];
        for (mutation, variables) in
            [(CREATE, json!({ "input": input })), (update, json!({ "input": input, "id": id }))]
        {
            let response = acme.viewer().run(mutation, variables).await;
            let extensions = response.errors.first().and_then(|error| error.extensions.clone()).expect("an error");
            assert_eq!(extensions.get("code"), Some(&"NOT_FOUND".into()), "{organization}");
            assert_eq!(extensions.get("argument"), Some(&"filters.organizationId".into()), "{organization}");
        }
    }
    let own = json!({ "name": "D", "filters": { "organizationId": "acme" } });
    acme.viewer().query_with(CREATE, json!({ "input": own })).await;
    // At the limits all is well.
    let options = json!({ "text": "o".repeat(4096 - r#"{"text":""}"#.len()) });
    let most: Vec<Value> = (0..50).map(|n| widget(&n.to_string(), 11, 1)).collect();
    for input in
        [with(json!({ "options": options })), json!({ "name": "n".repeat(200), "widgets": most }), layout(0, 0, 12, 1)]
    {
        acme.actor(Role::Analyst).query_with(CREATE, json!({ "input": input })).await;
    }
}

#[tokio::test]
async fn a_change_leaves_what_it_does_not_name() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let viewer = acme.viewer();
    let input = json!({ "name": "Sales", "description": "of all", "sharing": "TENANT", "columns": 24,
        "filters": { "channels": ["web"] }, "widgets": [widget("a", 0, 24)] });
    let created = viewer.query_with(CREATE, json!({ "input": input })).await["createDashboard"].take();
    let update = async |changes: Value, at: &Value| {
        let document = "mutation($id: ID!, $input: DashboardChanges!, $at: DateTime) {
            updateDashboard(id: $id, input: $input, ifUpdatedAt: $at) {
                name description sharing columns filters widgets { key } updatedAt } }";
        viewer.run(document, json!({ "id": created["id"], "input": changes, "at": at })).await
    };
    let changed = async |changes: Value| {
        let response = update(changes, &Value::Null).await;
        assert!(response.errors.is_empty(), "{:?}", response.errors);
        response.data.into_json().expect("JSON")["updateDashboard"].take()
    };
    let mut renamed = changed(json!({ "name": "Revenue" })).await;
    let updated_at = renamed["updatedAt"].take();
    let expected = json!({ "name": "Revenue", "description": "of all", "sharing": "TENANT", "columns": 24,
        "filters": { "channels": ["web"] }, "widgets": [{ "key": "a" }], "updatedAt": null });
    assert_eq!(renamed, expected);
    test.clock.set(Timestamp(NOW.0 + SECOND));
    let cleared = changed(json!({ "description": null, "filters": null, "widgets": [] })).await;
    assert_eq!((&cleared["description"], &cleared["filters"]), (&Value::Null, &Value::Null));
    assert_eq!((&cleared["name"], &cleared["widgets"]), (&json!("Revenue"), &json!([])));
    let code = |response: async_graphql::Response| {
        let extensions = response.errors.first().and_then(|error| error.extensions.clone()).expect("an error");
        extensions.get("code").cloned().expect("a code")
    };
    assert_eq!(code(update(json!({ "name": "Late" }), &updated_at).await), "CONFLICT".into());
    changed(json!({ "widgets": [widget("b", 12, 12)] })).await;
    let too_narrow = update(json!({ "columns": 12 }), &Value::Null).await;
    let argument = too_narrow.errors[0].extensions.as_ref().and_then(|extensions| extensions.get("argument"));
    assert_eq!(argument, Some(&"columns".into()));
    assert_eq!(code(too_narrow), "BAD_USER_INPUT".into());
    assert_eq!(code(viewer.run(CREATE, json!({ "input": {} })).await), "BAD_USER_INPUT".into());
}
