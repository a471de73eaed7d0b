//! API keys: the credentials of programs. A key acts for the user who created it, with a subset of their permissions,
//! until it expires, is revoked, or its user loses access.

use std::collections::BTreeSet;

use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::members::name_of;
use crate::audit::{AuditedTable, Shown};
use crate::auth::opaque::{Kind, Opaque};
use crate::auth::{Caller, Permission, Through, standing};
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};

/// Maximum number of valid keys per tenant.
const KEYS_MAX: i64 = 100;
/// Length of the key's suffix that is kept for recognition.
const HINT_CHARS: usize = 6;

/// Audited columns of keys.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "api_keys",
    key: "id",
    columns: &[
        ("name", "name", Shown::Text),
        ("permissions", "permissions", Shown::Document),
        ("expiresAt", "ends_at", Shown::Time),
        ("revokedAt", "revoked_at", Shown::Time),
    ],
    members: None,
};

/// A key as shown: without the secret.
#[derive(Clone)]
pub struct ApiKey {
    pub id: Uuid,
    pub user_id: Uuid,
    pub name: String,
    pub hint: String,
    pub permissions: Vec<Permission>,
    pub created_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, user_id, name, hint, permissions, created_at, ends_at, revoked_at";

/// Creates a key for the caller and returns the secret, which cannot be shown again. Errors: FORBIDDEN, for permissions
/// that the caller lacks; BAD_USER_INPUT; CONFLICT.
pub async fn create(
    tx: &TenantTx,
    caller: &Caller,
    name: &str,
    permissions: &[Permission],
    ends_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(ApiKey, Opaque)> {
    if !permissions.iter().all(|permission| caller.may(*permission)) {
        return Err(Error::new(Code::Forbidden, "a key cannot have permissions you lack"));
    }
    if matches!(caller.through, Through::ApiKey(_)) && ends_at.unwrap_or(Timestamp(i64::MAX)) > caller.expires_at() {
        return Err(Error::new(Code::Forbidden, "a key cannot outlive the key that creates it"));
    }
    let name = name_of(name)?;
    let permissions: Vec<Permission> = permissions.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    if permissions.is_empty() {
        return Err(Error::bad_input("permissions", "give at least one"));
    }
    if ends_at.is_some_and(|at| at <= now) {
        return Err(Error::bad_input("expiresAt", "must be in the future"));
    }
    tx.lock_settings().await?;
    let sql = "SELECT count(*) FROM api_keys WHERE tenant_id = $1 AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $2)";
    if tx.count(sql, [now.into()]).await? >= KEYS_MAX {
        return Err(Error::new(Code::Conflict, format!("there are {KEYS_MAX} keys already")));
    }
    let secret = Opaque::random(Kind::ApiKey, tx.tenant());
    let text = secret.to_text();
    let values: [Value; 8] = [
        Uuid::now_v7().into(),
        caller.user_id.into(),
        name.into(),
        secret.hash().to_vec().into(),
        text[text.len() - HINT_CHARS..].into(),
        serde_json::to_value(permissions)?.into(),
        now.into(),
        ends_at.map(|at| at.0).into(),
    ];
    let sql = format!(
        "INSERT INTO api_keys (tenant_id, id, user_id, name, hash, hint, permissions, created_at, ends_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {COLUMNS}"
    );
    let row = tx.query_one(&sql, values).await?.ok_or_else(|| Error::internal("no row of what was inserted"))?;
    standing::begin_epoch(tx, now).await?;
    Ok((key_from(&row)?, secret))
}

/// Revokes a key. Error: NOT_FOUND.
pub async fn revoke(tx: &TenantTx, id: Uuid, now: Timestamp) -> Result<ApiKey> {
    tx.lock_settings().await?;
    let sql = format!(
        "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}"
    );
    let row = tx.query_one(&sql, [id.into(), now.into()]).await?.ok_or_else(|| Error::not_found("API key"))?;
    standing::begin_epoch(tx, now).await?;
    key_from(&row)
}

/// Revokes a user's keys. The caller also ends their sessions, and its lock and epoch cover both.
pub async fn revoke_all(tx: &TenantTx, user_id: Uuid, now: Timestamp) -> Result<()> {
    let sql = "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL";
    tx.execute(sql, [user_id.into(), now.into()]).await?;
    Ok(())
}

/// Valid and revoked keys, newest first; at most 200.
pub async fn list(tx: &TenantTx) -> Result<Vec<ApiKey>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM api_keys WHERE tenant_id = $1 ORDER BY revoked_at IS NOT NULL, id DESC LIMIT 200"
    );
    tx.query(&sql, []).await?.iter().map(key_from).collect()
}

fn key_from(row: &QueryResult) -> Result<ApiKey> {
    Ok(ApiKey {
        id: get(row, 0)?,
        user_id: get(row, 1)?,
        name: get(row, 2)?,
        hint: get(row, 3)?,
        permissions: serde_json::from_value(get(row, 4)?)?,
        created_at: get(row, 5)?,
        ends_at: get(row, 6)?,
        revoked_at: get(row, 7)?,
    })
}
