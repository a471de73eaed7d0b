//! Users' identities at providers: `user_identities`, keyed by issuer and subject, which never change.

use serde_json::json;
use uuid::Uuid;

use crate::accounts::sign_in::find_active;
use crate::app::App;
use crate::audit::{self, By, Entry};
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};

/// An external identity of a user.
pub struct Identity {
    pub issuer: String,
    pub subject: String,
    pub created_at: Timestamp,
}

/// The user who has the identity.
pub async fn find_owner(tx: &TenantTx, issuer: &str, subject: &str) -> Result<Option<Uuid>> {
    let sql = "SELECT user_id FROM user_identities WHERE tenant_id = $1 AND issuer = $2 AND subject = $3";
    let row = tx.query_one(sql, [issuer.into(), subject.into()]).await?;
    row.map(|row| get(&row, 0)).transpose()
}

/// Adds an identity that nobody has, in a transaction that holds the settings lock.
pub async fn add(tx: &TenantTx, issuer: &str, subject: &str, user_id: Uuid, now: Timestamp) -> Result<()> {
    let sql =
        "INSERT INTO user_identities (tenant_id, issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, [issuer.into(), subject.into(), user_id.into(), now.into()]).await?;
    Ok(())
}

/// A user's identities, oldest first.
pub async fn list(tx: &TenantTx, user_id: Uuid) -> Result<Vec<Identity>> {
    let sql = "SELECT issuer, subject, created_at FROM user_identities WHERE tenant_id = $1 AND user_id = $2 \
               ORDER BY created_at, issuer, subject LIMIT 100";
    let rows = tx.query(sql, [user_id.into()]).await?;
    let identities =
        rows.iter().map(|row| Ok(Identity { issuer: get(row, 0)?, subject: get(row, 1)?, created_at: get(row, 2)? }));
    identities.collect()
}

/// Unlinks an identity from its user. Errors: NOT_FOUND; BAD_USER_INPUT; CONFLICT, when the user could no longer sign
/// in.
pub async fn remove(tx: &TenantTx, issuer: &str, subject: &str, user_id: Uuid) -> Result<()> {
    for (argument, value) in [("issuer", issuer), ("subject", subject)] {
        if value.contains('\0') {
            return Err(Error::bad_input(argument, "contains characters that are not allowed"));
        }
    }
    tx.lock_settings().await?;
    let sql = "DELETE FROM user_identities WHERE tenant_id = $1 AND issuer = $2 AND subject = $3 AND user_id = $4";
    if tx.execute(sql, [issuer.into(), subject.into(), user_id.into()]).await? == 0 {
        return Err(Error::not_found("identity"));
    }
    let user = find_active(tx, "id", user_id.into()).await?;
    if user.is_none_or(|user| user.password_hash.is_none()) && list(tx, user_id).await?.is_empty() {
        return Err(Error::new(Code::Conflict, "this is the only way to sign in; set a password first"));
    }
    Ok(())
}

/// Unlinks all identities of a user, with an entry in the log for each. The caller also ends their sessions.
pub async fn remove_all(app: &App, tx: &TenantTx, by: &By, user_id: Uuid) -> Result<()> {
    let sql = "DELETE FROM user_identities WHERE tenant_id = $1 AND user_id = $2 RETURNING issuer";
    for row in tx.query(sql, [user_id.into()]).await? {
        let entry = unlinked(app, user_id, &get::<String>(&row, 0)?);
        audit::record_by(tx, by, app.clock.now(), entry).await?;
    }
    Ok(())
}

/// The log's entry for an identity that was unlinked.
pub fn unlinked(app: &App, user_id: Uuid, issuer: &str) -> Entry {
    let provider = app.providers.of_issuer(issuer).map(|provider| &provider.name);
    Entry::of("identity.unlink", user_id).before(json!({ "provider": provider, "issuer": issuer }))
}
