//! Metrics by name: the same values as the fields that are named for them.

use salespulse::ledger::event::{Event, Fact, RefundIssued, VisitsCounted};
use salespulse::metrics::catalog::Metric;
use serde_json::{Value, json};

use crate::ledger::{event, money};
use crate::sales;
use crate::socket::Socket;
use crate::support::{Server, TestApp, TestTenant};

const PERIOD: &str = "period: { firstDay: \"2026-06-02\", lastDay: \"2026-06-04\" }";

fn word(metric: Metric) -> String {
    serde_json::to_value(metric).expect("a word").as_str().expect("a text").to_owned()
}

/// All names, in an order that is not that of the catalog.
fn names() -> Vec<String> {
    Metric::ALL.into_iter().rev().map(word).collect()
}

/// All types that have metrics, with the same fields of each.
fn everywhere(fields: &str) -> String {
    format!(
        "{fields} series(grain: DAY) {{ {fields} }} split: series(grain: WEEK, by: REGION) {{ {fields} }} \
         breakdown(by: [CUSTOMER_SEGMENT, CHANNEL], orderBy: {{metric: ORDERS_COUNT}}, first: 1) {{ \
             rows {{ {fields} }} other {{ {fields} }} }} \
         comparison {{ current {{ {fields} }} previous {{ {fields} }} }}"
    )
}

fn by_field() -> String {
    everywhere(&Metric::ALL.map(Metric::field).join(" "))
}

fn by_name() -> String {
    everywhere("metrics(names: $names) { __typename metric unit amount number currency }")
}

/// Sales and visits in two regions and channels, one of them without visits, and refunds.
async fn sold(acme: &TestTenant<'_>) {
    sales::record(acme, 6, 4).await;
    let refund = RefundIssued { order_id: Some("o1-1".into()), amount: Some(money("0.70")), ..RefundIssued::default() };
    let visits = VisitsCounted { count: 31, channel: Some("web".into()), ..VisitsCounted::default() };
    let mut elsewhere: Event = sales::order(9, 2);
    if let Fact::OrderPlaced(order) = &mut elsewhere.fact {
        (order.region, order.channel) = (Some("South".into()), Some("shop".into()));
    }
    acme.apply(vec![
        event("r", "2026-06-03T12:00:00Z", Fact::RefundIssued(refund)),
        event("v", "2026-06-03T13:00:00Z", Fact::VisitsCounted(visits)),
        elsewhere,
    ])
    .await;
}

/// Compares what was asked by name with what was asked by field; gives the number of objects.
fn compared(named: &Value, fields: &Value, names: &[String]) -> usize {
    match (named, fields) {
        (Value::Array(named), Value::Array(fields)) => {
            assert_eq!(named.len(), fields.len());
            named.iter().zip(fields).map(|(named, fields)| compared(named, fields, names)).sum()
        }
        (Value::Object(object), _) => {
            let inner = object.iter().filter(|(key, _)| *key != "metrics" && *key != "asOf");
            let inner: usize = inner.map(|(key, value)| compared(value, &fields[key], names)).sum();
            let Some(listed) = object.get("metrics") else { return inner };
            let listed = listed.as_array().expect("a list");
            assert_eq!(
                listed.iter().map(|value| &value["metric"]).collect::<Vec<_>>(),
                names.iter().collect::<Vec<_>>()
            );
            for value in listed {
                let metric = Metric::ALL.into_iter().find(|metric| value["metric"] == word(*metric)).expect("a metric");
                let field = &fields[metric.field()];
                let is_money = value["unit"] == "MONEY";
                assert!(field.is_null() || field.is_string() == is_money, "{metric:?} {field}");
                let (shown, other) = if is_money { ("amount", "number") } else { ("number", "amount") };
                let is_same = value[shown] == *field || field.is_number() && value[shown].as_f64() == field.as_f64();
                assert!(is_same && value[other].is_null(), "{metric:?}: {field} {value}");
                assert_eq!(value["currency"], if is_money { json!("GBP") } else { Value::Null });
                assert_eq!(value["__typename"], "MetricValue");
            }
            inner + 1
        }
        _ => {
            assert_eq!(named, fields);
            0
        }
    }
}

#[tokio::test]
async fn metrics_by_name_are_those_by_field_on_every_type_and_with_every_filter() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    sold(&acme).await;
    let (by_field, by_name) = (by_field(), by_name());
    for (arguments, at_least) in [
        ("", 10),
        (r#"asOf: "20""#, 8),
        (r#"filters: {channels: ["web"]}"#, 8),
        (r#"filters: {regions: ["South"], channels: ["shop"]}"#, 8),
        (r#"filters: {productCategories: ["drinks"]}"#, 8),
        (r#"filters: {products: ["cake1", "cake2"]}"#, 8),
        ("filters: {customerSegment: NEW}", 8),
        (r#"filters: {regions: []}"#, 6),
    ] {
        let fields = acme.viewer().query(&format!("{{ salesMetrics({PERIOD} {arguments}) {{ {by_field} }} }}")).await;
        // All at once, and each alone, so that nothing else has it computed.
        for names in [names()].into_iter().chain(names().into_iter().map(|name| vec![name])) {
            let query = format!("query($names: [Metric!]!) {{ salesMetrics({PERIOD} {arguments}) {{ {by_name} }} }}");
            let named = acme.viewer().query_with(&query, json!({ "names": names })).await;
            let count = compared(&named, &fields, &names);
            assert!(count >= at_least, "{arguments}: {count} {named}");
        }
    }
}

#[tokio::test]
async fn metrics_by_name_follow_live() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let token = acme.viewer().token();
    let (mut fields, mut names_only) = (Socket::open(&server, &token).await, Socket::open(&server, &token).await);
    let watch = |declared: &str, selection: &str| {
        format!(
            "subscription($tenant: ID! {declared}) {{ \
             metricsUpdated(tenantId: $tenant, {PERIOD}) {{ asOf {{ position }} {selection} }} }}"
        )
    };
    let variables = json!({ "tenant": acme.id().0, "names": names() });
    fields.subscribe("1", &watch("", &by_field()), variables.clone()).await;
    names_only.subscribe("1", &watch("$names: [Metric!]!", &by_name()), variables).await;
    let first = fields.next("1").await["data"].take();
    assert!(compared(&names_only.next("1").await["data"], &first, &names()) >= 6, "{first}");
    sold(&acme).await;
    let mut newest = Vec::new();
    for mut socket in [fields, names_only] {
        loop {
            let next = socket.next("1").await["data"].take();
            // 24 orders, and what comes after them.
            if next["metricsUpdated"]["asOf"]["position"] == "27" {
                newest.push(next);
                break;
            }
        }
    }
    assert_eq!(newest[0]["metricsUpdated"]["ordersCount"], 19);
    assert!(compared(&newest[1], &newest[0], &names()) >= 10, "{newest:?}");
    server.stop().await;
}

#[tokio::test]
async fn only_what_is_named_is_computed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.organization("paris", chrono_tz::Europe::Paris, "EUR").await;
    let mut abroad = sales::order(1, 2);
    abroad.organization = Some("paris".into());
    acme.apply(vec![sales::order(1, 1), abroad]).await;
    let places = |metrics: &str| {
        [
            metrics.to_owned(),
            format!("series(grain: DAY) {{ {metrics} }}"),
            format!("breakdown(by: [REGION], orderBy: {{metric: ORDERS_COUNT}}) {{ rows {{ {metrics} }} }}"),
            format!("breakdown(by: [REGION], orderBy: {{metric: ORDERS_COUNT}}) {{ other {{ {metrics} }} }}"),
            format!("comparison {{ current {{ {metrics} }} }}"),
        ]
    };
    let ask = async |selection: &str, names: Value, filters: &str| {
        let query = format!("query($names: [Metric!]!) {{ salesMetrics({PERIOD} {filters}) {{ {selection} }} }}");
        let response = acme.viewer().run(&query, json!({ "names": names })).await;
        serde_json::to_value(response).expect("json")
    };
    for selection in places("metrics(names: $names) { metric number amount currency }") {
        // As the fields: amounts of two currencies are refused, and nothing else is.
        let money = ask(&selection, json!(["ORDERS_COUNT", "TOTAL_REVENUE"]), "").await;
        assert_eq!(money["errors"][0]["extensions"]["code"], "MIXED_CURRENCIES", "{selection}: {money}");
        for (names, filters) in [
            (json!(["ORDERS_COUNT", "UNIQUE_CUSTOMERS", "VISITS"]), ""),
            (json!([]), ""),
            (json!(["REFUND_RATE"]), r#"filters: {organizationId: "paris"}"#),
        ] {
            let answer = ask(&selection, names, filters).await;
            assert_eq!(answer.get("errors"), None, "{selection}: {answer}");
        }
        let twice = ask(&selection, json!(["VISITS", "ORDERS_COUNT", "VISITS"]), "").await;
        let error = &twice["errors"][0]["extensions"];
        assert_eq!((&error["code"], &error["argument"]), (&json!("BAD_USER_INPUT"), &json!("names")), "{twice}");
    }
    let orders = ask("metrics(names: $names) { number }", json!(["ORDERS_COUNT"]), "").await;
    assert_eq!(orders["data"]["salesMetrics"]["metrics"], json!([{ "number": 2.0 }]));
    let unknown = "{ salesMetrics(period: {preset: TODAY}) { metrics(names: [NOTHING]) { number } } }";
    assert_eq!(acme.viewer().error_code(unknown).await, "BAD_USER_INPUT");
}

#[tokio::test]
async fn each_value_by_name_counts_against_the_limit() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let query = "query($names: [Metric!]!, $days: DateRange!) { salesMetrics(period: $days) { \
                 series(grain: DAY) { metrics(names: $names) { number amount } } } }";
    // 2 values each of 15 metrics on 6,575 days are 197,250; on 8,767 days they are 263,010, and those of 7 metrics 122,738.
    for (first_day, names, is_refused) in
        [("2006-01-01", names(), false), ("2000-01-01", names(), true), ("2000-01-01", names().split_off(8), false)]
    {
        let days = json!({ "firstDay": first_day, "lastDay": "2024-01-01" });
        let response = acme.viewer().run(query, json!({ "names": names, "days": days })).await;
        assert_eq!(!response.errors.is_empty(), is_refused, "{first_day} {} {:?}", names.len(), response.errors);
    }
}
