//! Shops and CRMs that tell of their sales by webhooks: signed requests become events of the ledger, and what cannot be
//! understood is kept in quarantine until somebody has seen to it.
//!
//! [`http`] takes a request, [`receive`] sees who sent it and hands what the [`Connector`] reads in it to the ledger. A new
//! kind of sender is a file in [`kinds`] and a line in [`Kind`].

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
use crate::ledger::event::{Event, Fact};

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

/// What one kind of sender does in its own way.
trait Connector: Send + Sync {
    /// Whether `secret` can be one of this kind's. Error: what it has to be.
    fn check_secret(&self, _secret: &str) -> Result<(), &'static str> {
        Ok(())
    }

    /// Whether the request was signed with `secret`: over the bytes as they came, compared in constant time, and lately where
    /// the signature has a time.
    fn is_signed(&self, request: &Request<'_>, secret: &str, now: Timestamp) -> bool;

    /// What a request is about, and what the sender knows it by: the same when it is sent again.
    fn label(&self, request: &Request<'_>) -> Label;

    /// What a request says.
    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<WebhookContent, Unclear>;
}

/// A request as it came.
struct Request<'a> {
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The value of the first of these headers that is there.
    fn header(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.headers.get(*name)?.to_str().ok())
    }
}

/// What a request is known by.
#[derive(Default)]
struct Label {
    topic: String,
    /// Where the sender gives none, a hash of topic and body takes its place.
    id: Option<String>,
    /// When it happened, where the request says so beside its body.
    at: Option<Timestamp>,
}

/// A signed request, now or when it is tried again out of the quarantine.
struct Delivery<'a> {
    integration: Uuid,
    topic: &'a str,
    id: &'a str,
    /// When it happened, as the request says, else when it came first.
    at: Timestamp,
    body: &'a [u8],
}

impl Delivery<'_> {
    /// The body as `T`. The error says where it is wrong, and nothing of what it holds.
    fn json<'b, T: Deserialize<'b>>(&'b self) -> Result<T, Unclear> {
        serde_json::from_slice(self.body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Unclear(format!("the body is no {} that is known: {:?} error at {place}", self.topic, error.classify()))
        })
    }

    /// An event of this delivery; `part` says which of what, in which version: it stays the same when it comes again.
    fn event(&self, part: &str, occurred_at: Timestamp, settings: &Settings, fact: Fact) -> Event {
        Event {
            event_id: format!("{}/{}/{part}", self.integration.simple(), self.id),
            occurred_at,
            organization: settings.organization.map(|id| id.to_string()),
            fact,
        }
    }
}

/// What a request says, understood.
#[derive(Debug)]
enum WebhookContent {
    Events(Vec<Event>),
    /// Nothing that numbers are made of.
    Nothing,
    /// A customer is to be erased: the source's id.
    Erase(String),
}

/// Why a request goes to the quarantine: for people.
#[derive(Debug)]
struct Unclear(String);

/// How what comes is taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    /// The organization's id; absent means the default one.
    organization: Option<Uuid>,
    /// The sales channel of all that comes; absent means as the sender says.
    channel: Option<String>,
    /// Whether the shop's test orders count.
    counts_tests: bool,
    /// The sender's people, and who they are here.
    owners: Vec<Owner>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Owner {
    external_id: String,
    user_id: Uuid,
}
