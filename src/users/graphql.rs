//! `me` and the type of users.

use async_graphql::{Context, ID, Object, SimpleObject};

use super::store::get_user;
use crate::auth::{Permission, Role};
use crate::graphql::context::{caller, read};

#[derive(Default)]
pub struct UserQuery;

#[Object]
impl UserQuery {
    /// The user that the token belongs to. For an API key this is the user who created it, with the permissions of the key.
    async fn me(&self, ctx: &Context<'_>) -> async_graphql::Result<User> {
        let caller = caller(ctx)?;
        let user = get_user(read(ctx).await?.as_ref(), caller.user_id).await?;
        // The token may allow less than the role.
        Ok(User { role: caller.role, permissions: caller.permissions.clone(), ..user })
    }
}

/// A person who can sign in.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct User {
    /// The user's id.
    pub id: ID,
    /// The user's name.
    pub name: String,
    /// The user's e-mail address.
    pub email: String,
    /// The user's role in the tenant.
    pub role: Role,
    /// The user's permissions; in the answer of `me` to an API key, those of the key.
    pub permissions: Vec<Permission>,
}
