//! Webhook integrations with shops and CRMs: signed requests become events of the ledger, and what cannot be processed
//! is kept in quarantine until somebody has dealt with it.
//!
//! [`http`] accepts a request; [`receive`] authenticates the sender and passes what the [`Connector`] reads to the
//! ledger. A new kind of sender is a file in [`kinds`] and a line in [`Kind`].

pub mod graphql;
pub mod http;
mod kinds;
pub mod mutation;
pub mod quarantine;
mod receive;
mod store;

use async_graphql::Enum;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::ledger::event::{Event, Fact, Refusal};

/// The kind of shop or CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "IntegrationKind")]
pub enum Kind {
    /// Shopify. Topics: orders/*, refunds/create, customers/redact. The secret is the app's client secret.
    Shopify,
    /// Stripe. Types: charge.succeeded, charge.captured, charge.updated, refund.created, refund.updated, charge.refund.updated. The secret is the endpoint's, `whsec_…`.
    Stripe,
    /// Pipedrive, webhooks version 1 and 2, for deals. It does not sign, so the secret is the `user:password` of HTTP Basic authentication.
    Pipedrive,
    /// Any other sender that signs as specified by standardwebhooks.com and sends `{"events": […]}` of SalesEventInput.
    Standard,
}

impl Kind {
    fn connector(self) -> &'static dyn Connector {
        match self {
            Kind::Shopify => &kinds::shopify::Shopify,
            Kind::Stripe => &kinds::stripe::Stripe,
            Kind::Pipedrive => &kinds::pipedrive::Pipedrive,
            Kind::Standard => &kinds::standard::Standard,
        }
    }
}

/// The sender-specific part.
trait Connector: Send + Sync {
    /// Whether `secret` is valid for this kind. Error: what it must be.
    fn check_secret(&self, _secret: &str) -> Result<(), &'static str> {
        Ok(())
    }

    /// Whether the request was signed with `secret`: over the raw bytes, compared in constant time, and recently where
    /// the signature has a timestamp.
    fn is_signed(&self, request: &Request<'_>, secret: &str, now: Timestamp) -> bool;

    /// The request's subject, and the sender's delivery id, which is the same when it is redelivered.
    fn label(&self, request: &Request<'_>) -> Label;

    /// Interprets a request.
    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<WebhookContent, Unclear>;
}

/// A request as received.
struct Request<'a> {
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The value of the first of these headers that is present.
    fn header(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.headers.get(*name)?.to_str().ok())
    }
}

/// Identifies a request.
#[derive(Default)]
struct Label {
    topic: String,
    /// Defaults to a hash of topic and body.
    id: Option<String>,
    /// When it happened, where stated outside the body.
    at: Option<Timestamp>,
}

/// An authenticated request, either new or retried from quarantine.
struct Delivery<'a> {
    integration: Uuid,
    topic: &'a str,
    id: &'a str,
    /// When it happened, if the request says so, otherwise when it was first received.
    at: Timestamp,
    body: &'a [u8],
}

impl Delivery<'_> {
    /// Parses the body as `T`. The error states where it is wrong, without quoting the content.
    fn json<'b, T: Deserialize<'b>>(&'b self) -> Result<T, Unclear> {
        serde_json::from_slice(self.body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Unclear(format!("the body is not a known {}: {:?} error at {place}", self.topic, error.classify()))
        })
    }

    /// An event of this delivery; `part` identifies the object and its version, and stays the same on redelivery.
    fn event(&self, part: &str, occurred_at: Timestamp, settings: &Settings, fact: Fact) -> Event {
        Event {
            event_id: format!("{}/{}/{part}", self.integration.simple(), self.id),
            occurred_at,
            organization: settings.organization.map(|id| id.to_string()),
            fact,
        }
    }
}

/// The interpreted content of a request.
#[derive(Debug)]
enum WebhookContent {
    /// Events made of the sender's objects, which have ids and versions.
    Events(Vec<Event>),
    /// The sender's own events, of which some may be malformed.
    Given(Vec<Result<Event, Refusal>>),
    /// Nothing that affects metrics.
    Nothing,
    /// Erasure of a customer, by the source's id.
    Erase(String),
}

/// Why a request is quarantined, for people.
#[derive(Debug)]
struct Unclear(String);

/// Settings for incoming requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    /// The organization's id; defaults to the default one.
    organization: Option<Uuid>,
    /// The sales channel of everything received; absent means as stated by the sender.
    channel: Option<String>,
    /// Whether the shop's test orders count.
    counts_tests: bool,
    /// Maps the sender's users to ours.
    owners: Vec<Owner>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Owner {
    external_id: String,
    user_id: Uuid,
}
