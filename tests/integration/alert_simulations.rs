//! A rule tried on history reports what it would have reported, whatever it watches and whatever was recorded.

use proptest::prelude::*;
use salespulse::alerts::sweep_once;
use salespulse::audit::By;
use salespulse::ledger::event::{Customer, Event, Fact, Line, OrderCancelled, OrderPlaced, RefundIssued};

use crate::alerts::{at, create, minute, reported, simulated, time_is};
use crate::ledger::{event, money};
use crate::support::TestApp;

const CHANNELS: [&str; 2] = ["web", "shop"];
const REGIONS: [&str; 2] = ["North", "South"];
/// Products and their categories.
const PRODUCTS: [(&str, &str); 3] = [("tea", "drinks"), ("cola", "drinks"), ("bread", "food")];
const FILTERS: [&str; 9] = [
    "",
    r#"channels: ["web"]"#,
    r#"regions: ["South"]"#,
    r#"productCategories: ["food"]"#,
    r#"products: ["tea", "bread"]"#,
    "customerSegment: NEW",
    r#"customerSegment: RETURNING, channels: ["shop"]"#,
    r#"organizationId: "acme", regions: ["North"], productCategories: ["drinks"]"#,
    r#"channels: ["phone"]"#,
];

/// What happens at some minute. Content is a function of an order's id and version: one that comes again with another
/// time is refused. Versions come in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Sale { id: u8, version: u8, late: i64 },
    Cancel { id: u8, version: u8, late: i64 },
    Refund { id: u8, late: i64 },
    Backfill { id: u8 },
    Nothing,
}

fn step() -> impl Strategy<Value = Step> {
    // Few orders, so that many have versions.
    prop_oneof![
        6 => (0u8..20, 0u8..3, 0i64..40).prop_map(|(id, n, late)| Step::Sale { id, version: 2 * n + 1, late }),
        2 => (0u8..20, 1u8..4, 0i64..20).prop_map(|(id, n, late)| Step::Cancel { id, version: 2 * n, late }),
        2 => (0u8..20, 0i64..20).prop_map(|(id, late)| Step::Refund { id, late }),
        1 => (20u8..30).prop_map(|id| Step::Backfill { id }),
        2 => Just(Step::Nothing),
    ]
}

fn rule() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["TOTAL_REVENUE", "ORDERS_COUNT", "UNIQUE_CUSTOMERS", "REFUND_RATE", "NEW_CUSTOMERS"]),
        prop::sample::select(vec![
            r#"ABOVE, threshold: "1", clearThreshold: "0.5""#,
            r#"ABOVE, threshold: "15""#,
            r#"BELOW, threshold: "2""#,
            r#"CHANGE_ABOVE, threshold: "0.1""#,
            r#"CHANGE_BELOW, threshold: "-0.1""#,
            "NO_DATA",
        ]),
        prop::sample::select(vec![15, 30, 60]),
        prop::sample::select(vec![0, 7, 20]),
        any::<bool>(),
        prop::sample::select(vec!["EVERY_TIME", "ONCE", "AT_MOST_EVERY, everyMinutes: 25"]),
        prop::sample::select(FILTERS.to_vec()),
    )
        .prop_map(|(metric, condition, window, patience, open, frequency, filters)| {
            format!(
                r#"name: "r", metric: {metric}, condition: {condition}, windowMinutes: {window}, forMinutes: {patience},
                includeOpen: {open}, frequency: {frequency}, filters: {{ {filters} }}"#
            )
        })
}

/// A line of each product whose bit is set.
fn lines(bits: usize) -> Vec<Line> {
    let chosen = PRODUCTS.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
    let line = |(n, (product, category)): (usize, &(&str, &str))| Line {
        product_id: (*product).into(),
        category: Some((*category).into()),
        quantity: 1,
        amount: money(["2.50", "4.00", "7.50"][n]),
        ..Line::default()
    };
    chosen.map(line).collect()
}

fn sale(id: u8, version: u8, minutes: i64) -> Event {
    let n = usize::from(id) + 5 * usize::from(version);
    let placed = OrderPlaced {
        order_id: id.to_string(),
        version: version.into(),
        channel: Some(CHANNELS[n % 2].into()),
        region: Some(REGIONS[n / 2 % 2].into()),
        customer: (n % 7 != 0).then(|| Customer { id: format!("c{}", n % 4), ..Customer::default() }),
        lines: lines(1 + n % 7),
        ..OrderPlaced::default()
    };
    event(&format!("sale-{id}-{version}"), &at(minutes), Fact::OrderPlaced(placed))
}

fn cancelled(id: u8, version: u8, minutes: i64) -> Event {
    let fact = Fact::OrderCancelled(OrderCancelled { order_id: id.to_string(), version: version.into() });
    event(&format!("cancel-{id}-{version}"), &at(minutes), fact)
}

/// Of half of the orders as a whole, of the others by line.
fn refunded(id: u8, minutes: i64) -> Event {
    let is_whole = id.is_multiple_of(2);
    let issued = RefundIssued {
        order_id: Some(id.to_string()),
        amount: is_whole.then(|| money("3.00")),
        lines: if is_whole { Vec::new() } else { lines(1 + usize::from(id) % 7) },
        ..RefundIssued::default()
    };
    event(&format!("refund-{id}"), &at(minutes), Fact::RefundIssued(issued))
}

async fn live_and_simulated(steps: &[(i64, Step)], rule: &str) {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    create(&acme, rule).await;
    let mut now = 0;
    for (n, (wait, step)) in steps.iter().enumerate() {
        now += wait;
        test.clock.set(minute(now));
        // Now and then nobody looks for what is due, so that a batch finds it.
        if n % 3 != 0 {
            sweep_once(&test.app).await.expect("swept");
        }
        let (event, is_backfill) = match *step {
            Step::Sale { id, version, late } => (sale(id, version, now - late), false),
            Step::Cancel { id, version, late } => (cancelled(id, version, now - late), false),
            Step::Refund { id, late } => (refunded(id, now - late), false),
            Step::Backfill { id } => (sale(id, 1, now - 5), true),
            Step::Nothing => continue,
        };
        test.app.ledger.record(acme.id(), By::default(), vec![event], is_backfill).await.expect("recorded");
    }
    time_is(&test, now + 1).await;
    assert_eq!(simulated(&acme, rule, 0, now + 1).await, reported(&acme).await, "{rule}");
}

/// Found at random once.
#[tokio::test]
async fn a_trial_with_a_backfill_reports_the_same() {
    let steps = [
        (1, Step::Sale { id: 0, version: 1, late: 0 }),
        (1, Step::Sale { id: 0, version: 1, late: 0 }),
        (1, Step::Backfill { id: 27 }),
        (7, Step::Refund { id: 6, late: 0 }),
        (8, Step::Sale { id: 3, version: 1, late: 28 }),
    ];
    let rule = r#"name: "r", metric: UNIQUE_CUSTOMERS, condition: ABOVE, threshold: "1", clearThreshold: "0.5",
        windowMinutes: 30, forMinutes: 7, includeOpen: false, frequency: EVERY_TIME"#;
    live_and_simulated(&steps, rule).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_tried_on_history_reports_what_it_would_have_reported(
        steps in prop::collection::vec((1i64..9, step()), 5..40),
        rule in rule(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(live_and_simulated(&steps, &rule));
    }
}
