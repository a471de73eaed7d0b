//! A tenant's users, as seen and changed by those who manage them.

use sea_orm::{QueryResult, Value};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::api_keys;
use super::oidc::identities;
use crate::app::App;
use crate::audit::Change;
use crate::auth::{Caller, Role, sessions, standing};
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::graphql::text;
use crate::users::{User, user_from};

const NAME_CHARS_MAX: usize = 200;

/// A user's name. Error: BAD_USER_INPUT.
pub fn name_of(name: &str) -> Result<String> {
    text::name("name", name, NAME_CHARS_MAX)
}

/// Whether somebody may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
pub enum UserState {
    /// Invited, and has not accepted yet.
    Invited,
    /// May sign in.
    Active,
    /// May no longer sign in.
    Deactivated,
}

/// A user and whether they may sign in.
#[derive(Clone, PartialEq)]
pub struct Member {
    pub user: User,
    pub state: UserState,
}

impl Member {
    /// Their role and state, for the log.
    pub fn told(&self) -> Json {
        let (is_active, is_invited) = (self.state == UserState::Active, self.state == UserState::Invited);
        json!({ "role": self.user.role.as_str(), "isActive": is_active, "isInvited": is_invited })
    }
}

/// The changes to make.
#[derive(Default)]
pub struct Changes {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub is_active: Option<bool>,
}

/// A page of users, by address.
pub async fn list(tx: &TenantTx, page: &Page) -> Result<Listed<Member>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "users", keys: &[SortKey::ascending("u.email", KeyKind::Text)] };
    let matching = Matching::of("users u WHERE u.tenant_id = $1");
    let item = |row: &QueryResult| Ok((vec![get(row, 2)?], member_from(row)?));
    matching.page(tx, page, &ORDER, MEMBER_COLUMNS, item).await
}

const MEMBER_COLUMNS: &str = "u.id, u.name, u.email, u.role, u.is_active, u.invited_at IS NOT NULL";

fn member_from(row: &QueryResult) -> Result<Member> {
    let state = match (get(row, 4)?, get(row, 5)?) {
        (true, _) => UserState::Active,
        (false, true) => UserState::Invited,
        (false, false) => UserState::Deactivated,
    };
    Ok(Member { user: user_from(row, 0)?, state })
}

/// Error: NOT_FOUND.
pub async fn get_member(tx: &TenantTx, id: Uuid) -> Result<Member> {
    let sql = format!("SELECT {MEMBER_COLUMNS} FROM users u WHERE u.tenant_id = $1 AND u.id = $2");
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("user"))?;
    member_from(&row)
}

/// Checks that a role may be granted: one with no more permissions than the caller's own. Error: FORBIDDEN.
pub fn check_role(caller: &Caller, role: Role) -> Result<()> {
    if role.permissions().iter().all(|permission| caller.may(*permission)) {
        return Ok(());
    }
    Err(Error::new(Code::Forbidden, "you cannot grant a role with permissions you lack"))
}

/// Changes a user. A change of role or state takes effect at once; a deactivated user has no sessions, keys or identities
/// on return. Errors: NOT_FOUND; CONFLICT, when no user manager would be left.
pub async fn update(app: &App, tx: &Change, id: Uuid, changes: &Changes) -> Result<()> {
    let name = changes.name.as_deref().map(name_of).transpose()?;
    let now = app.clock.now();
    let before = get_member(tx, id).await?;
    let role = changes.role.unwrap_or(before.user.role);
    let was_active = before.state == UserState::Active;
    let is_active = match changes.is_active {
        Some(true) if before.state == UserState::Invited => {
            return Err(Error::new(Code::Conflict, "an invited user must accept the invitation"));
        }
        Some(is_active) => is_active,
        None => was_active,
    };
    let managers_before = count_managers(tx).await?;
    let sql = "UPDATE users SET name = COALESCE($3, name), role = $4, is_active = $5, \
               invited_at = CASE WHEN $6 THEN NULL ELSE invited_at END WHERE tenant_id = $1 AND id = $2";
    let is_sent_off = changes.is_active == Some(false);
    let values: [Value; 5] = [id.into(), name.into(), role.as_str().into(), is_active.into(), is_sent_off.into()];
    tx.execute(sql, values).await?;
    let managers = count_managers(tx).await?;
    if managers < managers_before
        && (managers.active == 0 || managers.with_way_in == 0 && managers_before.with_way_in > 0)
    {
        return Err(Error::new(Code::Conflict, "at least one active user must be able to sign in and to manage users"));
    }
    if is_sent_off {
        sessions::end_all(tx, id, now).await?;
        api_keys::revoke_all(tx, id, now).await?;
    } else if (role, is_active) != (before.user.role, was_active) {
        standing::begin_epoch(tx, now).await?;
    }
    if is_sent_off || is_active && !was_active {
        // Those of users who were deactivated by an earlier version are still there when they return.
        identities::remove_all(app, tx, tx.by(), id).await?;
    }
    Ok(())
}

/// The number of users who manage users.
#[derive(PartialEq, PartialOrd)]
struct Managers {
    active: i64,
    /// Those of them who can sign in on their own.
    with_way_in: i64,
}

async fn count_managers(tx: &TenantTx) -> Result<Managers> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE password_hash IS NOT NULL OR EXISTS (SELECT 1 FROM user_identities i \
               WHERE i.tenant_id = users.tenant_id AND i.user_id = users.id)) \
               FROM users WHERE tenant_id = $1 AND is_active AND role = 'admin'";
    let row = tx.query_one(sql, []).await?.ok_or_else(|| Error::internal("no row of a count"))?;
    Ok(Managers { active: get(&row, 0)?, with_way_in: get(&row, 1)? })
}
