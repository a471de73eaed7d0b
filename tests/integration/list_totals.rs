//! How many items a list has on all its pages.

use salespulse::customer_value::refit_due;
use salespulse::ledger::event::{Customer, Event, Fact, OrderCancelled};
use serde_json::{Value, json};

use crate::ledger::event;
use crate::outbox::fire;
use crate::sales;
use crate::senders::post_webhook;
use crate::support::{Actor, TestApp, TestTenant};

/// Lists with the values that each of their arguments takes in turn, the first of them none.
const LISTS: [(&str, &[&[&str]]); 10] = [
    (
        "orders",
        &[
            &["", r#"period: {firstDay: "2026-06-02", lastDay: "2026-06-03"}"#],
            &["", r#"customerId: "c2""#, r#"customerId: "nobody""#],
            &["", "status: PLACED", "status: CANCELLED"],
            &["", r#"currency: "GBP""#, r#"currency: "EUR""#],
            &["", r#"minAmount: "3.00", maxAmount: "3.00""#, r#"minAmount: "3.01""#],
            &[
                "",
                r#"filters: {channels: ["web"], regions: []}"#,
                r#"filters: {organizationId: "paris"}"#,
                r#"filters: {productCategories: ["food"], products: ["cake1", "cake2"]}"#,
            ],
        ],
    ),
    (
        "customers",
        &[
            &["", "orderBy: REVENUE", "orderBy: LAST_PURCHASE", "orderBy: CHURN", "orderBy: LIFETIME_VALUE"],
            &["", r#"email: "c2@example.com""#, r#"email: "nobody@example.com""#],
            &["", "filter: {}", "filter: {segments: []}", r#"filter: {churnMax: 0.6, lifetimeValueMin: "0.01"}"#],
        ],
    ),
    (
        "products",
        &[
            &["", "orderBy: REVENUE", "orderBy: UNITS"],
            &["", r#"category: "food""#, r#"category: "none""#],
            &["", r#"search: "CAKE""#, r#"search: "%""#, r#"search: "\u0000""#],
        ],
    ),
    ("dashboards", &[]),
    ("users", &[]),
    ("auditLog", &[&["", r#"filter: {action: "dashboard."}"#, r#"filter: {subject: "nothing"}"#]]),
    ("recordings", &[&["", r#"filter: {position: "1"}"#, r#"filter: {orderId: "nothing"}"#]]),
    ("alertHistory", &[&["", r#"ruleId: "00000000-0000-0000-0000-000000000001""#]]),
    ("quarantine", &[&["", r#"integrationId: "00000000-0000-0000-0000-000000000001""#]]),
    ("alertDeliveries", &[&["", "state: PENDING", "state: DEAD"]]),
];

/// Every choice of one value for each argument.
fn choices(arguments: &[&[&str]]) -> Vec<String> {
    let Some((values, others)) = arguments.split_first() else { return vec![String::new()] };
    let others = choices(others);
    values.iter().flat_map(|value| others.iter().map(move |other| format!("{value} {other}"))).collect()
}

/// An order of a customer with an e-mail address; every fourth is of another organization.
fn placed(customer: usize, n: usize) -> Event {
    let mut event = sales::order(customer, n);
    if n == 3 {
        event.organization = Some("paris".into());
    }
    if let Fact::OrderPlaced(order) = &mut event.fact {
        let email = Some(format!("c{customer}@example.com"));
        order.customer = Some(Customer { id: format!("c{customer}"), email, ..Customer::default() });
    }
    event
}

async fn seeded(test: &TestApp) -> TestTenant<'_> {
    let acme = test.tenant("acme").await;
    acme.organization("paris", chrono_tz::Europe::Paris, "EUR").await;
    fire(&acme, "EMAIL", "ann@example.com").await;
    acme.apply((0..5).flat_map(|customer| (0..4).map(move |n| placed(customer, n))).collect()).await;
    let cancel = |id: &str| {
        let fact = Fact::OrderCancelled(OrderCancelled { order_id: id.into(), version: 2 });
        event(&format!("cancel {id}"), "2026-06-10T10:00:00Z", fact)
    };
    acme.apply(vec![cancel("o1-0"), cancel("o2-2")]).await;
    for (n, sharing) in ["PRIVATE", "TENANT", "PRIVATE", "PRIVATE"].iter().enumerate() {
        let create = format!(r#"mutation {{ createDashboard(input: {{name: "D{n}", sharing: {sharing}}}) {{ id }} }}"#);
        acme.admin().query(&create).await;
    }
    let create = r#"mutation { createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: {name: "CRM"}) { url } }"#;
    let made = acme.admin().query(create).await;
    for body in ["1", "2"] {
        let url = made["createIntegration"]["url"].as_str().expect("a URL");
        let sent = post_webhook(test, url, "crm:a password of it", body).await;
        assert_eq!(sent["outcome"], "quarantined");
    }
    refit_due(&test.app).await.expect("fitted");
    acme
}

async fn page(actor: &Actor<'_>, list: &str, arguments: &str) -> Value {
    let query = format!(
        "{{ list: {list}({arguments}) {{ totalCount edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }} }}"
    );
    actor.query(&query).await["list"].take()
}

/// The items on all pages, three on each; every page has the same total, and so have others of any place and size.
async fn counted(actor: &Actor<'_>, list: &str, arguments: &str) -> usize {
    let (mut count, mut after) = (0, String::new());
    let total = page(actor, list, &format!("{arguments} first: 0")).await["totalCount"].take();
    loop {
        let page = page(actor, list, &format!("{arguments} first: 3 {after}")).await;
        assert_eq!(page["totalCount"], total, "{list} {arguments} {after}");
        count += page["edges"].as_array().expect("edges").len();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = format!("after: {}", page["pageInfo"]["endCursor"]);
    }
    let back = page(actor, list, &format!("{arguments} last: 1 {}", after.replace("after", "before"))).await;
    assert_eq!(back["totalCount"], total, "{list} {arguments} backward");
    assert_eq!(json!(count), total, "{list} {arguments}");
    count
}

#[tokio::test]
async fn the_total_is_the_number_of_items_on_all_pages_whatever_the_arguments() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let other = test.tenant("other").await;
    sales::record(&other, 9, 2).await;
    for (list, arguments) in LISTS {
        let mut counts = Vec::new();
        for arguments in choices(arguments) {
            counts.push(counted(&acme.admin(), list, &arguments).await);
        }
        // Neither of them is all that is compared.
        let (least, most) = (counts.iter().min().expect("one"), counts.iter().max().expect("one"));
        println!("{list}: {} choices, {least} to {most} items", counts.len());
        assert!(*most >= 1 && (counts.len() == 1 || least < most), "{list}: {counts:?}");
    }
}

#[tokio::test]
async fn a_total_counts_what_its_reader_may_see() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let (admin, viewer) = (acme.admin(), acme.viewer());
    assert_eq!(counted(&admin, "dashboards", "").await, 4);
    assert_eq!(counted(&viewer, "dashboards", "").await, 1);
    for list in
        ["auditLog", "recordings", "users", "alertDeliveries", "quarantine", r#"customers(email: "c2@example.com")"#]
    {
        assert_eq!(viewer.error_code(&format!("{{ {list} {{ totalCount }} }}")).await, "FORBIDDEN", "{list}");
    }
}

#[tokio::test]
async fn a_total_costs_one_statement_and_only_where_it_is_selected() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    test.app.ledger.close().await;
    for (query, expected) in [
        ("{ orders { nodes { id } } }", 2),
        ("{ orders { totalCount nodes { id } } }", 3),
        ("{ orders { totalCount again: totalCount } }", 3),
        ("query($is: Boolean = false) { orders { totalCount @include(if: $is) nodes { id } } }", 2),
        (r#"{ orders(customerId: "nobody") { totalCount } }"#, 1),
        (r#"{ products(search: "\u0000") { totalCount } }"#, 1),
        ("{ a: products { totalCount } b: customers(orderBy: REVENUE) { totalCount } }", 6),
    ] {
        let before = test.app.db.statements();
        acme.viewer().query(query).await;
        let asked = test.app.db.statements() - before;
        assert_eq!((asked.statements, asked.transactions), (expected, 1), "{query}");
    }
}
