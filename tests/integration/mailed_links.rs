//! Invitations and passwords by mail, and what ends with them.

use reqwest::StatusCode;
use salespulse::app::App;
use salespulse::auth::Role;
use salespulse::clock::{SECOND, Timestamp};
use serde_json::{Value, json};

use crate::support::{NOW, TestApp};
use crate::web::{ME, PASSWORD, SET, anonymous, let_in, login, mailed_token, mailed_tokens, start, with};

#[tokio::test]
async fn without_a_mail_server_nobody_waits_for_mail() {
    let test = TestApp::start().await.rewired(|app| App { sends_mail: false, ..app });
    let acme = test.tenant("acme").await;
    let invite = r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: MANAGER}) { state } }"#;
    assert_eq!(acme.admin().error_code(invite).await, "MAIL_NOT_CONFIGURED");
    let members = acme.admin().query("{ users(first: 10) { nodes { user { email } } } }").await;
    assert!(!members.to_string().contains("ann@acme.example"), "{members}");
    let reset = r#"mutation { requestPasswordReset(tenant: "acme", email: "ann@acme.example") }"#;
    assert_eq!(acme.admin().error_code(reset).await, "MAIL_NOT_CONFIGURED");
}

#[tokio::test]
async fn who_is_invited_sets_a_password_and_may_set_another_one() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let invite = r#"mutation { inviteUser(input: {email: "Ann@Acme.example", name: "Ann", role: MANAGER}) { state user { email } } }"#;
    let invited = acme.admin().query(invite).await;
    assert_eq!(invited["inviteUser"], json!({ "state": "INVITED", "user": { "email": "ann@acme.example" } }));
    let first = mailed_token(&acme).await;
    acme.admin().query(invite).await;
    let token = mailed_token(&acme).await;
    let set = |token: &str, password: &str| json!({ "token": token, "password": password });
    // Only the newest link is good, for a good password, and once.
    assert_eq!(anonymous(&server).code(SET, set(&first, PASSWORD)).await, "INVALID_GRANT");
    assert_eq!(anonymous(&server).code(SET, set(&token, "short")).await, "BAD_USER_INPUT");
    let signed_in = anonymous(&server).data(SET, set(&token, PASSWORD)).await;
    assert_eq!(signed_in["setPassword"]["user"], json!({ "email": "ann@acme.example", "role": "MANAGER" }));
    assert_eq!(anonymous(&server).code(SET, set(&token, PASSWORD)).await, "INVALID_GRANT");
    assert_eq!(acme.admin().error_code(invite).await, "CONFLICT");

    let session = login(&server, "acme", "ann@acme.example").await;
    let ask = "mutation ($email: String!) { requestPasswordReset(tenant: \"acme\", email: $email) }";
    for email in ["ann@acme.example", "nobody@acme.example"] {
        assert_eq!(anonymous(&server).data(ask, json!({ "email": email })).await["requestPasswordReset"], true);
    }
    let token = mailed_token(&acme).await;
    anonymous(&server).data(SET, set(&token, "another horse battery")).await;
    // What was open is not any more.
    assert_eq!(with(&server, &session["accessToken"]).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let users = acme.admin().query("{ users { nodes { state user { id email } } } }").await;
    let ann = &users["users"]["nodes"][2];
    assert_eq!((&ann["state"], &ann["user"]["email"]), (&json!("ACTIVE"), &json!("ann@acme.example")));
    // A link does not last.
    anonymous(&server).data(ask, json!({ "email": "ann@acme.example" })).await;
    let late = mailed_token(&acme).await;
    test.clock.set(Timestamp(NOW.0 + 3601 * SECOND));
    assert_eq!(anonymous(&server).code(SET, set(&late, PASSWORD)).await, "INVALID_GRANT");
    server.stop().await;
}

#[tokio::test]
async fn who_asks_for_links_of_somebody_else_ends_none_and_fills_no_mailbox() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let email = let_in(&acme, Role::Analyst).await;
    let server = start(&test).await;
    let ask = "mutation ($email: String!) { requestPasswordReset(tenant: \"acme\", email: $email) }";
    let asked = async || anonymous(&server).data(ask, json!({ "email": email })).await["requestPasswordReset"].clone();
    for _ in 0..4 {
        assert_eq!(asked().await, true);
    }
    let tokens = mailed_tokens(&acme).await;
    assert_eq!(tokens.len(), 3);
    let set = |token: &str| json!({ "token": token, "password": "another horse battery" });
    anonymous(&server).data(SET, set(&tokens[0])).await;
    for token in &tokens {
        assert_eq!(anonymous(&server).code(SET, set(token)).await, "INVALID_GRANT");
    }
    // Links that were used or are over leave room for others.
    for sent in [4, 5, 6, 6] {
        asked().await;
        assert_eq!(mailed_tokens(&acme).await.len(), sent);
    }
    test.clock.set(Timestamp(NOW.0 + 3601 * SECOND));
    asked().await;
    assert_eq!(mailed_tokens(&acme).await.len(), 7);
    server.stop().await;
}

#[tokio::test]
async fn identities_end_with_who_is_sent_off_and_with_a_password_by_mail() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let ann = acme.another_user(Role::Viewer).await;
    let link = async || {
        let tx = test.app.db.write(acme.id()).await.expect("begun");
        let sql = "INSERT INTO user_identities (tenant_id, issuer, subject, user_id, created_at) \
                   VALUES ($1, 'https://id.example', 's', $2, 0)";
        tx.execute(sql, [ann.into()]).await.expect("linked");
        tx.commit().await.expect("committed");
    };
    let count = async || {
        let tx = test.app.db.read(acme.id()).await.expect("begun");
        tx.count("SELECT count(*) FROM user_identities WHERE tenant_id = $1", []).await.expect("counted")
    };
    let update = |input: &str| format!(r#"mutation {{ updateUser(id: "{ann}", input: {{{input}}}) {{ state }} }}"#);
    link().await;
    acme.admin().query(&update("name: \"Ann\"")).await;
    assert_eq!(count().await, 1);
    acme.admin().query(&update("isActive: false")).await;
    assert_eq!(count().await, 0);
    acme.admin().query(&update("isActive: true")).await;
    link().await;
    let ask = format!(r#"mutation {{ requestPasswordReset(tenant: "acme", email: "{ann}@example.com") }}"#);
    acme.admin().query(&ask).await;
    acme.admin().query_with(SET, json!({ "token": mailed_token(&acme).await, "password": PASSWORD })).await;
    assert_eq!(count().await, 0);
    let log = r#"{ auditLog(filter: { action: "identity." }) { nodes { action subject before actor { id } } } }"#;
    let log = acme.admin().query(log).await["auditLog"]["nodes"].take();
    let entry = |by| {
        let before = json!({ "provider": null, "issuer": "https://id.example" });
        json!({ "action": "identity.unlink", "subject": ann, "before": before, "actor": { "id": by } })
    };
    assert_eq!(log, json!([entry(ann), entry(acme.admin().caller.user_id)]));
}

#[tokio::test]
async fn who_was_sent_off_does_not_come_back_by_an_old_link() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let invite =
        r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: VIEWER}) { user { id } } }"#;
    let id = acme.admin().query(invite).await["inviteUser"]["user"]["id"].clone();
    let invitation = mailed_token(&acme).await;
    let update = |input: &str| format!("mutation {{ updateUser(id: {id}, input: {input}) {{ state }} }}");
    assert_eq!(acme.admin().error_code(&update("{isActive: true}")).await, "CONFLICT");
    let state = acme.admin().query(&update("{isActive: false}")).await;
    assert_eq!(state["updateUser"]["state"], "DEACTIVATED");
    // Unless invited again.
    let again = r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: VIEWER}) { state } }"#;
    assert_eq!(acme.admin().query(again).await["inviteUser"]["state"], "INVITED");
    acme.admin().query(&update("{isActive: false}")).await;
    let set = |token: &str| json!({ "token": token, "password": PASSWORD });
    assert_eq!(anonymous(&server).code(SET, set(&invitation)).await, "INVALID_GRANT");
    // Nor does somebody whose password was forgotten before.
    let email = let_in(&acme, Role::Analyst).await;
    let ask = "mutation ($email: String!) { requestPasswordReset(tenant: \"acme\", email: $email) }";
    anonymous(&server).data(ask, json!({ "email": email })).await;
    let reset = mailed_token(&acme).await;
    let signed_in = login(&server, "acme", &email).await;
    let change = "mutation ($current: String!) { changePassword(current: $current, new: \"another horse battery\") { accessToken } }";
    let changing = with(&server, &signed_in["accessToken"]);
    // The session goes on.
    assert_eq!(changing.code(change, json!({ "current": "guess" })).await, "BAD_USER_INPUT");
    let changed = changing.data(change, json!({ "current": PASSWORD })).await;
    with(&server, &changed["changePassword"]["accessToken"]).data(ME, Value::Null).await;
    assert_eq!(changing.ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(anonymous(&server).code(SET, set(&reset)).await, "INVALID_GRANT");
    server.stop().await;
}

#[tokio::test]
async fn somebody_is_left_who_manages_users() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let admin = acme.admin();
    let update = |input: &str| {
        format!(r#"mutation {{ updateUser(id: "{}", input: {input}) {{ state }} }}"#, admin.caller.user_id)
    };
    for input in ["{role: VIEWER}", "{isActive: false}"] {
        assert_eq!(admin.error_code(&update(input)).await, "CONFLICT");
    }
    assert_eq!(acme.viewer().error_code(&update("{name: \"X\"}")).await, "FORBIDDEN");
    assert_eq!(test.tenant("other").await.admin().error_code(&update("{name: \"X\"}")).await, "NOT_FOUND");
    // Somebody who cannot sign in by themselves is not enough, where there was one who can.
    let second =
        r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: ADMIN}) { user { id } } }"#;
    let ann = admin.query(second).await["inviteUser"]["user"]["id"].clone();
    let tx = test.app.db.write(acme.id()).await.expect("begun");
    let sql =
        "UPDATE users SET is_active = true, invited_at = NULL, password_hash = 'x' WHERE tenant_id = $1 AND email = $2";
    tx.execute(sql, ["ann@acme.example".into()]).await.expect("written");
    tx.commit().await.expect("committed");
    let demote = format!("mutation {{ updateUser(id: {ann}, input: {{role: VIEWER}}) {{ state }} }}");
    assert_eq!(admin.error_code(&demote).await, "CONFLICT");
    admin.query(&update("{role: VIEWER}")).await;
}
