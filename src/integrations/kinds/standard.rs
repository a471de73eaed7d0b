//! Senders that sign by the Standard Webhooks specification (standardwebhooks.com) and send events in the form of
//! `recordEvents`: `{"events": [{"eventId": …, "occurredAt": …, "orderPlaced": {…}}]}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{is_hmac, is_recent};
use crate::clock::Timestamp;
use crate::integrations::{Connector, Delivery, Label, Request, Settings, Unclear, WebhookContent};
use crate::ledger::event::Event;
use crate::ledger::input::read_event;
use crate::outbox::{self, signing_key};

pub struct Standard;

impl Connector for Standard {
    fn check_secret(&self, secret: &str) -> Result<(), &'static str> {
        outbox::check_secret(secret)
    }

    fn is_signed(&self, request: &Request<'_>, secret: &str, now: Timestamp) -> bool {
        let [Some(id), Some(seconds), Some(signatures)] =
            [["webhook-id"], ["webhook-timestamp"], ["webhook-signature"]].map(|name| request.header(&name))
        else {
            return false;
        };
        let is_now = seconds.parse().is_ok_and(|seconds| is_recent(seconds, now));
        let signatures = signatures.split(' ').filter_map(|text| STANDARD.decode(text.strip_prefix("v1,")?).ok());
        let parts = [id.as_bytes(), b".", seconds.as_bytes(), b".", request.body];
        is_now && is_hmac(&signing_key(secret), &parts, signatures)
    }

    fn label(&self, request: &Request<'_>) -> Label {
        Label { topic: "events".to_owned(), id: request.header(&["webhook-id"]).map(str::to_owned), at: None }
    }

    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<WebhookContent, Unclear> {
        let Sent { events } = delivery.json()?;
        let of_settings = || settings.organization.map(|id| id.to_string());
        let placed = |event: Event| Event { organization: event.organization.or_else(of_settings), ..event };
        let events = events.into_iter().enumerate();
        let read: Vec<_> = events.map(|(index, event)| read_event(index, event).map(placed)).collect();
        Ok(if read.is_empty() { WebhookContent::Nothing } else { WebhookContent::Given(read) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    events: Vec<serde_json::Value>,
}
