//! The operations that the README and GraphiQL show are the ones that work.

use std::path::Path;

use salespulse::auth::Role;
use salespulse::import::totals::Counts;
use serde_json::{Value, json};

use crate::real_data::import;
use crate::socket::Socket;
use crate::support::{Server, TestApp};
use crate::web::{PASSWORD, let_in};

pub const FILES: [(&str, &str); 24] = [
    ("first-query", include_str!("../operations/first-query.graphql")),
    ("first-subscription", include_str!("../operations/first-subscription.graphql")),
    ("account", include_str!("../operations/account.graphql")),
    ("alerts", include_str!("../operations/alerts.graphql")),
    ("anomaly-alert", include_str!("../operations/anomaly-alert.graphql")),
    ("calendar-event", include_str!("../operations/calendar-event.graphql")),
    ("customer-forecasts", include_str!("../operations/customer-forecasts.graphql")),
    ("anomalies", include_str!("../operations/anomalies.graphql")),
    ("best-customers", include_str!("../operations/best-customers.graphql")),
    ("busy-hours", include_str!("../operations/busy-hours.graphql")),
    ("comparison", include_str!("../operations/comparison.graphql")),
    ("connect-shop", include_str!("../operations/connect-shop.graphql")),
    ("quarantine", include_str!("../operations/quarantine.graphql")),
    ("customer-value", include_str!("../operations/customer-value.graphql")),
    ("login", include_str!("../operations/login.graphql")),
    ("kpis", include_str!("../operations/kpis.graphql")),
    ("kpi-forecast", include_str!("../operations/kpi-forecast.graphql")),
    ("kpi-define", include_str!("../operations/kpi-define.graphql")),
    ("customers", include_str!("../operations/customers.graphql")),
    ("erase-customer", include_str!("../operations/erase-customer.graphql")),
    ("personal-data", include_str!("../operations/personal-data.graphql")),
    ("forecast", include_str!("../operations/forecast.graphql")),
    ("recordings", include_str!("../operations/recordings.graphql")),
    ("record-events", include_str!("../operations/record-events.graphql")),
];
const EVENTS: &str = include_str!("../operations/record-events.variables.json");
const README: &str = include_str!("../../README.md");

#[test]
fn no_file_is_left_out() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operations")).expect("a folder");
    let names = folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let mut found: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".graphql")?.to_owned())).collect();
    let mut known: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn the_readme_shows_the_files() {
    let blocks: Vec<&str> = README.split("```graphql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        assert!(FILES.iter().any(|(_, text)| text.ends_with(block)), "{block}");
    }
}

#[tokio::test]
async fn the_import_that_the_readme_shows_runs() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for kind in ["csv", "toml"] {
        let text = std::fs::read_to_string(examples.join(format!("shop.{kind}"))).expect("the example");
        assert!(README.contains(&format!("```{kind}\n{text}```")), "shop.{kind}");
    }
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::Europe::London, "GBP").await;
    let report = import(&acme, "shop", &examples).await;
    assert_eq!(report.totals().events, Counts { read: 2, accepted: 2, ..Counts::default() });
    let query = "{ salesMetrics(period: { firstDay: \"2026-05-02\", lastDay: \"2026-05-03\" }) {
        grossRevenue ordersCount unitsSold uniqueCustomers } }";
    let found = acme.viewer().query(query).await["salesMetrics"].take();
    let expected = json!({ "grossRevenue": "27.20", "ordersCount": 2, "unitsSold": 4, "uniqueCustomers": 2 });
    assert_eq!(found, expected);
    acme.verified().await;
}

#[tokio::test]
async fn every_operation_runs() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.admin().token()).await;
    let mut variables: Value = serde_json::from_str(EVENTS).expect("json");
    variables["tenantId"] = json!(acme.id().0);
    variables["tenant"] = json!("acme");
    variables["email"] = json!(let_in(&acme, Role::Analyst).await);
    variables["password"] = json!(PASSWORD);
    // The events first, so that the rest has something to show.
    for (name, text) in FILES.iter().rev() {
        socket.subscribe(name, text, variables.clone()).await;
        if *name == "alerts" {
            continue;
        }
        let answer = socket.next(name).await;
        assert!(answer.get("errors").is_none(), "{name}: {answer}");
        if *name == "record-events" {
            let results = &answer["data"]["recordEvents"]["results"];
            assert_eq!(results.as_array().map(Vec::len), Some(3), "{answer}");
            assert!(results.as_array().expect("a list").iter().all(|r| r["outcome"] == "APPLIED"), "{answer}");
        }
    }
    server.stop().await;
    acme.verified().await;
}
