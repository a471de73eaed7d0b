//! Histories of shops, and what is forecast of them.

use salespulse::clock::{DAY, Timestamp};
use salespulse::ledger::event::{Event, Fact, Line, OrderPlaced, RefundIssued};
use serde_json::Value;

use crate::ledger::{event, money};
use crate::support::{Actor, NOW, TestApp, TestTenant};

/// The orders of one day of June or before, counted back from today (0), in a channel, region and category.
pub fn sale(id: &str, days_ago: i64, amount: &str, place: [&str; 3]) -> Event {
    sale_at(&day(days_ago, "10:00:00"), (id, id), amount, place)
}

/// The same at a time, with the ids of the event and the order.
pub fn sale_at(
    at: &str,
    (event_id, order_id): (&str, &str),
    amount: &str,
    [channel, region, category]: [&str; 3],
) -> Event {
    let line = Line {
        product_id: "tea".into(),
        category: Some(category.into()),
        quantity: 1,
        amount: money(amount),
        ..Line::default()
    };
    let placed = OrderPlaced {
        order_id: order_id.into(),
        version: 1,
        channel: Some(channel.into()),
        region: Some(region.into()),
        lines: vec![line],
        ..OrderPlaced::default()
    };
    event(event_id, at, Fact::OrderPlaced(placed))
}

pub fn refund(id: &str, days_ago: i64, amount: &str) -> Event {
    let issued = RefundIssued { amount: Some(money(amount)), ..RefundIssued::default() };
    event(id, &day(days_ago, "11:00:00"), Fact::RefundIssued(issued))
}

pub fn day(days_ago: i64, time: &str) -> String {
    let date = Timestamp(NOW.0 - days_ago * DAY).to_utc().expect("a time").date_naive();
    format!("{date}T{time}Z")
}

pub const PLACE: [&str; 3] = ["web", "North", "drinks"];
/// What is sold on each day of the week, from Monday on. Today is a Monday.
pub const WEEK: [i64; 7] = [100, 110, 120, 130, 150, 300, 200];

/// Days of the pattern of the week, up to and without today.
pub fn weeks(days: i64) -> Vec<Event> {
    let amount = |ago: i64| WEEK[usize::try_from((-ago).rem_euclid(7)).expect("a weekday")];
    (1..=days).rev().map(|ago| sale(&format!("d{ago}"), ago, &format!("{}.00", amount(ago)), PLACE)).collect()
}

pub async fn shop<'a>(test: &'a TestApp, slug: &str, events: Vec<Event>) -> TestTenant<'a> {
    let shop = test.tenant(slug).await;
    for batch in events.chunks(500) {
        shop.apply(batch.to_vec()).await;
    }
    shop
}

pub const FORECAST: &str = "metric kpi unit models season mase naiveMase coverage origins training { start end buckets known } \
                        asOf { position } points { start end value lower upper }";

pub async fn forecast(actor: &Actor<'_>, arguments: &str) -> Value {
    let query =
        format!("{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ forecast({arguments}) {{ {FORECAST} }} }} }}");
    actor.query(&query).await["salesMetrics"]["forecast"].take()
}

pub async fn refusal(actor: &Actor<'_>, arguments: &str) -> String {
    let query = format!(
        "{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ ordersCount forecast({arguments}) {{ season }} }} }}"
    );
    let response = actor.run(&query, Value::Null).await;
    let data = response.data.into_json().expect("json");
    assert!(data["salesMetrics"]["ordersCount"].is_number() && data["salesMetrics"]["forecast"].is_null(), "{data}");
    match response.errors[0].extensions.as_ref().expect("extensions").get("code") {
        Some(async_graphql::Value::String(code)) => code.clone(),
        other => panic!("no code: {other:?}"),
    }
}

pub fn numbers(points: &Value, field: &str) -> Vec<f64> {
    let number = |point: &Value| point[field].as_str().expect("a decimal").parse().expect("a number");
    points.as_array().expect("points").iter().map(number).collect()
}

/// A hundred days alike but for one, in which one channel, region and category brought ten times as much.
pub fn with_a_spike(ago_of_spike: i64) -> Vec<Event> {
    let usual = (1..=100).flat_map(|ago| {
        let amount = |base: i64| format!("{}.00", base + ago * 7 % 5);
        [
            sale(&format!("a{ago}"), ago, &amount(100), ["web", "North", "drinks"]),
            sale(&format!("b{ago}"), ago, &amount(50), ["shop", "South", "food"]),
        ]
    });
    usual.chain([sale("spike", ago_of_spike, "900.00", ["shop", "North", "food"])]).collect()
}
