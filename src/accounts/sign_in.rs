//! Signing in by password, and what follows: refreshing, signing out.

use sea_orm::Value;
use uuid::Uuid;

use super::email_of;
use crate::app::App;
use crate::audit::{self, By, Entry};
use crate::auth::opaque::{Kind, Opaque};
use crate::auth::sessions::{self, Client, Opened, Refreshed};
use crate::auth::standing::ACCESS_SECS;
use crate::auth::token::Subject;
use crate::auth::{Caller, Role, Through};
use crate::clock::{SECOND, Timestamp};
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::tenancy::find_tenant;

/// What whoever signed in holds.
pub struct SignedIn {
    pub tenant: TenantId,
    pub user_id: Uuid,
    pub access_token: String,
    /// When the access token ends.
    pub ends_at: Timestamp,
    pub refresh_token: String,
}

/// Signs in by password. Errors: UNAUTHENTICATED, the same for whatever is wrong; RATE_LIMITED.
pub async fn by_password(app: &App, client: &Client, tenant: &str, email: &str, password: String) -> Result<SignedIn> {
    let email = email_of(email).map_err(|_| refused())?;
    app.tries.take(&format!("{tenant}/{email}"), client.address)?;
    let tenant = find_tenant(&app.db, tenant).await?;
    let user = match tenant {
        Some(tenant) => find_user(&app.db.read(tenant).await?, &email).await?,
        None => None,
    };
    let hash = user.as_ref().and_then(|user| user.password_hash.clone());
    let is_right = app.passwords.is(password, hash).await?;
    let Some(tenant) = tenant else { return Err(refused()) };
    let tx = app.db.write(tenant).await?;
    let Some(user) = user.filter(|_| is_right) else {
        let by = By { user_id: None, through: None, client };
        audit::record_by(&tx, &by, app.clock.now(), Entry::of("session.refuse", "")).await?;
        tx.commit().await?;
        return Err(refused());
    };
    open(app, tx, client, user.id, user.role, "password").await
}

/// Opens a session for a user in a transaction, which it commits.
pub async fn open(app: &App, tx: TenantTx, client: &Client, user_id: Uuid, role: Role, by: &str) -> Result<SignedIn> {
    let now = app.clock.now();
    let opened = sessions::open(&tx, user_id, role, client, now).await?;
    let who = By { user_id: Some(user_id), through: Some(Through::Session(opened.id)), client };
    audit::record_by(&tx, &who, now, Entry::of("session.open", opened.id).after(serde_json::json!({ "by": by })))
        .await?;
    let signed_in = signed_in(app, tx.tenant(), opened)?;
    tx.commit().await?;
    Ok(signed_in)
}

/// Errors: INVALID_GRANT; the session is ended when the token was used before.
pub async fn refresh(app: &App, client: &Client, token: &str) -> Result<SignedIn> {
    let token = Opaque::parse(Kind::Refresh, token).ok_or_else(invalid_grant)?;
    let now = app.clock.now();
    let tx = app.db.write(token.tenant).await?;
    match sessions::refresh(&tx, &token, now).await? {
        Refreshed::Opened(opened) => {
            let signed_in = signed_in(app, token.tenant, opened)?;
            tx.commit().await?;
            Ok(signed_in)
        }
        Refreshed::Reused { session, user_id } => {
            let by = By { user_id: Some(user_id), through: Some(Through::Session(session)), client };
            audit::record_by(&tx, &by, now, Entry::of("session.reuse", session)).await?;
            tx.commit().await?;
            app.standings.changed(token.tenant);
            Err(invalid_grant())
        }
    }
}

/// Ends the session of a caller, which has none when it came with a key.
pub async fn end(app: &App, client: &Client, caller: &Caller) -> Result<()> {
    let Through::Session(session) = caller.through else {
        return Err(Error::new(Code::BadUserInput, "this token is of no session"));
    };
    let now = app.clock.now();
    let tx = app.db.write(caller.tenant).await?;
    sessions::end(&tx, session, now).await?;
    audit::record_by(&tx, &By::caller(caller, client), now, Entry::of("session.end", session)).await?;
    tx.commit().await?;
    app.standings.changed(caller.tenant);
    Ok(())
}

/// Ends the session of a refresh token, if it is one.
pub async fn end_of(app: &App, client: &Client, token: &str) -> Result<()> {
    let Some(token) = Opaque::parse(Kind::Refresh, token) else { return Ok(()) };
    let now = app.clock.now();
    let tx = app.db.write(token.tenant).await?;
    let sql = "SELECT s.id, s.user_id FROM refresh_tokens r JOIN sessions s ON s.tenant_id = r.tenant_id AND s.id = r.session_id \
               WHERE r.tenant_id = $1 AND r.hash = $2";
    let Some(row) = tx.query_one(sql, [token.hash().to_vec().into()]).await? else { return Ok(()) };
    let (session, user_id): (Uuid, Uuid) = (get(&row, 0)?, get(&row, 1)?);
    sessions::end(&tx, session, now).await?;
    let by = By { user_id: Some(user_id), through: Some(Through::Session(session)), client };
    audit::record_by(&tx, &by, now, Entry::of("session.end", session)).await?;
    tx.commit().await?;
    app.standings.changed(token.tenant);
    Ok(())
}

fn signed_in(app: &App, tenant: TenantId, opened: Opened) -> Result<SignedIn> {
    let now = app.clock.now();
    let Opened { id, user_id, role, refresh } = opened;
    let subject = Subject { tenant, user_id, role, session: Some(id) };
    let access_token = app.tokens.mint(&subject, now, ACCESS_SECS).map_err(Error::internal)?;
    let ends_at = Timestamp(now.0 + ACCESS_SECS * SECOND);
    Ok(SignedIn { tenant, user_id, access_token, ends_at, refresh_token: refresh.to_text() })
}

/// An active user as signing in needs it.
pub struct KnownUser {
    pub id: Uuid,
    pub role: Role,
    pub email: String,
    pub password_hash: Option<String>,
}

/// The active user of an address.
pub async fn find_user(tx: &TenantTx, email: &str) -> Result<Option<KnownUser>> {
    find_active(tx, "email", email.into()).await
}

/// Error: UNAUTHENTICATED.
pub async fn get_user(tx: &TenantTx, id: Uuid) -> Result<KnownUser> {
    find_active(tx, "id", id.into()).await?.ok_or_else(refused)
}

async fn find_active(tx: &TenantTx, column: &str, value: Value) -> Result<Option<KnownUser>> {
    let sql = format!(
        "SELECT id, role, email, password_hash FROM users WHERE tenant_id = $1 AND {column} = $2 AND is_active"
    );
    let row = tx.query_one(&sql, [value]).await?;
    row.map(|row| {
        let role =
            Role::parse(&get::<String>(&row, 1)?).ok_or_else(|| Error::internal("a user with an unknown role"))?;
        Ok(KnownUser { id: get(&row, 0)?, role, email: get(&row, 2)?, password_hash: get(&row, 3)? })
    })
    .transpose()
}

pub fn refused() -> Error {
    Error::new(Code::Unauthenticated, "no user of that address and password")
}

fn invalid_grant() -> Error {
    Error::new(Code::InvalidGrant, "the refresh token is not good; sign in again")
}
