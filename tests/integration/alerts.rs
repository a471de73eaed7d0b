//! Alert rules over time: what they report, and that a rule tried on history reports the same
//! (`alert_simulations.rs` tries many).

use salespulse::alerts::sweep_once;
use salespulse::audit::By;
use salespulse::clock::{MINUTE, Timestamp};
use salespulse::ledger::event::{Event, Fact, OrderCancelled, OrderPlaced, RefundIssued, VisitsCounted};
use salespulse::money::{EVENT_AMOUNT_MAX, Money};
use serde_json::{Value, json};

use crate::kpis::define;
use crate::ledger::{event, order};
use crate::support::{NOW, TestApp, TestTenant};

/// Minutes after 12:00.
pub fn minute(minutes: i64) -> Timestamp {
    Timestamp(NOW.0 + minutes * MINUTE)
}

pub fn at(minutes: i64) -> String {
    minute(minutes).to_utc().expect("a time").to_rfc3339()
}

pub fn sale(id: &str, minutes: i64) -> Event {
    event(&format!("sale-{id}"), &at(minutes), Fact::OrderPlaced(order(id, 1, "c", "10.00")))
}

pub fn cancelled(id: &str, minutes: i64) -> Event {
    let fact = Fact::OrderCancelled(OrderCancelled { order_id: id.into(), version: 2 });
    event(&format!("cancel-{id}"), &at(minutes), fact)
}

pub fn refunded(id: &str, minutes: i64) -> Event {
    let fact = Fact::RefundIssued(RefundIssued {
        order_id: Some(id.into()),
        amount: Some(Money(100_000)),
        ..RefundIssued::default()
    });
    event(&format!("refund-{id}"), &at(minutes), fact)
}

/// Moves the clock there, and lets time do what it does.
pub async fn time_is(test: &TestApp, minutes: i64) {
    test.clock.set(minute(minutes));
    sweep_once(&test.app).await.expect("swept");
}

pub async fn create(tenant: &TestTenant<'_>, input: &str) {
    let create = format!("mutation {{ createAlert(input: {{ {input} }}) {{ state }} }}");
    assert_eq!(tenant.admin().query(&create).await, json!({ "createAlert": { "state": "OK" } }));
}

/// What was reported, oldest first: state, value, and minutes after 12:00.
pub async fn reported(tenant: &TestTenant<'_>) -> Vec<(String, Option<String>, i64)> {
    let query = "{ alertHistory(last: 100) { nodes { state value triggeredAt } } }";
    let history = tenant.admin().query(query).await;
    let mut rows = rows(&history["alertHistory"]["nodes"]);
    rows.reverse();
    rows
}

fn rows(nodes: &Value) -> Vec<(String, Option<String>, i64)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |node: &Value| {
        let at = crate::support::at(node["triggeredAt"].as_str().expect("a time"));
        (text(&node["state"]).expect("a state"), text(&node["value"]), (at.0 - NOW.0).div_euclid(MINUTE))
    };
    nodes.as_array().expect("a list").iter().map(row).collect()
}

pub async fn simulated(tenant: &TestTenant<'_>, input: &str, from: i64, to: i64) -> Vec<(String, Option<String>, i64)> {
    let query = format!(
        r#"{{ simulateAlert(input: {{ {input} }}, from: "{}", to: "{}") {{ state value triggeredAt position unit currency }} }}"#,
        at(from),
        at(to)
    );
    let simulated = tenant.admin().query(&query).await["simulateAlert"].take();
    for change in simulated.as_array().expect("a list") {
        let (unit, currency) = (&change["unit"], &change["currency"]);
        assert!(unit.is_string() && currency.is_string() == (unit == "MONEY"), "{change}");
    }
    rows(&simulated)
}

pub fn report(state: &str, value: &str, minutes: i64) -> (String, Option<String>, i64) {
    (state.to_owned(), Some(value.to_owned()), minutes)
}

const BUSY: &str = r#"name: "Busy", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "15", windowMinutes: 30"#;

#[tokio::test]
async fn a_rule_is_of_an_organization_that_is_there() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let rule = |organization: &str| {
        format!(
            "input: {{ name: \"Busy\", metric: ORDERS_COUNT, condition: ABOVE, threshold: \"2\", windowMinutes: 120, \
             filters: {{ organizationId: \"{organization}\" }} }}"
        )
    };
    let create = |organization| format!("mutation {{ createAlert({}) {{ id }} }}", rule(organization));
    let created = acme.admin().query(&create("acme")).await;
    let update =
        format!("mutation {{ updateAlert(id: {}, {}) {{ id }} }}", created["createAlert"]["id"], rule("other"));
    let other = test.tenant("other").await;
    for refused in [create("nowhere"), create("other"), update] {
        assert_eq!(acme.admin().error_code(&refused).await, "NOT_FOUND", "{refused}");
    }
    assert_eq!(acme.admin().query("{ alerts { name } }").await, json!({ "alerts": [{ "name": "Busy" }] }));
    assert_eq!(other.admin().query("{ alerts { name } }").await, json!({ "alerts": [] }));
}

#[tokio::test]
async fn a_rule_fires_on_what_is_complete_and_resolves_when_time_has_passed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    create(&acme, BUSY).await;
    time_is(&test, 5).await;
    acme.apply(vec![sale("1", 3), sale("2", 4)]).await;
    assert_eq!(reported(&acme).await, [], "the running quarter of an hour is not complete");
    time_is(&test, 16).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "20.00", 15)], "as of the end of the quarter, not of the look");
    time_is(&test, 50).await;
    let expected = [report("FIRING", "20.00", 15), report("RESOLVED", "0.00", 45)];
    assert_eq!(reported(&acme).await, expected);
    assert_eq!(simulated(&acme, BUSY, 0, 50).await, expected);
}

#[tokio::test]
async fn a_cancellation_or_a_refund_retracts_what_it_undoes() {
    for undo in [cancelled("2", 17), refunded("2", 17)] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        let input = format!("{BUSY}, includeOpen: true");
        create(&acme, &input).await;
        test.clock.set(minute(4));
        acme.apply(vec![sale("1", 3)]).await;
        test.clock.set(minute(5));
        acme.apply(vec![sale("2", 4)]).await;
        test.clock.set(minute(17));
        acme.apply(vec![undo]).await;
        let expected = [report("FIRING", "20.00", 5), report("RETRACTED", "10.00", 17)];
        assert_eq!(reported(&acme).await, expected);
        assert_eq!(simulated(&acme, &input, 0, 17).await, expected);
    }
}

#[tokio::test]
async fn what_undoes_the_cause_of_a_resolved_alert_retracts_it_too() {
    const DAYS_LATER: i64 = 3 * 24 * 60;
    for (undo, minutes, value) in [
        (cancelled("1", 60), 60, "10.00"),
        (refunded("1", 60), 60, "10.00"),
        // The refund counts on its own day, and undoes its order on the order's.
        (refunded("1", DAYS_LATER), DAYS_LATER, "0.00"),
    ] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        create(&acme, BUSY).await;
        test.clock.set(minute(5));
        acme.apply(vec![sale("1", 3), sale("2", 4)]).await;
        time_is(&test, 60).await;
        acme.apply(vec![sale("3", 59)]).await;
        time_is(&test, minutes).await;
        assert_eq!(reported(&acme).await.len(), 2, "fired and resolved");
        acme.apply(vec![undo.clone()]).await;
        let expected =
            [report("FIRING", "20.00", 15), report("RESOLVED", "0.00", 45), report("RETRACTED", value, minutes)];
        assert_eq!(reported(&acme).await, expected, "{undo:?}");
        assert_eq!(simulated(&acme, BUSY, 0, minutes).await, expected, "{undo:?}");
    }
}

/// What is sold now is in no window of complete 15 minutes.
#[tokio::test]
async fn a_batch_costs_the_same_however_many_rules_it_does_not_concern() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut costs = Vec::new();
    for rules in [1, 2, 4] {
        for _ in 0..rules {
            create(&acme, BUSY).await;
        }
        let minutes = 15 * rules + 1;
        time_is(&test, minutes).await;
        acme.apply(vec![sale(&format!("before-{rules}"), minutes)]).await;
        let before = test.app.db.statements();
        acme.apply(vec![sale(&format!("then-{rules}"), minutes)]).await;
        costs.push((test.app.db.statements() - before).statements);
    }
    // The first batches meet what later ones know.
    assert_eq!(costs[1], costs[2], "{costs:?}");
}

/// A late fact in the window compared with undoes a change as well, also where a KPI compares.
#[tokio::test]
async fn what_is_recorded_late_before_a_change_retracts_it() {
    for watched in ["metric: ORDERS_COUNT, condition: CHANGE_ABOVE", r#"kpi: "rise", condition: ABOVE"#] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        define(&acme, "rise", "growth(ordersCount)").await;
        let input = format!(r#"name: "More", {watched}, threshold: "0.5", windowMinutes: 15"#);
        create(&acme, &input).await;
        test.clock.set(minute(17));
        acme.apply(vec![sale("1", 1), sale("2", 16), sale("3", 17)]).await;
        time_is(&test, 31).await;
        time_is(&test, 46).await;
        acme.apply(vec![sale("4", 2), sale("5", 3)]).await;
        // The value is that of the window at the time: nothing, after two.
        let expected =
            [report("FIRING", "1.00", 30), report("RESOLVED", "-1.00", 45), report("RETRACTED", "-1.00", 46)];
        assert_eq!(reported(&acme).await, expected, "{watched}");
        assert_eq!(simulated(&acme, &input, 0, 46).await, expected, "{watched}");
    }
}

/// Also while the window itself does not show it yet.
#[tokio::test]
async fn a_refund_retracts_the_order_of_a_rule_that_still_fires() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let input = r#"name: "Busy", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "15", windowMinutes: 15"#;
    create(&acme, input).await;
    test.clock.set(minute(4));
    acme.apply(vec![sale("1", 3), sale("2", 4)]).await;
    time_is(&test, 16).await;
    test.clock.set(minute(17));
    acme.apply(vec![refunded("2", 17)]).await;
    time_is(&test, 31).await;
    let expected = [report("FIRING", "20.00", 15), report("RETRACTED", "-10.00", 30)];
    assert_eq!(reported(&acme).await, expected);
    assert_eq!(simulated(&acme, input, 0, 31).await, expected);
}

/// The window that a change is compared with begins before the quarter of an hour in which the simulation does.
#[tokio::test]
async fn a_simulation_knows_all_that_its_first_window_is_compared_with() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let input = r#"name: "More", metric: ORDERS_COUNT, condition: CHANGE_ABOVE, threshold: "0.5", windowMinutes: 15"#;
    test.clock.set(minute(36));
    acme.apply(vec![sale("1", 1), sale("2", 16), sale("3", 17)]).await;
    create(&acme, input).await;
    acme.apply(vec![sale("4", 36)]).await;
    let found = reported(&acme).await;
    assert_eq!(found, [report("FIRING", "1.00", 36)]);
    test.clock.set(minute(38));
    assert_eq!(simulated(&acme, input, 36, 37).await, found);
}

/// A rate is compared as it is, not as it is shown.
#[tokio::test]
async fn a_value_is_compared_before_it_is_rounded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let input = r#"name: "Few", metric: CONVERSION_RATE, condition: BELOW, threshold: "0.0001", windowMinutes: 15, includeOpen: true"#;
    create(&acme, input).await;
    let visits = Fact::VisitsCounted(VisitsCounted { count: 15_000, ..VisitsCounted::default() });
    acme.apply(vec![sale("1", 0), event("v", &at(0), visits)]).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "0.0001", 0)]);
}

/// Refunds that were issued elsewhere before undo nothing that fired beside them.
#[tokio::test]
async fn nothing_is_retracted_without_a_fact_that_undoes_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale("1", 1)]).await;
    test.clock.set(minute(16));
    acme.apply(vec![refunded("1", 16)]).await;
    let input = r#"name: "Busy", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "15", windowMinutes: 15"#;
    create(&acme, input).await;
    acme.apply(vec![sale("2", 2)]).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "20.00", 16)]);
    time_is(&test, 31).await;
    let found = reported(&acme).await;
    assert_eq!((found.len(), found[1].0.as_str()), (2, "RESOLVED"), "{found:?}");
}

/// An edited rule can be tried before it is saved, though its secret is never shown again.
#[tokio::test]
async fn a_rule_is_tried_without_the_secrets_of_its_recipients() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale("1", 0)]).await;
    test.clock.set(minute(1));
    let input = format!(r#"{BUSY}, recipients: [{{ channel: WEBHOOK, target: "https://example.org/hook" }}]"#);
    assert_eq!(simulated(&acme, &input, 0, 1).await, []);
}

#[tokio::test]
async fn silence_change_patience_and_frequency() {
    let silence = r#"name: "Quiet", metric: ORDERS_COUNT, condition: NO_DATA, windowMinutes: 30"#;
    let change = r#"name: "Less", metric: ORDERS_COUNT, condition: CHANGE_BELOW, threshold: "-0.4", windowMinutes: 15"#;
    let patient =
        r#"name: "Long", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 15, forMinutes: 20"#;
    let once =
        r#"name: "Once", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 15, frequency: ONCE"#;
    let seldom = r#"name: "Seldom", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 15,
        frequency: AT_MOST_EVERY, everyMinutes: 50"#;
    for (input, expected) in [
        (
            silence,
            vec![
                report("FIRING", "0.00", 0),
                report("RESOLVED", "2.00", 15),
                report("FIRING", "0.00", 60),
                report("RESOLVED", "1.00", 75),
            ],
        ),
        (
            change,
            vec![report("FIRING", "-0.50", 30), ("RESOLVED".to_owned(), None, 60), report("FIRING", "-1.00", 105)],
        ),
        (
            patient,
            vec![
                report("FIRING", "1.00", 35),
                report("RESOLVED", "0.00", 45),
                report("FIRING", "1.00", 95),
                report("RESOLVED", "0.00", 105),
            ],
        ),
        (once, vec![report("FIRING", "2.00", 15), report("RESOLVED", "0.00", 45)]),
        (
            seldom,
            vec![
                report("FIRING", "2.00", 15),
                report("RESOLVED", "0.00", 45),
                report("FIRING", "1.00", 75),
                report("RESOLVED", "0.00", 105),
            ],
        ),
    ] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        create(&acme, input).await;
        for (minutes, id) in [(5, "a"), (6, "b"), (20, "c"), (65, "d"), (80, "e")] {
            time_is(&test, minutes).await;
            acme.apply(vec![sale(id, minutes - 1)]).await;
        }
        time_is(&test, 110).await;
        let found = reported(&acme).await;
        assert_eq!(simulated(&acme, input, 0, 110).await, found, "{input}");
        assert_eq!(found, expected, "{input}");
    }
}

#[tokio::test]
async fn hysteresis_keeps_a_rule_from_firing_over_and_over() {
    let input = r#"name: "Busy", metric: ORDERS_COUNT, condition: ABOVE, threshold: "2", clearThreshold: "1",
        windowMinutes: 15"#;
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    create(&acme, input).await;
    // 3, 2, 3, 1 sales in the quarters of the hour.
    for (quarter, sales) in [3, 2, 3, 1].into_iter().enumerate() {
        let start = i64::try_from(quarter).expect("small") * 15;
        time_is(&test, start + 10).await;
        acme.apply((0..sales).map(|n| sale(&format!("{quarter}-{n}"), start + 5)).collect()).await;
    }
    time_is(&test, 60).await;
    let expected = [report("FIRING", "3.00", 15), report("RESOLVED", "1.00", 60)];
    assert_eq!(reported(&acme).await, expected);
    assert_eq!(simulated(&acme, input, 0, 60).await, expected);
}

#[tokio::test]
async fn a_sum_beyond_all_bounds_keeps_no_sale_from_being_recorded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    create(&acme, r#"name: "Much", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "1", windowMinutes: 44640"#)
        .await;
    // Five hundred of the largest amounts fit into 64 bits, a thousand do not.
    for day in [10, 20] {
        let sales = (0..500).map(|n| {
            let id = format!("{day}-{n}");
            let fact = Fact::OrderPlaced(OrderPlaced {
                amount: Some(EVENT_AMOUNT_MAX),
                ..order(&id, 1, &day.to_string(), "1.00")
            });
            event(&format!("sale-{id}"), &at(-day * 24 * 60), fact)
        });
        acme.apply(sales.collect()).await;
    }
    let row = "{ salesMetrics(period: { preset: LAST_30_DAYS }) { grossRevenue } }";
    assert_eq!(acme.admin().error_code(row).await, "AMOUNT_OUT_OF_RANGE");
    acme.apply(vec![sale("last", -1)]).await;
    acme.verified().await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_answered_any_more_stays_as_it_is() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let input = r#"name: "Sales", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "0", windowMinutes: 60, includeOpen: true"#;
    create(&acme, input).await;
    time_is(&test, 10).await;
    acme.apply(vec![sale("1", 9)]).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "10.00", 10)]);
    let create_second = r#"mutation { createOrganization(input: { slug: "second", name: "Second", timezone: "UTC", currency: "JPY" }) { id } }"#;
    acme.admin().query(create_second).await;
    acme.apply(vec![Event { organization: Some("second".into()), ..sale("3", 9) }]).await;
    let again = format!("mutation {{ createAlert(input: {{ {input} }}) {{ id }} }}");
    assert_eq!(acme.admin().error_code(&again).await, "MIXED_CURRENCIES");
    time_is(&test, 20).await;
    acme.apply(vec![sale("2", 19)]).await;
    time_is(&test, 200).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "10.00", 10)]);
    // What has no currency can be watched.
    create(&acme, &input.replace("TOTAL_REVENUE", "ORDERS_COUNT")).await;
}

#[tokio::test]
async fn what_is_stored_of_a_filter_outlasts_the_slug_of_its_organization() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.organization("shop", chrono_tz::UTC, "EUR").await;
    let organization = acme.admin().query("{ organizations { id } }").await["organizations"][1]["id"].take();
    let organization = organization.as_str().expect("an id");
    let filters = r#"filters: { organizationId: "shop" }"#;
    create(&acme, &format!(r#"name: "Sales", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 60, includeOpen: true, {filters}"#)).await;
    let board = format!(r#"mutation {{ createDashboard(input: {{ name: "Shop", {filters} }}) {{ id filters }} }}"#);
    let board = acme.admin().query(&board).await["createDashboard"].take();
    assert_eq!(board["filters"]["organizationId"], json!(organization));
    let rename = format!(
        r#"mutation {{ updateOrganization(id: "{organization}", input: {{ slug: "other", name: "Shop", timezone: "UTC", currency: "EUR" }}) {{ slug }} }}"#
    );
    acme.admin().query(&rename).await;
    time_is(&test, 10).await;
    acme.apply(vec![Event { organization: Some("other".into()), ..sale("1", 9) }]).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "1.00", 10)]);
}

#[tokio::test]
async fn a_webhook_keeps_its_secret_when_its_rule_is_changed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let rule = |name: &str, recipient: &str| {
        format!(
            r#"input: {{ name: "{name}", metric: VISITS, condition: NO_DATA, recipients: [{{ channel: WEBHOOK, {recipient} }}] }}"#
        )
    };
    let known = r#"target: "https://hook.example/a""#;
    let with_secret = format!(r#"{known}, secret: "a secret that is long enough""#);
    let create = format!("mutation {{ createAlert({}) {{ id }} }}", rule("one", &with_secret));
    let id = acme.admin().query(&create).await["createAlert"]["id"].take();
    let update = |recipient: &str| {
        format!("mutation {{ updateAlert(id: {id}, {}) {{ name recipients {{ target }} }} }}", rule("two", recipient))
    };
    let updated = acme.admin().query(&update(known)).await["updateAlert"].take();
    assert_eq!(updated, json!({ "name": "two", "recipients": [{ "target": "https://hook.example/a" }] }));
    acme.admin().refused(&update(r#"target: "https://hook.example/b""#), "recipients.0.secret").await;
    let tx = test.app.db.read(acme.id()).await.expect("begun");
    let id = uuid::Uuid::parse_str(id.as_str().expect("an id")).expect("an id");
    let (stored, _) = salespulse::alerts::store::get_rule(&tx, id).await.expect("the rule");
    assert_eq!(stored.recipients[0].secret.as_deref(), Some("a secret that is long enough"));
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let refused = async |input: &str, argument: &str| {
        let create = format!(r#"mutation {{ createAlert(input: {{ name: "x", metric: VISITS, {input} }}) {{ id }} }}"#);
        acme.admin().refused(&create, argument).await;
    };
    refused(r#"condition: ABOVE, threshold: "5", clearThreshold: "6""#, "clearThreshold").await;
    refused(r#"condition: BELOW, threshold: "5", clearThreshold: "4""#, "clearThreshold").await;
    refused("condition: NO_DATA, forMinutes: -1", "forMinutes").await;
    refused("condition: NO_DATA, frequency: AT_MOST_EVERY", "everyMinutes").await;
    refused("condition: NO_DATA, everyMinutes: 5", "everyMinutes").await;
    refused("condition: ANOMALY, windowMinutes: 120", "windowMinutes").await;
    refused("condition: ANOMALY, forMinutes: 15", "forMinutes").await;
    refused("condition: ANOMALY, includeOpen: true", "includeOpen").await;
    refused(r#"condition: ANOMALY, threshold: "-1""#, "threshold").await;
    refused(r#"condition: ANOMALY, clearThreshold: "1""#, "clearThreshold").await;
    let twice = r#"{ channel: EMAIL, target: "ann@acme.example" }"#;
    refused(&format!("condition: NO_DATA, recipients: [{twice}, {twice}]"), "recipients.1.target").await;
    let simulate = |from: &str, to: &str| {
        format!(r#"{{ simulateAlert(input: {{ {BUSY} }}, from: "{from}", to: "{to}") {{ state }} }}"#)
    };
    for (from, to) in [(at(0), at(0)), (at(-10), at(10)), (at(-32 * 24 * 60), at(0))] {
        acme.admin().refused(&simulate(&from, &to), "to").await;
    }
    assert_eq!(acme.viewer().error_code(&simulate(&at(-10), &at(0))).await, "FORBIDDEN");
}

#[tokio::test]
async fn a_period_before_anything_was_recorded_is_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    test.clock.set(minute(60));
    assert_eq!(simulated(&acme, BUSY, 0, 50).await, [], "there is nothing at all yet");
    // Of before, but recorded only now.
    test.app.ledger.record(acme.id(), By::default(), vec![sale("1", 3), sale("2", 4)], true).await.expect("recorded");
    test.clock.set(minute(90));
    let simulate = |to: i64| {
        format!(r#"{{ simulateAlert(input: {{ {BUSY} }}, from: "{}", to: "{}") {{ state }} }}"#, at(0), at(to))
    };
    let response = acme.admin().run(&simulate(50), Value::Null).await;
    let message = "nothing was recorded before 2026-06-15T13:00:00Z; rules are replayed as events were recorded";
    assert_eq!(response.errors[0].message, message);
    acme.admin().refused(&simulate(50), "to").await;
    assert_eq!(acme.admin().query(&simulate(61)).await, json!({ "simulateAlert": [] }));
}

#[tokio::test]
async fn a_server_whose_clock_is_behind_looks_at_no_earlier_window() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(vec![sale("before", -5)]).await;
    create(&acme, r#"name: "Quiet", metric: ORDERS_COUNT, condition: BELOW, threshold: "1", windowMinutes: 15"#).await;
    test.clock.set(minute(10));
    acme.apply(vec![sale("a", 10)]).await;
    time_is(&test, 30).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "0.00", 30)]);
    // The newest window that has ended by this clock has orders.
    test.clock.set(minute(29));
    acme.apply(vec![sale("b", 1)]).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "0.00", 30)]);
}

#[tokio::test]
async fn a_rule_is_tried_on_what_servers_with_different_clocks_recorded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    test.clock.set(minute(60));
    acme.apply(vec![sale("a", 58)]).await;
    test.clock.set(minute(59));
    acme.apply(vec![sale("b", 57)]).await;
    test.clock.set(minute(90));
    assert_eq!(simulated(&acme, BUSY, 60, 80).await, [report("FIRING", "20.00", 60)]);
}
