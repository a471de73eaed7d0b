//! Storage of users.

use std::collections::{HashMap, HashSet};

use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::graphql::User;
use crate::auth::Role;
use crate::clock::Timestamp;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::BatchLoad;

/// The columns for [`user_from`], of a table aliased `u`.
pub const USER_COLUMNS: &str = "u.id, u.name, u.email, u.role";

/// The user in the columns starting at `index`.
pub fn user_from(row: &QueryResult, index: usize) -> Result<User> {
    let role = Role::get(row, index + 3)?;
    let (id, name, email) = (get::<Uuid>(row, index)?, get(row, index + 1)?, get(row, index + 2)?);
    Ok(User { id: id.into(), name, email, role, permissions: role.permissions().to_vec() })
}

/// Error: NOT_FOUND.
pub async fn get_user(tx: &TenantTx, id: Uuid) -> Result<User> {
    let sql = format!("SELECT {USER_COLUMNS} FROM users u WHERE u.tenant_id = $1 AND u.id = $2");
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("user"))?;
    user_from(&row, 0)
}

/// A user to create.
pub struct NewUser<'a> {
    pub email: &'a str,
    pub name: &'a str,
    pub role: Role,
    /// Absent for a user who was created by an operator, or is only invited.
    pub password_hash: Option<String>,
    /// Inactive until the invitation is accepted.
    pub is_invited: bool,
}

/// Adds a user whose address is free; returns the id.
pub async fn insert_user(tx: &TenantTx, new: NewUser<'_>, now: Timestamp) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let values: [Value; 8] = [
        id.into(),
        new.email.into(),
        new.name.into(),
        new.role.as_str().into(),
        (!new.is_invited).into(),
        now.into(),
        new.password_hash.into(),
        new.is_invited.then_some(now.0).into(),
    ];
    let sql = "INSERT INTO users (tenant_id, id, email, name, role, is_active, created_at, password_hash, invited_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    tx.execute(sql, values).await?;
    Ok(id)
}

/// The index of the first id that is no user's, if any.
pub async fn find_unknown(tx: &TenantTx, ids: &[Uuid]) -> Result<Option<usize>> {
    if ids.is_empty() {
        return Ok(None);
    }
    let table = Table::new().with("id", Column::Uuid(ids.to_vec()));
    let rows = tx.query_by_keys("SELECT u.id FROM {keys} {each users u: u.id = k.id}", &table).await?;
    let known = rows.iter().map(|row| get(row, 0)).collect::<Result<HashSet<Uuid>>>()?;
    Ok(ids.iter().position(|id| !known.contains(id)))
}

/// Loads users by id.
pub struct UsersById;

impl BatchLoad for UsersById {
    type Key = Uuid;
    type Value = User;

    async fn load(tx: &TenantTx, keys: &[Uuid]) -> Result<HashMap<Uuid, User>> {
        let sql = format!("SELECT {USER_COLUMNS} FROM {{keys}} {{each users u: u.id = k.id}}");
        let keys = Table::new().with("id", Column::Uuid(keys.to_vec()));
        let rows = tx.query_by_keys(&sql, &keys).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, user_from(row, 0)?))).collect()
    }
}
