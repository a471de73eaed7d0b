//! Users in the database.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, QueryFilter, QueryResult, QuerySelect};
use uuid::Uuid;

use super::graphql::User;
use crate::auth::Role;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::Batch;

/// What [`user_from`] reads, of a table named `u`.
pub const USER_COLUMNS: &str = "u.id, u.name, u.email, u.role";

/// The user in the columns from `index` on.
pub fn user_from(row: &QueryResult, index: usize) -> Result<User> {
    let role: String = get(row, index + 3)?;
    user(get(row, index)?, get(row, index + 1)?, get(row, index + 2)?, &role)
}

fn user(id: Uuid, name: String, email: String, role: &str) -> Result<User> {
    let role = Role::parse(role).ok_or_else(|| Error::internal("a user with an unknown role"))?;
    Ok(User { id: id.into(), name, email, role, permissions: role.permissions().to_vec() })
}

/// Error: NOT_FOUND.
pub async fn get_user(tx: &TenantTx, id: Uuid) -> Result<User> {
    use entity::users::{Column, Entity};
    let found = tx.find::<Entity>().filter(Column::Id.eq(id)).one(tx).await?;
    let found = found.ok_or_else(|| Error::not_found("user"))?;
    user(found.id, found.name, found.email, &found.role)
}

/// Each of `ids`, which differ, is a user of the tenant. Error: NOT_FOUND.
pub async fn check_users(tx: &TenantTx, ids: &[Uuid]) -> Result<()> {
    use entity::users::{Column, Entity};
    let found: Vec<Uuid> = tx
        .find::<Entity>()
        .filter(Column::Id.is_in(ids.iter().copied()))
        .select_only()
        .column(Column::Id)
        .into_tuple()
        .all(tx)
        .await?;
    if found.len() == ids.len() { Ok(()) } else { Err(Error::not_found("user")) }
}

/// Loads users by id.
pub struct UsersById;

impl Batch for UsersById {
    type Key = Uuid;
    type Value = User;

    async fn load(tx: &TenantTx, keys: &[Uuid]) -> Result<HashMap<Uuid, User>> {
        let sql = format!("SELECT {USER_COLUMNS} FROM {{keys}} {{each users u: u.id = k.id}}");
        let keys = Table::new().with("id", Column::Uuid(keys.to_vec()));
        let rows = tx.query_by_keys(&sql, &keys).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, user_from(row, 0)?))).collect()
    }
}
