//! Mutations for signing in and out, and for managing access.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::graphql::{ApiKey, SignIn};
use super::members::{self, Changes, Member};
use super::{api_keys, mailed, sign_in};
use crate::audit::{Entry, change};
use crate::auth::{Permission, Role};
use crate::graphql::context::{Requires, app, caller, client, parse_id};
use crate::graphql::given::given;
use crate::graphql::scalars::DateTime;

#[derive(Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Signs in with a password; needs no token. Errors: UNAUTHENTICATED, whatever was wrong; RATE_LIMITED after 10 attempts in a row from an address, with one more allowed every 90 seconds, or 100 for an account.
    async fn login(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant's slug.")] tenant: String,
        #[graphql(desc = "The user's e-mail address.")] email: String,
        #[graphql(desc = "The user's password.")] password: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(sign_in::by_password(app(ctx)?, client(ctx)?, &tenant, &email, password).await?.into())
    }

    /// Exchanges a refresh token for the next access token and refresh token; needs no token. If the answer was lost, it can be requested again
    /// within 10 seconds; using a refresh token a second time after that ends its session. Errors: INVALID_GRANT; RATE_LIMITED after 60 refreshes of a session in a row, with one more allowed every 10 seconds.
    async fn refresh(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The newest refresh token of the session.")] refresh_token: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(sign_in::refresh(app(ctx)?, client(ctx)?, &refresh_token).await?.into())
    }

    /// Ends the caller's session immediately, on open sockets too. Error: BAD_USER_INPUT if the token belongs to no session.
    async fn logout(&self, ctx: &Context<'_>) -> async_graphql::Result<bool> {
        sign_in::end(app(ctx)?, client(ctx)?, caller(ctx)?).await?;
        Ok(true)
    }

    /// Ends one of the caller's own sessions immediately, on open sockets too (for a lost device), and returns its id. Errors: NOT_FOUND, FORBIDDEN for API keys.
    async fn end_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The session's id, from `sessions`.")] id: ID,
    ) -> async_graphql::Result<ID> {
        sign_in::end_own(app(ctx)?, client(ctx)?, caller(ctx)?, parse_id(&id, "session")?).await?;
        Ok(id)
    }

    /// Ends all sessions of the caller, including this one, and revokes tokens that operators issued for them; returns the number of sessions. Error: FORBIDDEN for API keys.
    async fn logout_everywhere(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        let ended = sign_in::end_all(app(ctx)?, client(ctx)?, caller(ctx)?).await?;
        Ok(i32::try_from(ended).unwrap_or(i32::MAX))
    }

    /// Changes the caller's password, ends all their sessions and starts a new one. Errors: FORBIDDEN for API keys, BAD_USER_INPUT (also if `current` is wrong), RATE_LIMITED, UNAUTHENTICATED (the password has just been changed elsewhere).
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The current password.")] current: String,
        #[graphql(desc = "The new password, 12 to 128 characters.")] new: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(sign_in::change_password(app(ctx)?, client(ctx)?, caller(ctx)?, current, new).await?.into())
    }

    /// E-mails a link for setting a new password, unless three such links are still valid; needs no token. The answer is the same whether or not there is such a user. Errors: RATE_LIMITED; MAIL_NOT_CONFIGURED (the server sends no mail).
    async fn request_password_reset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant's slug.")] tenant: String,
        #[graphql(desc = "The user's e-mail address.")] email: String,
    ) -> async_graphql::Result<bool> {
        mailed::request_reset(app(ctx)?, client(ctx)?, &tenant, &email).await?;
        Ok(true)
    }

    /// Sets the password using the token of an e-mailed link, ends the user's sessions, revokes their API keys, unlinks their identities, and signs in; needs no other token. Errors: INVALID_GRANT, BAD_USER_INPUT.
    async fn set_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The part of the link after the #.")] token: String,
        #[graphql(desc = "The password, 12 to 128 characters.")] password: String,
    ) -> async_graphql::Result<SignIn> {
        Ok(mailed::redeem(app(ctx)?, client(ctx)?, &token, password).await?.into())
    }

    /// Invites someone by e-mail, or again if they have not accepted yet, even if they were deactivated since. Needs USERS_MANAGE. Errors: FORBIDDEN, if the old or new role has permissions that the caller lacks; CONFLICT (the user with this address is active or has a way to sign in); MAIL_NOT_CONFIGURED (the server sends no mail and knows no identity provider).
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn invite_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to invite, and with what role.")] input: InvitationInput,
    ) -> async_graphql::Result<Member> {
        let change = change(ctx).await?;
        let InvitationInput { email, name, role } = &input;
        let (id, before) = mailed::invite(app(ctx)?, &change, caller(ctx)?, (email, name), *role).await?;
        let member = members::get_member(&change, id).await?;
        let before = before.map(|before| before.told());
        change.commit(Entry::of("user.invite", id).before(before).after(member.told())).await?;
        Ok(member)
    }

    /// Changes a user; what `input` leaves out stays as it is. A change of role or state takes effect immediately, on open sockets too. Needs USERS_MANAGE. Errors: NOT_FOUND; FORBIDDEN, if the old or new role has permissions that the caller lacks; CONFLICT, if nobody would be left who can sign in and manage users, or an invited user would be activated.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn update_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user's id.")] id: ID,
        #[graphql(desc = "What changes.")] input: UserChanges,
    ) -> async_graphql::Result<Member> {
        let id = parse_id(&id, "user")?;
        let changes = Changes {
            name: given("name", input.name)?,
            role: given("role", input.role)?,
            is_active: given("isActive", input.is_active)?,
        };
        if let Some(role) = changes.role {
            members::check_role(caller(ctx)?, role)?;
        }
        let change = change(ctx).await?;
        let known = members::get_member(&change, id).await?;
        members::check_role(caller(ctx)?, known.user.role)?;
        members::update(app(ctx)?, &change, id, &changes).await?;
        let member = members::get_member(&change, id).await?;
        if member == known {
            return Ok(member);
        }
        change.commit(Entry::of("user.update", id).before(known.told()).after(member.told())).await?;
        app(ctx)?.access_cache.changed(caller(ctx)?.tenant);
        Ok(member)
    }

    /// Creates an API key; only this answer contains its secret. Needs INTEGRATIONS_MANAGE. Errors: FORBIDDEN, for a permission that the caller lacks, or an expiry after that of the API key that makes the request; CONFLICT beyond 100 keys.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new key.")] input: ApiKeyInput,
    ) -> async_graphql::Result<CreatedApiKey> {
        let (app, caller) = (app(ctx)?, caller(ctx)?);
        let ends_at = input.expires_at.map(|at| at.0);
        let change = change(ctx).await?;
        let (key, secret) =
            api_keys::create(&change, caller, &input.name, &input.permissions, ends_at, app.clock.now()).await?;
        let after = change.see(&api_keys::LOGGED, key.id).await?;
        change.commit(Entry::of("api-key.create", key.id).after(after)).await?;
        app.access_cache.changed(caller.tenant);
        Ok(CreatedApiKey { key: key.into(), secret: secret.to_text() })
    }

    /// Revokes an API key immediately. Needs INTEGRATIONS_MANAGE. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key's id.")] id: ID,
    ) -> async_graphql::Result<ApiKey> {
        let id = parse_id(&id, "API key")?;
        let change = change(ctx).await?;
        let before = change.see(&api_keys::LOGGED, id).await?;
        let key = api_keys::revoke(&change, id, app(ctx)?.clock.now()).await?;
        let after = change.see(&api_keys::LOGGED, id).await?;
        change.commit_if_changed(Entry::of("api-key.revoke", id).before(before).after(after)).await?;
        app(ctx)?.access_cache.changed(caller(ctx)?.tenant);
        Ok(key.into())
    }
}

/// An invitation.
#[derive(InputObject)]
struct InvitationInput {
    /// Where the invitation is sent, and what the user will sign in with.
    email: String,
    /// The user's name, 1 to 200 characters.
    name: String,
    /// The role that the user will have.
    role: Role,
}

/// Changes of a user. What is omitted stays as it is.
#[derive(InputObject)]
struct UserChanges {
    /// The user's name, 1 to 200 characters.
    name: MaybeUndefined<String>,
    /// The user's role.
    role: MaybeUndefined<Role>,
    /// Whether the user may sign in. False also revokes the user's API keys and unlinks their identities for good.
    is_active: MaybeUndefined<bool>,
}

/// The settings of a new API key.
#[derive(InputObject)]
struct ApiKeyInput {
    /// What it is for, 1 to 200 characters.
    name: String,
    /// Its permissions: some of the caller's.
    permissions: Vec<Permission>,
    /// When it expires; omit for never.
    expires_at: Option<DateTime>,
}

/// A new API key and its secret.
#[derive(SimpleObject)]
struct CreatedApiKey {
    /// The key.
    key: ApiKey,
    /// The secret, to be sent as `Authorization: Bearer …`. It cannot be shown again.
    secret: String,
}
