//! Organizations, teams and quotas: who may change them, and what they refuse.

use salespulse::auth::Role;
use salespulse::ledger::event::{Fact, Outcome, VisitsCounted};
use serde_json::json;

use crate::ledger::event;
use crate::support::{TestApp, TestTenant};

fn organization(slug: &str, timezone: &str, currency: &str) -> String {
    format!(r#"{{slug: "{slug}", name: "{slug}", timezone: "{timezone}", currency: "{currency}"}}"#)
}

fn user_id(tenant: &TestTenant<'_>, role: Role) -> String {
    tenant.actor(role).caller.user_id.to_string()
}

#[tokio::test]
async fn a_caller_knows_itself_and_its_tenant() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let visits = Fact::VisitsCounted(VisitsCounted { count: 3, channel: None, region: None });
    acme.apply(vec![event("v", "2026-06-01T10:00:00Z", visits)]).await;
    for role in Role::ALL {
        let data = acme
            .actor(role)
            .query("{ me { id name email role permissions } tenant { id name asOf { position watermark } } }")
            .await;
        assert_eq!(data["me"]["id"], user_id(&acme, role));
        assert_eq!(data["me"]["role"], format!("{role:?}").to_uppercase());
        assert_eq!(data["me"]["permissions"].as_array().expect("a list").len(), role.permissions().len());
        let as_of = json!({ "position": "1", "watermark": "2026-06-01T10:00:00Z" });
        assert_eq!(data["tenant"], json!({ "id": acme.id().0, "name": "acme", "asOf": as_of }));
    }
}

#[tokio::test]
async fn organizations_are_created_and_take_events_at_once() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let visits = |id: &str, organization: Option<&str>| {
        let fact = Fact::VisitsCounted(VisitsCounted { count: 1, channel: None, region: None });
        let mut event = event(id, "2026-06-01T10:00:00Z", fact);
        event.organization = organization.map(str::to_owned);
        event
    };
    // The lane has read the organizations before there was a second one.
    let before = acme.record(vec![visits("v1", None), visits("v2", Some("berlin"))]).await;
    assert!(matches!(before.outcomes[1], Outcome::Refused(_)));
    let create = format!(
        "mutation {{ createOrganization(input: {}) {{ slug timezone currency isDefault }} }}",
        organization("berlin", "Europe/Berlin", "EUR")
    );
    let created = acme.admin().query(&create).await;
    let expected = json!({ "slug": "berlin", "timezone": "Europe/Berlin", "currency": "EUR", "isDefault": false });
    assert_eq!(created["createOrganization"], expected);
    acme.apply(vec![visits("v2", Some("berlin"))]).await;
    acme.verified().await;
    let slugs = acme.viewer().query("{ organizations { slug isDefault } }").await;
    let expected = json!([{ "slug": "acme", "isDefault": true }, { "slug": "berlin", "isDefault": false }]);
    assert_eq!(slugs["organizations"], expected);
    assert_eq!(acme.admin().error_code(&create).await, "CONFLICT");
}

#[tokio::test]
async fn an_organizations_zone_and_currency_are_fixed_by_its_first_event() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let id = admin.query("{ organizations { id } }").await["organizations"][0]["id"].clone();
    let update =
        |input: String| format!("mutation {{ updateOrganization(id: {id}, input: {input}) {{ slug timezone }} }}");
    let to_paris = update(organization("acme", "Europe/Paris", "EUR"));
    assert_eq!(admin.query(&to_paris).await["updateOrganization"]["timezone"], "Europe/Paris");
    let visits = Fact::VisitsCounted(VisitsCounted { count: 1, channel: None, region: None });
    acme.apply(vec![event("v", "2026-06-01T10:00:00Z", visits)]).await;
    assert_eq!(admin.error_code(&update(organization("acme", "UTC", "EUR"))).await, "CONFLICT");
    assert_eq!(admin.error_code(&update(organization("acme", "Europe/Paris", "GBP"))).await, "CONFLICT");
    let renamed = admin.query(&update(organization("acme-fr", "Europe/Paris", "EUR"))).await;
    assert_eq!(renamed["updateOrganization"]["slug"], "acme-fr");
    acme.verified().await;
}

#[tokio::test]
async fn bad_organizations_are_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let long = "a".repeat(61);
    let id_like = "0190b2a0-0000-7000-8000-000000000000";
    for slug in ["", "Big", "with space", "ümlaut", &long, id_like] {
        let input = format!(r#"{{slug: "{slug}", name: "x", timezone: "UTC", currency: "GBP"}}"#);
        admin.refused(&format!("mutation {{ createOrganization(input: {input}) {{ id }} }}"), "slug").await;
    }
    let long = "n".repeat(201);
    for name in ["", "  ", r"nul\u0000", r"bell\u0007", &long] {
        let input = format!(r#"{{slug: "s", name: "{name}", timezone: "UTC", currency: "GBP"}}"#);
        admin.refused(&format!("mutation {{ createOrganization(input: {input}) {{ id }} }}"), "name").await;
    }
    for (timezone, currency) in [("Mars/Base", "GBP"), ("UTC", "XXY")] {
        let create =
            format!("mutation {{ createOrganization(input: {}) {{ id }} }}", organization("s", timezone, currency));
        assert_eq!(admin.error_code(&create).await, "BAD_USER_INPUT");
    }
    let other = test.tenant("other").await;
    let foreign = other.admin().query("{ organizations { id } }").await["organizations"][0]["id"].clone();
    for id in [foreign, json!(id_like), json!("nonsense")] {
        let input = organization("s", "UTC", "GBP");
        let update = format!("mutation {{ updateOrganization(id: {id}, input: {input}) {{ id }} }}");
        assert_eq!(admin.error_code(&update).await, "NOT_FOUND");
    }
}

#[tokio::test]
async fn there_are_at_most_100_organizations_and_teams() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let organization = |n: usize| {
        format!("mutation {{ createOrganization(input: {}) {{ id }} }}", organization(&format!("o{n}"), "UTC", "GBP"))
    };
    let team = |n: usize| format!(r#"mutation {{ createTeam(input: {{name: "t{n}"}}) {{ id }} }}"#);
    // There is one organization from the start.
    for n in 1..100 {
        admin.query(&organization(n)).await;
        admin.query(&team(n)).await;
    }
    admin.query(&team(100)).await;
    assert_eq!(admin.error_code(&organization(100)).await, "CONFLICT");
    assert_eq!(admin.error_code(&team(101)).await, "CONFLICT");
    let data = admin.query("{ organizations { id } teams { id } }").await;
    let len = |list: &str| data[list].as_array().expect("a list").len();
    assert_eq!((len("organizations"), len("teams")), (100, 100));
}

#[tokio::test]
async fn two_at_once_do_not_get_the_same_name_or_number() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let team = r#"mutation { createTeam(input: {name: "T"}) { id } }"#;
    let answers = futures_util::future::join_all((0..4).map(|_| admin.run(team, json!({})))).await;
    assert_eq!(answers.iter().filter(|answer| answer.errors.is_empty()).count(), 1);
    for error in answers.iter().flat_map(|answer| &answer.errors) {
        assert!(format!("{error:?}").contains("CONFLICT"), "{error:?}");
    }
    let organizations: Vec<String> = (0..4)
        .map(|n| {
            let input = organization(&format!("o{n}"), "UTC", "GBP");
            format!("mutation {{ createOrganization(input: {input}) {{ id }} }}")
        })
        .collect();
    let answers = futures_util::future::join_all(organizations.iter().map(|create| admin.run(create, json!({})))).await;
    assert!(answers.iter().all(|answer| answer.errors.is_empty()), "{answers:?}");
}

#[tokio::test]
async fn teams_have_the_members_given_last() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let (viewer, manager) = (user_id(&acme, Role::Viewer), user_id(&acme, Role::Manager));
    let create = format!(
        r#"mutation {{ createTeam(input: {{name: " North ", memberIds: ["{viewer}", "{manager}", "{viewer}"]}})
        {{ id name members {{ name role }} }} }}"#
    );
    let team = admin.query(&create).await["createTeam"].take();
    let expected = json!([{ "name": "manager", "role": "MANAGER" }, { "name": "viewer", "role": "VIEWER" }]);
    assert_eq!((&team["name"], &team["members"]), (&json!("North"), &expected));
    assert_eq!(admin.error_code(&create).await, "CONFLICT");
    let update = |input: &str| {
        format!("mutation {{ updateTeam(id: {}, input: {input}) {{ name members {{ name }} }} }}", team["id"])
    };
    let renamed = admin.query(&update(r#"{name: "South"}"#)).await;
    assert_eq!(
        renamed["updateTeam"],
        json!({ "name": "South", "members": [{ "name": "manager" }, { "name": "viewer" }] })
    );
    let emptied = admin.query(&update(r#"{name: "South", memberIds: []}"#)).await;
    assert_eq!(emptied["updateTeam"]["members"], json!([]));
    assert_eq!(acme.viewer().query("{ teams { name } }").await["teams"], json!([{ "name": "South" }]));

    let other = test.tenant("other").await;
    let foreign_user = user_id(&other, Role::Admin);
    for id in [foreign_user.to_string(), "nobody".to_owned()] {
        let refused = update(&format!(r#"{{name: "South", memberIds: ["{viewer}", "{id}"]}}"#));
        assert_eq!(admin.error(&refused).await, ("NOT_FOUND".into(), Some("memberIds.1".into())));
    }
    let many: Vec<String> = (0..101).map(|n| format!("\"0190b2a0-0000-7000-8000-{n:012}\"")).collect();
    admin.refused(&update(&format!(r#"{{name: "S", memberIds: [{}]}}"#, many.join(", "))), "memberIds").await;
    admin.refused(&update(r#"{name: ""}"#), "name").await;
    let delete = format!("mutation {{ deleteTeam(id: {}) }}", team["id"]);
    assert_eq!(other.admin().error_code(&delete).await, "NOT_FOUND");
    assert_eq!(admin.query(&delete).await["deleteTeam"], team["id"]);
    assert_eq!(admin.error_code(&delete).await, "NOT_FOUND");
    assert_eq!(admin.error_code(&update(r#"{name: "South"}"#)).await, "NOT_FOUND");
}

#[tokio::test]
async fn a_quota_replaces_the_one_of_the_same_holder_and_days() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let viewer = user_id(&acme, Role::Viewer);
    let set = |holder: &str, days: &str, amount: &str| {
        format!(r#"mutation {{ setQuota(input: {{{holder} {days}, amount: "{amount}"}}) {{ id start end amount }} }}"#)
    };
    let (of_viewer, june) = (format!(r#"userId: "{viewer}""#), r#"start: "2026-06-01", end: "2026-07-01""#);
    let first = admin.query(&set(&of_viewer, june, "100.00")).await["setQuota"].take();
    let second = admin.query(&set(&of_viewer, june, "120.5")).await["setQuota"].take();
    assert_eq!(first["id"], second["id"]);
    assert_eq!(second, json!({ "id": first["id"], "start": "2026-06-01", "end": "2026-07-01", "amount": "120.50" }));

    let team = admin.query(r#"mutation { createTeam(input: {name: "T"}) { id } }"#).await["createTeam"]["id"].take();
    let of_team = format!("teamId: {team}");
    assert_ne!(admin.query(&set(&of_team, june, "1")).await["setQuota"]["id"], first["id"]);
    let of = async |arguments: &str| {
        admin.query(&format!("{{ quotas{arguments} {{ id userId teamId }} }}")).await["quotas"].take()
    };
    assert_eq!(of(&format!("({of_viewer})")).await, json!([{ "id": first["id"], "userId": viewer, "teamId": null }]));
    assert_eq!(of("").await.as_array().map(Vec::len), Some(2));
    admin.refused(&format!("{{ quotas({of_viewer}, {of_team}) {{ id }} }}"), "userId").await;
    let delete = format!("mutation {{ deleteQuota(id: {}) }}", first["id"]);
    assert_eq!(admin.query(&delete).await["deleteQuota"], first["id"]);
    assert_eq!(admin.error_code(&delete).await, "NOT_FOUND");
    assert_eq!(of(&format!("({of_viewer})")).await, json!([]));
    // A team's quotas go with it, and not unseen.
    admin.query(&format!("mutation {{ deleteTeam(id: {team}) }}")).await;
    assert_eq!(of("").await, json!([]));
    let log = admin.query("{ auditLog(first: 2) { nodes { action before } } }").await["auditLog"]["nodes"].take();
    assert_eq!((&log[0]["action"], &log[1]["action"]), (&json!("team.delete"), &json!("quota.delete")));
    assert_eq!((&log[1]["before"]["teamId"], &log[1]["before"]["amount"]), (&team, &json!("1.00")));
    admin.refused(&set("", june, "1"), "userId").await;
    admin.refused(&set(&format!("{of_viewer} {of_team}"), june, "1"), "userId").await;
    admin.refused(&set(&of_viewer, r#"start: "2026-06-01", end: "2026-06-01""#, "1"), "end").await;
    admin.refused(&set(&of_viewer, june, "0"), "amount").await;
    admin.refused(&set(&of_viewer, june, "-1"), "amount").await;
    let other = test.tenant("other").await;
    for holder in [format!(r#"userId: "{}""#, user_id(&other, Role::Viewer)), r#"teamId: "x""#.to_owned()] {
        assert_eq!(admin.error_code(&set(&holder, june, "1")).await, "NOT_FOUND");
    }
}

#[tokio::test]
async fn only_who_manages_users_changes_them() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let viewer = user_id(&acme, Role::Viewer);
    let mutations = [
        format!("createOrganization(input: {}) {{ id }}", organization("new", "UTC", "GBP")),
        format!("updateOrganization(id: \"x\", input: {}) {{ id }}", organization("new", "UTC", "GBP")),
        r#"createTeam(input: {name: "T"}) { id }"#.to_owned(),
        r#"updateTeam(id: "x", input: {name: "T"}) { id }"#.to_owned(),
        r#"deleteTeam(id: "x")"#.to_owned(),
        r#"deleteQuota(id: "x")"#.to_owned(),
        format!(
            r#"setQuota(input: {{userId: "{viewer}", start: "2026-06-01", end: "2026-07-01", amount: 1}}) {{ id }}"#
        ),
    ];
    for mutation in &mutations {
        let mutation = format!("mutation {{ {mutation} }}");
        for role in [Role::Manager, Role::Analyst, Role::Viewer] {
            assert_eq!(acme.actor(role).error_code(&mutation).await, "FORBIDDEN", "{role:?} {mutation}");
        }
        let response = acme.admin().run(&mutation, json!({})).await;
        assert!(!format!("{:?}", response.errors).contains("FORBIDDEN"), "{mutation}");
    }
}
