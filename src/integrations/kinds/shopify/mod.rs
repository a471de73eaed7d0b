//! Shopify (REST Admin API 2026-07): bare objects, the topic in a header, signed with the app's secret.
//!
//! An order is recorded in its current state, at the time it was processed; its version is the second of its last
//! change. A refund is the sum of its successful transactions of kind `refund`, on its own day.
//!
//! `total_price` includes everything that was ever in the order, even what an edit or an exchange removed;
//! `current_total_price` excludes that and what was refunded. So an order's amount is `current_total_price` plus the
//! money refunded: what was removed without a refund reduces the order, and what was refunded stays in it, with a
//! refund of its own against it. It never exceeds `total_price`, as a refund of money only, without goods, would
//! otherwise make it.

mod order;
mod payload;
mod refund;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::order::order;
use self::payload::{Deleted, Redacted};
use self::refund::{Shop, refund};
use super::{is_hmac, time};
use crate::clock::Timestamp;
use crate::integrations::{Connector, Delivery, Label, Request, Settings, Unclear, WebhookContent};
use crate::ledger::event::{Fact, OrderCancelled};

pub struct Shopify;

/// The version of a deletion, which nothing can follow: the second in which the year 10000 begins.
const DELETED: i64 = 253_402_300_800;

impl Connector for Shopify {
    fn is_signed(&self, request: &Request<'_>, secret: &str, _now: Timestamp) -> bool {
        let signature = request.header(&["x-shopify-hmac-sha256", "shopify-hmac-sha256"]);
        let signature = signature.and_then(|text| STANDARD.decode(text).ok());
        is_hmac(secret.as_bytes(), &[request.body], signature)
    }

    fn label(&self, request: &Request<'_>) -> Label {
        let topic = request.header(&["x-shopify-topic", "shopify-topic"]).unwrap_or_default().to_owned();
        let ids = ["x-shopify-event-id", "shopify-event-id", "x-shopify-webhook-id", "shopify-webhook-id"];
        // The same occurrence is sent under several topics.
        let id = request.header(&ids).map(|id| format!("{topic}:{id}"));
        let at = request.header(&["x-shopify-triggered-at", "shopify-triggered-at"]);
        Label { topic, id, at: at.and_then(|text| time(text).ok()) }
    }

    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<WebhookContent, Unclear> {
        match delivery.topic {
            "orders/create"
            | "orders/updated"
            | "orders/paid"
            | "orders/cancelled"
            | "orders/fulfilled"
            | "orders/partially_fulfilled" => order(delivery, delivery.json()?, settings),
            "orders/delete" => {
                // The topic is not signed: only a body in the form of a deletion is taken for one.
                let Deleted { id } = delivery.json()?;
                let fact = Fact::OrderCancelled(OrderCancelled { order_id: id.to_string(), version: DELETED });
                Ok(WebhookContent::Events(vec![delivery.event(&format!("deleted-{id}"), delivery.at, settings, fact)]))
            }
            "refunds/create" => {
                let event = refund(delivery, &delivery.json()?, Shop::default(), settings)?;
                Ok(event.map_or(WebhookContent::Nothing, |event| WebhookContent::Events(vec![event])))
            }
            "customers/redact" => {
                let Redacted { customer, .. } = delivery.json()?;
                Ok(WebhookContent::Erase(customer.id.to_string()))
            }
            "customers/data_request" => Err(Unclear("a customer requests their data: export it".to_owned())),
            "shop/redact" => Err(Unclear("the shop requests the erasure of all its data".to_owned())),
            "" => Err(Unclear("there is no X-Shopify-Topic".to_owned())),
            _ => Ok(WebhookContent::Nothing),
        }
    }
}

#[cfg(test)]
mod tests;
