//! No mutation forgets the audit log: each field of `Mutation` is tried here, and those that leave no entry say why.

use std::collections::BTreeSet;

use salespulse::accounts::mailed::{self, Purpose};
use salespulse::auth::{Role, Through};
use serde_json::Value;

use crate::sealed;
use crate::senders::post_webhook;
use crate::support::{Actor, TestApp};

/// Mutations that leave no entry.
const SILENT: [(&str, &str); 2] = [
    ("recordEvents", "the ledger is a log itself, in which nothing is changed; `recordings` has who recorded what"),
    ("refresh", "a session goes on as before; that it began is in the log"),
];

/// What a mutation has in the log beside the subject.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Before,
    After,
    Both,
    Neither,
}

/// Runs a mutation, which leaves one entry of a kind at its end; gives its answer.
async fn run(
    actor: &Actor<'_>,
    seen: &mut BTreeSet<String>,
    field: &str,
    rest: &str,
    action: &str,
    told: Told,
) -> Value {
    let log = "{ auditLog(first: 1) { nodes { id action before after } } }";
    let newest = async || actor.query(log).await["auditLog"]["nodes"][0].clone();
    let before = newest().await;
    let mut answer = actor.query(&format!("mutation {{ {field}{rest} }}")).await;
    let entry = newest().await;
    assert_ne!(entry["id"], before["id"], "{field} leaves no entry");
    let has = |part: &str| !entry[part].is_null();
    let found = match (has("before"), has("after")) {
        (true, true) => Told::Both,
        (true, false) => Told::Before,
        (false, true) => Told::After,
        (false, false) => Told::Neither,
    };
    assert_eq!((entry["action"].as_str(), found), (Some(action), told), "{field}: {entry}");
    if told == Told::Both {
        assert_ne!(entry["before"], entry["after"], "{field}");
    }
    seen.insert(field.to_owned());
    answer[field].take()
}

#[tokio::test]
async fn every_mutation_leaves_an_entry_that_says_what_was_and_is() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let mut seen = BTreeSet::new();
    macro_rules! run {
        ($field:expr, $rest:expr, $action:expr, $told:ident) => {
            run(&admin, &mut seen, $field, $rest, $action, Told::$told).await
        };
    }
    let id_of = |answer: Value| answer["id"].as_str().expect("an id").to_owned();

    let team = id_of(run!("createTeam", r#"(input: {name: "T"}) { id }"#, "team.create", After));
    let member = acme.viewer().caller.user_id;
    let changed = format!(r#"(id: "{team}", input: {{name: "U", memberIds: ["{member}"]}}) {{ id }}"#);
    run!("updateTeam", &changed, "team.update", Both);
    let quota = |amount| {
        format!(
            r#"(input: {{teamId: "{team}", start: "2026-01-01", end: "2026-02-01", amount: "{amount}"}}) {{ amount }}"#
        )
    };
    run!("setQuota", &quota(5), "quota.set", After);
    run!("setQuota", &quota(7), "quota.set", Both);
    let made = admin.query("{ quotas { id } }").await["quotas"][0]["id"].take();
    run!("deleteQuota", &format!("(id: {made})"), "quota.delete", Before);
    run!("deleteTeam", &format!(r#"(id: "{team}")"#), "team.delete", Before);

    let organization = r#"{slug: "b", name: "B", timezone: "UTC", currency: "GBP"}"#;
    let id =
        id_of(run!("createOrganization", &format!("(input: {organization}) {{ id }}"), "organization.create", After));
    let other = organization.replace("\"B\"", "\"C\"");
    run!("updateOrganization", &format!(r#"(id: "{id}", input: {other}) {{ id }}"#), "organization.update", Both);

    let dashboard = id_of(run!("createDashboard", r#"(input: {name: "D"}) { id }"#, "dashboard.create", After));
    let changed = format!(r#"(id: "{dashboard}", input: {{name: "E"}}) {{ id }}"#);
    run!("updateDashboard", &changed, "dashboard.update", Both);
    run!("deleteDashboard", &format!(r#"(id: "{dashboard}")"#), "dashboard.delete", Before);

    let rule = |name, threshold| {
        format!(
            r#"input: {{name: "{name}", metric: ORDERS_COUNT, condition: ABOVE, threshold: "{threshold}", includeOpen: true,
            recipients: [{{channel: EMAIL, target: "canary@acme.example"}}]}}"#
        )
    };
    let alert = id_of(run!("createAlert", &format!("({}) {{ id }}", rule("A", 5)), "alert.create", After));
    let changed = format!(r#"(id: "{alert}", {}) {{ id }}"#, rule("A", 6));
    run!("updateAlert", &changed, "alert.update", Both);
    run!("deleteAlert", &format!(r#"(id: "{alert}")"#), "alert.delete", Before);
    let kpi = |formula| format!(r#"(name: "k", input: {{formula: "{formula}"}}) {{ name }}"#);
    run!("createKpi", &kpi("visits"), "kpi.create", After);
    run!("updateKpi", &kpi("visits + 1"), "kpi.update", Both);
    run!("deleteKpi", r#"(name: "k")"#, "kpi.delete", Before);
    let crm = |name| format!(r#"input: {{name: "{name}"}}"#);
    let made = format!(r#"(kind: PIPEDRIVE, secret: "canary:canary of it", {}) {{ id url }}"#, crm("CRM"));
    let made = run!("createIntegration", &made, "integration.create", After);
    for kept in ["1", "2"] {
        let sent = post_webhook(&test, made["url"].as_str().expect("a URL"), "canary:canary of it", kept).await;
        assert_eq!(sent["outcome"], "quarantined");
    }
    let kept = admin.query("{ quarantine { nodes { id } } }").await["quarantine"]["nodes"].take();
    run!("retryQuarantined", &format!("(id: {}) {{ outcome }}", kept[0]["id"]), "quarantine.retry", Both);
    run!("dismissQuarantined", &format!("(id: {})", kept[1]["id"]), "quarantine.dismiss", Before);
    let changed = format!("(id: {}, {}) {{ id }}", made["id"], crm("Other"));
    run!("updateIntegration", &changed, "integration.update", Both);
    run!("deleteIntegration", &format!("(id: {})", made["id"]), "integration.delete", Before);
    let delivery = dead_delivery(&test, &acme).await;
    run!("retryAlertDelivery", &format!(r#"(id: "{delivery}") {{ id }}"#), "alert.delivery.retry", Both);

    run!("updateProduct", r#"(input: {sku: "tea", inventory: 3, category: "Drinks"}) { id }"#, "product.update", After);
    run!("updateProduct", r#"(input: {sku: "tea", inventory: 4}) { id }"#, "product.update", Both);
    let rate = |rate| format!(r#"(rates: [{{from: "EUR", to: "GBP", validFrom: "2026-01-01", rate: "{rate}"}}])"#);
    run!("setExchangeRates", &rate("0.85"), "rates.set", After);
    run!("setExchangeRates", &rate("0.86"), "rates.set", Both);
    let rate = r#"(from: "EUR", to: "GBP", validFrom: "2026-01-01") { rate }"#;
    run!("deleteExchangeRate", rate, "rates.delete", Before);

    let key = run!(
        "createApiKey",
        r#"(input: {name: "K", permissions: [SALES_VIEW]}) { key { id } }"#,
        "api-key.create",
        After
    );
    let key = id_of(key["key"].clone());
    run!("revokeApiKey", &format!(r#"(id: "{key}") {{ id }}"#), "api-key.revoke", Both);
    let invited = r#"(input: {email: "canary@new.example", name: "Canary", role: VIEWER}) { user { id } }"#;
    let guest = run!("inviteUser", invited, "user.invite", After)["user"]["id"].take();
    run!("inviteUser", &invited.replace("VIEWER", "ANALYST"), "user.invite", Both);
    run!("updateUser", &format!("(id: {guest}, input: {{isActive: false}}) {{ state }}"), "user.update", Both);
    let demoted =
        format!(r#"(id: "{}", input: {{role: VIEWER}}) {{ state }}"#, acme.actor(Role::Analyst).caller.user_id);
    run!("updateUser", &demoted, "user.update", Both);

    acme.apply(vec![sealed::sale("1", sealed::person("1", "Canary"))]).await;
    run!("exportCustomer", r#"(customerId: "c1")"#, "customer.export", Neither);
    run!("eraseCustomer", r#"(customerId: "c1") { id }"#, "customer.erase", Neither);
    let fair = |last| format!(r#"(input: {{name: "Fair", days: [{{first: "2026-01-01", last: "{last}"}}]}}) {{ id }}"#);
    let event = id_of(run!("setCalendarEvent", &fair("2026-01-02"), "calendar-event.set", After));
    run!("setCalendarEvent", &fair("2026-01-03"), "calendar-event.set", Both);
    run!("deleteCalendarEvent", &format!(r#"(id: "{event}")"#), "calendar-event.delete", Before);
    run!("rotateKeys", " { rowsLeft }", "data-key.rotate", Neither);

    // Signing in, and what follows from it.
    let token = mailed_token(&test, &acme).await;
    let password = "correct horse battery staple";
    let set = format!(r#"(token: "{token}", password: "{password}") {{ accessToken }}"#);
    run!("setPassword", &set, "session.open", After);
    let login = format!(r#"(tenant: "acme", email: "manager@acme.example", password: "{password}") {{ accessToken }}"#);
    run!("login", &login, "session.open", After);
    let forgotten = r#"(tenant: "acme", email: "manager@acme.example")"#;
    run!("requestPasswordReset", forgotten, "password.forget", Neither);

    let log = admin.query("{ auditLog(first: 100) { nodes { action before after subject } } }").await;
    assert!(!log.to_string().to_lowercase().contains("canary"), "{log}");

    // Those of the caller's own session are tried by a session.
    let other = session(&test, &acme, acme.actor(Role::Manager).caller.user_id).await;
    for (field, rest, action, told) in [
        ("endSession", format!(r#"(id: "{other}")"#), "session.end", Told::Neither),
        (
            "changePassword",
            format!(r#"(current: "{password}", new: "another {password}") {{ accessToken }}"#),
            "session.open",
            Told::After,
        ),
        ("logout", String::new(), "session.end", Told::Neither),
        ("logoutEverywhere", String::new(), "session.end-all", Told::Neither),
        (
            "unlinkIdentity",
            r#"(issuer: "https://id.example", subject: "s")"#.to_owned(),
            "identity.unlink",
            Told::Before,
        ),
    ] {
        let mut own = acme.admin();
        own.caller.user_id = acme.actor(Role::Manager).caller.user_id;
        own.caller.role = Role::Manager;
        own.caller.through = Through::Session(session(&test, &acme, own.caller.user_id).await);
        run(&own, &mut seen, field, &rest, action, told).await;
    }

    let fields = admin.query("{ __schema { mutationType { fields { name } } } }").await;
    let fields = fields["__schema"]["mutationType"]["fields"].as_array().expect("fields");
    let fields: BTreeSet<String> = fields.iter().map(|f| f["name"].as_str().expect("a name").to_owned()).collect();
    seen.extend(SILENT.map(|(field, _)| field.to_owned()));
    assert_eq!(fields, seen, "each mutation is tried above, or says why it leaves no entry");
}

/// A delivery that was given up.
async fn dead_delivery(test: &TestApp, acme: &crate::support::TestTenant<'_>) -> uuid::Uuid {
    let id = uuid::Uuid::now_v7();
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let sql = "INSERT INTO deliveries (tenant_id, id, alert_no, channel, target, subject, text, body, state, attempts, created_at) \
               VALUES ($1, $2, 1, 'EMAIL', 'canary@acme.example', '', '', '', 'DEAD', 12, 0)";
    tx.execute(sql, [id.into()]).await.expect("written");
    tx.commit().await.expect("committed");
    id
}

/// What a mail to the manager would have in its link.
async fn mailed_token(test: &TestApp, acme: &crate::support::TestTenant<'_>) -> String {
    let manager = acme.actor(Role::Manager).caller.user_id;
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    mailed::send(&test.app, &tx, manager, "manager@acme.example", Purpose::Reset).await.expect("sent");
    let row = tx.query_one(
        "SELECT text FROM deliveries WHERE tenant_id = $1 AND alert_no IS NULL ORDER BY id DESC LIMIT 1",
        [],
    );
    let text: String = salespulse::db::get(&row.await.expect("read").expect("a mail"), 0).expect("text");
    tx.commit().await.expect("committed");
    let token = text.split_once('#').expect("a link").1;
    token.split_whitespace().next().expect("a token").to_owned()
}

/// A session of a user, who has an identity too.
async fn session(test: &TestApp, acme: &crate::support::TestTenant<'_>, user_id: uuid::Uuid) -> uuid::Uuid {
    use salespulse::auth::sessions::{Client, open};
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let opened = open(&tx, user_id, Role::Manager, &Client::default(), test.app.clock.now()).await.expect("opened");
    let sql = "INSERT INTO user_identities (tenant_id, issuer, subject, user_id, created_at) \
               VALUES ($1, 'https://id.example', 's', $2, 0) ON CONFLICT DO NOTHING";
    tx.execute(sql, [user_id.into()]).await.expect("written");
    tx.commit().await.expect("committed");
    opened.id
}
