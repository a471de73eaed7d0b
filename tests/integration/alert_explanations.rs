//! What was behind an alert of an anomaly: the same as `anomalies` tells of its bucket as of the alert's position.

use std::num::NonZeroU32;

use salespulse::graphql::endpoint::Settings;
use salespulse::graphql::limits::Limits;
use salespulse::ledger::event::Event;
use salespulse::ledger::retention::{close_before, cut};
use salespulse::server::Options;
use serde_json::{Value, json};

use crate::alerts::{at, cancelled, create, minute, time_is};
use crate::histories::sale_at;
use crate::kpis::define;
use crate::socket::Socket;
use crate::support::{Server, TestApp, TestTenant};

const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;
const NIGHT: i64 = 12 * HOUR;
const EXPLAINED: &str = "contributions { metric key { dimension value } value expected share }";

fn sale(id: &str, minutes: i64, amount: i64, place: [&str; 3]) -> Event {
    sale_at(&at(minutes), (&format!("sale-{id}"), id), &format!("{amount}.00"), place)
}

/// Two orders at a time, so many ago, that differ a little.
fn usual(step: i64, agos: impl Iterator<Item = i64>) -> Vec<Event> {
    let both = agos.flat_map(|ago| {
        [
            sale(&format!("a{ago}"), -ago * step, 100 + ago * 7 % 5, ["web", "North", "drinks"]),
            sale(&format!("b{ago}"), -ago * step, 50 + ago * 7 % 5, ["shop", "South", "food"]),
        ]
    });
    both.collect()
}

fn spike() -> Event {
    sale("spike", -5, 900, ["shop", "North", "food"])
}

async fn apply(tenant: &TestTenant<'_>, events: Vec<Event>) {
    for batch in events.chunks(500) {
        tenant.apply(batch.to_vec()).await;
    }
}

fn rule(name: &str, more: &str) -> String {
    format!(r#"name: "{name}", condition: ANOMALY, {more}"#)
}

/// The alert that was reported with this name and state.
async fn alert(tenant: &TestTenant<'_>, name: &str, state: &str) -> Value {
    let query = format!("{{ alertHistory(first: 15) {{ nodes {{ name state position triggeredAt {EXPLAINED} }} }} }}");
    let mut history = tenant.viewer().query(&query).await;
    let nodes = history["alertHistory"]["nodes"].as_array_mut().expect("a list");
    let found = nodes.iter_mut().find(|alert| alert["name"] == name && alert["state"] == state).map(Value::take);
    found.unwrap_or_else(|| panic!("{name} was not reported: {nodes:?}"))
}

/// What `anomalies` tells of the bucket in which the alert ends, as of its position.
async fn told(tenant: &TestTenant<'_>, alert: &Value, start: i64, grain: &str, filters: &str) -> Value {
    let query = format!(
        "{{ salesMetrics(period: {{ start: \"{}\", end: {} }}, asOf: {}, filters: {filters}) {{ \
         anomalies(metrics: [TOTAL_REVENUE], grain: {grain}, sensitivity: HIGH) {{ groups {{ anomalies {{ end {EXPLAINED} }} }} }} }} }}",
        at(start),
        alert["triggeredAt"],
        alert["position"]
    );
    let mut report = tenant.viewer().query(&query).await;
    let anomaly = report["salesMetrics"]["anomalies"]["groups"][0]["anomalies"][0].take();
    assert_eq!(anomaly["end"], alert["triggeredAt"], "{report}");
    anomaly["contributions"].clone()
}

#[tokio::test]
async fn an_alert_tells_what_anomalies_tells_of_its_day() {
    let agos: [Vec<i64>; 4] = [
        (1..=100).collect(),
        // So short a history that it matters when it begins.
        (1..=40).collect(),
        // It begins before the weeks that are compared, in which it begins with a gap.
        (1..=50).chain(80..=90).collect(),
        (1..=45).chain([400]).collect(),
    ];
    for agos in agos {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        apply(&acme, usual(DAY, agos.iter().copied())).await;
        let daily = "metric: TOTAL_REVENUE, windowMinutes: 1440";
        create(&acme, &rule("at once", daily)).await;
        create(&acme, &rule("later", daily)).await;
        let today = usual(DAY, [0].into_iter()).into_iter().map(|event| Event { occurred_at: minute(-10), ..event });
        acme.apply(today.chain([spike()]).collect()).await;
        time_is(&test, NIGHT).await;
        let at_once = alert(&acme, "at once", "FIRING").await;
        let behind = &at_once["contributions"];
        // A sale of 900 more than usual.
        let first = json!({ "metric": "TOTAL_REVENUE", "key": { "dimension": "CHANNEL", "value": "shop" } });
        assert_eq!((&behind[0]["metric"], &behind[0]["key"]), (&first["metric"], &first["key"]), "{agos:?} {at_once}");
        assert!(behind[0]["share"].as_f64().is_some_and(|share| share > 0.9), "{at_once}");
        assert_eq!(*behind, told(&acme, &at_once, -NIGHT, "DAY", "{}").await, "{agos:?}");

        // What comes later changes nothing, but what is told as of now.
        acme.apply(vec![cancelled("spike", NIGHT), sale("late", -7, 5, ["web", "South", "food"])]).await;
        let later = alert(&acme, "later", "FIRING").await;
        assert_eq!(later["contributions"], *behind, "{agos:?}");
        assert_eq!(*behind, told(&acme, &later, -NIGHT, "DAY", "{}").await, "{agos:?}");
    }
}

#[tokio::test]
async fn an_alert_tells_what_anomalies_tells_of_its_hour_across_a_clock_change() {
    let test = TestApp::start().await;
    let london = test.tenant_in("london", chrono_tz::Europe::London, "GBP").await;
    // 30 March, 9:00: a day and more after the clock was changed.
    let now = -(77 * DAY + 4 * HOUR);
    test.clock.set(minute(now));
    let past = usual(HOUR, 1..=65 * 24).into_iter().map(|event| {
        let minutes = (event.occurred_at.0 - minute(0).0) / salespulse::clock::MINUTE;
        Event { occurred_at: minute(minutes + now + 30), ..event }
    });
    apply(&london, past.collect()).await;
    create(&london, &rule("hourly", "metric: TOTAL_REVENUE, windowMinutes: 60")).await;
    test.clock.set(minute(now + 40));
    london.apply(vec![sale("spike", now + 30, 900, ["shop", "North", "food"])]).await;
    time_is(&test, now + HOUR).await;
    london.apply(vec![sale("later", now + 20, 900, ["web", "North", "food"])]).await;
    let hourly = alert(&london, "hourly", "FIRING").await;
    assert_eq!(hourly["contributions"][0]["key"]["value"], "shop", "{hourly}");
    assert_eq!(hourly["contributions"], told(&london, &hourly, now, "HOUR", "{}").await);
}

#[tokio::test]
async fn an_alert_keeps_its_explanation_whatever_becomes_of_the_rule() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    apply(&acme, usual(DAY, 1..=70)).await;
    define(&acme, "sold", "totalRevenue").await;
    create(&acme, &rule("changed", "metric: TOTAL_REVENUE, windowMinutes: 1440")).await;
    let of_shops = "{ channels: [\"shop\"] }";
    let deleted = format!("metric: TOTAL_REVENUE, windowMinutes: 1440, filters: {of_shops}");
    create(&acme, &rule("deleted", &deleted)).await;
    create(&acme, &rule("of a kpi", "kpi: \"sold\", windowMinutes: 1440")).await;
    create(&acme, &rule("no sum", "metric: AVG_ORDER_VALUE, windowMinutes: 1440")).await;
    create(&acme, r#"name: "above", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "500", windowMinutes: 1440"#)
        .await;
    acme.apply(vec![spike()]).await;
    time_is(&test, NIGHT).await;
    let rules = acme.admin().query("{ alerts { id name } }").await;
    let id = |name: &str| {
        let found = rules["alerts"].as_array().expect("a list").iter().find(|rule| rule["name"] == name);
        found.map_or(Value::Null, |rule| rule["id"].clone())
    };
    let other = "metric: VISITS, windowMinutes: 60, filters: { regions: [\"South\"] }";
    let update =
        format!("mutation {{ updateAlert(id: {}, input: {{ {} }}) {{ id }} }}", id("changed"), rule("changed", other));
    acme.admin().query(&update).await;
    acme.admin().query(&format!("mutation {{ deleteAlert(id: {}) }}", id("deleted"))).await;
    let changed = alert(&acme, "changed", "FIRING").await;
    assert_eq!(changed["contributions"], told(&acme, &changed, -NIGHT, "DAY", "{}").await);
    let deleted = alert(&acme, "deleted", "FIRING").await;
    assert_eq!(deleted["contributions"].as_array().map(Vec::len), Some(4), "one channel and category: {deleted}");
    assert_eq!(deleted["contributions"], told(&acme, &deleted, -NIGHT, "DAY", of_shops).await);
    for (name, state, expected) in [
        ("changed", "RESOLVED", Value::Null),
        ("above", "FIRING", Value::Null),
        ("of a kpi", "FIRING", json!([])),
        ("no sum", "FIRING", json!([])),
    ] {
        assert_eq!(alert(&acme, name, state).await["contributions"], expected, "{name}");
    }
}

#[tokio::test]
async fn alerts_from_before_are_explained_if_their_rule_is_still_the_same() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    apply(&acme, usual(DAY, 1..=70)).await;
    create(&acme, &rule("same", "metric: TOTAL_REVENUE, windowMinutes: 1440")).await;
    create(&acme, &rule("deleted", "metric: TOTAL_REVENUE, windowMinutes: 1440")).await;
    acme.apply(vec![spike()]).await;
    time_is(&test, NIGHT).await;
    let explained = alert(&acme, "same", "FIRING").await["contributions"].take();
    let rules = acme.admin().query("{ alerts { id } }").await;
    acme.admin().query(&format!("mutation {{ deleteAlert(id: {}) }}", rules["alerts"][0]["id"])).await;
    let beside = test.migrated_again("m0021_alert_windows").await;
    let acme = TestTenant { test: &beside, created: acme.created };
    assert!(explained.is_array());
    assert_eq!(alert(&acme, "same", "FIRING").await["contributions"], explained);
    assert_eq!(alert(&acme, "deleted", "FIRING").await["contributions"], Value::Null);
}

const LIVE: &str = "subscription ($tenant: ID!, $after: Cursor) { alertTriggered(tenantId: $tenant, after: $after) \
                    { name contributions { share } } }";

#[tokio::test]
async fn what_cannot_be_told_any_more_is_refused_for_that_alert_alone() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    apply(&acme, usual(DAY, 1..=70)).await;
    create(&acme, &rule("odd", "metric: TOTAL_REVENUE, windowMinutes: 1440")).await;
    create(&acme, r#"name: "over", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "500", windowMinutes: 1440"#)
        .await;
    let before = acme.viewer().query("{ alertCursor }").await["alertCursor"].take();
    acme.apply(vec![spike()]).await;
    time_is(&test, NIGHT).await;
    // What is compared with it reaches into months that are gone.
    acme.apply(vec![sale("later", NIGHT, 1, ["web", "North", "drinks"])]).await;
    close_before(&test.app.db, acme.id(), cut(minute(NIGHT), 1).expect("a day")).await.expect("closed");

    let history = "{ alertHistory { nodes { name contributions { share } } } }";
    let response = acme.viewer().run(history, Value::Null).await;
    let (errors, data) = (format!("{:?}", response.errors), response.data.into_json().expect("json"));
    assert!(errors.contains("AS_OF_NOT_AVAILABLE"), "{errors}");
    let nodes = data["alertHistory"]["nodes"].as_array().expect("a list");
    assert!(nodes.len() >= 2 && nodes.iter().all(|alert| alert["contributions"].is_null()), "{data}");

    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    socket.subscribe("1", LIVE, json!({ "tenant": acme.id().0, "after": before })).await;
    let mut told = [socket.next("1").await, socket.next("1").await];
    told.sort_by_key(|alert| alert["data"]["alertTriggered"]["name"].to_string());
    let [odd, over] = told;
    assert_eq!(odd["data"]["alertTriggered"], json!({ "name": "odd", "contributions": null }));
    assert_eq!(odd["errors"][0]["extensions"]["code"], "AS_OF_NOT_AVAILABLE");
    assert_eq!(over["data"]["alertTriggered"], json!({ "name": "over", "contributions": null }));
    assert!(over.get("errors").is_none(), "{over}");
    server.stop().await;
}

#[tokio::test]
async fn explanations_are_limited_and_paid_for() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    apply(&acme, usual(DAY, 1..=70)).await;
    for n in 0..21 {
        create(&acme, &rule(&format!("odd {n}"), "metric: TOTAL_REVENUE, windowMinutes: 1440")).await;
    }
    let before = acme.viewer().query("{ alertCursor }").await["alertCursor"].take();
    acme.apply(vec![spike()]).await;
    time_is(&test, NIGHT).await;
    let twenty = acme.viewer().query("{ alertHistory(first: 20) { nodes { contributions { share } } } }").await;
    let nodes = twenty["alertHistory"]["nodes"].as_array().expect("a list");
    assert!(nodes.len() == 20 && nodes.iter().all(|alert| *alert == nodes[0] && alert["contributions"].is_array()));
    let more = "{ alertHistory(first: 21) { nodes { contributions { share } } } }";
    assert_eq!(acme.viewer().error_code(more).await, "BAD_USER_INPUT");

    // A subscription sends more than that, each for as many fields, and goes on where it may not.
    let limits = Limits { user_fields: NonZeroU32::new(2_500), ..Limits::default() };
    let options = Options { api: Settings { limits, ..Settings::default() }, ..Options::default() };
    let server = Server::with(test.app.clone(), options).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    socket.subscribe("1", LIVE, json!({ "tenant": acme.id().0, "after": before })).await;
    let mut told = Vec::new();
    for n in 0..21 {
        let next = socket.next("1").await;
        assert_eq!(next["data"]["alertTriggered"]["name"], format!("odd {n}"));
        told.push(next["errors"][0]["extensions"]["code"].clone());
    }
    assert_eq!(told.iter().filter(|code| code.is_null()).count(), 2, "{told:?}");
    assert_eq!(told.iter().filter(|code| **code == "RATE_LIMITED").count(), 19, "{told:?}");
    server.stop().await;
}
