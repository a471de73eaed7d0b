//! What holds for every list: its pages, its order, who may read it, and what it costs.

use salespulse::auth::Role;
use salespulse::ledger::event::{Fact, VisitsCounted};
use serde_json::{Value, json};

use crate::ledger::{event, order};
use crate::sales;
use crate::senders::post_webhook;
use crate::support::{Actor, TestApp, TestTenant};

/// The lists with what identifies an item.
const LISTS: [(&str, &str); 11] = [
    ("customers", "id"),
    ("customers(orderBy: REVENUE)", "id"),
    ("customers(orderBy: LAST_PURCHASE)", "id"),
    ("products", "id"),
    ("products(orderBy: REVENUE)", "id"),
    ("products(orderBy: UNITS)", "id"),
    ("orders", "id"),
    ("orders(status: PLACED, period: {preset: LAST_30_DAYS})", "id"),
    ("dashboards", "id"),
    ("auditLog", "id"),
    ("recordings", "firstPosition"),
];

async fn seeded(test: &TestApp) -> TestTenant<'_> {
    let acme = test.tenant("acme").await;
    sales::record(&acme, 7, 4).await;
    for n in 0..5 {
        let create = format!(r#"mutation {{ createDashboard(input: {{name: "D{n}"}}) {{ id }} }}"#);
        acme.admin().query(&create).await;
        // A recording of its own.
        let visits = VisitsCounted { count: 1, ..VisitsCounted::default() };
        acme.apply(vec![event(&format!("v{n}"), "2026-06-01T10:00:00Z", Fact::VisitsCounted(visits))]).await;
    }
    acme
}

fn with_arguments(list: &str, arguments: &str) -> String {
    match list.strip_suffix(')') {
        Some(open) => format!("{open}, {arguments})"),
        None => format!("{list}({arguments})"),
    }
}

async fn page(actor: &Actor<'_>, list: &str, id: &str, arguments: &str) -> Value {
    let query = format!(
        "{{ list: {} {{ nodes {{ {id} }} edges {{ cursor node {{ {id} }} }} \
         pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}",
        with_arguments(list, arguments)
    );
    actor.query(&query).await["list"].take()
}

fn ids(page: &Value) -> Vec<String> {
    let nodes = page["nodes"].as_array().expect("nodes");
    nodes.iter().map(|node| node.as_object().expect("node").values().next().expect("id").to_string()).collect()
}

/// All items, read two at a time in one direction.
async fn walk(actor: &Actor<'_>, list: &str, id: &str, backward: bool) -> Vec<String> {
    let (size, from, cursor, more) = if backward {
        ("last: 2", "before", "startCursor", "hasPreviousPage")
    } else {
        ("first: 2", "after", "endCursor", "hasNextPage")
    };
    let mut all: Vec<String> = Vec::new();
    let mut arguments = size.to_owned();
    loop {
        let page = page(actor, list, id, &arguments).await;
        let found = ids(&page);
        if backward {
            all.splice(0..0, found);
        } else {
            all.extend(found);
        }
        if page["pageInfo"][more] == false {
            return all;
        }
        arguments = format!("{size}, {from}: {}", page["pageInfo"][cursor]);
    }
}

#[tokio::test]
async fn pages_forward_and_backward_are_the_whole_list_once() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let admin = acme.admin();
    for (list, id) in LISTS {
        let whole = ids(&page(&admin, list, id, "first: 100").await);
        assert!(whole.len() >= 5, "{list}: {whole:?}");
        assert_eq!(walk(&admin, list, id, false).await, whole, "{list} forward");
        assert_eq!(walk(&admin, list, id, true).await, whole, "{list} backward");
        let mut unique = whole.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), whole.len(), "{list}");
    }
}

#[tokio::test]
async fn a_page_says_where_it_stands() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let admin = acme.admin();
    for (list, id) in LISTS {
        let first = page(&admin, list, id, "first: 2").await;
        assert_eq!(first["pageInfo"]["hasNextPage"], true, "{list}");
        assert_eq!(first["pageInfo"]["hasPreviousPage"], false, "{list}");
        assert_eq!(first["pageInfo"]["endCursor"], first["edges"][1]["cursor"], "{list}");
        let after = format!("first: 1, after: {}", first["edges"][0]["cursor"]);
        let second = page(&admin, list, id, &after).await;
        assert_eq!(ids(&second)[0], ids(&first)[1], "{list}");
        assert_eq!(second["pageInfo"]["hasPreviousPage"], true, "{list}");
        // Up to a cursor there is nothing more, so that whoever reads up to it comes to an end.
        let until = format!("first: 5, before: {}", first["edges"][1]["cursor"]);
        let until = page(&admin, list, id, &until).await;
        assert_eq!((ids(&until).len(), &until["pageInfo"]["hasNextPage"]), (1, &json!(false)), "{list}");
        let none = page(&admin, list, id, "first: 0").await;
        assert_eq!((ids(&none).len(), &none["pageInfo"]["startCursor"]), (0, &Value::Null), "{list}");
    }
}

#[tokio::test]
async fn wrong_page_arguments_are_refused() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let admin = acme.admin();
    for (list, _) in LISTS {
        for (arguments, argument) in [
            ("first: 101", "first"),
            ("first: -1", "first"),
            ("last: 101", "last"),
            ("last: -1", "last"),
            ("first: 1, last: 1", "last"),
            (r#"first: 1, after: "zz""#, "after"),
            (r#"last: 1, before: "é""#, "before"),
            (r#"first: 1, after: "313233""#, "after"),
            // PostgreSQL has no texts with a NUL in them.
            (r#"first: 1, after: "00""#, "after"),
            (r#"last: 1, before: "6100""#, "before"),
        ] {
            // "123" is a good place in a list by number alone.
            if arguments.contains("313233") && ["customers", "products"].contains(&list) {
                continue;
            }
            let query = format!("{{ list: {} {{ nodes {{ __typename }} }} }}", with_arguments(list, arguments));
            admin.refused(&query, argument).await;
        }
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_it() {
    let test = TestApp::start().await;
    seeded(&test).await;
    let other = test.tenant("other").await;
    for (list, id) in LISTS {
        // That it was made is in its own log.
        let own = usize::from(list == "auditLog");
        assert_eq!(ids(&page(&other.admin(), list, id, "first: 100").await).len(), own, "{list}");
    }
}

const CUSTOMERS: &str = include_str!("../operations/customers.graphql");

/// Statements and transactions of an operation, and how many rows of its first list it gave.
async fn cost(test: &TestApp, actor: &Actor<'_>, query: &str) -> (u64, u64, usize) {
    let before = test.app.db.statements();
    let data = actor.query(query).await;
    let asked = test.app.db.statements() - before;
    let list = data.as_object().and_then(|data| data.values().next()).expect("a list");
    let nodes = list["nodes"].as_array().or(list.as_array()).expect("nodes").len();
    (asked.statements, asked.transactions, nodes)
}

#[tokio::test]
async fn a_list_costs_the_same_number_of_statements_at_any_length() {
    let test = TestApp::start().await;
    let (few, many) = (test.tenant("few").await, test.tenant("many").await);
    sales::record(&few, 5, 6).await;
    sales::record(&many, 50, 6).await;
    // Else the lanes would fold while statements are counted.
    test.app.ledger.close().await;
    for (query, expected) in [
        (CUSTOMERS, 5),
        ("{ customers(first: 50) { nodes { id } } }", 2),
        ("{ customers(first: 50) { nodes { a: orders(first: 2) { id } b: orders(first: 3) { id } } } }", 3),
        ("{ products(first: 50) { nodes { id title category margin } } }", 3),
        ("{ orders(first: 50) { nodes { id channel region } } }", 3),
        ("{ orders(first: 50) { nodes { id refunded customer { id } lines { product { id } } } } }", 6),
        ("{ customers(first: 100) { nodes { orders(first: 6) { customer { id } lines { product { id } } } } } }", 6),
        ("{ orders(first: 50, period: {preset: LAST_30_DAYS}) { nodes { id } } }", 2),
    ] {
        let (small, large) = (cost(&test, &few.viewer(), query).await, cost(&test, &many.viewer(), query).await);
        assert!(large.2 > small.2 || query.contains("products"), "{query}: {small:?} {large:?}");
        assert_eq!((small.0, large.0), (expected, expected), "statements of {query}");
        assert_eq!((small.1, large.1), (1, 1), "transactions of {query}");
    }
}

#[tokio::test]
async fn lists_of_settings_cost_the_same_number_of_statements_at_any_length() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let members: Vec<String> = acme.created.users.iter().map(|(_, id)| id.to_string()).collect();
    let mut counts = Vec::new();
    for round in 0..3 {
        for n in 0..10 * round + 2 {
            let variables = json!({ "name": format!("{round}-{n}"), "members": members });
            let create = "mutation($name: String!, $members: [ID!]) { createTeam(input: {name: $name, memberIds: $members}) \
                          { id } createDashboard(input: {name: $name}) { id } }";
            admin.query_with(create, variables).await;
        }
        let mut round = Vec::new();
        for query in [
            "{ teams { name members { name } } }",
            "{ dashboards(first: 100) { nodes { id owner { name } } } }",
            "{ auditLog(first: 100) { nodes { id actor { name } } } }",
            "{ organizations { id } }",
            "{ dataSources { id } }",
        ] {
            let cost = cost(&test, &admin, query).await;
            round.push((cost.0, cost.1));
        }
        counts.push(round);
    }
    assert_eq!(counts[0], [(2, 1), (2, 1), (2, 1), (1, 1), (1, 1)]);
    assert!(counts.iter().all(|round| *round == counts[0]), "{counts:?}");
}

#[tokio::test]
async fn lists_of_work_cost_the_same_number_of_statements_at_any_length() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let mut counts = Vec::new();
    for round in 0..3 {
        for n in 0..3 * round + 1 {
            let user = acme.another_user(Role::Analyst).await.to_string();
            let create = r#"mutation($name: String!, $user: ID!, $start: Date!, $owners: [IntegrationOwnerInput!]) {
                createAlert(input: { name: $name, metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", windowMinutes: 120,
                    recipients: [{ channel: EMAIL, target: "ann@example.com" }] }) { id }
                setQuota(input: { userId: $user, start: $start, end: "2026-12-31", amount: "5" }) { id }
                createApiKey(input: { name: $name, permissions: [SALES_VIEW] }) { key { id } }
                createIntegration(kind: PIPEDRIVE, secret: "crm:a password of it", input: { name: $name, owners: $owners }) { url }
                recordEvents(events: [{ eventId: $user, occurredAt: "2026-06-01T00:00:00Z", visitsCounted: { count: 1 } }]) { position } }"#;
            let variables = json!({
                "name": format!("{round}-{n}"), "user": user, "start": format!("2026-0{}-0{}", round + 1, n + 1),
                "owners": [{ "externalId": "7", "userId": user }],
            });
            let made = admin.query_with(create, variables).await;
            let url = made["createIntegration"]["url"].as_str().expect("a URL");
            assert_eq!(post_webhook(&test, url, "crm:a password of it", "1").await["outcome"], "quarantined");
        }
        // The rules fire.
        let id = format!("o{round}");
        acme.apply(vec![event(&id, "2026-06-15T11:00:00Z", Fact::OrderPlaced(order(&id, 1, "c", "10.00")))]).await;
        test.app.ledger.close().await;
        let mut of_round = Vec::new();
        for query in [
            "{ alerts { id name state recipients { channel target } problem } }",
            "{ alertHistory(first: 100) { nodes { id name cursor } } }",
            "{ alertDeliveries(first: 100) { nodes { id subject state } } }",
            "{ users(first: 100) { nodes { user { id name permissions } state } } }",
            "{ quotas { id userId amount } }",
            "{ apiKeys { id name user { name } } }",
            "{ quarantine(first: 100) { nodes { id integrationId reason } } }",
            "{ integrations { id url owners { externalId userId } } }",
            "{ recordings(first: 100) { nodes { firstPosition actor { name } } } }",
        ] {
            let cost = cost(&test, &admin, query).await;
            assert!(cost.2 > 3 * round, "{query}: {cost:?}");
            of_round.push((cost.0, cost.1));
        }
        counts.push(of_round);
    }
    assert_eq!(counts[0], [(2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (1, 1), (1, 1), (2, 1)]);
    assert!(counts.iter().all(|round| *round == counts[0]), "{counts:?}");
}
