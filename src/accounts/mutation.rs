//! Signing in and out, and managing who may come in.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use serde_json::json;

use super::graphql::{ApiKey, SignIn};
use super::members::{self, Changes, Member};
use super::{api_keys, mailed, sign_in};
use crate::audit::{Entry, change};
use crate::auth::{Permission, Role};
use crate::graphql::context::{Needs, app, caller, client, parse_id};
use crate::graphql::scalars::DateTime;

#[derive(Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Signs in by password; needs no token. Errors: UNAUTHENTICATED, the same for whatever is wrong; RATE_LIMITED after 10 tries at once for an account or from an address, then one is free every 90 seconds.
    async fn login(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant's short name.")] tenant: String,
        #[graphql(desc = "The user's e-mail address.")] email: String,
        #[graphql(desc = "The user's password.")] password: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(sign_in::by_password(app(ctx)?, client(ctx)?, &tenant, &email, password).await?.into())
    }

    /// Gets the next access token, and the refresh token after that; needs no token. An answer that was lost can be asked for again
    /// within 10 seconds; a refresh token that comes later a second time ends its session. Error: INVALID_GRANT.
    async fn refresh(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The newest refresh token of the session.")] refresh_token: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(sign_in::refresh(app(ctx)?, client(ctx)?, &refresh_token).await?.into())
    }

    /// Ends the caller's session at once, on open sockets too. Error: BAD_USER_INPUT, for a token that is of no session.
    async fn logout(&self, ctx: &Context<'_>) -> async_graphql::Result<bool> {
        sign_in::end(app(ctx)?, client(ctx)?, caller(ctx)?).await?;
        Ok(true)
    }

    /// Ends all sessions of the caller, this one too, and tokens that operators made for them; gives the number of sessions. Error: FORBIDDEN for API keys.
    async fn logout_everywhere(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        let ended = sign_in::end_all(app(ctx)?, client(ctx)?, caller(ctx)?).await?;
        Ok(i32::try_from(ended).unwrap_or(i32::MAX))
    }

    /// Sets another password, ends all sessions of the caller and begins a new one. Errors: UNAUTHENTICATED, FORBIDDEN for API keys, BAD_USER_INPUT, RATE_LIMITED.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The password so far.")] current: String,
        #[graphql(desc = "The new one, 12 to 128 characters.")] new: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(sign_in::change_password(app(ctx)?, client(ctx)?, caller(ctx)?, current, new).await?.into())
    }

    /// Mails a link by which to set another password, unless three are good already; needs no token. The answer is the same whether there is such a user or not. Error: RATE_LIMITED.
    async fn request_password_reset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant's short name.")] tenant: String,
        #[graphql(desc = "The user's e-mail address.")] email: String,
    ) -> async_graphql::Result<bool> {
        mailed::request_reset(app(ctx)?, client(ctx)?, &tenant, &email).await?;
        Ok(true)
    }

    /// Sets the password by the token of a mailed link, ends what the user had open and their API keys, and signs in; needs no other token. Errors: INVALID_GRANT, BAD_USER_INPUT.
    async fn set_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What follows the # of the link.")] token: String,
        #[graphql(desc = "The password, 12 to 128 characters.")] password: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(mailed::redeem(app(ctx)?, client(ctx)?, &token, password).await?.into())
    }

    /// Invites somebody by mail, or once more who has not come yet. Needs USERS_MANAGE. Errors: FORBIDDEN, for a role that may do more than the caller; CONFLICT.
    #[graphql(guard = "Needs(Permission::UsersManage)")]
    async fn invite_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom.")] input: InvitationInput,
    ) -> async_graphql::Result<Member> {
        members::check_role(caller(ctx)?, input.role)?;
        let change = change(ctx).await?;
        let id = mailed::invite(app(ctx)?, &change, &input.email, &input.name, input.role).await?;
        let member = members::get_member(&change, id).await?;
        change.commit(Entry::of("user.invite", id).after(json!({ "role": input.role.as_str() }))).await?;
        Ok(member)
    }

    /// Changes a user; a change of role or state is felt at once, on open sockets too. Needs USERS_MANAGE. Errors: NOT_FOUND; FORBIDDEN, for a role that may do more than the caller, before or after; CONFLICT, when nobody would be left who manages users.
    #[graphql(guard = "Needs(Permission::UsersManage)")]
    async fn update_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user's id.")] id: ID,
        #[graphql(desc = "What to change.")] input: UserInput,
    ) -> async_graphql::Result<Member> {
        let id = parse_id(&id, "user")?;
        if let Some(role) = input.role {
            members::check_role(caller(ctx)?, role)?;
        }
        let changes = Changes { name: input.name, role: input.role, is_active: input.is_active };
        let change = change(ctx).await?;
        members::check_role(caller(ctx)?, members::get_member(&change, id).await?.user.role)?;
        let (before, after) = members::update(&change, id, &changes, app(ctx)?.clock.now()).await?;
        let member = members::get_member(&change, id).await?;
        change.commit(Entry::of("user.update", id).before(before).after(after)).await?;
        app(ctx)?.standings.changed(caller(ctx)?.tenant);
        Ok(member)
    }

    /// Makes an API key; the answer alone has its secret. Needs INTEGRATIONS_MANAGE. Errors: FORBIDDEN, for a permission that the caller lacks or an end after that of the key that makes it; CONFLICT beyond 100 keys.
    #[graphql(guard = "Needs(Permission::IntegrationsManage)")]
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key.")] input: ApiKeyInput,
    ) -> async_graphql::Result<CreatedApiKey> {
        let (app, caller) = (app(ctx)?, caller(ctx)?);
        let ends_at = input.expires_at.map(|at| at.0);
        let change = change(ctx).await?;
        let (key, secret) =
            api_keys::create(&change, caller, &input.name, &input.permissions, ends_at, app.clock.now()).await?;
        let after = change.see(&api_keys::LOGGED, key.id).await?;
        change.commit(Entry::of("api-key.create", key.id).after(after)).await?;
        app.standings.changed(caller.tenant);
        Ok(CreatedApiKey { key: key.into(), secret: secret.to_text() })
    }

    /// Ends an API key at once. Needs INTEGRATIONS_MANAGE. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::IntegrationsManage)")]
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key's id.")] id: ID,
    ) -> async_graphql::Result<ApiKey> {
        let id = parse_id(&id, "API key")?;
        let change = change(ctx).await?;
        let before = change.before(&api_keys::LOGGED, id).await?;
        let key = api_keys::revoke(&change, id, app(ctx)?.clock.now()).await?;
        let after = change.see(&api_keys::LOGGED, id).await?;
        change.commit(Entry::of("api-key.revoke", id).before(before).after(after)).await?;
        app(ctx)?.standings.changed(caller(ctx)?.tenant);
        Ok(key.into())
    }
}

/// Who is invited.
#[derive(InputObject)]
struct InvitationInput {
    /// Where the invitation goes; what the user signs in with.
    email: String,
    /// The user's name, 1 to 200 characters.
    name: String,
    /// What the user will be.
    role: Role,
}

/// What to change of a user; what is absent stays.
#[derive(InputObject)]
struct UserInput {
    /// The user's name, 1 to 200 characters.
    name: Option<String>,
    /// What the user is to be.
    role: Option<Role>,
    /// Whether the user may sign in. False ends the user's API keys for good, too.
    is_active: Option<bool>,
}

/// What an API key is to be.
#[derive(InputObject)]
struct ApiKeyInput {
    /// What it is for, 1 to 200 characters.
    name: String,
    /// What it may do: some of the caller's permissions.
    permissions: Vec<Permission>,
    /// When it ends; absent for never.
    expires_at: Option<DateTime>,
}

/// A new API key and its secret.
#[derive(SimpleObject)]
struct CreatedApiKey {
    /// The key.
    key: ApiKey,
    /// For `Authorization: Bearer …`. It cannot be shown again.
    secret: String,
}
