//! Password sign-in and the session's life cycle: refresh, sign-out, password change.

use sea_orm::Value;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, By, Entry};
use crate::auth::opaque::{Kind, Opaque};
use crate::auth::sessions::{self, Client, Opened, Refreshed, invalid_grant};
use crate::auth::standing::ACCESS_SECS;
use crate::auth::token::Subject;
use crate::auth::{Caller, Role, Through, password};
use crate::clock::{SECOND, Timestamp};
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::tenancy::find_tenant;
use crate::users::email_of;

/// The credentials of a new session.
pub struct SignedIn {
    pub tenant: TenantId,
    pub user_id: Uuid,
    pub access_token: String,
    /// Expiry of the access token.
    pub ends_at: Timestamp,
    pub refresh_token: String,
}

/// Signs in by password. Errors: UNAUTHENTICATED, whatever the reason; RATE_LIMITED.
pub async fn by_password(app: &App, client: &Client, tenant: &str, email: &str, password: String) -> Result<SignedIn> {
    app.tries.take_address(client.address)?;
    let email = email_of(email).map_err(|_| refused())?;
    let tenant = find_tenant(&app.db, tenant).await?;
    app.tries.take_account(tenant, &email)?;
    let user = match tenant {
        Some(tenant) => find_user(&app.db.read(tenant).await?, &email).await?,
        None => None,
    };
    let hash = user.and_then(|user| user.password_hash);
    let is_right = app.passwords.is(password, hash.clone()).await?;
    let Some(tenant) = tenant else { return Err(refused()) };
    let tx = app.db.write(tenant).await?;
    tx.lock_settings().await?;
    // Meanwhile the password may have been changed, or the user deactivated.
    let user = find_user(&tx, &email).await?;
    match user {
        Some(user) if is_right && user.password_hash == hash => {
            open(app, tx, client, user.id, user.role, "password").await
        }
        user => {
            let by = By { user_id: None, through: None, address: client.address };
            let subject = user.map(|user| user.id.to_string()).unwrap_or_default();
            audit::record_by(&tx, &by, app.clock.now(), Entry::of("session.refuse", subject)).await?;
            tx.commit().await?;
            Err(refused())
        }
    }
}

/// Opens a session for a user in a transaction that holds the settings lock, and commits it.
pub async fn open(app: &App, tx: TenantTx, client: &Client, user_id: Uuid, role: Role, by: &str) -> Result<SignedIn> {
    let now = app.clock.now();
    let opened = sessions::open(&tx, user_id, role, client, now).await?;
    let entry = Entry::of("session.open", opened.id).after(json!({ "by": by }));
    audit::record_by(&tx, &By::session(user_id, opened.id, client), now, entry).await?;
    let signed_in = signed_in(app, tx.tenant(), opened)?;
    tx.commit().await?;
    Ok(signed_in)
}

/// Refreshes a session; a reused token revokes it. Errors: INVALID_GRANT, RATE_LIMITED.
pub async fn refresh(app: &App, client: &Client, token: &str) -> Result<SignedIn> {
    let (token, session) = known(app, client, token).await?.ok_or_else(invalid_grant)?;
    app.tries.take_refresh(session)?;
    let now = app.clock.now();
    let tx = app.db.write(token.tenant).await?;
    match sessions::refresh(&tx, &token, now).await? {
        Refreshed::Opened(opened) => {
            let signed_in = signed_in(app, token.tenant, opened)?;
            tx.commit().await?;
            Ok(signed_in)
        }
        Refreshed::Reused { session, user_id } => {
            let by = By::session(user_id, session, client);
            audit::record_by(&tx, &by, now, Entry::of("session.reuse", session)).await?;
            tx.commit().await?;
            app.access_cache.changed(token.tenant);
            Err(invalid_grant())
        }
    }
}

/// Parses a refresh token and finds the session it was issued for. One that was not issued never starts a write
/// transaction, and lookups of such tokens are limited per address. Error: RATE_LIMITED.
async fn known(app: &App, client: &Client, token: &str) -> Result<Option<(Opaque, Uuid)>> {
    let Some(token) = Opaque::parse(Kind::Refresh, token) else { return Ok(None) };
    app.tries.check_stranger(client.address)?;
    let tx = app.db.read(token.tenant).await?;
    if let Some(session) = sessions::find_session(&tx, &token).await? {
        return Ok(Some((token, session)));
    }
    app.tries.count_stranger(client.address);
    Ok(None)
}

/// Ends the caller's session. Error: BAD_USER_INPUT for an API key, which has none.
pub async fn end(app: &App, client: &Client, caller: &Caller) -> Result<()> {
    match caller.through {
        Through::Session(session) => {
            let tx = app.db.write(caller.tenant).await?;
            end_session(app, tx, &By::caller(caller, client), session).await
        }
        _ => Err(Error::new(Code::BadUserInput, "this token does not belong to a session")),
    }
}

/// Ends one of the caller's sessions. Errors: NOT_FOUND, FORBIDDEN for API keys.
pub async fn end_own(app: &App, client: &Client, caller: &Caller, session: Uuid) -> Result<()> {
    refuse_keys(caller)?;
    let tx = app.db.write(caller.tenant).await?;
    if !sessions::is_active(&tx, session, caller.user_id).await? {
        return Err(Error::not_found("session"));
    }
    end_session(app, tx, &By::caller(caller, client), session).await
}

/// Ends the session that a refresh token was issued for, if any.
pub async fn end_of(app: &App, client: &Client, token: &str) -> Result<()> {
    let Some((token, session)) = known(app, client, token).await? else { return Ok(()) };
    let tx = app.db.write(token.tenant).await?;
    let sql = "SELECT user_id FROM sessions WHERE tenant_id = $1 AND id = $2";
    let Some(row) = tx.query_one(sql, [session.into()]).await? else { return Ok(()) };
    let user_id = get(&row, 0)?;
    end_session(app, tx, &By::session(user_id, session, client), session).await
}

async fn end_session(app: &App, tx: TenantTx, by: &By, session: Uuid) -> Result<()> {
    let (tenant, now) = (tx.tenant(), app.clock.now());
    if sessions::end(&tx, session, now).await? {
        audit::record_by(&tx, by, now, Entry::of("session.end", session)).await?;
        tx.commit().await?;
        app.access_cache.changed(tenant);
    }
    Ok(())
}

/// Revokes the caller's sessions, operator-issued tokens (also this one) and mailed links, but no API keys; returns the
/// number of sessions. Error: FORBIDDEN for API keys.
pub async fn end_all(app: &App, client: &Client, caller: &Caller) -> Result<u64> {
    refuse_keys(caller)?;
    let now = app.clock.now();
    let tx = app.db.write(caller.tenant).await?;
    let ended = sessions::end_all(&tx, caller.user_id, now).await?;
    audit::record_by(&tx, &By::caller(caller, client), now, Entry::of("session.end-all", caller.user_id)).await?;
    tx.commit().await?;
    app.access_cache.changed(caller.tenant);
    Ok(ended)
}

/// Changes the caller's password, ends all sessions and opens one. Errors: FORBIDDEN for API keys, BAD_USER_INPUT (also
/// if `current` is wrong), RATE_LIMITED; UNAUTHENTICATED if the password has just been changed.
pub async fn change_password(
    app: &App,
    client: &Client,
    caller: &Caller,
    current: String,
    new: String,
) -> Result<SignedIn> {
    refuse_keys(caller)?;
    let user = find_active(&app.db.read(caller.tenant).await?, "id", caller.user_id.into()).await?;
    let user = user.ok_or_else(refused)?;
    app.tries.take_account(Some(caller.tenant), &user.email)?;
    if !app.passwords.is(current, user.password_hash.clone()).await? {
        let tx = app.db.write(caller.tenant).await?;
        let by = By::caller(caller, client);
        audit::record_by(&tx, &by, app.clock.now(), Entry::of("password.refuse", user.id)).await?;
        tx.commit().await?;
        return Err(Error::bad_input("current", "this is not your current password"));
    }
    password::check_new("new", &new, &user.email)?;
    let hash = app.passwords.hash(new).await?;
    let now = app.clock.now();
    let tx = app.db.write(caller.tenant).await?;
    tx.lock_settings().await?;
    // Unless another request has changed it meanwhile.
    let sql =
        "UPDATE users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2 AND is_active AND password_hash = $4";
    if tx.execute(sql, [user.id.into(), hash.into(), user.password_hash.into()]).await? == 0 {
        return Err(refused());
    }
    sessions::end_all(&tx, user.id, now).await?;
    let entry = Entry::of("password.set", user.id).after(json!({ "by": "change" }));
    audit::record_by(&tx, &By::caller(caller, client), now, entry).await?;
    let signed_in = open(app, tx, client, user.id, user.role, "password").await?;
    app.access_cache.changed(caller.tenant);
    Ok(signed_in)
}

/// A program must not sign out its user, nor see or change how they sign in. Error: FORBIDDEN.
pub fn refuse_keys(caller: &Caller) -> Result<()> {
    match caller.through {
        Through::ApiKey(_) => Err(Error::new(Code::Forbidden, "an API key may not do this")),
        _ => Ok(()),
    }
}

fn signed_in(app: &App, tenant: TenantId, opened: Opened) -> Result<SignedIn> {
    let now = app.clock.now();
    let Opened { id, user_id, role, ends_at, refresh } = opened;
    let subject = Subject { tenant, user_id, role, session: Some(id) };
    // Not longer than its session.
    let lifetime_secs = ACCESS_SECS.min((ends_at.0 - now.0).div_euclid(SECOND));
    let access_token = app.tokens.mint(&subject, now, lifetime_secs).map_err(Error::internal)?;
    let ends_at = Timestamp(now.0 + lifetime_secs * SECOND);
    app.access_cache.came_in(tenant, user_id, role);
    Ok(SignedIn { tenant, user_id, access_token, ends_at, refresh_token: refresh.to_text() })
}

/// An active user, with what sign-in needs.
pub struct KnownUser {
    pub id: Uuid,
    pub role: Role,
    pub email: String,
    pub password_hash: Option<String>,
}

/// The active user with an address.
pub async fn find_user(tx: &TenantTx, email: &str) -> Result<Option<KnownUser>> {
    find_active(tx, "email", email.into()).await
}

/// The active user whose `column` is `value`.
pub async fn find_active(tx: &TenantTx, column: &str, value: Value) -> Result<Option<KnownUser>> {
    let sql = format!(
        "SELECT id, role, email, password_hash FROM users WHERE tenant_id = $1 AND {column} = $2 AND is_active"
    );
    let row = tx.query_one(&sql, [value]).await?;
    let user = |row| {
        Ok(KnownUser {
            id: get(&row, 0)?,
            role: Role::get(&row, 1)?,
            email: get(&row, 2)?,
            password_hash: get(&row, 3)?,
        })
    };
    row.map(user).transpose()
}

fn refused() -> Error {
    Error::new(Code::Unauthenticated, "no user with that address and password")
}
