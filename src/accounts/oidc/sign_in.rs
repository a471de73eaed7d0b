//! Whether a person identified by a provider has access.
//!
//! A known identity, by issuer and subject, is its user, whatever their address is now. An unknown one is assigned to
//! the user with its address, if the provider has verified the address and the user has no other way to sign in yet:
//! one who was invited, or created by an operator. A user who has a password or another identity links it while signed
//! in, so that no provider can take over an account that is in use.

use serde_json::json;
use uuid::Uuid;

use super::identities;
use super::person::Person;
use super::provider::Provider;
use super::settings::Create;
use crate::accounts::members::name_of;
use crate::accounts::sign_in::{KnownUser, SignedIn, find_active, open};
use crate::app::App;
use crate::audit::{self, By, Entry};
use crate::auth::sessions::Client;
use crate::auth::standing;
use crate::clock::Timestamp;
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::tenancy::find_tenant;
use crate::users::{NewUser, insert_user};

/// Signs a person in. Error: UNAUTHENTICATED, whatever the reason.
pub async fn sign_in(
    app: &App,
    client: &Client,
    provider: &Provider,
    tenant: &str,
    person: &Person,
) -> Result<SignedIn> {
    let tenant = find_tenant(&app.db, tenant).await?.ok_or_else(refused)?;
    let now = app.clock.now();
    let tx = app.db.write(tenant).await?;
    tx.lock_settings().await?;
    let owner = identities::find_owner(&tx, provider.issuer(), &person.subject).await?;
    let user_id = match owner {
        Some(user_id) => Some(user_id),
        None => admit(&tx, client, provider, person, now).await?,
    };
    let user = match user_id {
        Some(user_id) => find_active(&tx, "id", user_id.into()).await?,
        None => None,
    };
    let Some(KnownUser { id, role, .. }) = user else {
        let by = By { user_id: None, through: None, address: client.address };
        let subject = user_id.map(|id| id.to_string()).unwrap_or_default();
        let entry = Entry::of("session.refuse", subject).after(json!({ "by": "oidc", "provider": provider.name }));
        audit::record_by(&tx, &by, now, entry).await?;
        tx.commit().await?;
        return Err(refused());
    };
    let signed_in = open(app, tx, client, id, role, &format!("oidc:{}", provider.name)).await?;
    if owner.is_none() {
        // They may have been admitted just now.
        app.access_cache.changed(tenant);
    }
    Ok(signed_in)
}

/// Assigns a new identity to a user who has none; `None` where there is no such user.
async fn admit(
    tx: &TenantTx,
    client: &Client,
    provider: &Provider,
    person: &Person,
    now: Timestamp,
) -> Result<Option<Uuid>> {
    let Some(email) = &person.email else { return Ok(None) };
    let by = |user_id| By { user_id: Some(user_id), through: None, address: client.address };
    let sql = "SELECT u.id, u.password_hash IS NULL AND (u.is_active OR u.invited_at IS NOT NULL) AND NOT EXISTS \
               (SELECT 1 FROM user_identities i WHERE i.tenant_id = u.tenant_id AND i.user_id = u.id) \
               FROM users u WHERE u.tenant_id = $1 AND u.email = $2";
    let user_id = match (tx.query_one(sql, [email.as_str().into()]).await?, &provider.settings.create) {
        (Some(row), _) if get(&row, 1)? => get(&row, 0)?,
        (None, Some(create)) if takes(create, email) => {
            let name = person.name.as_deref().and_then(|name| name_of(name).ok());
            let name = name.as_deref().unwrap_or(email);
            let new = NewUser { email, name, role: create.role, password_hash: None, is_invited: false };
            let user_id = insert_user(tx, new, now).await?;
            let entry = Entry::of("user.create", user_id).after(json!({ "role": create.role.as_str() }));
            audit::record_by(tx, &by(user_id), now, entry).await?;
            user_id
        }
        _ => return Ok(None),
    };
    identities::add(tx, provider.issuer(), &person.subject, user_id, now).await?;
    let sql = "UPDATE users SET is_active = true, invited_at = NULL WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, [user_id.into()]).await?;
    standing::begin_epoch(tx, now).await?;
    audit::record_by(tx, &by(user_id), now, linked(provider, user_id)).await?;
    Ok(Some(user_id))
}

fn takes(create: &Create, email: &str) -> bool {
    let domain = email.rsplit_once('@').map(|(_, domain)| domain);
    domain.is_some_and(|domain| create.domains.iter().any(|taken| taken.eq_ignore_ascii_case(domain)))
}

fn linked(provider: &Provider, user_id: Uuid) -> Entry {
    Entry::of("identity.link", user_id).after(json!({ "provider": provider.name, "issuer": provider.issuer() }))
}

/// Links an identity to the user of an active session. Errors: UNAUTHENTICATED, where the session has ended; CONFLICT,
/// where the identity is another user's.
pub async fn link(
    app: &App,
    client: &Client,
    provider: &Provider,
    (tenant, user_id, session): (TenantId, Uuid, Uuid),
    person: &Person,
) -> Result<()> {
    let now = app.clock.now();
    let tx = app.db.write(tenant).await?;
    tx.lock_settings().await?;
    let sql = "SELECT 1 FROM sessions s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id \
               WHERE s.tenant_id = $1 AND s.id = $2 AND s.user_id = $3 AND s.revoked_at IS NULL AND s.ends_at > $4 AND u.is_active";
    if tx.query_one(sql, [session.into(), user_id.into(), now.into()]).await?.is_none() {
        return Err(Error::new(Code::Unauthenticated, "the session has ended; sign in again"));
    }
    match identities::find_owner(&tx, provider.issuer(), &person.subject).await? {
        Some(owner) if owner == user_id => Ok(()),
        Some(_) => Err(Error::new(Code::Conflict, "another user signs in with that identity")),
        None => {
            identities::add(&tx, provider.issuer(), &person.subject, user_id, now).await?;
            audit::record_by(&tx, &By::session(user_id, session, client), now, linked(provider, user_id)).await?;
            tx.commit().await
        }
    }
}

fn refused() -> Error {
    let message = "no user is linked to that identity: it needs an invitation to an address that the provider has verified, or \
                   to be linked while signed in";
    Error::new(Code::Unauthenticated, message)
}
