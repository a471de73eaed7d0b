//! Pipedrive, webhooks of version 1 and 2, for deals won or lost. Requests are not signed: they are authenticated by
//! the user and password in the URL.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::NaiveDateTime;
use hmac::Mac;
use serde::Deserialize;

use super::{Exact, Id, is_hmac, time};
use crate::clock::{SECOND, Timestamp};
use crate::integrations::{Connector, Delivery, Label, Request, Settings, Unclear, WebhookContent};
use crate::ledger::event::{DealClosed, Fact};
use crate::mac::keyed;

pub struct Pipedrive;

impl Connector for Pipedrive {
    fn check_secret(&self, secret: &str) -> Result<(), &'static str> {
        let is_pair = secret.split_once(':').is_some_and(|(user, password)| !user.is_empty() && !password.is_empty());
        if is_pair { Ok(()) } else { Err("must be user:password") }
    }

    fn is_signed(&self, request: &Request<'_>, secret: &str, _now: Timestamp) -> bool {
        let shown = request.header(&["authorization"]).and_then(|value| value.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let Some(shown) = shown.and_then(|(_, text)| STANDARD.decode(text.trim()).ok()) else { return false };
        is_same(&shown, secret.as_bytes())
    }

    fn label(&self, request: &Request<'_>) -> Label {
        let Ok(Named { meta }) = serde_json::from_slice(request.body) else { return Label::default() };
        // Version 1 has no stable delivery id: the changed object and the time identify it.
        let id = meta.moment().ok().map(|at| format!("{}:{}:{}:{}", meta.object(), meta.thing(), meta.action, at.0));
        Label { topic: format!("{}.{}", meta.action, meta.object()), id, at: None }
    }

    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<WebhookContent, Unclear> {
        match delivery.topic.split_once('.') {
            Some(("added" | "create" | "updated" | "change" | "deleted" | "delete", "deal")) => {
                deal(delivery, delivery.json()?, settings)
            }
            Some(("merged" | "merge", "deal")) => {
                Err(Unclear("deals were merged: one of them no longer counts".to_owned()))
            }
            Some(_) => Ok(WebhookContent::Nothing),
            None => Err(Unclear("the body is not a Pipedrive webhook".to_owned())),
        }
    }
}

#[derive(Deserialize)]
struct Named {
    meta: Meta,
}

/// A webhook's metadata; the alias is the name in version 2.
#[derive(Deserialize)]
struct Meta {
    action: String,
    object: Option<String>,
    entity: Option<String>,
    /// The object's id in version 1, the webhook's in version 2.
    id: Id,
    entity_id: Option<Id>,
    company_id: Id,
    /// Microseconds since 1970, in version 1.
    timestamp_micro: Option<i64>,
    timestamp: Moment,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(i64),
    Text(String),
}

impl Meta {
    fn object(&self) -> &str {
        self.object.as_deref().or(self.entity.as_deref()).unwrap_or_default()
    }

    fn thing(&self) -> &str {
        &self.entity_id.as_ref().unwrap_or(&self.id).0
    }

    fn moment(&self) -> Result<Timestamp, Unclear> {
        match (&self.timestamp, self.timestamp_micro) {
            (_, Some(micros)) => Ok(Timestamp(micros)),
            (Moment::Seconds(seconds), None) => Ok(Timestamp(seconds.saturating_mul(SECOND))),
            (Moment::Text(text), None) => time(text),
        }
    }
}

#[derive(Deserialize)]
struct Change {
    meta: Meta,
    #[serde(alias = "data")]
    current: Option<Deal>,
    previous: Option<Before>,
}

#[derive(Deserialize)]
struct Deal {
    status: String,
    value: Option<Exact>,
    currency: Option<String>,
    #[serde(alias = "owner_id")]
    user_id: Option<Id>,
    won_time: Option<String>,
    lost_time: Option<String>,
    close_time: Option<String>,
    update_time: Option<String>,
}

/// The previous state; in version 2 only the changed fields.
#[derive(Deserialize)]
struct Before {
    status: Option<String>,
}

fn deal(delivery: &Delivery<'_>, change: Change, settings: &Settings) -> Result<WebhookContent, Unclear> {
    let was = change.previous.and_then(|before| before.status);
    let was_closed = was.is_some_and(|status| is_closed(&status));
    let Some(deal) = change.current.filter(|deal| is_closed(&deal.status)) else {
        // The ledger has no fact for this.
        return if was_closed {
            Err(Unclear("a deal that was closed is open again, or deleted".to_owned()))
        } else {
            Ok(WebhookContent::Nothing)
        };
    };
    let won = deal.status == "won";
    let owner = deal.user_id.ok_or_else(|| Unclear("a deal without an owner".to_owned()))?.0;
    let user = settings.owners.iter().find(|known| known.external_id == owner);
    let user = user.ok_or_else(|| Unclear(format!("no user is mapped to the owner {owner}: add them to `owners`")))?;
    let closed = if won { deal.won_time } else { deal.lost_time };
    let closed = closed.or(deal.close_time).or(deal.update_time);
    let at = closed.map_or_else(|| change.meta.moment(), |text| time_in_utc(&text))?;
    let fact = Fact::DealClosed(DealClosed {
        deal_id: format!("pipedrive:{}:{}", change.meta.company_id.0, change.meta.thing()),
        version: change.meta.moment()?.0,
        owner: user.user_id.to_string(),
        won,
        currency: deal.currency,
        amount: deal.value.unwrap_or_default().0,
    });
    Ok(WebhookContent::Events(vec![delivery.event(
        &format!("deal-{}-{}", change.meta.thing(), change.meta.moment()?.0),
        at,
        settings,
        fact,
    )]))
}

fn is_closed(status: &str) -> bool {
    matches!(status, "won" | "lost")
}

/// Version 1 gives times in UTC without stating it.
fn time_in_utc(text: &str) -> Result<Timestamp, Unclear> {
    match NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S") {
        Ok(time) => Ok(time.and_utc().into()),
        Err(_) => time(text),
    }
}

/// Compared in constant time, whatever their lengths.
fn is_same(shown: &[u8], secret: &[u8]) -> bool {
    let tag = keyed(secret).chain_update(secret).finalize().into_bytes();
    is_hmac(secret, &[shown], [tag.to_vec()])
}
