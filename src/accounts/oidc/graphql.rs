//! `identities` and `unlinkIdentity`.

use async_graphql::{Context, Object, SimpleObject};

use super::identities;
use crate::accounts::sign_in::refuse_keys;
use crate::audit::change;
use crate::graphql::context::{app, caller, read};
use crate::graphql::scalars::DateTime;

#[derive(Default)]
pub struct IdentityQuery;

#[Object]
impl IdentityQuery {
    /// The caller's identities at OpenID Connect providers, oldest first; at most 100. Another one is linked by `POST /auth/oidc/<provider>/link`. Error: FORBIDDEN for API keys.
    async fn identities(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Identity>> {
        let (caller, providers) = (caller(ctx)?, &app(ctx)?.providers);
        refuse_keys(caller)?;
        let listed = identities::list(read(ctx).await?.as_ref(), caller.user_id).await?;
        let identities = listed.into_iter().map(|identity| Identity {
            provider: providers.of_issuer(&identity.issuer).map(|provider| provider.name.clone()),
            issuer: identity.issuer,
            subject: identity.subject,
            created_at: DateTime(identity.created_at),
        });
        Ok(identities.collect())
    }
}

#[derive(Default)]
pub struct IdentityMutation;

#[Object]
impl IdentityMutation {
    /// Removes one of the caller's identities, which can then no longer be used to sign in; existing sessions continue. Errors: NOT_FOUND; BAD_USER_INPUT; FORBIDDEN for API keys; CONFLICT for the only way to sign in of a user without a password.
    async fn unlink_identity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The identity's issuer.")] issuer: String,
        #[graphql(desc = "The identity's subject.")] subject: String,
    ) -> async_graphql::Result<bool> {
        let caller = caller(ctx)?;
        refuse_keys(caller)?;
        let change = change(ctx).await?;
        identities::remove(&change, &issuer, &subject, caller.user_id).await?;
        change.commit(identities::unlinked(app(ctx)?, caller.user_id, &issuer)).await?;
        Ok(true)
    }
}

/// A user's identity at an OpenID Connect provider.
#[derive(SimpleObject)]
struct Identity {
    /// The provider's name in `/auth/oidc/<provider>`; null if it is no longer configured.
    provider: Option<String>,
    /// The provider's issuer, as in its tokens.
    issuer: String,
    /// The provider's unique identifier of the user.
    subject: String,
    /// Since when the user can sign in with it.
    created_at: DateTime,
}
