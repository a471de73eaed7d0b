//! What is selected several times: it is resolved once, and whatever would be two things under one key is refused.

use std::collections::BTreeSet;

use salespulse::graphql::params::Params;
use salespulse::ledger::event::{Fact, Line, OrderPlaced};
use serde_json::{Value, json};

use crate::ledger::{event, order};
use crate::socket::Socket;
use crate::support::{Server, TestApp};

#[tokio::test]
async fn a_mutation_selected_twice_runs_once() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let twice = r#"mutation {
        createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { secret }
        createApiKey(input: {permissions: [SALES_VIEW], name: "k"}) { key { id name } } }"#;
    let created = admin.query(twice).await["createApiKey"].take();
    assert!(created["secret"].is_string(), "{created}");
    let keys = admin.query("{ apiKeys { id } }").await["apiKeys"].take();
    assert_eq!(keys, json!([{ "id": created["key"]["id"] }]));

    let in_fragments = r#"mutation M($more: Boolean!) { ...A ... on Mutation @include(if: $more) { ...B } }
        fragment A on Mutation { createTeam(input: {name: "North"}) { ...T } }
        fragment B on Mutation { createTeam(input: {name: "North"}) { id } other: createTeam(input: {name: "South"}) { name } }
        fragment T on Team { name }
        mutation Other { ...B }"#;
    let run = async |more: bool| {
        let params = json!({ "query": in_fragments, "operationName": "M", "variables": { "more": more } });
        let response = admin.request(Params::from_json(params).expect("a request")).await;
        assert!(response.errors.is_empty(), "{:?}", response.errors);
        response.data.into_json().expect("json")
    };
    let created = run(true).await;
    assert_eq!((&created["createTeam"]["name"], &created["other"]["name"]), (&json!("North"), &json!("South")));
    let teams = admin.query("{ teams { id name } }").await["teams"].take();
    assert_eq!(teams.as_array().map(Vec::len), Some(2), "{teams}");
    assert!(teams.to_string().contains(created["createTeam"]["id"].as_str().expect("an id")), "{teams}");
}

#[tokio::test]
async fn a_field_selected_twice_is_answered_as_one() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let placed = |id: &str| event(id, "2026-06-10T00:00:00Z", Fact::OrderPlaced(order(id, 1, "c", "5.00")));
    acme.apply(vec![placed("a"), placed("b")]).await;
    let query = r#"query($full: Boolean = true) { ...A salesMetrics(period: {preset: LAST_30_DAYS}) { grossRevenue }
            ... @skip(if: $full) { salesMetrics(period: {preset: LAST_30_DAYS}) { visits } } }
        fragment A on Query { orders(first: 1) { totalCount } salesMetrics(period: {preset: LAST_30_DAYS}) { ordersCount } ...B }
        fragment B on Query { orders(first: 1) { nodes { id: externalId } } }"#;
    let expected = json!({ "orders": { "totalCount": 2, "nodes": [{ "id": "b" }] }, "salesMetrics": { "ordersCount": 2, "grossRevenue": "10.00" } });
    assert_eq!(acme.viewer().query(query).await, expected);
}

/// What is merged takes its conditions along, and with them the only use of a variable.
#[tokio::test]
async fn a_field_selected_twice_may_be_conditional() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for query in [
        "query($full: Boolean!) { me { role } me @include(if: $full) { id: role } }",
        "query Q($full: Boolean!) { me { role } ...F @include(if: $full) } fragment F on Query { me { id: role } }",
        "query($full: Boolean!) { me @include(if: $full) { id: role } me { role } }",
    ] {
        for full in [true, false] {
            let me = acme.viewer().query_with(query, json!({ "full": full })).await["me"].take();
            let mut expected = json!({ "role": "VIEWER" });
            if full {
                expected["id"] = "VIEWER".into();
            }
            assert_eq!(me, expected, "{query} {full}");
        }
    }
    let unused = "query($unused: Boolean!) { me { role } me { id } }";
    let response = acme.viewer().run(unused, json!({ "unused": true })).await;
    assert_eq!(response.errors.len(), 1, "{response:?}");
}

/// Otherwise rows of different splits are mixed, and somebody else gets what was cached under the other's name.
#[tokio::test]
async fn two_things_of_one_key_are_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for query in [
        "{ salesMetrics(period: {preset: LAST_30_DAYS}) { breakdown(by: [REGION]) { rows { key ordersCount } } ...B } } \
         fragment B on SalesMetrics { breakdown(by: [CHANNEL]) { rows { totalRevenue } } }",
        "{ salesMetrics(period: {preset: LAST_30_DAYS}) { series(grain: DAY) { ordersCount } series(grain: WEEK) { visits } } }",
        "{ customers(first: 1) { nodes { x: id } } customers(first: 1) { nodes { x: name } } }",
        "{ x: customers(first: 1) { totalCount } ... on Query { x: me { id name email } } }",
        r#"mutation { createTeam(input: {name: "a"}) { id } createTeam(input: {name: "b"}) { id } }"#,
    ] {
        assert_eq!(acme.admin().error_code(query).await, "GRAPHQL_VALIDATION_FAILED", "{query}");
    }
    assert_eq!(acme.admin().query("{ teams { id } }").await["teams"], json!([]));
}

#[tokio::test]
async fn the_field_of_a_subscription_may_stand_in_a_fragment() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let metrics = "metricsUpdated(tenantId: $t) { ordersCount }";
    for (n, document) in [
        format!("subscription S($t: ID!) {{ ...F }} fragment F on Subscription {{ {metrics} }}"),
        format!(
            "subscription S($t: ID!) {{ ... on Subscription {{ ...F }} }} fragment F on Subscription {{ {metrics} }}"
        ),
        format!("subscription ($t: ID!) {{ ... {{ {metrics} }} }}"),
    ]
    .iter()
    .enumerate()
    {
        let id = n.to_string();
        socket.subscribe(&id, document, json!({ "t": acme.id().0 })).await;
        assert_eq!(socket.next(&id).await["data"]["metricsUpdated"]["ordersCount"], 0, "{document}");
    }
    for (n, document) in [
        format!("subscription S($t: ID!, $s: Boolean = true) {{ ...F @skip(if: $s) }} fragment F on Subscription {{ {metrics} }}"),
        "subscription ($t: ID!) { metricsUpdated(tenantId: $t) @include(if: true) { ordersCount } }".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let id = format!("refused {n}");
        socket.subscribe(&id, document, json!({ "t": acme.id().0 })).await;
        let answer = socket.next(&id).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED", "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn names_that_occur_twice_are_said_to() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for (document, code) in [
        ("query A { me { id } } query A { me { id } }", "OPERATION_RESOLUTION_FAILURE"),
        ("query A { me { id } } { me { id } }", "OPERATION_RESOLUTION_FAILURE"),
        ("{ ...F } fragment F on Query { me { id } } fragment F on Query { me { id } }", "GRAPHQL_VALIDATION_FAILED"),
    ] {
        assert_eq!(acme.viewer().error_code(document).await, code, "{document}");
    }
}

#[tokio::test]
async fn a_page_that_is_too_long_is_the_arguments_fault() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for query in ["{ customers(first: 101) { nodes { id } } }", "{ customers(first: 2147483647) { nodes { id } } }"] {
        acme.viewer().refused(query, "first").await;
    }
}

/// Lines and refunds have no pages, so they count when they are there.
#[tokio::test]
async fn parts_of_orders_count_towards_the_size_of_an_answer() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let line = |n: usize| Line {
        product_id: format!("p{n}"),
        quantity: 1,
        amount: crate::ledger::money("1.00"),
        ..Line::default()
    };
    let placed = |id: &str| {
        let lines = (0..1_000).map(line).collect();
        event(
            id,
            "2026-06-10T00:00:00Z",
            Fact::OrderPlaced(OrderPlaced { lines, amount: None, ..order(id, 1, "c", "1.00") }),
        )
    };
    acme.apply(vec![placed("a"), placed("b")]).await;
    let times = |times: usize| {
        let fields: String =
            (0..times).map(|n| format!("n{n}: orders {{ nodes {{ lines {{ quantity amount }} }} }} ")).collect();
        format!("{{ {fields} }}")
    };
    acme.viewer().query(&times(2)).await;
    let response = acme.viewer().run(&times(60), Value::Null).await;
    let codes: BTreeSet<String> = response
        .errors
        .iter()
        .map(|error| format!("{:?}", error.extensions.as_ref().and_then(|of| of.get("code"))))
        .collect();
    assert!(codes.len() == 1 && codes.iter().all(|code| code.contains("BAD_USER_INPUT")), "{codes:?}");
}
