//! API keys: what they are good for, and until when.

use reqwest::StatusCode;
use salespulse::auth::Role;
use salespulse::auth::opaque::{Kind, Opaque};
use salespulse::clock::{SECOND, Timestamp};
use salespulse::db::{TenantId, get};
use salespulse::error::{Code, Error};
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::support::{NOW, Server, TestApp, in_time};
use crate::web::{ME, PASSWORD, SET, Web, anonymous, let_in, login, mailed_token, start, with};

#[tokio::test]
async fn keys_end_for_good_with_who_is_sent_off_and_with_a_password_by_mail() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    // Somebody else is left who manages users.
    let_in(&acme, Role::Admin).await;
    let (here, there) = (start(&test).await, Server::of(test.another().await).await);
    let invite =
        r#"mutation { inviteUser(input: {email: "ann@acme.example", name: "Ann", role: ADMIN}) { user { id } } }"#;
    let id = acme.admin().query(invite).await["inviteUser"]["user"]["id"].clone();
    let set = |token: &str| json!({ "token": token, "password": PASSWORD });
    anonymous(&here).data(SET, set(&mailed_token(&acme).await)).await;
    let create = r#"mutation { createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { secret } }"#;
    let key = async || {
        let signed_in = login(&here, "acme", "ann@acme.example").await;
        with(&here, &signed_in["accessToken"]).data(create, Value::Null).await["createApiKey"]["secret"].clone()
    };
    let status = async |server: &Server, key: &Value| with(server, key).ask(ME, Value::Null).await.0;

    let first = key().await;
    let mut far = Socket::open(&there, first.as_str().expect("a secret")).await;
    far.ready().await;
    for is_active in [false, true] {
        let update = format!("mutation {{ updateUser(id: {id}, input: {{isActive: {is_active}}}) {{ state }} }}");
        acme.admin().query(&update).await;
        assert_eq!(status(&here, &first).await, StatusCode::UNAUTHORIZED, "{is_active}");
    }
    assert_eq!(far.closed().await, 4403);
    assert_eq!(status(&there, &first).await, StatusCode::UNAUTHORIZED);

    // Another password alone leaves keys; one by mail ends them.
    let second = key().await;
    let signed_in = login(&here, "acme", "ann@acme.example").await;
    let change = "mutation ($p: String!) { changePassword(current: $p, new: $p) { accessToken } }";
    let changed = with(&here, &signed_in["accessToken"]).data(change, json!({ "p": PASSWORD })).await;
    with(&here, &changed["changePassword"]["accessToken"]).data("mutation { logoutEverywhere }", Value::Null).await;
    assert_eq!(status(&here, &second).await, StatusCode::OK);
    let ask = r#"mutation { requestPasswordReset(tenant: "acme", email: "ann@acme.example") }"#;
    anonymous(&here).data(ask, Value::Null).await;
    anonymous(&here).data(SET, set(&mailed_token(&acme).await)).await;
    assert_eq!(status(&here, &second).await, StatusCode::UNAUTHORIZED);
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn keys_in_use_are_good_from_an_address_that_has_sent_too_many_others() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let create = r#"mutation { createApiKey(input: {name: "k", permissions: [SALES_VIEW]}) { secret } }"#;
    let secret = acme.admin().query(create).await["createApiKey"]["secret"].take();
    let good = Opaque::parse(Kind::ApiKey, secret.as_str().expect("a secret")).expect("a key");
    let cache = &test.app.access_cache;
    let code = async |key: &Opaque| {
        let limited = || Err(Error::new(Code::RateLimited, "too many"));
        cache.caller_of(key, limited).await.err().map(|error| error.code)
    };
    cache.changed(acme.id());
    assert_eq!(code(&good).await, None, "whatever has changed");
    // Until it is a second since the database was asked, there is nothing to refuse.
    let unknown = Opaque::random(Kind::ApiKey, acme.id());
    in_time(async {
        while code(&unknown).await == Some(Code::Unauthenticated) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(code(&unknown).await, Some(Code::RateLimited));
    let of_nobody = Opaque::random(Kind::ApiKey, TenantId(uuid::Uuid::now_v7()));
    assert_eq!(code(&of_nobody).await, Some(Code::RateLimited), "a tenant that there is not");
    let before = test.app.db.statements();
    assert_eq!(code(&good).await, None, "whatever else was sent");
    assert_eq!(test.app.db.statements(), before, "the database is not asked");
}

#[tokio::test]
async fn a_key_does_not_make_more_of_itself() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let admin = Web { server: &server, token: Some(acme.admin().token()) };
    let create = "mutation ($permissions: [Permission!]!, $expiresAt: DateTime) {
        createApiKey(input: {name: \"k\", permissions: $permissions, expiresAt: $expiresAt}) { secret } }";
    let manages =
        json!({ "permissions": ["USERS_MANAGE", "INTEGRATIONS_MANAGE"], "expiresAt": "2026-06-16T12:00:00Z" });
    let key = admin.data(create, manages).await["createApiKey"]["secret"].clone();
    let key = with(&server, &key);
    let invite = r#"mutation { inviteUser(input: {email: "x@acme.example", name: "X", role: ADMIN}) { state } }"#;
    assert_eq!(key.code(invite, Value::Null).await, "FORBIDDEN");
    // Nor is somebody invited again with less, who was invited with more.
    acme.admin().query(invite).await;
    let sees = json!({ "permissions": ["USERS_MANAGE", "SALES_VIEW"], "expiresAt": "2026-06-16T12:00:00Z" });
    let sees = admin.data(create, sees).await["createApiKey"]["secret"].clone();
    let less = invite.replace("ADMIN", "VIEWER");
    assert_eq!(with(&server, &sees).code(&less, Value::Null).await, "FORBIDDEN");
    let another = with(&server, &sees).data(&less.replace("x@", "y@"), Value::Null).await;
    assert_eq!(another["inviteUser"]["state"], "INVITED");
    let viewer = acme.viewer().caller.user_id;
    let promote = format!(r#"mutation {{ updateUser(id: "{viewer}", input: {{role: ADMIN}}) {{ state }} }}"#);
    assert_eq!(key.code(&promote, Value::Null).await, "FORBIDDEN");
    for expires_at in [Value::Null, json!("2026-06-17T12:00:00Z")] {
        let longer = json!({ "permissions": ["INTEGRATIONS_MANAGE"], "expiresAt": expires_at });
        assert_eq!(key.code(create, longer).await, "FORBIDDEN");
    }
    key.data(create, json!({ "permissions": ["INTEGRATIONS_MANAGE"], "expiresAt": "2026-06-16T12:00:00Z" })).await;
    assert_eq!(key.code("mutation { logoutEverywhere }", Value::Null).await, "FORBIDDEN");
    let own = r#"mutation { endSession(id: "00000000-0000-0000-0000-000000000000") }"#;
    assert_eq!(key.code(own, Value::Null).await, "FORBIDDEN");
    server.stop().await;
}

#[tokio::test]
async fn an_api_key_does_what_it_is_for_until_it_or_its_user_ends() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = start(&test).await;
    let admin = Web { server: &server, token: Some(acme.admin().token()) };
    let create = "mutation ($permissions: [Permission!]!, $expiresAt: DateTime) {
        createApiKey(input: {name: \"shop\", permissions: $permissions, expiresAt: $expiresAt}) { secret key { id hint permissions } } }";
    let created = admin.data(create, json!({ "permissions": ["SALES_VIEW"] })).await["createApiKey"].clone();
    let secret = created["secret"].as_str().expect("a secret");
    assert!(secret.ends_with(created["key"]["hint"].as_str().expect("a hint")));
    let program = Web { server: &server, token: Some(secret.to_owned()) };
    let me = program.data(ME, Value::Null).await;
    assert_eq!(me["me"]["permissions"], json!(["SALES_VIEW"]));
    assert_eq!(program.code(r#"mutation { createTeam(input: {name: "T"}) { id } }"#, Value::Null).await, "FORBIDDEN");
    Socket::open(&server, secret).await.ready().await;
    // How its user comes in is not for it to see.
    for query in ["{ sessions { address agent } }", "{ identities { issuer subject } }"] {
        assert_eq!(program.code(query, Value::Null).await, "FORBIDDEN", "{query}");
        admin.data(query, Value::Null).await;
    }
    // It cannot make keys that may more, and nobody can who may less.
    let mut narrow = acme.admin();
    narrow.caller.permissions.retain(|p| *p != salespulse::auth::Permission::SalesEdit);
    let wide = r#"mutation { createApiKey(input: {name: "x", permissions: [SALES_EDIT]}) { secret } }"#;
    assert_eq!(narrow.error_code(wide).await, "FORBIDDEN");
    assert_eq!(acme.viewer().error_code(wide).await, "FORBIDDEN");

    let mut socket = Socket::open(&server, secret).await;
    let revoke = format!(r#"mutation {{ revokeApiKey(id: {}) {{ revokedAt }} }}"#, created["key"]["id"]);
    admin.data(&revoke, Value::Null).await;
    admin.data(&revoke, Value::Null).await;
    let logged = r#"{ auditLog(filter: { action: "api-key.revoke" }) { totalCount } }"#;
    assert_eq!(admin.data(logged, Value::Null).await["auditLog"]["totalCount"], 1);
    assert_eq!(socket.closed().await, 4403);
    assert_eq!(program.ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let shown = admin.data("{ apiKeys { name revokedAt user { name } } }", Value::Null).await;
    assert_eq!(
        shown["apiKeys"],
        json!([{ "name": "shop", "revokedAt": "2026-06-15T12:00:00Z", "user": { "name": "admin" } }])
    );
    // One that ends by itself.
    let brief = json!({ "permissions": ["SALES_VIEW"], "expiresAt": "2026-06-15T12:01:00Z" });
    let brief = admin.data(create, brief).await["createApiKey"]["secret"].clone();
    with(&server, &brief).data(ME, Value::Null).await;
    test.clock.set(Timestamp(NOW.0 + 60 * SECOND));
    assert_eq!(with(&server, &brief).ask(ME, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    // The database has no secrets.
    let tx = test.app.db.read(acme.id()).await.expect("begun");
    let rows = tx.query("SELECT hash FROM api_keys WHERE tenant_id = $1", []).await.expect("read");
    let hash: Vec<u8> = get(&rows[0], 0).expect("a hash");
    assert!(hash.len() == 32 && !secret.as_bytes().windows(8).any(|part| hash.starts_with(part)));
    server.stop().await;
}
