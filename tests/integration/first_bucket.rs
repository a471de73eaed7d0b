//! The first week, month or quarter of a history: whether it is learned from depends on when in it sales began.

use chrono::{Days, NaiveDate};
use salespulse::ledger::event::{Event, Fact, OrderPlaced};
use serde_json::{Value, json};

use crate::ledger::{event, money};
use crate::support::{TestApp, TestTenant};

fn day(text: &str) -> NaiveDate {
    text.parse().expect("a day")
}

/// A sale on each day from `first` up to today, 15 June 2026.
fn daily(first: &str, channel: &str) -> Vec<Event> {
    let (first, end) = (day(first), day("2026-06-15"));
    let sale = |n: u64| {
        let day = first.checked_add_days(Days::new(n)).filter(|day| *day < end)?;
        let placed = OrderPlaced {
            order_id: format!("{channel}{n}"),
            version: 1,
            channel: Some(channel.into()),
            amount: Some(money("10.00")),
            ..OrderPlaced::default()
        };
        Some(event(&format!("{channel}{n}"), &format!("{day}T10:00:00Z"), Fact::OrderPlaced(placed)))
    };
    (0..).map_while(sale).collect()
}

async fn apply(tenant: &TestTenant<'_>, events: Vec<Event>) {
    for batch in events.chunks(500) {
        tenant.apply(batch.to_vec()).await;
    }
}

/// Where the training of forecasts begins, and that of anomalies.
async fn trained_from(tenant: &TestTenant<'_>, grain: &str, of: &str) -> [String; 2] {
    let query = format!(
        "{{ salesMetrics(period: {{preset: LAST_30_DAYS}}{of}) {{ \
         forecast(horizon: 1, model: NAIVE, grain: {grain}) {{ training {{ start }} }} \
         anomalies(grain: {grain}, metrics: [TOTAL_REVENUE]) {{ training {{ start }} }} }} }}"
    );
    let told = tenant.viewer().query(&query).await;
    let start = |field: &str| {
        let start = told["salesMetrics"][field]["training"]["start"].as_str().expect("a start");
        start.trim_end_matches("T00:00:00Z").to_owned()
    };
    [start("forecast"), start("anomalies")]
}

#[tokio::test]
async fn a_bucket_that_sales_begin_within_is_left_out() {
    for (began, grain, expected) in [
        ("2025-03-20", "MONTH", "2025-04-01"),
        ("2025-03-05", "MONTH", "2025-04-01"),
        // The first two days of a month may be a weekend.
        ("2025-03-03", "MONTH", "2025-03-01"),
        ("2025-03-01", "MONTH", "2025-03-01"),
        ("2025-03-11", "WEEK", "2025-03-17"),
        ("2025-03-10", "WEEK", "2025-03-10"),
        ("2023-01-12", "QUARTER", "2023-04-01"),
        ("2023-01-02", "QUARTER", "2023-01-01"),
        ("2025-03-20", "DAY", "2025-03-20"),
    ] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        apply(&acme, daily(began, "web")).await;
        assert_eq!(trained_from(&acme, grain, "").await, [expected; 2], "{began} {grain}");
        let position = acme.apply(daily("2026-06-14", "shop")).await.position - 1;
        let earlier = format!(", asOf: \"{position}\"");
        assert_eq!(trained_from(&acme, grain, &earlier).await, [expected; 2], "{began} {grain}");
    }
}

#[tokio::test]
async fn a_bucket_is_left_out_by_when_sales_under_the_filter_began() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    apply(&acme, daily("2025-01-01", "web")).await;
    apply(&acme, daily("2025-03-20", "shop")).await;
    assert_eq!(trained_from(&acme, "MONTH", "").await, ["2025-01-01"; 2]);
    let of_shops = ", filters: {channels: [\"shop\"]}";
    assert_eq!(trained_from(&acme, "MONTH", of_shops).await, ["2025-04-01"; 2]);
}

#[tokio::test]
async fn a_history_of_a_part_of_a_month_is_too_short_and_not_empty() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    apply(&acme, daily("2026-05-20", "web")).await;
    let query = "{ salesMetrics(period: {preset: LAST_30_DAYS}) { forecast(horizon: 1, grain: MONTH) { season } } }";
    let response = acme.viewer().run(query, Value::Null).await;
    let code = response.errors[0].extensions.as_ref().and_then(|extensions| extensions.get("code").cloned());
    assert_eq!(code.map(|code| code.into_json().expect("json")), Some(json!("FORECAST_HISTORY_TOO_SHORT")));
}
