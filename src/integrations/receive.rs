//! Processes a request: unknown sender, recorded, nothing to record, or quarantine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use tracing::Instrument;
use uuid::Uuid;

use super::quarantine::{self, Kept, Quarantined, Why, find_of_customer};
use super::store::{self, Integration};
use super::{Delivery, Label, Request, Unclear, WebhookContent};
use crate::app::App;
use crate::audit::{By, Entry, Means, record_by};
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::BATCH_EVENTS_MAX;
use crate::ledger::event::{Event, Outcome, Refusal};
use crate::ledger::node_id::Numbered;
use crate::privacy::erasure::erase_customer;
use crate::sealing::{TenantKeys, fingerprint};

/// Longer ids are replaced by their hash.
const ID_CHARS_MAX: usize = 100;
const TOPIC_CHARS_MAX: usize = 100;
const REASON_CHARS_MAX: usize = 200;

/// What happened to a webhook delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[graphql(name = "DeliveryOutcome")]
pub enum Received {
    /// Its events are in the ledger, now or from before.
    Recorded,
    /// There is nothing in it to record.
    Ignored,
    /// It could not be processed and was kept.
    Quarantined,
}

/// The presumed sender.
pub struct Sender {
    integration: Integration,
    keys: Arc<TenantKeys>,
}

/// The integration a request is addressed to. Error: UNAUTHENTICATED, as for an invalid signature.
pub async fn find_sender(app: &App, tenant: TenantId, id: Uuid) -> Result<Sender> {
    // Read before the keys, which would otherwise be created for a tenant that does not exist.
    let integration = store::find(&app.db.read(tenant).await?, id).await?.ok_or_else(unsigned)?;
    let keys = app.keys.get(tenant).await?.ok_or_else(unsigned)?;
    Ok(Sender { integration, keys })
}

/// Receives a request for an integration from `address`. Errors: UNAUTHENTICATED, when it is not signed; SERVICE_UNAVAILABLE, when it
/// should be redelivered.
pub async fn receive(
    app: &App,
    tenant: TenantId,
    Sender { integration, keys }: &Sender,
    address: Option<IpAddr>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Received> {
    let (now, request) = (app.clock.now(), Request { headers, body });
    let (connector, secrets) = (integration.kind.connector(), store::open_secrets(integration, keys, tenant)?);
    if !secrets.iter().any(|secret| connector.is_signed(&request, secret, now)) {
        return Err(unsigned());
    }
    if !integration.is_enabled {
        return Err(Error::new(Code::ServiceUnavailable, "the integration is switched off"));
    }
    let Label { topic, id, at } = connector.label(&request);
    let topic: String = topic.chars().filter(|c| !c.is_control()).take(TOPIC_CHARS_MAX).collect();
    let id = id.filter(|id| id.len() <= ID_CHARS_MAX && !id.chars().any(char::is_control));
    let id = id.unwrap_or_else(|| hash(&topic, body));
    let at = at.map_or(now, |at| at.min(now));
    let delivery = Delivery { integration: integration.id, topic: &topic, id: &id, at, body };
    let by = By::means(Means::Integration(integration.id), address);
    let taken = take(app, tenant, by, keys, integration, &delivery).await?;
    let body = &String::from_utf8_lossy(body);
    let kept = Kept { integration_id: integration.id, delivery_id: &id, topic: &topic, happened_at: at, body };
    // A redelivery that succeeds resolves its quarantined copy.
    let waited = match &taken {
        Taken::Not(_) => None,
        _ => quarantine::find_same(&app.db.read(tenant).await?, keys, &kept).await?,
    };
    if matches!(taken, Taken::Not(_)) || waited.is_some() || integration.is_to_note(now) {
        let tx = app.db.write(tenant).await?;
        if let Taken::Not(why) = &taken {
            tracing::warn!(tenant = %tenant.0, integration = %integration.id, topic, code = why.code, "delivery quarantined");
            quarantine::keep(&tx, keys, &kept, why, now).await?;
        }
        if let Some(waited) = waited {
            quarantine::remove_if_there(&tx, waited).await?;
        }
        store::note_delivery(&tx, integration, now).await?;
        tx.commit().await?;
    }
    Ok(taken.received())
}

fn unsigned() -> Error {
    Error::new(Code::Unauthenticated, "the signature is missing or wrong")
}

/// Processes a quarantined delivery again, `by` whoever asks for it; the caller removes it, or notes why it failed. Errors: NOT_FOUND, DECRYPTION_FAILED, SERVICE_UNAVAILABLE.
pub async fn retry(app: &App, tenant: TenantId, by: By, id: Uuid) -> Result<(Quarantined, Received)> {
    let keys = app.keys.get(tenant).await?.ok_or_else(|| Error::not_found("delivery in quarantine"))?;
    let (mut kept, integration, body) = {
        let tx = app.db.read(tenant).await?;
        let (kept, body) = quarantine::get_with_body(&tx, &keys, id).await?;
        let integration = store::get_integration(&tx, kept.integration_id).await?;
        (kept, integration, body)
    };
    let delivery = Delivery {
        integration: integration.id,
        topic: &kept.topic,
        id: &kept.delivery_id,
        at: kept.happened_at,
        body: body.as_bytes(),
    };
    let taken = take(app, tenant, by, &keys, &integration, &delivery).await?;
    let received = taken.received();
    if let Taken::Not(why) = taken {
        kept.why = why;
    }
    Ok((kept, received))
}

/// The outcome of interpreting and recording.
enum Taken {
    Recorded,
    Ignored,
    Not(Why),
}

impl Taken {
    fn received(&self) -> Received {
        match self {
            Taken::Recorded => Received::Recorded,
            Taken::Ignored => Received::Ignored,
            Taken::Not(_) => Received::Quarantined,
        }
    }
}

/// Interprets a delivery and passes it to the ledger. Error: SERVICE_UNAVAILABLE and the like, when it should be
/// redelivered.
async fn take(
    app: &App,
    tenant: TenantId,
    by: By,
    keys: &Arc<TenantKeys>,
    integration: &Integration,
    delivery: &Delivery<'_>,
) -> Result<Taken> {
    // It may contain text from the sender.
    let legible = |reason: String| reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
    let not = |code: &str, reason: String| Taken::Not(Why { code: code.to_owned(), reason: legible(reason) });
    match integration.kind.connector().read(delivery, &integration.settings) {
        Err(Unclear(reason)) => Ok(not("UNCLEAR", reason)),
        Ok(WebhookContent::Nothing) => Ok(Taken::Ignored),
        Ok(WebhookContent::Erase(external_id)) => {
            // It is completed even if the sender does not wait for it.
            let erased = erase(app.clone(), tenant, by, Arc::clone(keys), external_id).in_current_span();
            tokio::spawn(erased).await.map_err(Error::internal)??;
            Ok(Taken::Recorded)
        }
        Ok(WebhookContent::Events(events)) => {
            let events = events.into_iter().map(|event| distinct(event, keys)).collect::<Result<_>>()?;
            let refused = record(app, tenant, by, events).await?.into_iter().find_map(refusal_of);
            Ok(refused.map_or(Taken::Recorded, |refusal| not(refusal.code.as_str(), refusal.reason)))
        }
        Ok(WebhookContent::Given(given)) => {
            let well_formed = given.iter().filter_map(|event| event.clone().ok()).collect();
            let mut outcomes = record(app, tenant, by, well_formed).await?.into_iter();
            let refusals = given.into_iter().enumerate().map(|(index, event)| match event {
                Ok(_) => {
                    let refusal = outcomes.next().and_then(refusal_of)?;
                    Some(Refusal { reason: format!("events.{index}: {}", refusal.reason), ..refusal })
                }
                // It names the place itself.
                Err(refusal) => Some(refusal),
            });
            let refused = refusals.flatten().next();
            Ok(refused.map_or(Taken::Recorded, |refusal| not(refusal.code.as_str(), refusal.reason)))
        }
    }
}

/// Makes the id that of what the event says: said differently (because of other settings of the integration, say), it
/// is another event, and the version of its object decides what counts. Keyed, as it may have personal data.
fn distinct(event: Event, keys: &TenantKeys) -> Result<Event> {
    let print = fingerprint(&keys.index, "integrations.event", &serde_json::to_vec(&event)?);
    Ok(Event { event_id: format!("{}/{}", event.event_id, hex::encode(&print[..8])), ..event })
}

fn refusal_of(outcome: Outcome) -> Option<Refusal> {
    match outcome {
        Outcome::Refused(refusal) => Some(refusal),
        Outcome::Applied { .. } | Outcome::Superseded { .. } | Outcome::Repeated { .. } => None,
    }
}

async fn record(app: &App, tenant: TenantId, by: By, events: Vec<Event>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(events.len());
    for part in events.chunks(BATCH_EVENTS_MAX) {
        outcomes.extend(app.ledger.record(tenant, by, part.to_vec(), false).await?.outcomes);
    }
    Ok(outcomes)
}

/// Erases a customer, if there is one, and their quarantined deliveries.
async fn erase(app: App, tenant: TenantId, by: By, keys: Arc<TenantKeys>, external_id: String) -> Result<()> {
    let found = find_of_customer(&app.db.read(tenant).await?, &app.keys, &external_id).await?;
    let (tx, now) = (app.db.write(tenant).await?, app.clock.now());
    match find_customer(&tx, &external_id).await? {
        Some(customer_no) if erase_customer(&tx, (&app.keys, &keys), customer_no, &found, now).await? => {
            let entry = Entry::of("customer.erase", Numbered::Customer.id(customer_no).as_str());
            record_by(&tx, &by, now, entry).await?;
        }
        _ => quarantine::remove_of_customer(&tx, &app.keys, &external_id, &found).await?,
    }
    tx.commit().await
}

async fn find_customer(tx: &TenantTx, external_id: &str) -> Result<Option<i64>> {
    let sql = "SELECT customer_no FROM customers WHERE tenant_id = $1 AND external_id = $2";
    tx.query_one(sql, [external_id.into()]).await?.map(|row| get(&row, 0)).transpose()
}

fn hash(topic: &str, body: &[u8]) -> String {
    let hash = Sha256::new().chain_update(topic).chain_update([0]).chain_update(body).finalize();
    hex::encode(hash)
}
