//! Rules for anomalies: evaluated when a bucket is over, by those before it, live and on history alike.

use proptest::prelude::*;
use salespulse::alerts::sweep_once;
use salespulse::db::get;
use salespulse::ledger::event::{Event, Fact, OrderCancelled, RefundIssued};

use crate::alerts::{at, create, minute, report, reported, simulated, time_is};
use crate::kpis::define;
use crate::ledger::{event, money, order};
use crate::support::TestApp;

const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;

fn sale(id: &str, minutes: i64, amount: i64) -> Event {
    event(&format!("sale-{id}"), &at(minutes), Fact::OrderPlaced(order(id, 1, "c", &format!("{amount}.00"))))
}

fn cancelled(id: &str, minutes: i64) -> Event {
    let fact = Fact::OrderCancelled(OrderCancelled { order_id: id.into(), version: 2 });
    event(&format!("cancel-{id}"), &at(minutes), fact)
}

/// A little more or less each day, twice as much on weekends, at 12:00 of the days before today.
fn usual_days(days: i64) -> Vec<Event> {
    let amount = |ago: i64| 100 + ago * 7 % 11 + if (-ago).rem_euclid(7) > 4 { 100 } else { 0 };
    (1..=days).rev().map(|ago| sale(&format!("d{ago}"), -ago * DAY, amount(ago))).collect()
}

const DAILY: &str = r#"name: "Odd", metric: TOTAL_REVENUE, condition: ANOMALY, windowMinutes: 1440"#;

/// The minutes from 12:00 to the end of the day that is so many days ahead.
fn end_of_day(ahead: i64) -> i64 {
    ahead * DAY + 12 * HOUR
}

#[tokio::test]
async fn a_day_is_judged_when_it_is_over() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(70)).await;
    create(&acme, DAILY).await;
    acme.apply(vec![sale("a", -10, 105), sale("b", -5, 900)]).await;
    time_is(&test, end_of_day(0) - 1).await;
    assert_eq!(reported(&acme).await, [], "the day is not over");
    let before = test.app.db.statements();
    acme.apply(vec![sale("c", end_of_day(0) - 2, 1)]).await;
    let commit = (test.app.db.statements() - before).statements;
    time_is(&test, end_of_day(0) + 20).await;
    assert_eq!(reported(&acme).await, [report("FIRING", "1006.00", end_of_day(0))]);
    // What comes later into the day is looked at when the next one is over; no commit waits for it.
    acme.apply(vec![cancelled("b", end_of_day(0) + 19)]).await;
    let before = test.app.db.statements();
    acme.apply(vec![sale("e", -3, 1)]).await;
    assert!((test.app.db.statements() - before).statements <= commit + 2, "nothing is read of the past");
    acme.apply(vec![sale("d", end_of_day(0) + 18, 106)]).await;
    time_is(&test, end_of_day(1) + 1).await;
    let expected = vec![report("FIRING", "1006.00", end_of_day(0)), report("RETRACTED", "106.00", end_of_day(1))];
    assert_eq!(reported(&acme).await, expected);
    assert_eq!(simulated(&acme, DAILY, 0, end_of_day(1) + 1).await, expected);
    let modest = format!(r#"{DAILY}, threshold: "100000""#);
    assert_eq!(simulated(&acme, &modest, 0, end_of_day(1) + 1).await, [], "no score is so high");
}

#[tokio::test]
async fn what_was_to_be_expected_is_told_with_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(70)).await;
    let recipients = r#"recipients: [{channel: EMAIL, target: "a@acme.example"}]"#;
    create(&acme, &format!("{DAILY}, {recipients}")).await;
    create(&acme, r#"name: "Busy", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "500", windowMinutes: 1440"#)
        .await;
    acme.apply(vec![sale("a", -10, 105), sale("b", -5, 900)]).await;
    time_is(&test, end_of_day(0)).await;
    const JUDGED: &str = "state value expected lower upper score";
    let history = format!("{{ alertHistory(last: 100) {{ nodes {{ name {JUDGED} }} }} }}");
    let history = acme.admin().query(&history).await["alertHistory"]["nodes"].take();
    let find = |name: &str| {
        let found = history.as_array().expect("a list").iter().find(|node| node["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {history}")).clone()
    };
    let odd = find("Odd");
    let number = |field: &str| odd[field].as_str().expect("a decimal").parse::<f64>().expect("a number");
    let [value, expected, lower, upper] = ["value", "expected", "lower", "upper"].map(number);
    // Mondays have brought 100 to 110.
    assert!((100.0..=110.0).contains(&expected) && value == 1005.0, "{odd}");
    assert!(lower < 100.0 && 110.0 < upper && upper < 300.0, "{odd}");
    // Half the range is at least 3.5 standard deviations.
    let beyond = (value - expected) / (upper - expected) * 3.5;
    assert!(number("score") >= beyond - 0.1, "{odd}");
    let busy = find("Busy");
    assert_eq!((&busy["expected"], &busy["score"]), (&serde_json::Value::Null, &serde_json::Value::Null));

    let simulate = format!(
        r#"{{ simulateAlert(input: {{ {DAILY} }}, from: "{}", to: "{}") {{ {JUDGED} }} }}"#,
        at(0),
        at(end_of_day(0))
    );
    let simulated = acme.admin().query(&simulate).await["simulateAlert"][0].take();
    assert!(JUDGED.split(' ').all(|field| simulated[field] == odd[field]), "{simulated} {odd}");

    let tx = test.app.db.read(acme.id()).await.expect("a snapshot");
    let row = tx.query_one("SELECT text, body FROM deliveries WHERE tenant_id = $1", []).await.expect("a query");
    let row = row.expect("a delivery");
    let (text, body): (String, String) = (get(&row, 0).expect("text"), get(&row, 1).expect("text"));
    let amount = |field: &str| odd[field].as_str().expect("a decimal");
    let line = format!("Expected: {} GBP ({} GBP to {} GBP)\n", amount("expected"), amount("lower"), amount("upper"));
    assert!(text.contains(&line) && !text.contains("Threshold"), "{text}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(["expected", "lower", "upper", "score"].iter().all(|field| body["alert"][field] == odd[field]), "{body}");
}

#[tokio::test]
async fn a_rule_may_watch_a_kpi() {
    for (formula, next, expected) in [
        // Of a day without an order nothing is known.
        (
            "totalRevenue / ordersCount",
            None,
            [report("FIRING", "900.00", end_of_day(0)), ("RESOLVED".into(), None, end_of_day(1))],
        ),
        // A week before it was 105, and on the day after that 109.
        (
            "totalRevenue - prev(totalRevenue, 7d)",
            Some(106),
            [report("FIRING", "795.00", end_of_day(0)), report("RESOLVED", "-3.00", end_of_day(1))],
        ),
    ] {
        let test = TestApp::start().await;
        let acme = test.tenant("acme").await;
        acme.apply(usual_days(70)).await;
        define(&acme, "watched", formula).await;
        let rule = r#"name: "Odd", kpi: "watched", condition: ANOMALY, windowMinutes: 1440"#;
        create(&acme, rule).await;
        acme.apply(vec![sale("a", -10, 900)]).await;
        time_is(&test, end_of_day(1) - HOUR).await;
        if let Some(amount) = next {
            acme.apply(vec![sale("b", end_of_day(1) - HOUR, amount)]).await;
        }
        time_is(&test, end_of_day(1)).await;
        assert_eq!(reported(&acme).await, expected, "{formula}");
        assert_eq!(simulated(&acme, rule, 0, end_of_day(1)).await, expected, "{formula}");
    }
}

#[tokio::test]
async fn an_hour_is_the_same_after_the_clock_was_changed() {
    let test = TestApp::start().await;
    let london = test.tenant_in("london", chrono_tz::Europe::London, "GBP").await;
    // Midnight of 29 March; an hour later it is two o'clock. From eight on more is sold.
    let midnight = -(78 * DAY + 12 * HOUR);
    let usual = |hour: i64| {
        let shown = hour + i64::from(hour > 0);
        hour.rem_euclid(5) + if shown.rem_euclid(24) < 8 { 20 } else { 100 }
    };
    let sold = |hour: i64, amount: i64| sale(&format!("h{hour}"), midnight + hour * HOUR + 30, amount);
    test.clock.set(minute(midnight));
    let past: Vec<Event> = (-65 * 24..0).map(|hour| sold(hour, usual(hour))).collect();
    for batch in past.chunks(500) {
        london.record(batch.to_vec()).await;
    }
    let rule = r#"name: "Odd hour", metric: TOTAL_REVENUE, condition: ANOMALY, windowMinutes: 60"#;
    create(&london, rule).await;
    for hour in 0..=30 {
        test.clock.set(minute(midnight + hour * HOUR + 40));
        london.record(vec![sold(hour, if hour < 30 { usual(hour) } else { 900 })]).await;
        time_is(&test, midnight + (hour + 1) * HOUR).await;
    }
    let expected = [report("FIRING", "900.00", midnight + 31 * HOUR)];
    assert_eq!(reported(&london).await, expected);
    assert_eq!(simulated(&london, rule, midnight, midnight + 31 * HOUR).await, expected);
}

#[tokio::test]
async fn half_an_hour_is_no_hour_in_which_little_was_sold() {
    let test = TestApp::start().await;
    let island = test.tenant_in("island", chrono_tz::Australia::Lord_Howe, "AUD").await;
    // Two o'clock of 5 April, which is half past one again: hours begin at half past by UTC from then on.
    let change = -(72 * DAY - 3 * HOUR);
    let usual = |hour: i64| 100 + hour.rem_euclid(5);
    let sold = |id: String, minutes: i64, amount: i64| sale(&id, minutes, amount);
    test.clock.set(minute(change - 20));
    let past: Vec<Event> = (-45 * 24..0).map(|n| sold(format!("p{n}"), change + n * HOUR + 30, usual(n))).collect();
    for batch in past.chunks(500) {
        island.record(batch.to_vec()).await;
    }
    let rule = r#"name: "Odd hour", metric: TOTAL_REVENUE, condition: ANOMALY, windowMinutes: 60"#;
    create(&island, rule).await;
    time_is(&test, change + 20).await;
    island.record(vec![sold("half".into(), change + 10, 50)]).await;
    for hour in 0..30 {
        time_is(&test, change + hour * HOUR + 75).await;
        let amount = if hour < 29 { usual(hour) } else { 900 };
        island.record(vec![sold(format!("h{hour}"), change + hour * HOUR + 60, amount)]).await;
    }
    let end = change + 30 + 30 * HOUR;
    time_is(&test, end).await;
    let expected = [report("FIRING", "900.00", end)];
    assert_eq!(reported(&island).await, expected);
    assert_eq!(simulated(&island, rule, change - 20, end).await, expected);
}

#[tokio::test]
async fn one_incident_fires_once() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(70)).await;
    create(&acme, DAILY).await;
    // Two days without a sale, one as usual, one without.
    for (ahead, amount) in [(0, None), (1, None), (2, Some(104)), (3, None)] {
        if let Some(amount) = amount {
            time_is(&test, end_of_day(ahead) - HOUR).await;
            acme.apply(vec![sale(&format!("n{ahead}"), end_of_day(ahead) - HOUR, amount)]).await;
        }
        time_is(&test, end_of_day(ahead)).await;
    }
    let expected = vec![report("FIRING", "0.00", end_of_day(0)), report("RESOLVED", "104.00", end_of_day(2))];
    assert_eq!(reported(&acme).await, expected, "for a week only what is worse fires again");
    assert_eq!(simulated(&acme, DAILY, 0, end_of_day(3)).await, expected);
}

#[tokio::test]
async fn what_was_resolved_is_retracted_when_late_facts_undo_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(70)).await;
    create(&acme, DAILY).await;
    acme.apply(vec![sale("a", -10, 105), sale("b", -5, 900)]).await;
    for (ahead, amount) in [(1, 106), (2, 107), (3, 103), (4, 104)] {
        time_is(&test, end_of_day(ahead) - HOUR).await;
        acme.apply(vec![sale(&format!("n{ahead}"), end_of_day(ahead) - HOUR, amount)]).await;
        if ahead == 3 {
            acme.apply(vec![cancelled("b", end_of_day(ahead) - HOUR)]).await;
        }
    }
    time_is(&test, end_of_day(4)).await;
    let expected = vec![
        report("FIRING", "1005.00", end_of_day(0)),
        report("RESOLVED", "106.00", end_of_day(1)),
        report("RETRACTED", "103.00", end_of_day(3)),
    ];
    assert_eq!(reported(&acme).await, expected);
    assert_eq!(simulated(&acme, DAILY, 0, end_of_day(4)).await, expected);
}

#[tokio::test]
async fn what_cannot_be_measured_any_more_is_resolved_and_not_retracted() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(70)).await;
    create(&acme, DAILY).await;
    acme.apply(vec![sale("a", -10, 105), sale("b", -5, 900)]).await;
    time_is(&test, end_of_day(0)).await;
    time_is(&test, end_of_day(0) + 20).await;
    // Revenue of two currencies is no sum.
    acme.organization("far", chrono_tz::Asia::Tokyo, "JPY").await;
    acme.apply(vec![Event { organization: Some("far".into()), ..sale("c", -5, 1) }]).await;
    time_is(&test, end_of_day(1)).await;
    let resolved = ("RESOLVED".to_owned(), None, end_of_day(1));
    assert_eq!(reported(&acme).await, [report("FIRING", "1005.00", end_of_day(0)), resolved]);
}

#[tokio::test]
async fn little_history_says_nothing() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(20)).await;
    create(&acme, DAILY).await;
    acme.apply(vec![sale("b", -5, 90_000)]).await;
    time_is(&test, end_of_day(0)).await;
    assert_eq!(reported(&acme).await, []);
}

/// What happens in the hours of some days.
#[derive(Clone, Debug)]
enum Step {
    Sale { amount: i64, late: i64 },
    Cancel { of: usize },
    Nothing,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (90i64..110, 0i64..5 * HOUR).prop_map(|(amount, late)| Step::Sale { amount, late }),
        1 => (1_000i64..9_000, 0i64..3 * HOUR).prop_map(|(amount, late)| Step::Sale { amount, late }),
        1 => (0usize..40).prop_map(|of| Step::Cancel { of }),
        2 => Just(Step::Nothing),
    ]
}

/// What is watched; total revenue where it is none.
const FORMULAS: [Option<&str>; 4] = [
    None,
    Some("totalRevenue / ordersCount"),
    Some(r#"totalRevenue - prev(totalRevenue, 1d) filter channel = "web" / 2"#),
    Some("coalesce(growth(grossRevenue), 0)"),
];

async fn live_and_simulated(steps: &[(i64, Step)], zone: chrono_tz::Tz, window: i64, formula: Option<&str>) {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", zone, "GBP").await;
    // Six weeks of hours, or of days.
    let past = (1..6 * 7 * DAY / window).map(|ago| sale(&format!("p{ago}"), -ago * window - 20, 100 + ago * 7 % 13));
    let past: Vec<Event> = past.collect();
    for batch in past.chunks(500) {
        acme.apply(batch.to_vec()).await;
    }
    let watched = match formula {
        Some(formula) => {
            define(&acme, "watched", formula).await;
            r#"kpi: "watched""#
        }
        None => "metric: TOTAL_REVENUE",
    };
    let rule = format!(r#"name: "r", {watched}, condition: ANOMALY, sensitivity: HIGH, windowMinutes: {window}"#);
    // What was before belongs to no step of the rule.
    let mut now = 1;
    test.clock.set(minute(now));
    create(&acme, &rule).await;
    for (n, (wait, step)) in steps.iter().enumerate() {
        now += wait * window / HOUR;
        test.clock.set(minute(now));
        if n % 3 != 0 {
            sweep_once(&test.app).await.expect("swept");
        }
        match step {
            Step::Sale { amount, late } => {
                acme.record(vec![sale(&n.to_string(), now - late * window / HOUR, *amount)]).await;
            }
            Step::Cancel { of } => {
                acme.record(vec![cancelled(&of.to_string(), now)]).await;
            }
            Step::Nothing => {}
        }
    }
    time_is(&test, now + 1).await;
    assert_eq!(simulated(&acme, &rule, 1, now + 1).await, reported(&acme).await, "{steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_tried_on_history_reports_what_it_would_have_reported(
        steps in prop::collection::vec((5i64..20, step()), 10..40),
        is_daily in any::<bool>(),
        zone in prop::sample::select(vec![chrono_tz::UTC, chrono_tz::America::New_York, chrono_tz::Asia::Kathmandu]),
        formula in prop::sample::select(FORMULAS.to_vec()),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(live_and_simulated(&steps, zone, if is_daily { DAY } else { HOUR }, formula));
    }
}

#[tokio::test]
async fn the_zeros_of_a_ratio_are_learned() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.apply(usual_days(70)).await;
    define(&acme, "refunded", "refunds / grossRevenue").await;
    let rule = r#"name: "Odd", kpi: "refunded", condition: ANOMALY, windowMinutes: 1440"#;
    create(&acme, rule).await;
    let refund = |ago: i64, amount: &str| {
        let issued = RefundIssued { amount: Some(money(amount)), ..RefundIssued::default() };
        event(&format!("refund-{ago}"), &at(-ago * DAY), Fact::RefundIssued(issued))
    };
    // Nothing was refunded until ten days ago.
    acme.apply(vec![refund(10, "5.00"), refund(3, "4.00"), sale("today", -60, 100), refund(0, "50.00")]).await;
    time_is(&test, end_of_day(0)).await;
    let expected = [report("FIRING", "0.50", end_of_day(0))];
    assert_eq!(reported(&acme).await, expected);
    assert_eq!(simulated(&acme, rule, 0, end_of_day(0)).await, expected);
}
