//! Metrics that tenants define: how they are defined, and that they work wherever metrics do. What they come to is tested
//! against brute force in `brute_force`.

use salespulse::clock::{MINUTE, Timestamp};
use salespulse::ledger::event::{Event, Fact, OrderPlaced};
use serde_json::{Value, json};

use crate::ledger::{event, order};
use crate::socket::Socket;
use crate::support::{NOW, Server, TestApp, TestTenant, at};

pub async fn define(tenant: &TestTenant<'_>, name: &str, formula: &str) -> Value {
    let create = "mutation ($name: String!, $formula: String!) { createKpi(name: $name, input: {formula: $formula}) { name unit usedBy } }";
    tenant.admin().query_with(create, json!({ "name": name, "formula": formula })).await["createKpi"].take()
}

/// The one error of a mutation that defines or changes a KPI: its extensions.
async fn refused(tenant: &TestTenant<'_>, field: &str, name: &str, formula: &str) -> Value {
    let mutation = format!(
        "mutation ($name: String!, $formula: String!) {{ {field}(name: $name, input: {{formula: $formula}}) {{ name }} }}"
    );
    let response = tenant.admin().run(&mutation, json!({ "name": name, "formula": formula })).await;
    assert_eq!(response.errors.len(), 1, "{response:?}");
    serde_json::to_value(&response.errors[0].extensions).expect("json")
}

fn sale(id: &str, when: &str, channel: &str, amount: &str) -> Event {
    let placed = OrderPlaced { channel: Some(channel.into()), ..order(id, 1, "ann", amount) };
    event(id, when, Fact::OrderPlaced(placed))
}

/// Two days of two channels, and a day before.
async fn shop(test: &TestApp) -> TestTenant<'_> {
    let acme = test.tenant("acme").await;
    acme.apply(vec![
        sale("1", "2026-06-01T10:00:00Z", "web", "10.00"),
        sale("2", "2026-06-02T10:00:00Z", "web", "30.00"),
        sale("3", "2026-06-02T11:00:00Z", "store", "5.00"),
        sale("4", "2026-06-03T10:00:00Z", "store", "20.00"),
    ])
    .await;
    acme
}

const JUNE: &str = r#"period: {start: "2026-06-02T00:00:00Z", end: "2026-06-04T00:00:00Z"}"#;

/// Months differ in length, so it matters which look back comes first.
#[tokio::test]
async fn what_a_kpi_that_looks_back_was_before_is_what_it_showed_then() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let days = (1..=28).flat_map(|day| (1..=5).map(move |month| (month, day)));
    let sales = days.map(|(month, day)| {
        let name = format!("{month}-{day}");
        sale(&name, &format!("2026-{month:02}-{day:02}T10:00:00Z"), "web", &format!("{}.00", month * 100 + day))
    });
    acme.apply(sales.collect()).await;
    for (name, formula) in [
        ("a_week_before", "prev(totalRevenue, 1w)"),
        ("then", "prev(a_week_before)"),
        ("rise", "growth(totalRevenue, 28d)"),
        ("rise_then", "prev(rise, 1mo)"),
    ] {
        define(&acme, name, formula).await;
    }
    let query = r#"{ salesMetrics(period: {firstDay: "2026-02-01", lastDay: "2026-05-31"}) { series(grain: MONTH) {
        kpis(names: ["a_week_before", "then", "rise", "rise_then"]) { amount number } } } }"#;
    let series = acme.viewer().query(query).await["salesMetrics"]["series"].take();
    let months = series.as_array().expect("months");
    for pair in months.windows(2) {
        let value = |month: &Value, kpi: usize| month["kpis"][kpi].clone();
        assert_eq!((value(&pair[1], 1), value(&pair[1], 3)), (value(&pair[0], 0), value(&pair[0], 2)), "{series}");
        assert_ne!(value(&pair[1], 0), value(&pair[0], 0), "{series}");
    }
}

#[tokio::test]
async fn a_kpi_is_defined_changed_listed_and_deleted() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let defined = define(&acme, "margin", "(grossRevenue - refunds) / grossRevenue").await;
    assert_eq!(defined, json!({ "name": "margin", "unit": "RATIO", "usedBy": [] }));
    assert_eq!(define(&acme, "margin_pct", "margin * 100").await["unit"], "RATIO");
    let update = r#"mutation { updateKpi(name: "margin", input: {formula: "totalRevenue / grossRevenue", description: "What is kept",
                    format: PERCENT, decimals: 1}) { name formula description unit format decimals usedBy createdAt updatedAt } }"#;
    test.clock.set(Timestamp(NOW.0 + MINUTE));
    let updated = acme.admin().query(update).await["updateKpi"].take();
    let expected = json!({ "name": "margin", "formula": "totalRevenue / grossRevenue", "description": "What is kept",
        "unit": "RATIO", "format": "PERCENT", "decimals": 1, "usedBy": ["margin_pct"],
        "createdAt": "2026-06-15T12:00:00Z", "updatedAt": "2026-06-15T12:01:00Z" });
    assert_eq!(updated, expected);
    let fields = "name formula description unit format decimals usedBy createdAt updatedAt";
    let listed = acme.viewer().query(&format!("{{ kpis {{ name }} kpi(name: \"margin\") {{ {fields} }} }}")).await;
    assert_eq!(listed, json!({ "kpis": [{ "name": "margin" }, { "name": "margin_pct" }], "kpi": expected }));
    let delete = |name: &str| format!(r#"mutation {{ deleteKpi(name: "{name}") }}"#);
    assert_eq!(acme.admin().error_code(&delete("margin")).await, "CONFLICT", "margin_pct names it");
    assert_eq!(acme.admin().query(&delete("margin_pct")).await, json!({ "deleteKpi": "margin_pct" }));
    acme.admin().query(&delete("margin")).await;
    assert_eq!(acme.admin().error_code(&delete("margin")).await, "NOT_FOUND");
    let log = acme.admin().query(r#"{ auditLog(filter: { action: "kpi." }) { nodes { action before after } } }"#).await;
    let nodes = log["auditLog"]["nodes"].as_array().expect("nodes");
    let actions: Vec<&str> = nodes.iter().filter_map(|node| node["action"].as_str()).collect();
    assert_eq!(actions, ["kpi.delete", "kpi.delete", "kpi.update", "kpi.create", "kpi.create"]);
    assert_eq!(nodes[2]["before"]["formula"], "(grossRevenue - refunds) / grossRevenue");
    assert_eq!(nodes[2]["after"]["formula"], "totalRevenue / grossRevenue");
}

#[tokio::test]
async fn mistakes_point_at_the_column() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let error = refused(&acme, "createKpi", "odd", "totalRevenue\n + vists").await;
    let place = json!({ "code": "BAD_USER_INPUT", "argument": "formula", "kpi": "odd", "formulaCode": "UNKNOWN_NAME",
        "line": 2, "column": 4, "length": 5, "suggestion": "visits" });
    assert_eq!(error, place);
    for (formula, code) in [
        ("totalRevenue + visits", "UNIT_MISMATCH"),
        ("totalRevenue * totalRevenue", "UNIT_MISMATCH"),
        ("visits filter category = \"Shoes\"", "NOT_FILTERABLE"),
        ("growth(", "UNEXPECTED_TOKEN"),
        ("odd + 1", "CYCLE"),
        ("prev(visits, 11y)", "TOO_FAR_BACK"),
        (&"1+".repeat(3_000), "TEXT_TOO_LONG"),
        (&format!("{}1{}", "(".repeat(200), ")".repeat(200)), "TOO_DEEP"),
        (&format!("1{}", "+1".repeat(1_100)), "TOO_MANY_OPERATIONS"),
    ] {
        assert_eq!(refused(&acme, "createKpi", "odd", formula).await["formulaCode"], code, "{formula}");
    }
    let views: Vec<String> = (1..=17).map(|days| format!("prev(visits, {days}d)")).collect();
    assert_eq!(refused(&acme, "createKpi", "odd", &views.join(" + ")).await["formulaCode"], "TOO_MANY_VIEWS");
    for name in ["", "2nd", "a b", "visits", "filter", "sum", "nul\0"] {
        assert_eq!(refused(&acme, "createKpi", name, "visits").await["argument"], "name", "{name}");
    }
    assert_eq!(refused(&acme, "createKpi", "odd", "visits\0").await["argument"], "formula");
    let query = r#"query ($formula: String!) { validateKpi(name: "odd", formula: $formula) { unit formula mistake { code kpi message line column length suggestion } } }"#;
    let found = acme.admin().query_with(query, json!({ "formula": "avgOrderValue*2" })).await;
    assert_eq!(found["validateKpi"], json!({ "unit": "MONEY", "formula": "avgOrderValue * 2", "mistake": null }));
    let found = acme.admin().query_with(query, json!({ "formula": "visits + totalRevenue" })).await;
    let mistake = &found["validateKpi"]["mistake"];
    assert_eq!((&mistake["code"], &mistake["column"]), (&json!("UNIT_MISMATCH"), &json!(10)));
    assert_eq!(acme.admin().query("{ kpis { name } }").await, json!({ "kpis": [] }), "nothing was saved");
}

#[tokio::test]
async fn a_change_that_breaks_another_kpi_is_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    define(&acme, "base", "totalRevenue").await;
    define(&acme, "more", "base + grossRevenue").await;
    let error = refused(&acme, "updateKpi", "base", "visits").await;
    assert_eq!((&error["kpi"], &error["formulaCode"]), (&json!("more"), &json!("UNIT_MISMATCH")));
    let error = refused(&acme, "updateKpi", "base", "more").await;
    assert_eq!(error["formulaCode"], "CYCLE");
    assert_eq!(refused(&acme, "createKpi", "base", "visits").await["code"], "CONFLICT");
    assert_eq!(refused(&acme, "updateKpi", "none", "visits").await["code"], "NOT_FOUND");
}

#[tokio::test]
async fn what_an_alert_looks_at_each_hour_asks_for_few_filters_and_times() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let of = |times: usize| (1..=times).map(|days| format!("prev(visits, {days}d)")).collect::<Vec<_>>().join(" + ");
    define(&acme, "few", &of(4)).await;
    define(&acme, "many", &of(5)).await;
    let rule = |kpi: &str, minutes: i32| {
        format!(r#"name: "{kpi} {minutes}", kpi: "{kpi}", condition: ANOMALY, windowMinutes: {minutes}"#)
    };
    let create = |rule: &str| format!("mutation {{ createAlert(input: {{ {rule} }}) {{ id }} }}");
    let refusal = async |query: &str| {
        let response = acme.admin().run(query, Value::Null).await;
        let [code, argument, formula] =
            ["code", "argument", "formulaCode"].map(|name| response.errors[0].extensions.as_ref()?.get(name).cloned());
        json!([code, argument, formula])
    };
    let too_many = json!(["BAD_USER_INPUT", "kpi", "TOO_MANY_VIEWS"]);
    assert_eq!(refusal(&create(&rule("many", 60))).await, too_many);
    let simulate = format!(
        r#"{{ simulateAlert(input: {{ {} }}, from: "2026-06-14T00:00:00Z", to: "2026-06-15T00:00:00Z") {{ state }} }}"#,
        rule("many", 60)
    );
    assert_eq!(refusal(&simulate).await, too_many);
    // Days are few, and a threshold is compared with one hour.
    acme.admin().query(&create(&rule("many", 1_440))).await;
    let above = r#"name: "above", kpi: "many", condition: ABOVE, threshold: "5", windowMinutes: 60"#;
    acme.admin().query(&create(above)).await;
    let created = acme.admin().query(&create(&rule("few", 60))).await["createAlert"]["id"].take();
    let update = format!("mutation {{ updateAlert(id: {created}, input: {{ {} }}) {{ id }} }}", rule("many", 60));
    assert_eq!(refusal(&update).await, too_many);
    // Nor does it become one that asks for more, by itself or by what it names.
    let error = refused(&acme, "updateKpi", "few", &of(5)).await;
    assert_eq!((&error["kpi"], &error["formulaCode"]), (&json!("few"), &json!("TOO_MANY_VIEWS")));
    define(&acme, "base", "visits").await;
    acme.admin().query(r#"mutation { updateKpi(name: "few", input: {formula: "base + 0"}) { unit } }"#).await;
    let error = refused(&acme, "updateKpi", "base", &of(5)).await;
    assert_eq!((&error["kpi"], &error["formulaCode"]), (&json!("few"), &json!("TOO_MANY_VIEWS")));
    let validate = format!(r#"{{ validateKpi(name: "few", formula: "{}") {{ mistake {{ code }} }} }}"#, of(5));
    assert_eq!(acme.admin().query(&validate).await["validateKpi"]["mistake"]["code"], "TOO_MANY_VIEWS");
    acme.admin().query(&format!("mutation {{ deleteAlert(id: {created}) }}")).await;
    acme.admin()
        .query(&format!(r#"mutation {{ updateKpi(name: "base", input: {{formula: "{}"}}) {{ unit }} }}"#, of(5)))
        .await;
}

#[tokio::test]
async fn a_kpi_keeps_its_unit_while_alerts_compare_it_with_a_threshold() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    define(&acme, "base", "totalRevenue").await;
    define(&acme, "half", "base / 2").await;
    let rule = |name: &str, kpi: &str, condition: &str| {
        format!(
            r#"mutation {{ createAlert(input: {{ name: "{name}", kpi: "{kpi}", condition: {condition}, threshold: "5", windowMinutes: 60 }}) {{ id }} }}"#
        )
    };
    // A share and a score have no unit.
    for condition in ["CHANGE_ABOVE", "CHANGE_BELOW", "NO_DATA", "ANOMALY"] {
        acme.admin().query(&rule(condition, "base", condition)).await;
    }
    let update = |formula: &str| {
        format!(r#"mutation {{ updateKpi(name: "base", input: {{ formula: "{formula}" }}) {{ unit }} }}"#)
    };
    for formula in ["ordersCount", "totalRevenue"] {
        acme.admin().query(&update(formula)).await;
    }
    let mut alerts = Vec::new();
    for (name, kpi, condition) in [("High", "base", "ABOVE"), ("Low", "half", "BELOW")] {
        alerts.push(acme.admin().query(&rule(name, kpi, condition)).await["createAlert"]["id"].take());
    }
    let response = acme.admin().run(&update("ordersCount"), Value::Null).await;
    let message = "the unit would differ from that of these alerts' thresholds: High, Low";
    assert_eq!(response.errors[0].message, message);
    assert_eq!(acme.admin().error_code(&update("ordersCount")).await, "CONFLICT");
    acme.admin().query(&update("grossRevenue")).await;
    for alert in alerts {
        assert_eq!(acme.admin().error_code(&update("ordersCount")).await, "CONFLICT");
        acme.admin().query(&format!("mutation {{ deleteAlert(id: {alert}) }}")).await;
    }
    acme.admin().query(&update("ordersCount")).await;
}

#[tokio::test]
async fn two_that_would_name_each_other_are_not_both_saved() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    define(&acme, "a", "visits").await;
    define(&acme, "b", "visits").await;
    let update = |name: &str, formula: &str| {
        format!(r#"mutation {{ updateKpi(name: "{name}", input: {{formula: "{formula}"}}) {{ name }} }}"#)
    };
    let (one, two, admin) = (update("a", "b + 1"), update("b", "a + 1"), acme.admin());
    let (one, two) = tokio::join!(admin.run(&one, Value::Null), admin.run(&two, Value::Null));
    assert_eq!(one.errors.len() + two.errors.len(), 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn kpis_are_the_tenants_own_and_not_for_everybody_to_define() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    define(&acme, "mine", "visits").await;
    assert_eq!(other.viewer().query("{ kpis { name } }").await, json!({ "kpis": [] }));
    for query in [
        r#"{ kpi(name: "mine") { name } }"#,
        &format!(r#"{{ salesMetrics({JUNE}) {{ kpi(name: "mine") {{ number }} }} }}"#),
    ] {
        assert_eq!(other.viewer().error_code(query).await, "NOT_FOUND");
    }
    for mutation in [
        r#"mutation { createKpi(name: "x", input: {formula: "visits"}) { name } }"#,
        r#"mutation { updateKpi(name: "mine", input: {formula: "visits"}) { name } }"#,
        r#"mutation { deleteKpi(name: "mine") }"#,
        r#"{ validateKpi(name: "x", formula: "visits") { unit } }"#,
    ] {
        assert_eq!(acme.viewer().error_code(mutation).await, "FORBIDDEN");
    }
}

#[tokio::test]
async fn a_kpi_works_wherever_a_metric_does() {
    let test = TestApp::start().await;
    let acme = shop(&test).await;
    define(&acme, "web_share", r#"totalRevenue filter channel = "web" / totalRevenue"#).await;
    define(&acme, "more_than_before", "totalRevenue - prev(totalRevenue)").await;
    define(&acme, "per_visit", "totalRevenue / visits").await;
    let query = format!(
        r#"{{ salesMetrics({JUNE}) {{
            kpi(name: "web_share") {{ unit number amount absent }}
            kpis(names: ["more_than_before", "per_visit"]) {{ name unit amount absent }}
            series(grain: DAY) {{ web: kpi(name: "web_share") {{ number }} kpis(names: ["more_than_before"]) {{ name unit amount }} }}
            breakdown(by: [CHANNEL], orderBy: {{kpi: "more_than_before", direction: ASC}}, first: 1) {{
                rows {{ key kpi(name: "more_than_before") {{ amount }} }} other {{ kpi(name: "more_than_before") {{ amount }} }} }}
            comparison {{ current {{ kpi(name: "web_share") {{ number }} }} previous {{ kpi(name: "web_share") {{ number }} }}
                kpiChange(name: "web_share") {{ absolute relative }} }} }} }}"#
    );
    let found = acme.viewer().query(&query).await["salesMetrics"].take();
    // 30 of 55; 55 - 10 of the two days before.
    assert_eq!(found["kpi"], json!({ "unit": "RATIO", "number": 30.0 / 55.0, "amount": null, "absent": null }));
    assert_eq!(
        found["kpis"],
        json!([
            { "name": "more_than_before", "unit": "MONEY", "amount": "45.00", "absent": null },
            { "name": "per_visit", "unit": "MONEY", "amount": null, "absent": "DIVISION_BY_ZERO" },
        ])
    );
    // 35 - 10, then 20 - 35.
    let day = |share: f64, more: &str| json!({ "web": { "number": share }, "kpis": [{ "name": "more_than_before", "unit": "MONEY", "amount": more }] });
    assert_eq!(found["series"], json!([day(30.0 / 35.0, "25.00"), day(0.0, "-15.00")]));
    // Of the web 30 - 10, of the store 25 - 0: the web has less.
    assert_eq!(found["breakdown"]["rows"], json!([{ "key": "web", "kpi": { "amount": "20.00" } }]));
    assert_eq!(found["breakdown"]["other"], json!({ "kpi": { "amount": "25.00" } }));
    assert_eq!(found["comparison"]["previous"], json!({ "kpi": { "number": 1.0 } }));
    // 0.5455 - 1, rounded as metrics are compared.
    assert_eq!(found["comparison"]["kpiChange"], json!({ "absolute": "-0.4545", "relative": -5.0 / 11.0 }));
}

#[tokio::test]
async fn an_earlier_state_gives_the_same_kpis_and_costs_a_bounded_number_of_statements() {
    let test = TestApp::start().await;
    let acme = shop(&test).await;
    define(&acme, "growth_of_web", r#"growth(totalRevenue filter channel = "web", 1d)"#).await;
    let query = |more: &str| {
        format!(
            r#"{{ salesMetrics({JUNE}{more}) {{ series(grain: DAY) {{ kpi(name: "growth_of_web") {{ number absent }} }} }} }}"#
        )
    };
    let before = acme.viewer().query(&query("")).await;
    assert_eq!(
        before["salesMetrics"]["series"],
        json!([{ "kpi": { "number": 2.0, "absent": null } }, { "kpi": { "number": -1.0, "absent": null } }])
    );
    acme.apply(vec![sale("5", "2026-06-01T12:00:00Z", "web", "10.00")]).await;
    assert_ne!(acme.viewer().query(&query("")).await, before);
    assert_eq!(acme.viewer().query(&query(r#", asOf: "4""#)).await, before);
    test.app.ledger.close().await;
    let statements = test.app.db.statements();
    acme.viewer().query(&query("")).await;
    let asked = (test.app.db.statements() - statements).statements;
    assert!(asked <= 10, "{asked} statements");
}

#[tokio::test]
async fn an_open_period_is_compared_with_as_much_of_the_one_before() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![
        sale("1", "2026-06-14T11:00:00Z", "web", "10.00"),
        sale("2", "2026-06-14T13:00:00Z", "web", "90.00"),
        sale("3", "2026-06-15T10:00:00Z", "web", "20.00"),
    ])
    .await;
    define(&acme, "growing", "growth(totalRevenue)").await;
    let query = r#"{ salesMetrics(period: {preset: TODAY}) { kpi(name: "growing") { number } series(grain: DAY) { kpi(name: "growing") { number } }
                   comparison { current { kpi(name: "growing") { number } } } } }"#;
    // It is noon: 20 against the 10 of yesterday before noon.
    let doubled = json!({ "kpi": { "number": 1.0 } });
    let found = acme.viewer().query(query).await["salesMetrics"].take();
    assert_eq!(
        (&found["kpi"], &found["series"][0], &found["comparison"]["current"]),
        (&doubled["kpi"], &doubled, &doubled)
    );
    test.clock.set(Timestamp(NOW.0 + 90 * MINUTE));
    let found = acme.viewer().query(query).await["salesMetrics"].take();
    assert_eq!(found["kpi"], json!({ "number": -0.8 }));
}

#[tokio::test]
async fn a_subscription_follows_sales_and_the_definition() {
    let test = TestApp::start().await;
    let acme = shop(&test).await;
    define(&acme, "web", r#"totalRevenue filter channel = "web""#).await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let watch = format!(
        "subscription ($tenant: ID!) {{ metricsUpdated(tenantId: $tenant, {JUNE}) {{ kpi(name: \"web\") {{ amount }} }} }}"
    );
    socket.subscribe("1", &watch, json!({ "tenant": acme.id().0 })).await;
    let amount = |answer: Value| answer["data"]["metricsUpdated"]["kpi"]["amount"].clone();
    assert_eq!(amount(socket.next("1").await), "30.00");
    acme.apply(vec![
        sale("5", "2026-06-03T12:00:00Z", "web", "1.50"),
        sale("6", "2026-06-03T12:00:00Z", "store", "9.00"),
    ])
    .await;
    assert_eq!(amount(socket.next("1").await), "31.50");
    let update =
        r#"mutation { updateKpi(name: "web", input: {formula: "totalRevenue filter channel != \"web\""}) { name } }"#;
    acme.admin().query(update).await;
    assert_eq!(amount(socket.next("1").await), "34.00");
    server.stop().await;
}

#[tokio::test]
async fn a_rule_may_watch_a_kpi_and_keeps_it_from_being_deleted() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    define(&acme, "web_share", r#"totalRevenue filter channel = "web" / totalRevenue"#).await;
    let rule = r#"name: "Mostly web", kpi: "web_share", condition: ABOVE, threshold: "0.5", windowMinutes: 60, includeOpen: true"#;
    let create = format!("mutation {{ createAlert(input: {{ {rule} }}) {{ id metric kpi }} }}");
    let created = acme.admin().query(&create).await["createAlert"].take();
    assert_eq!((&created["metric"], &created["kpi"]), (&Value::Null, &json!("web_share")));
    for (input, code) in [
        (r#"name: "x", kpi: "none", condition: NO_DATA"#, "NOT_FOUND"),
        (r#"name: "x", condition: NO_DATA"#, "BAD_USER_INPUT"),
        (r#"name: "x", kpi: "web_share", metric: VISITS, condition: NO_DATA"#, "BAD_USER_INPUT"),
    ] {
        assert_eq!(
            acme.admin().error_code(&format!("mutation {{ createAlert(input: {{ {input} }}) {{ id }} }}")).await,
            code
        );
    }
    acme.apply(vec![sale("1", "2026-06-15T11:50:00Z", "store", "10.00")]).await;
    test.clock.set(Timestamp(NOW.0 + MINUTE));
    acme.apply(vec![sale("2", "2026-06-15T11:51:00Z", "web", "30.00")]).await;
    test.clock.set(Timestamp(NOW.0 + 2 * MINUTE));
    acme.apply(vec![sale("3", "2026-06-15T11:52:00Z", "store", "90.00")]).await;
    let history =
        acme.viewer().query("{ alertHistory { nodes { state kpi metric value position triggeredAt } } }").await;
    let mut reported = history["alertHistory"]["nodes"].as_array().expect("nodes").clone();
    reported.reverse();
    let change = |state: &str, value: &str, position: &str, minute: &str| {
        json!({ "state": state, "kpi": "web_share", "metric": null, "value": value, "position": position,
                "triggeredAt": format!("2026-06-15T12:{minute}:00Z") })
    };
    // 30 of 40; then 30 of 130, by a sale before the rule fired.
    assert_eq!(reported, [change("FIRING", "0.75", "2", "01"), change("RETRACTED", "0.2308", "3", "02")]);
    let simulate = format!(
        r#"{{ simulateAlert(input: {{ {rule} }}, from: "2026-06-15T12:00:00Z", to: "2026-06-15T12:02:00Z") {{ state value position triggeredAt }} }}"#
    );
    let mut simulated = acme.admin().query(&simulate).await["simulateAlert"].as_array().expect("changes").clone();
    simulated.iter_mut().for_each(|change| {
        change["kpi"] = json!("web_share");
        change["metric"] = Value::Null;
    });
    assert_eq!(simulated, reported);
    assert_eq!(acme.admin().error_code(r#"mutation { deleteKpi(name: "web_share") }"#).await, "CONFLICT");
}

#[tokio::test]
async fn a_rule_on_what_was_before_is_simulated_as_it_is_evaluated() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    define(&acme, "than_yesterday", "totalRevenue - prev(totalRevenue, 1d)").await;
    define(&acme, "than_before", "growth(totalRevenue)").await;
    let rules = ["than_yesterday", "than_before"].map(|kpi| {
        format!(
            r#"name: "{kpi}", kpi: "{kpi}", condition: ABOVE, threshold: "0.5", windowMinutes: 30, includeOpen: true"#
        )
    });
    for rule in &rules {
        acme.admin().query(&format!("mutation {{ createAlert(input: {{ {rule} }}) {{ id }} }}")).await;
    }
    for (n, (minutes, when, amount)) in [
        (0, "2026-06-14T11:40:00Z", "20.00"),
        (1, "2026-06-15T11:20:00Z", "5.00"),
        (2, "2026-06-15T11:50:00Z", "21.00"),
        (5, "2026-06-15T12:04:00Z", "2.00"),
        (21, "2026-06-15T12:20:00Z", "1.00"),
        (50, "2026-06-15T12:49:00Z", "7.00"),
        (80, "2026-06-15T13:19:00Z", "7.00"),
    ]
    .into_iter()
    .enumerate()
    {
        test.clock.set(Timestamp(NOW.0 + minutes * MINUTE));
        acme.apply(vec![sale(&format!("s{n}"), when, "web", amount)]).await;
    }
    for (name, rule) in ["than_yesterday", "than_before"].into_iter().zip(&rules) {
        let simulate = format!(
            r#"{{ simulateAlert(input: {{ {rule} }}, from: "2026-06-15T12:00:00Z", to: "2026-06-15T13:20:00Z") {{ state value position triggeredAt }} }}"#
        );
        let simulated = acme.admin().query(&simulate).await["simulateAlert"].take();
        let history = acme
            .viewer()
            .query("{ alertHistory(first: 100) { nodes { name state value position triggeredAt } } }")
            .await;
        let mut reported: Vec<Value> = history["alertHistory"]["nodes"].as_array().expect("nodes").clone();
        reported.retain(|alert| alert["name"] == name);
        reported.reverse();
        reported.iter_mut().for_each(|alert| drop(alert.as_object_mut().expect("fields").remove("name")));
        assert!(reported.len() >= 2, "{name}: {reported:?}");
        assert_eq!(simulated, json!(reported), "{name}");
    }
}

#[tokio::test]
async fn what_a_kpi_costs_grows_with_its_formula() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let of_channel = |n: usize| sale(&n.to_string(), "2026-05-16T10:00:00Z", &format!("channel {n}"), "10.00");
    acme.apply((0..220).map(of_channel).collect()).await;
    define(&acme, "short", "totalRevenue / 3").await;
    // 801 numbers, names and operations: 50 values more than shown.
    define(&acme, "long", &format!("totalRevenue{}", " / 3".repeat(400))).await;
    for n in 0..20 {
        define(&acme, &format!("short{n}"), &format!("short * {n}")).await;
        define(&acme, &format!("long{n}"), &format!("long * {n}")).await;
    }
    let names = |name: &str, count| (0..count).map(|n| format!("\"{name}{n}\"")).collect::<Vec<_>>().join(" ");
    // 4,800 quarters of an hour.
    let series = |name: &str| {
        format!(
            r#"{{ salesMetrics(period: {{firstDay: "2026-04-01", lastDay: "2026-05-20"}}) {{
            series(grain: QUARTER_HOUR) {{ kpi(name: "{name}") {{ amount }} }} }} }}"#
        )
    };
    acme.viewer().query(&series("short")).await;
    acme.viewer().refused(&series("long"), "grain").await;
    // All 220 rows are ranked.
    let rows = |name: &str| {
        format!(
            r#"{{ salesMetrics(period: {{firstDay: "2026-05-16", lastDay: "2026-05-16"}}) {{
            breakdown(by: [CHANNEL], first: 1, orderBy: {{kpi: "{name}1"}}) {{ rows {{ kpis(names: [{}]) {{ amount }} }} }} }} }}"#,
            names(name, 20)
        )
    };
    acme.viewer().query(&rows("short")).await;
    acme.viewer().refused(&rows("long"), "by").await;
    let compared = |name: &str| {
        rows(name).replace("breakdown", "comparison { breakdown").replace("rows {", "rows { current {") + "} }"
    };
    acme.viewer().query(&compared("short")).await;
    acme.viewer().refused(&compared("long"), "by").await;
    // 614 hours are learned from.
    let anomalies = |name: &str| {
        format!(
            r#"{{ salesMetrics(period: {{firstDay: "2026-05-16", lastDay: "2026-06-10"}}) {{
            anomalies(grain: HOUR, metrics: [], kpis: [{}]) {{ threshold }} }} }}"#,
            names(name, 8)
        )
    };
    acme.viewer().query(&anomalies("short")).await;
    acme.viewer().refused(&anomalies("long"), "grain").await;
}

#[tokio::test]
async fn before_a_preset_is_what_it_is_compared_with() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    test.clock.set(at("2026-07-10T12:00:00Z"));
    acme.apply(vec![
        // The 30 days before June begin on 2 May.
        sale("1", "2026-05-01T10:00:00Z", "web", "1.00"),
        sale("2", "2026-05-02T10:00:00Z", "web", "2.00"),
        sale("3", "2026-05-31T10:00:00Z", "web", "4.00"),
        sale("4", "2026-06-01T10:00:00Z", "web", "8.00"),
        sale("5", "2026-06-30T10:00:00Z", "web", "16.00"),
        sale("6", "2026-07-01T10:00:00Z", "web", "32.00"),
        sale("7", "2025-06-02T10:00:00Z", "web", "64.00"),
        sale("8", "2025-06-25T10:00:00Z", "web", "128.00"),
        sale("9", "2025-07-05T10:00:00Z", "web", "256.00"),
    ])
    .await;
    define(&acme, "before", "prev(totalRevenue)").await;
    define(&acme, "before_that", "prev(prev(totalRevenue))").await;
    let compared = async |preset: &str, to: &str| {
        let values = r#"totalRevenue before: kpi(name: "before") { amount }"#;
        let query = format!(
            r#"{{ salesMetrics(period: {{preset: {preset}}}) {{ beforeThat: kpi(name: "before_that") {{ amount }}
            comparison(to: {to}) {{ current {{ {values} }} previous {{ {values} }} }} }} }}"#
        );
        acme.viewer().query(&query).await["salesMetrics"].take()
    };
    // A year ago, too, before the month to date is the month before, up to the 10th at noon.
    let comparison = compared("MONTH_TO_DATE", "SAME_PERIOD_LAST_YEAR").await["comparison"].take();
    assert_eq!(comparison["previous"], json!({ "totalRevenue": "256.00", "before": { "amount": "64.00" } }));
    test.clock.set(at("2026-07-30T12:00:00Z"));
    let expected = json!({
        "beforeThat": { "amount": "6.00" },
        "comparison": {
            "current": { "totalRevenue": "32.00", "before": { "amount": "24.00" } },
            "previous": { "totalRevenue": "24.00", "before": { "amount": "6.00" } },
        },
    });
    assert_eq!(compared("LAST_30_DAYS", "PREVIOUS_PERIOD").await, expected);
}
