//! Sessions: one per sign-in. Refresh tokens are rotated and single-use; a reused one was stolen, or the thief was
//! first, and revokes the session (RFC 9700, 4.14.2).

use sea_orm::Value;
use uuid::Uuid;

use super::Role;
use super::opaque::{Kind, Opaque};
use crate::clock::{DAY, SECOND, Timestamp};
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};

/// A session's maximum age; [`IDLE_MAX`] is its idle timeout.
const LIFETIME: i64 = 30 * DAY;
const IDLE_MAX: i64 = 14 * DAY;
/// How long a lost response can be requested again with the same refresh token.
const GRACE: i64 = 10 * SECOND;

/// A session and its next refresh token.
pub struct Opened {
    pub id: Uuid,
    pub user_id: Uuid,
    pub role: Role,
    /// When the session ends, and its last access token with it.
    pub ends_at: Timestamp,
    pub refresh: Opaque,
}

/// The outcome of a refresh.
pub enum Refreshed {
    Opened(Opened),
    /// The token was used before; the session is revoked, and the transaction must be committed.
    Reused {
        session: Uuid,
        user_id: Uuid,
    },
}

/// The client a session is used from.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub address: Option<std::net::IpAddr>,
    /// The client's `User-Agent`.
    pub agent: Option<String>,
}

/// Opens a session for a user.
pub async fn open(tx: &TenantTx, user_id: Uuid, role: Role, client: &Client, now: Timestamp) -> Result<Opened> {
    let (id, ends_at) = (Uuid::now_v7(), Timestamp(now.0 + LIFETIME));
    let values: [Value; 6] = [
        id.into(),
        user_id.into(),
        now.into(),
        ends_at.into(),
        client.address.map(|address| address.to_string()).into(),
        client.agent.clone().into(),
    ];
    let sql = "INSERT INTO sessions (tenant_id, id, user_id, created_at, last_used_at, ends_at, address, agent) \
               VALUES ($1, $2, $3, $4, $4, $5, $6, $7)";
    tx.execute(sql, values).await?;
    let refresh = Opaque::random(Kind::Refresh, tx.tenant());
    add_token(tx, id, &refresh, now).await?;
    Ok(Opened { id, user_id, role, ends_at, refresh })
}

async fn add_token(tx: &TenantTx, session: Uuid, token: &Opaque, now: Timestamp) -> Result<()> {
    let values: [Value; 4] =
        [token.hash().to_vec().into(), session.into(), now.into(), rand::random::<[u8; 32]>().to_vec().into()];
    let sql = "INSERT INTO refresh_tokens (tenant_id, hash, session_id, issued_at, salt) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, values).await?;
    Ok(())
}

/// Redeems a refresh token. Error: INVALID_GRANT, if it is unknown or expired, or its session has ended.
pub async fn refresh(tx: &TenantTx, token: &Opaque, now: Timestamp) -> Result<Refreshed> {
    let hash = token.hash().to_vec();
    let used =
        "UPDATE refresh_tokens SET used_at = $3 WHERE tenant_id = $1 AND hash = $2 AND used_at IS NULL RETURNING 1";
    let is_first = tx.query_one(used, [hash.clone().into(), now.into()]).await?.is_some();
    let sql = "SELECT r.session_id, r.issued_at, r.used_at, r.salt, s.user_id, s.ends_at, s.revoked_at, u.role, u.is_active \
               FROM refresh_tokens r JOIN sessions s ON s.tenant_id = r.tenant_id AND s.id = r.session_id \
               JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id WHERE r.tenant_id = $1 AND r.hash = $2";
    let row = tx.query_one(sql, [hash.into()]).await?.ok_or_else(invalid_grant)?;
    let (session, user_id): (Uuid, Uuid) = (get(&row, 0)?, get(&row, 4)?);
    let (role, ends_at) = (Role::get(&row, 7)?, Timestamp(get(&row, 5)?));
    let is_ended = get::<Option<i64>>(&row, 6)?.is_some()
        || ends_at <= now
        // A token that was used before has been stolen, however late it comes.
        || is_first && get::<i64>(&row, 1)? + IDLE_MAX <= now.0
        || !get::<bool>(&row, 8)?;
    if is_ended {
        return Err(invalid_grant());
    }
    let next = token.successor(&get::<Vec<u8>>(&row, 3)?);
    if is_first {
        add_token(tx, session, &next, now).await?;
        let sql = "UPDATE sessions SET last_used_at = $3 WHERE tenant_id = $1 AND id = $2";
        tx.execute(sql, [session.into(), now.into()]).await?;
    } else if get::<Option<i64>>(&row, 2)?.unwrap_or_default() + GRACE < now.0 || !is_unused(tx, &next).await? {
        end(tx, session, now).await?;
        return Ok(Refreshed::Reused { session, user_id });
    }
    Ok(Refreshed::Opened(Opened { id: session, user_id, role, ends_at, refresh: next }))
}

async fn is_unused(tx: &TenantTx, token: &Opaque) -> Result<bool> {
    let sql = "SELECT 1 FROM refresh_tokens WHERE tenant_id = $1 AND hash = $2 AND used_at IS NULL";
    Ok(tx.query_one(sql, [token.hash().to_vec().into()]).await?.is_some())
}

/// The session that a refresh token was issued for.
pub async fn find_session(tx: &TenantTx, token: &Opaque) -> Result<Option<Uuid>> {
    let sql = "SELECT session_id FROM refresh_tokens WHERE tenant_id = $1 AND hash = $2";
    tx.query_one(sql, [token.hash().to_vec().into()]).await?.map(|row| get(&row, 0)).transpose()
}

/// Whether this is a session of the user that has not been ended.
pub async fn is_active(tx: &TenantTx, session: Uuid, user_id: Uuid) -> Result<bool> {
    let sql = "SELECT 1 FROM sessions WHERE tenant_id = $1 AND id = $2 AND user_id = $3 AND revoked_at IS NULL";
    Ok(tx.query_one(sql, [session.into(), user_id.into()]).await?.is_some())
}

/// Ends a session, and its access tokens with it. `false` when it had already ended.
pub async fn end(tx: &TenantTx, session: Uuid, now: Timestamp) -> Result<bool> {
    // Everything that changes access takes this lock first.
    tx.lock_settings().await?;
    let sql = "UPDATE sessions SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL";
    let has_ended = tx.execute(sql, [session.into(), now.into()]).await? > 0;
    if has_ended {
        super::standing::begin_epoch(tx, now).await?;
    }
    Ok(has_ended)
}

/// Revokes a user's sessions, operator-issued tokens and mailed links, but no API keys; returns the number of sessions.
pub async fn end_all(tx: &TenantTx, user_id: Uuid, now: Timestamp) -> Result<u64> {
    tx.lock_settings().await?;
    let sql = "UPDATE sessions SET revoked_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL";
    let ended = tx.execute(sql, [user_id.into(), now.into()]).await?;
    let sql = "UPDATE users SET tokens_from = $3 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, [user_id.into(), (now.0.div_euclid(SECOND) + 1).into()]).await?;
    let sql = "UPDATE mailed_tokens SET used_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND used_at IS NULL";
    tx.execute(sql, [user_id.into(), now.into()]).await?;
    super::standing::begin_epoch(tx, now).await?;
    Ok(ended)
}

/// A session as shown to its user.
pub struct Listed {
    pub id: Uuid,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub address: Option<String>,
    pub agent: Option<String>,
}

/// A user's active sessions, newest first; at most 100.
pub async fn list(tx: &TenantTx, user_id: Uuid, now: Timestamp) -> Result<Vec<Listed>> {
    let sql = "SELECT id, created_at, last_used_at, address, agent FROM sessions WHERE tenant_id = $1 AND user_id = $2 \
               AND revoked_at IS NULL AND ends_at > $3 AND last_used_at > $4 ORDER BY created_at DESC, id DESC LIMIT 100";
    let rows = tx.query(sql, [user_id.into(), now.into(), (now.0 - IDLE_MAX).into()]).await?;
    let sessions = rows.iter().map(|row| {
        Ok(Listed {
            id: get(row, 0)?,
            created_at: get(row, 1)?,
            last_used_at: get(row, 2)?,
            address: get(row, 3)?,
            agent: get(row, 4)?,
        })
    });
    sessions.collect()
}

pub fn invalid_grant() -> Error {
    Error::new(Code::InvalidGrant, "the refresh token is invalid or expired; sign in again")
}
