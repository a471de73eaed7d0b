//! What salespeople sold, beside their quotas.

use salespulse::auth::Role;
use salespulse::ledger::event::{ActivityLogged, DealClosed, Event, Fact, Outcome};
use serde_json::{Value, json};

use crate::ledger::{event, money};
use crate::support::{TestApp, TestTenant};

const FIELDS: &str = "period { start end state } currency dealsWon dealsClosed revenue quota quotaAttainment activities \
    conversionRate averageDealSize";

fn deal(id: &str, when: &str, owner: &str, won: bool, amount: &str) -> Event {
    let deal =
        DealClosed { deal_id: id.into(), version: 1, owner: owner.into(), won, currency: None, amount: money(amount) };
    event(id, when, Fact::DealClosed(deal))
}

fn activity(id: &str, when: &str, owner: &str, count: i64) -> Event {
    event(id, when, Fact::ActivityLogged(ActivityLogged { owner: owner.into(), activity: "call".into(), count }))
}

fn query(period: &str, holder: &str) -> String {
    format!("{{ salesPerformance(period: {{{period}}}, {holder}) {{ {FIELDS} }} }}")
}

fn between(start: &str, end: &str) -> String {
    format!(r#"start: "2026-06-{start}Z", end: "2026-06-{end}Z""#)
}

fn user(tenant: &TestTenant<'_>, role: Role) -> String {
    format!(r#"userId: "{}""#, tenant.actor(role).caller.user_id)
}

async fn seeded(test: &TestApp) -> TestTenant<'_> {
    let acme = test.tenant("acme").await;
    let (viewer, manager) = ("viewer@acme.example", "manager@acme.example");
    acme.apply(vec![
        deal("d1", "2026-06-01T10:00:00Z", viewer, true, "100.00"),
        deal("d2", "2026-06-01T10:07:00Z", viewer, false, "50.00"),
        deal("d3", "2026-06-01T10:14:59.999999Z", viewer, true, "20.00"),
        deal("d4", "2026-06-01T10:15:00Z", viewer, true, "3.00"),
        deal("d5", "2026-06-02T09:00:00Z", manager, true, "7.00"),
        activity("a1", "2026-06-01T10:07:00Z", viewer, 4),
        activity("a2", "2026-06-01T10:30:00Z", viewer, 1),
    ])
    .await;
    acme.verified().await;
    acme
}

#[tokio::test]
async fn deals_and_activities_add_up() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let period = between("01T00:00:00", "02T00:00:00");
    let found = acme.viewer().query(&query(&period, &user(&acme, Role::Viewer))).await["salesPerformance"].take();
    // 100 + 20 + 3 of three deals won; one lost.
    let expected = json!({
        "period": { "start": "2026-06-01T00:00:00Z", "end": "2026-06-02T00:00:00Z", "state": "CLOSED" },
        "currency": "GBP", "dealsWon": 3, "dealsClosed": 4, "revenue": "123.00", "quota": null,
        "quotaAttainment": null, "activities": 5, "conversionRate": 0.75, "averageDealSize": "41.00",
    });
    assert_eq!(found, expected);
    let none = acme.viewer().query(&query(&period, &user(&acme, Role::Analyst))).await["salesPerformance"].take();
    assert_eq!((&none["revenue"], &none["dealsWon"]), (&json!("0.00"), &json!(0)));
    assert_eq!((&none["conversionRate"], &none["averageDealSize"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn an_old_version_of_a_deal_is_superseded_whoever_owned_it() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let Event { occurred_at, fact, .. } = deal("d1", "2026-06-01T10:00:00Z", "gone@acme.example", true, "1.00");
    let again = Event { event_id: "d1 again".into(), occurred_at, fact, organization: None };
    let outcomes = acme.record(vec![again]).await.outcomes;
    assert!(matches!(outcomes[..], [Outcome::Superseded { .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn a_period_may_cut_slots_of_the_rollup() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let viewer = user(&acme, Role::Viewer);
    for (start, end, revenue, closed, activities) in [
        ("01T10:00:00", "01T10:15:00", "120.00", 3, 4),
        ("01T10:00:00.000001", "01T10:15:00", "20.00", 2, 4),
        ("01T10:07:00", "01T10:14:59.999999", "0.00", 1, 4),
        ("01T10:07:00.000001", "01T10:15:00.000001", "23.00", 2, 0),
        ("01T10:10:00", "01T10:50:00", "23.00", 2, 1),
        ("01T10:20:00", "01T10:30:00.000001", "0.00", 0, 1),
    ] {
        let found = acme.viewer().query(&query(&between(start, end), &viewer)).await["salesPerformance"].take();
        let numbers = (&found["revenue"], &found["dealsClosed"], &found["activities"]);
        assert_eq!(numbers, (&json!(revenue), &json!(closed), &json!(activities)), "{start} to {end}");
    }
}

#[tokio::test]
async fn a_newer_version_of_a_deal_replaces_it() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let lost = DealClosed {
        deal_id: "d1".into(),
        version: 2,
        owner: "manager@acme.example".into(),
        won: false,
        currency: None,
        amount: money("100.00"),
    };
    acme.apply(vec![event("d1v2", "2026-06-03T10:00:00Z", Fact::DealClosed(lost))]).await;
    acme.verified().await;
    let period = between("01T00:00:00", "04T00:00:00");
    let of = async |role| acme.viewer().query(&query(&period, &user(&acme, role))).await["salesPerformance"].take();
    let (viewer, manager) = (of(Role::Viewer).await, of(Role::Manager).await);
    assert_eq!((&viewer["revenue"], &viewer["dealsClosed"]), (&json!("23.00"), &json!(3)));
    assert_eq!((&manager["revenue"], &manager["dealsClosed"]), (&json!("7.00"), &json!(2)));
}

#[tokio::test]
async fn a_team_sold_what_its_members_sold() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let ids: Vec<String> = [Role::Viewer, Role::Manager].map(|r| acme.actor(r).caller.user_id.to_string()).to_vec();
    let create = "mutation($ids: [ID!]) { createTeam(input: {name: \"T\", memberIds: $ids}) { id } }";
    let team = acme.admin().query_with(create, json!({ "ids": ids })).await["createTeam"]["id"].take();
    let quota = format!(
        r#"mutation {{ setQuota(input: {{teamId: {team}, start: "2026-06-01", end: "2026-06-11", amount: "650"}}) {{ id }} }}"#
    );
    acme.admin().query(&quota).await;
    let period = between("01T00:00:00", "03T00:00:00");
    let found = acme.viewer().query(&query(&period, &format!("teamId: {team}"))).await["salesPerformance"].take();
    // 123 of the one and 7 of the other; two of ten days of 650 are 130.
    assert_eq!(
        (&found["revenue"], &found["quota"], &found["quotaAttainment"]),
        (&json!("130.00"), &json!("130.00"), &json!(1.0))
    );
    let update = format!(r#"mutation {{ updateTeam(id: {team}, input: {{name: "T", memberIds: []}}) {{ id }} }}"#);
    acme.admin().query(&update).await;
    let found = acme.viewer().query(&query(&period, &format!("teamId: {team}"))).await["salesPerformance"].take();
    assert_eq!((&found["revenue"], &found["quotaAttainment"]), (&json!("0.00"), &json!(0.0)));
}

#[tokio::test]
async fn two_currencies_are_never_added() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let create =
        r#"mutation { createOrganization(input: {slug: "us", name: "US", timezone: "UTC", currency: "USD"}) { id } }"#;
    acme.admin().query(create).await;
    let mut abroad = deal("d9", "2026-06-04T10:00:00Z", "viewer@acme.example", true, "9.00");
    abroad.organization = Some("us".into());
    acme.apply(vec![abroad]).await;
    acme.verified().await;
    let viewer = user(&acme, Role::Viewer);
    let both = query(&between("01T00:00:00", "05T00:00:00"), &viewer);
    assert_eq!(acme.viewer().error_code(&both).await, "MIXED_CURRENCIES");
    let abroad = query(&between("04T00:00:00", "05T00:00:00"), &viewer);
    let found = acme.viewer().query(&abroad).await["salesPerformance"].take();
    assert_eq!((&found["revenue"], &found["currency"]), (&json!("9.00"), &json!("USD")));
    // A quota is in the default organization's currency.
    let quota = format!(
        r#"mutation {{ setQuota(input: {{{viewer}, start: "2026-06-04", end: "2026-06-05", amount: "650"}}) {{ id }} }}"#
    );
    acme.admin().query(&quota).await;
    assert_eq!(acme.viewer().error_code(&abroad).await, "MIXED_CURRENCIES");
}

#[tokio::test]
async fn verify_finds_a_rollup_that_is_not_the_sum_of_its_facts() {
    for change in ["revenue = revenue + 1", "activities = activities + 1", "slot = slot + 1000"] {
        let test = TestApp::start().await;
        let acme = seeded(&test).await;
        let tx = test.app.db.write(acme.id()).await.expect("a transaction");
        let sql = format!("UPDATE sales_performance SET {change} WHERE tenant_id = $1 AND deals_won > 1");
        assert_eq!(tx.execute(&sql, []).await.expect("changed"), 1);
        tx.commit().await.expect("committed");
        let report = salespulse::ledger::verify::verify(&test.app.db, acme.id()).await.expect("verify runs");
        assert!(!report.differences.is_empty(), "{change}");
    }
}

#[tokio::test]
async fn bad_questions_are_refused() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    let viewer = acme.viewer();
    let own = user(&acme, Role::Viewer);
    viewer.refused(&query("preset: TODAY", r#"userId: null"#), "userId").await;
    let team =
        acme.admin().query(r#"mutation { createTeam(input: {name: "T"}) { id } }"#).await["createTeam"]["id"].take();
    viewer.refused(&query("preset: TODAY", &format!("{own}, teamId: {team}")), "userId").await;
    viewer.refused(&query(&between("02T00:00:00", "01T00:00:00"), &own), "period").await;
    let other = test.tenant("other").await;
    for holder in [user(&other, Role::Viewer), r#"userId: "x""#.to_owned(), r#"teamId: "x""#.to_owned()] {
        assert_eq!(viewer.error_code(&query("preset: TODAY", &holder)).await, "NOT_FOUND", "{holder}");
    }
    let foreign = query("preset: TODAY", &format!("teamId: {team}"));
    assert_eq!(other.viewer().error_code(&foreign).await, "NOT_FOUND");
}
