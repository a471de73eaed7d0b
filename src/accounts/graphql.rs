//! `users`, `sessions`, `apiKeys` and their types.

use async_graphql::{ComplexObject, Context, ID, Object, SimpleObject};
use uuid::Uuid;

use super::api_keys;
use super::members::{self, Member, UserState};
use super::sign_in::{SignedIn, refuse_keys};
use crate::auth::{Permission, Through, sessions};
use crate::connection;
use crate::graphql::context::{Requires, app, caller, read};
use crate::graphql::loader::load;
use crate::graphql::page::Page;
use crate::graphql::scalars::DateTime;
use crate::users::{User, UsersById, get_user};

#[derive(Default)]
pub struct AccountQuery;

#[Object]
impl AccountQuery {
    /// The tenant's users, sorted by e-mail address. Needs USERS_MANAGE.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return at most this many items from the start of the list, 0 to 100; defaults to 20 if neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(
            desc = "Return at most this many items from the end of the list, 0 to 100; not together with `first`."
        )]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Option<MemberConnection>> {
        let page = Page::new(first, after, last, before)?;
        Ok(Some(MemberConnection::new(&page, members::list(read(ctx).await?.as_ref(), &page).await?)))
    }

    /// The caller's own active sessions, newest first; at most 100. Error: FORBIDDEN for API keys.
    async fn sessions(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Session>> {
        let (caller, now) = (caller(ctx)?, app(ctx)?.clock.now());
        refuse_keys(caller)?;
        let listed = sessions::list(read(ctx).await?.as_ref(), caller.user_id, now).await?;
        let sessions = listed.into_iter().map(|session| Session {
            is_current: caller.through == Through::Session(session.id),
            id: session.id.into(),
            created_at: DateTime(session.created_at),
            last_used_at: DateTime(session.last_used_at),
            address: session.address,
            agent: session.agent,
        });
        Ok(sessions.collect())
    }

    /// The tenant's API keys, valid ones first; at most 200. Needs INTEGRATIONS_MANAGE.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn api_keys(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<ApiKey>>> {
        let keys = api_keys::list(read(ctx).await?.as_ref()).await?;
        Ok(Some(keys.into_iter().map(ApiKey::from).collect()))
    }
}

/// A user, and whether they may sign in.
#[Object]
impl Member {
    /// The user.
    async fn user(&self) -> User {
        self.user.clone()
    }

    /// Whether they may sign in.
    async fn state(&self) -> UserState {
        self.state
    }
}

connection!(MemberConnection, MemberEdge, Member, "users");

/// An active session.
#[derive(SimpleObject)]
struct Session {
    /// The session's id.
    id: ID,
    /// When the user signed in.
    created_at: DateTime,
    /// When it was last refreshed.
    last_used_at: DateTime,
    /// The network address it came from.
    address: Option<String>,
    /// The client program, as it names itself.
    agent: Option<String>,
    /// Whether this request belongs to it.
    is_current: bool,
}

/// The tokens of a session, and whose it is.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct SignIn {
    /// The access token, to be sent as `Authorization: Bearer …`, and in `connection_init` of sockets.
    access_token: String,
    /// When the access token expires: after 15 minutes.
    expires_at: DateTime,
    /// The token for `refresh`, to be used once; it expires after 14 days without use.
    refresh_token: String,
    #[graphql(skip)]
    tenant: crate::db::TenantId,
    #[graphql(skip)]
    user_id: Uuid,
}

#[ComplexObject]
impl SignIn {
    /// Who signed in.
    async fn user(&self, ctx: &Context<'_>) -> async_graphql::Result<User> {
        Ok(get_user(&app(ctx)?.db.read(self.tenant).await?, self.user_id).await?)
    }
}

impl From<SignedIn> for SignIn {
    fn from(signed_in: SignedIn) -> Self {
        SignIn {
            access_token: signed_in.access_token,
            expires_at: DateTime(signed_in.ends_at),
            refresh_token: signed_in.refresh_token,
            tenant: signed_in.tenant,
            user_id: signed_in.user_id,
        }
    }
}

/// A key with which programs sign in. It acts for the user who created it, with some of their permissions.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct ApiKey {
    /// The key's id.
    id: ID,
    /// What it is for.
    name: String,
    /// The last characters of the secret, to recognize it by.
    hint: String,
    /// Its permissions, as far as its user still has them.
    permissions: Vec<Permission>,
    /// When it was created.
    created_at: DateTime,
    /// When it expires; null for never.
    expires_at: Option<DateTime>,
    /// When it was revoked; null if it was not.
    revoked_at: Option<DateTime>,
    #[graphql(skip)]
    user_id: Uuid,
}

#[ComplexObject]
impl ApiKey {
    /// The user for whom it acts.
    async fn user(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<User>> {
        Ok(load::<UsersById>(ctx, self.user_id).await?)
    }
}

impl From<api_keys::ApiKey> for ApiKey {
    fn from(key: api_keys::ApiKey) -> Self {
        ApiKey {
            id: key.id.into(),
            name: key.name,
            hint: key.hint,
            permissions: key.permissions,
            created_at: DateTime(key.created_at),
            expires_at: key.ends_at.map(DateTime),
            revoked_at: key.revoked_at.map(DateTime),
            user_id: key.user_id,
        }
    }
}
