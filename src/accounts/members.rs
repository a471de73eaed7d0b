//! The users of a tenant, as those who manage them see and change them.

use sea_orm::{QueryResult, Value};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::auth::{Role, sessions, standing};
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::page::{Cursor, KeyKind, Page, SortKey};
use crate::users::{USER_COLUMNS, User, user_from};

const NAME_CHARS_MAX: usize = 200;

/// A user's name. Error: BAD_USER_INPUT.
pub fn name_of(text: &str) -> Result<String> {
    let name = text.trim();
    let is_good = !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.contains('\0');
    if is_good { Ok(name.to_owned()) } else { Err(Error::bad_input("name", "a name has 1 to 200 characters")) }
}

/// Whether somebody may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
pub enum UserState {
    /// The invitation was not used yet.
    Invited,
    /// May sign in.
    Active,
    /// May no longer sign in.
    Deactivated,
}

/// A user and whether they may sign in.
#[derive(Clone)]
pub struct Member {
    pub user: User,
    pub state: UserState,
}

/// What is to be changed.
#[derive(Default)]
pub struct Changes {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub is_active: Option<bool>,
}

/// A page of users, by address.
pub async fn list(tx: &TenantTx, page: &Page) -> Result<Vec<(Cursor, Member)>> {
    const KEYS: [SortKey; 1] = [SortKey::ascending("u.email", KeyKind::Text)];
    let clauses = page.clauses(&KEYS, 2)?;
    let sql = format!(
        "SELECT {USER_COLUMNS}, u.is_active, u.password_hash IS NOT NULL FROM users u WHERE u.tenant_id = $1{}{}",
        clauses.filter, clauses.order
    );
    let rows = tx.query(&sql, clauses.values).await?;
    rows.iter().map(|row| Ok((Cursor(vec![get(row, 2)?]), member_from(row)?))).collect()
}

fn member_from(row: &QueryResult) -> Result<Member> {
    let state = match (get(row, 4)?, get(row, 5)?) {
        (true, _) => UserState::Active,
        (false, true) => UserState::Deactivated,
        (false, false) => UserState::Invited,
    };
    Ok(Member { user: user_from(row, 0)?, state })
}

/// Error: NOT_FOUND.
pub async fn get_member(tx: &TenantTx, id: Uuid) -> Result<Member> {
    let sql = format!(
        "SELECT {USER_COLUMNS}, u.is_active, u.password_hash IS NOT NULL FROM users u WHERE u.tenant_id = $1 AND u.id = $2"
    );
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("user"))?;
    member_from(&row)
}

/// Changes a user; gives what they were and are, for the log. A change of role or state is felt at once. Errors: NOT_FOUND;
/// CONFLICT, when nobody would be left who manages users.
pub async fn update(tx: &TenantTx, id: Uuid, changes: &Changes, now: Timestamp) -> Result<(Json, Json)> {
    let name = changes.name.as_deref().map(name_of).transpose()?;
    tx.lock_settings().await?;
    let before = get_member(tx, id).await?;
    let role = changes.role.unwrap_or(before.user.role);
    let was_active = before.state == UserState::Active;
    let is_active = match changes.is_active {
        Some(true) if before.state == UserState::Invited => {
            return Err(Error::new(Code::Conflict, "who was invited comes by the invitation"));
        }
        Some(is_active) => is_active,
        None => was_active,
    };
    let sql = "UPDATE users SET name = COALESCE($3, name), role = $4, is_active = $5 WHERE tenant_id = $1 AND id = $2";
    let values: [Value; 4] = [id.into(), name.into(), role.as_str().into(), is_active.into()];
    tx.execute(sql, values).await?;
    let sql = "SELECT 1 FROM users WHERE tenant_id = $1 AND is_active AND role = 'admin' LIMIT 1";
    if tx.query_one(sql, []).await?.is_none() {
        return Err(Error::new(Code::Conflict, "somebody has to be left who manages users"));
    }
    if before.state == UserState::Invited && changes.is_active == Some(false) {
        let sql = "UPDATE mailed_tokens SET used_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND used_at IS NULL";
        tx.execute(sql, [id.into(), now.0.into()]).await?;
    }
    if was_active && !is_active {
        sessions::end_all(tx, id, now).await?;
    } else if (role, is_active) != (before.user.role, was_active) {
        standing::begin_epoch(tx, now).await?;
    }
    let told = |role: Role, is_active: bool| json!({ "role": role.as_str(), "isActive": is_active });
    Ok((told(before.user.role, was_active), told(role, is_active)))
}
