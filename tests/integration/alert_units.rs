//! What the numbers of an alert mean stays with it, whatever becomes of its rule.

use salespulse::ledger::event::{Event, Fact};
use serde_json::{Value, json};

use crate::alerts::{at, create, time_is};
use crate::kpis::define;
use crate::ledger::{event, order};
use crate::support::{TestApp, TestTenant};

fn sale(id: &str, minutes: i64) -> Event {
    event(&format!("sale-{id}"), &at(minutes), Fact::OrderPlaced(order(id, 1, "c", "10.00")))
}

/// Name, state, condition, unit and currency of what was reported, by name and in order.
async fn reported(tenant: &TestTenant<'_>) -> Vec<[Value; 5]> {
    let query = "{ alertHistory(last: 100) { nodes { name state condition unit currency } } }";
    let mut history = tenant.viewer().query(query).await;
    let nodes = history["alertHistory"]["nodes"].as_array_mut().expect("a list");
    let row = |node: &mut Value| ["name", "state", "condition", "unit", "currency"].map(|field| node[field].take());
    let mut rows: Vec<_> = nodes.iter_mut().rev().map(row).collect();
    rows.sort_by_key(|row| row[0].to_string());
    rows
}

fn row(words: [&str; 5]) -> [Value; 5] {
    words.map(|word| if word.is_empty() { Value::Null } else { json!(word) })
}

const RULES: [&str; 4] = [
    r#"name: "a", kpi: "net", condition: ABOVE, threshold: "5", windowMinutes: 240, includeOpen: true"#,
    r#"name: "b", metric: TOTAL_REVENUE, condition: CHANGE_ABOVE, threshold: "0.5", windowMinutes: 15, includeOpen: true"#,
    r#"name: "c", metric: ORDERS_COUNT, condition: ABOVE, threshold: "1", windowMinutes: 240, includeOpen: true"#,
    r#"name: "d", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "5", windowMinutes: 240, includeOpen: true, filters: { organizationId: "us" },
       recipients: [{ channel: EMAIL, target: "ann@example.com" }]"#,
];

/// Four rules that have fired.
async fn fire(acme: &TestTenant<'_>, test: &TestApp) {
    acme.organization("us", chrono_tz::UTC, "USD").await;
    define(acme, "net", "grossRevenue - refunds").await;
    for rule in RULES {
        create(acme, rule).await;
    }
    time_is(test, 5).await;
    acme.apply(vec![sale("1", 4)]).await;
    time_is(test, 20).await;
    acme.apply(vec![sale("2", 19), sale("3", 19)]).await;
    // Of two currencies, so nothing without a filter is reported any more.
    acme.apply(vec![Event { organization: Some("us".into()), ..sale("4", 19) }]).await;
}

#[tokio::test]
async fn an_alert_says_what_it_was_whatever_becomes_of_its_rule() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    fire(&acme, &test).await;
    let fired = [
        row(["a", "FIRING", "ABOVE", "MONEY", "GBP"]),
        row(["b", "FIRING", "CHANGE_ABOVE", "RATIO", ""]),
        row(["c", "FIRING", "ABOVE", "COUNT", ""]),
        row(["d", "FIRING", "ABOVE", "MONEY", "USD"]),
    ];
    assert_eq!(reported(&acme).await, fired);
    let of_rules = acme.viewer().query("{ alerts { name unit currency problem } }").await;
    assert_eq!(
        of_rules["alerts"],
        json!([
            // Since the sale in dollars, it has no single currency.
            { "name": "a", "unit": "MONEY", "currency": null, "problem": "MIXED_CURRENCIES" },
            { "name": "b", "unit": "RATIO", "currency": null, "problem": "MIXED_CURRENCIES" },
            { "name": "c", "unit": "COUNT", "currency": null, "problem": null },
            { "name": "d", "unit": "MONEY", "currency": "USD", "problem": null },
        ])
    );
    let rules = acme.admin().query("{ alerts { id name } }").await["alerts"].take();
    let id = |n: usize| rules[n]["id"].clone();
    for (n, change) in [
        (
            0,
            format!(
                r#"updateAlert(id: {}, input: {{ name: "a", metric: VISITS, condition: NO_DATA }}) {{ id }}"#,
                id(0)
            ),
        ),
        (1, format!("deleteAlert(id: {})", id(1))),
        (3, format!("deleteAlert(id: {})", id(3))),
    ] {
        assert_eq!(rules[n]["name"].as_str(), ["a", "b", "c", "d"].get(n).copied());
        acme.admin().query(&format!("mutation {{ {change} }}")).await;
    }
    acme.admin().query(r#"mutation { updateKpi(name: "net", input: { formula: "ordersCount" }) { unit } }"#).await;
    let [a, b, c, d] = fired;
    let expected = [
        a,
        row(["a", "RESOLVED", "ABOVE", "MONEY", ""]),
        b,
        row(["b", "RESOLVED", "CHANGE_ABOVE", "RATIO", ""]),
        c,
        d,
        row(["d", "RESOLVED", "ABOVE", "MONEY", "USD"]),
    ];
    assert_eq!(reported(&acme).await, expected);
}

#[tokio::test]
async fn a_message_says_what_its_numbers_are() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    fire(&acme, &test).await;
    let tx = test.app.db.read(acme.id()).await.expect("a snapshot");
    let row = tx.query_one("SELECT text, body FROM deliveries WHERE tenant_id = $1", []).await.expect("a query");
    let row = row.expect("a delivery");
    let [text, body]: [String; 2] = [0, 1].map(|index| salespulse::db::get(&row, index).expect("text"));
    assert!(text.contains("TOTAL_REVENUE: 10.00 USD\nThreshold: 5.00 USD\n"), "{text}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let alert = &body["alert"];
    assert_eq!((&alert["condition"], &alert["unit"]), (&json!("ABOVE"), &json!("MONEY")));
    assert_eq!(alert["currency"], json!("USD"));
}

#[tokio::test]
async fn alerts_from_before_keep_what_is_certain() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    create(
        &acme,
        r#"name: "a", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "5", windowMinutes: 240, includeOpen: true"#,
    )
    .await;
    create(&acme, r#"name: "b", metric: ORDERS_COUNT, condition: CHANGE_ABOVE, threshold: "0.5", windowMinutes: 15, includeOpen: true"#)
        .await;
    create(
        &acme,
        r#"name: "c", metric: ORDERS_COUNT, condition: ABOVE, threshold: "1", windowMinutes: 240, includeOpen: true"#,
    )
    .await;
    time_is(&test, 5).await;
    acme.apply(vec![sale("1", 4)]).await;
    time_is(&test, 20).await;
    acme.apply(vec![sale("2", 19), sale("3", 19)]).await;
    let gone = acme.admin().query("{ alerts { id } }").await["alerts"][2]["id"].take();
    acme.admin().query(&format!("mutation {{ deleteAlert(id: {gone}) }}")).await;
    let beside = test.migrated_again("m0016_alert_units").await;
    let acme = TestTenant { test: &beside, created: acme.created };
    let expected = [
        row(["a", "FIRING", "ABOVE", "MONEY", "GBP"]),
        row(["b", "FIRING", "CHANGE_ABOVE", "RATIO", ""]),
        row(["c", "FIRING", "", "", ""]),
        row(["c", "RESOLVED", "", "", ""]),
    ];
    assert_eq!(reported(&acme).await, expected);
}
