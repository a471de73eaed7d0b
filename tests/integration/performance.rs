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
    let sold = async |input: &str| {
        let update = format!(r#"mutation {{ updateTeam(id: {team}, input: {{name: "T", {input}}}) {{ id }} }}"#);
        acme.admin().query(&update).await;
        let found = acme.viewer().query(&query(&period, &format!("teamId: {team}"))).await["salesPerformance"].take();
        (found["revenue"].clone(), found["dealsClosed"].clone())
    };
    assert_eq!(sold("memberIds: []").await, (json!("130.00"), json!(5)), "what they sold before they left stays");
    let members = format!(r#"memberIds: ["{}"], membersFrom: "2026-06-02T00:00:00Z""#, ids[0]);
    assert_eq!(sold(&members).await, (json!("123.00"), json!(4)), "the manager left before the deal of the 2nd");
    let members = format!(r#"memberIds: ["{}"], membersFrom: "2026-06-01T10:07:00Z""#, ids[1]);
    assert_eq!(sold(&members).await, (json!("107.00"), json!(2)), "within a slot, and the viewer's end is exclusive");
    let memberships = "{ teams { members { id } memberships { user { id } start end } } }";
    let expected = json!({ "members": [{ "id": ids[1] }], "memberships": [
        { "user": { "id": ids[0] }, "start": null, "end": "2026-06-01T10:07:00Z" },
        { "user": { "id": ids[1] }, "start": null, "end": null },
    ] });
    let mut teams = acme.viewer().query(memberships).await["teams"].take();
    teams[0]["memberships"].as_array_mut().expect("a list").sort_by_key(|one| one["end"].is_null());
    assert_eq!(teams, json!([expected]));
    let future = format!(
        r#"mutation {{ updateTeam(id: {team}, input: {{name: "T", memberIds: [], membersFrom: "2027-01-01T00:00:00Z"}}) {{ id }} }}"#
    );
    acme.admin().refused(&future, "membersFrom").await;
    let alone =
        format!(r#"mutation {{ updateTeam(id: {team}, input: {{membersFrom: "2026-06-01T00:00:00Z"}}) {{ id }} }}"#);
    acme.admin().refused(&alone, "membersFrom").await;
}

/// Three salespeople come and go, in any order of what is told when, and each closes a deal a day.
#[tokio::test]
async fn a_team_sold_what_its_members_sold_while_they_were_in_it() {
    const DAYS: usize = 12;
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let roles = [Role::Viewer, Role::Manager, Role::Analyst];
    let ids = roles.map(|role| acme.actor(role).caller.user_id.to_string());
    let worth = |person: usize, day: usize| (person + 1) * 1000 + day * day;
    let mut deals = Vec::new();
    for (person, id) in ids.iter().enumerate() {
        for day in 0..DAYS {
            let when = format!("2026-06-{:02}T12:00:00Z", day + 1);
            deals.push(deal(&format!("{person}-{day}"), &when, id, true, &worth(person, day).to_string()));
        }
    }
    acme.apply(deals).await;
    let team =
        acme.admin().query(r#"mutation { createTeam(input: {name: "T"}) { id } }"#).await["createTeam"]["id"].take();
    let mut members = [[false; 3]; DAYS];
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for _ in 0..30 {
        let (from, chosen) = (usize::try_from(next(DAYS as u64)).expect("small"), next(8));
        let is_in = [chosen & 1 != 0, chosen & 2 != 0, chosen & 4 != 0];
        members[from..].fill(is_in);
        let of_team: Vec<&String> = ids.iter().zip(is_in).filter(|(_, is_in)| *is_in).map(|(id, _)| id).collect();
        let update = "mutation($id: ID!, $ids: [ID!], $from: DateTime) \
                      { updateTeam(id: $id, input: {name: \"T\", memberIds: $ids, membersFrom: $from}) { id } }";
        let from = format!("2026-06-{:02}T12:00:00Z", from + 1);
        acme.admin().query_with(update, json!({ "id": team, "ids": of_team, "from": from })).await;
        let expected: usize = (0..DAYS)
            .flat_map(|day| (0..3).map(move |person| (person, day)))
            .filter(|(person, day)| members[*day][*person])
            .map(|(person, day)| worth(person, day))
            .sum();
        let all = query(&between("01T00:00:00", "14T00:00:00"), &format!("teamId: {team}"));
        let found = acme.viewer().query(&all).await["salesPerformance"].take();
        assert_eq!(found["revenue"], json!(format!("{expected}.00")), "{members:?}");
    }
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
    // Numbers have none, and one organization has one.
    let ask = async |organization: &str, fields: &str| {
        let period = between("01T00:00:00", "05T00:00:00");
        let query = format!("{{ salesPerformance(period: {{{period}}}, {viewer} {organization}) {{ {fields} }} }}");
        acme.viewer().query(&query).await["salesPerformance"].take()
    };
    assert_eq!(
        ask("", "dealsWon dealsClosed activities conversionRate").await,
        json!({ "dealsWon": 4, "dealsClosed": 5, "activities": 5, "conversionRate": 0.8 })
    );
    let fields = "currency revenue dealsWon activities quota quotaAttainment averageDealSize";
    for (organization, currency, revenue, won, average) in
        [("us", "USD", "9.00", 1, "9.00"), ("acme", "GBP", "123.00", 3, "41.00")]
    {
        assert_eq!(
            ask(&format!("organizationId: \"{organization}\""), fields).await,
            json!({ "currency": currency, "revenue": revenue, "dealsWon": won, "activities": 5, "quota": null,
                "quotaAttainment": null, "averageDealSize": average })
        );
    }
    let unknown =
        format!("{{ salesPerformance(period: {{preset: TODAY}}, {viewer}, organizationId: \"x\") {{ dealsWon }} }}");
    assert_eq!(acme.viewer().error(&unknown).await, ("NOT_FOUND".into(), Some("organizationId".into())));
}

/// A quota of which no day begins in the period is none of it.
#[tokio::test]
async fn a_quota_beside_the_period_has_no_currency_either() {
    let test = TestApp::start().await;
    let acme = seeded(&test).await;
    acme.organization("us", chrono_tz::UTC, "USD").await;
    let mut abroad = deal("d9", "2026-06-04T10:00:00Z", "Viewer@ACME.example", true, "9.00");
    abroad.organization = Some("us".into());
    acme.apply(vec![abroad]).await;
    let viewer = user(&acme, Role::Viewer);
    let quota = format!(
        r#"mutation {{ setQuota(input: {{{viewer}, start: "2026-06-04", end: "2026-06-05", amount: "650"}}) {{ id }} }}"#
    );
    acme.admin().query(&quota).await;
    let found = acme.viewer().query(&query(&between("04T01:00:00", "04T23:00:00"), &viewer)).await;
    assert_eq!(found["salesPerformance"]["revenue"], "9.00");
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
