//! Mutations of integrations and their quarantine.

use async_graphql::{Context, ID, MaybeUndefined, Object, SimpleObject};

use super::graphql::{IntegrationChanges, IntegrationInput, IntegrationNode, QuarantinedDelivery};
use super::receive::{self, Received};
use super::store::{self, LOGGED, SecretChange};
use super::{Kind, quarantine};
use crate::audit::{By, Entry, change};
use crate::auth::{Caller, Permission};
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Requires, app, caller, client, parse_id};
use crate::graphql::given::given;
use crate::ledger::organization::list_organizations;
use crate::privacy::erasure::erased;

const SECRET_CHARS: std::ops::RangeInclusive<usize> = 16..=200;

#[derive(Default)]
pub struct IntegrationMutation;

#[Object]
impl IntegrationMutation {
    /// Starts accepting what a shop or CRM sends to the integration's `url`. Needs INTEGRATIONS_MANAGE, and SALES_EDIT because whoever has the secret can record sales; SHOPIFY, which can have customers erased, also needs PERSONAL_MANAGE. Errors: FORBIDDEN; BAD_USER_INPUT; NOT_FOUND (organization, user); CONFLICT (name taken, more than 100); SERVICE_UNAVAILABLE (the tenant's encryption keys cannot be reached).
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn create_integration(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The kind of shop or CRM.")] kind: Kind,
        #[graphql(
            desc = "The secret that the sender signs with, 16 to 200 characters. It is stored encrypted and never shown again."
        )]
        secret: String,
        #[graphql(desc = "The integration.")] input: IntegrationInput,
    ) -> async_graphql::Result<IntegrationNode> {
        check_may_give(caller(ctx)?, kind)?;
        check_secret(kind, &secret)?;
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        let keys = app.keys.get(tenant).await?.ok_or_else(erased)?;
        let change = change(ctx).await?;
        let new = input.check(&list_organizations(&change).await?)?;
        let id = store::create(&change, &keys, kind, new, &secret, app.clock.now()).await?;
        let integration = store::get_integration(&change, id).await?;
        let after = change.see(&LOGGED, id).await?;
        change.commit(Entry::of("integration.create", id).after(after)).await?;
        Ok(integration.into())
    }

    /// Changes an integration; what `input` leaves out stays as it is. When a new secret is set, the previous one stays valid until another one is set, or `endOldSecret` is. Needs INTEGRATIONS_MANAGE and, for a secret, what `createIntegration` needs. Errors: FORBIDDEN, BAD_USER_INPUT, NOT_FOUND, CONFLICT, SERVICE_UNAVAILABLE.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn update_integration(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The integration's id.")] id: ID,
        #[graphql(desc = "The secret that the sender signs with from now on; omit to keep the current one.")]
        secret: MaybeUndefined<String>,
        #[graphql(
            desc = "Whether to stop accepting the previous secret at once, so that only the newest one is valid.",
            default
        )]
        end_old_secret: bool,
        #[graphql(desc = "What changes.")] input: IntegrationChanges,
    ) -> async_graphql::Result<IntegrationNode> {
        let id = parse_id(&id, "integration")?;
        let secret = given("secret", secret)?;
        let keys = app(ctx)?.keys.get(caller(ctx)?.tenant).await?.ok_or_else(erased)?;
        let change = change(ctx).await?;
        let before = change.see(&LOGGED, id).await?;
        let known = store::get_integration(&change, id).await?;
        if let Some(secret) = &secret {
            check_may_give(caller(ctx)?, known.kind)?;
            check_secret(known.kind, secret)?;
        }
        let sets_secrets = secret.is_some() || end_old_secret;
        let secrets = SecretChange { new: secret, ends_old: end_old_secret };
        let new = input.apply(&known, &list_organizations(&change).await?)?;
        store::update(&change, &keys, id, new, secrets).await?;
        let integration = store::get_integration(&change, id).await?;
        let after = change.see(&LOGGED, id).await?;
        let entry = Entry::of("integration.update", id).before(before).after(after);
        if sets_secrets {
            change.commit(entry).await?;
        } else {
            change.commit_if_changed(entry).await?;
        }
        Ok(integration.into())
    }

    /// Deletes an integration with its quarantine, and returns its id; events that came from it stay. Needs INTEGRATIONS_MANAGE. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn delete_integration(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The integration's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let integration = parse_id(&id, "integration")?;
        let change = change(ctx).await?;
        let before = change.see(&LOGGED, integration).await?;
        store::delete(&change, integration).await?;
        change.commit(Entry::of("integration.delete", integration).before(before)).await?;
        Ok(id)
    }

    /// Processes a quarantined delivery again, for example after the integration's owners were changed. If that succeeds, it leaves the quarantine. Needs INTEGRATIONS_MANAGE. Errors: NOT_FOUND, DECRYPTION_FAILED, SERVICE_UNAVAILABLE.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn retry_quarantined(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The delivery's id.")] id: ID,
    ) -> async_graphql::Result<RetriedDelivery> {
        let id = parse_id(&id, "delivery in quarantine")?;
        let caller = caller(ctx)?;
        let by = By::caller(caller, client(ctx)?);
        let (kept, outcome) = receive::retry(app(ctx)?, caller.tenant, by, id).await?;
        let change = change(ctx).await?;
        let before = change.see(&quarantine::LOGGED, id).await?;
        match outcome {
            Received::Quarantined => quarantine::note(&change, id, &kept.why, app(ctx)?.clock.now()).await?,
            // It may be gone: it came again meanwhile, or was an erasure of the customer that it names.
            Received::Recorded | Received::Ignored => drop(quarantine::remove_if_there(&change, id).await?),
        }
        let after = change.see(&quarantine::LOGGED, id).await?;
        change.commit(Entry::of("quarantine.retry", id).before(before).after(after)).await?;
        Ok(RetriedDelivery { outcome, delivery: kept.into() })
    }

    /// Discards a quarantined delivery and returns its id. Needs INTEGRATIONS_MANAGE. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn dismiss_quarantined(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The delivery's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let delivery = parse_id(&id, "delivery in quarantine")?;
        let change = change(ctx).await?;
        let before = change.see(&quarantine::LOGGED, delivery).await?;
        quarantine::remove(&change, delivery).await?;
        change.commit(Entry::of("quarantine.dismiss", delivery).before(before)).await?;
        Ok(id)
    }
}

/// The result of processing a quarantined delivery again.
#[derive(SimpleObject)]
struct RetriedDelivery {
    /// What happened to it.
    outcome: Received,
    /// The delivery; if it is still quarantined, with the present reason.
    delivery: QuarantinedDelivery,
}

/// Whoever sets a secret can send with it, so this requires the permissions that sending implies. Error: FORBIDDEN.
fn check_may_give(caller: &Caller, kind: Kind) -> Result<()> {
    let erases = kind == Kind::Shopify;
    if caller.may(Permission::SalesEdit) && (!erases || caller.may(Permission::PersonalManage)) {
        return Ok(());
    }
    let needed = if erases { "SALES_EDIT and PERSONAL_MANAGE" } else { "SALES_EDIT" };
    Err(Error::new(Code::Forbidden, format!("setting the secret also requires {needed}")))
}

fn check_secret(kind: Kind, secret: &str) -> Result<()> {
    let bad = |message: String| Err(Error::bad_input("secret", message));
    if !SECRET_CHARS.contains(&secret.chars().count()) || secret.chars().any(char::is_control) {
        let (min, max) = SECRET_CHARS.into_inner();
        return bad(format!("a secret must have {min} to {max} characters, none of them a control character"));
    }
    kind.connector().check_secret(secret).or_else(|message| bad(message.to_owned()))
}
