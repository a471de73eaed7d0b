//! Shopify (REST Admin API 2026-07): bare objects, the topic in a header, signed with the app's secret.
//!
//! An order is worth its `total_price`, with shipping and taxes, at the time it was processed; its version is the second in
//! which it was changed last. A refund is worth its transactions of kind `refund` that succeeded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Exact, address, is_hmac, list, share, sum, time};
use crate::clock::{SECOND, Timestamp};
use crate::integrations::{Connector, Delivery, Label, Request, Said, Settings, Unclear};
use crate::ledger::event::{Customer, Event, Fact, Line, OrderCancelled, OrderPlaced, RefundIssued};
use crate::money::Money;

pub struct Shopify;

impl Connector for Shopify {
    fn is_signed(&self, request: &Request<'_>, secret: &str, _now: Timestamp) -> bool {
        let signature = request.header(&["x-shopify-hmac-sha256", "shopify-hmac-sha256"]);
        let signature = signature.and_then(|text| STANDARD.decode(text).ok());
        is_hmac(secret.as_bytes(), &[request.body], signature)
    }

    fn label(&self, request: &Request<'_>) -> Label {
        let topic = request.header(&["x-shopify-topic", "shopify-topic"]).unwrap_or_default().to_owned();
        let ids = ["x-shopify-event-id", "shopify-event-id", "x-shopify-webhook-id", "shopify-webhook-id"];
        // What happened once is told under several topics.
        let id = request.header(&ids).map(|id| format!("{topic}:{id}"));
        let at = request.header(&["x-shopify-triggered-at", "shopify-triggered-at"]);
        Label { topic, id, at: at.and_then(|text| time(text).ok()) }
    }

    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<Said, Unclear> {
        match delivery.topic {
            "orders/create"
            | "orders/updated"
            | "orders/paid"
            | "orders/cancelled"
            | "orders/fulfilled"
            | "orders/partially_fulfilled" => order(delivery, delivery.json()?, settings),
            "orders/delete" => {
                // The topic is not signed: nothing but what a deletion looks like is one.
                let Deleted { id } = delivery.json()?;
                // Nothing comes after it.
                let fact = Fact::OrderCancelled(OrderCancelled { order_id: id.to_string(), version: i32::MAX.into() });
                Ok(Said::Events(vec![delivery.event(&format!("deleted-{id}"), delivery.at, settings, fact)]))
            }
            "refunds/create" => {
                let event = refund(delivery, delivery.json()?, None, settings)?;
                Ok(event.map_or(Said::Nothing, |event| Said::Events(vec![event])))
            }
            "customers/redact" => {
                let Redacted { customer, .. } = delivery.json()?;
                Ok(Said::Erase(customer.id.to_string()))
            }
            "customers/data_request" => Err(Unclear("a customer asks for what is held of them: export it".to_owned())),
            "shop/redact" => Err(Unclear("the shop asks for the erasure of all its data".to_owned())),
            "" => Err(Unclear("there is no X-Shopify-Topic".to_owned())),
            _ => Ok(Said::Nothing),
        }
    }
}

#[derive(Deserialize)]
struct Order {
    /// The same that refunds name; `admin_graphql_api_id` has it too.
    id: u64,
    test: Option<bool>,
    created_at: String,
    processed_at: Option<String>,
    updated_at: String,
    cancelled_at: Option<String>,
    /// The shop's, in which all amounts are that stand beside it.
    currency: Option<String>,
    total_price: Exact,
    total_discounts: Option<Exact>,
    source_name: Option<String>,
    email: Option<String>,
    shipping_address: Option<Address>,
    billing_address: Option<Address>,
    customer: Option<Buyer>,
    #[serde(default, deserialize_with = "list")]
    line_items: Vec<Item>,
    #[serde(default, deserialize_with = "list")]
    refunds: Vec<Refund>,
}

#[derive(Deserialize)]
struct Item {
    product_id: Option<u64>,
    sku: Option<String>,
    title: Option<String>,
    quantity: i64,
    /// Of one piece.
    price: Exact,
    total_discount: Option<Exact>,
    #[serde(default, deserialize_with = "list")]
    discount_allocations: Vec<Allocation>,
}

#[derive(Deserialize)]
struct Allocation {
    amount: Exact,
}

#[derive(Deserialize)]
struct Buyer {
    id: u64,
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    default_address: Option<Address>,
}

#[derive(Deserialize)]
struct Address {
    address1: Option<String>,
    address2: Option<String>,
    zip: Option<String>,
    city: Option<String>,
    province: Option<String>,
    country: Option<String>,
    country_code: Option<String>,
    phone: Option<String>,
}

#[derive(Deserialize)]
struct Refund {
    id: u64,
    order_id: u64,
    created_at: String,
    processed_at: Option<String>,
    #[serde(default, deserialize_with = "list")]
    transactions: Vec<Transaction>,
    #[serde(default, deserialize_with = "list")]
    refund_line_items: Vec<Returned>,
}

#[derive(Deserialize)]
struct Transaction {
    kind: String,
    status: String,
    test: Option<bool>,
    amount: Exact,
    currency: Option<String>,
}

#[derive(Deserialize)]
struct Returned {
    quantity: i64,
    subtotal: Exact,
    subtotal_set: Option<Both>,
    line_item: Item,
}

/// An amount as the shop and as the customer sees it.
#[derive(Deserialize)]
struct Both {
    shop_money: Priced,
}

#[derive(Deserialize)]
struct Priced {
    amount: Exact,
    currency_code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deleted {
    id: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what a request for erasure looks like")]
struct Redacted {
    shop_id: u64,
    shop_domain: String,
    customer: Thing,
    orders_to_redact: Option<Vec<u64>>,
}

#[derive(Deserialize)]
struct Thing {
    id: u64,
}

/// The order as it is now, and the refunds that it has.
fn order(delivery: &Delivery<'_>, order: Order, settings: &Settings) -> Result<Said, Unclear> {
    if order.test == Some(true) && !settings.counts_tests {
        return Ok(Said::Nothing);
    }
    let order_id = order.id.to_string();
    let version = time(&order.updated_at)?.0 / SECOND;
    let placed = match &order.cancelled_at {
        Some(cancelled_at) => {
            // Called off in the second in which it was changed, it is called off.
            let fact = Fact::OrderCancelled(OrderCancelled { order_id, version: version + 1 });
            delivery.event(&format!("cancelled-{}-{version}", order.id), time(cancelled_at)?, settings, fact)
        }
        None => {
            let at = time(order.processed_at.as_deref().unwrap_or(&order.created_at))?;
            let country = |address: &Option<Address>| address.as_ref().and_then(|a| a.country_code.clone());
            let region = country(&order.shipping_address).or_else(|| country(&order.billing_address));
            let fact = Fact::OrderPlaced(OrderPlaced {
                order_id,
                version,
                currency: order.currency.clone(),
                amount: Some(order.total_price.0),
                discount: order.total_discounts.map(|discount| discount.0),
                channel: settings.channel.clone().or(order.source_name),
                region,
                customer: order.customer.map(|buyer| buyer.customer(order.email)),
                lines: order.line_items.into_iter().map(Item::line).collect::<Result<_, _>>()?,
            });
            delivery.event(&format!("order-{}-{version}", order.id), at, settings, fact)
        }
    };
    let mut events = vec![placed];
    for one in order.refunds {
        events.extend(refund(delivery, one, order.currency.as_deref(), settings)?);
    }
    Ok(Said::Events(events))
}

/// `None` where no money was given back yet: what is still on its way comes with the order once it has arrived.
fn refund(
    delivery: &Delivery<'_>,
    refund: Refund,
    currency: Option<&str>,
    settings: &Settings,
) -> Result<Option<Event>, Unclear> {
    let transactions = || {
        let of_refund = refund.transactions.iter().filter(|transaction| transaction.kind == "refund");
        of_refund.filter(|transaction| settings.counts_tests || transaction.test != Some(true))
    };
    let amount = sum(transactions().filter(|one| one.status == "success").map(|one| one.amount.0))?;
    if amount == Money::ZERO || transactions().any(|one| one.status == "pending") {
        return Ok(None);
    }
    let mut paid_in = transactions().filter_map(|one| one.currency.as_deref());
    let set = refund.refund_line_items.iter().find_map(|returned| returned.subtotal_set.as_ref());
    let of_shop = currency.or(set.map(|set| set.shop_money.currency_code.as_str()));
    let paid = paid_in.next().or(of_shop);
    if paid_in.any(|other| Some(other) != paid) {
        return Err(Unclear("a refund in several currencies".to_owned()));
    }
    // What lines are worth is in the shop's currency.
    let has_lines = of_shop.is_none() || of_shop == paid;
    let returned = refund.refund_line_items.iter().filter(|_| has_lines);
    let mut lines: Vec<Line> = returned.map(Returned::line).collect();
    share(amount, &mut lines);
    let at = time(refund.processed_at.as_deref().unwrap_or(&refund.created_at))?;
    let fact = Fact::RefundIssued(RefundIssued {
        refund_id: Some(refund.id.to_string()),
        order_id: Some(refund.order_id.to_string()),
        currency: paid.map(str::to_owned),
        amount: Some(amount),
        lines,
        ..RefundIssued::default()
    });
    Ok(Some(delivery.event(&format!("refund-{}", refund.id), at, settings, fact)))
}

impl Item {
    /// What the product is known by: its SKU, where the shop has one.
    fn product_id(&self) -> String {
        let sku = self.sku.clone().filter(|sku| !sku.is_empty());
        sku.or_else(|| self.product_id.map(|id| id.to_string())).unwrap_or_else(|| "no product".to_owned())
    }

    fn line(self) -> Result<Line, Unclear> {
        let discount = if self.discount_allocations.is_empty() {
            self.total_discount.unwrap_or_default().0
        } else {
            sum(self.discount_allocations.iter().map(|allocation| allocation.amount.0))?
        };
        let full = i128::from(self.price.0.0) * i128::from(self.quantity);
        let amount = Money::from_sum(full - i128::from(discount.0));
        Ok(Line {
            product_id: self.product_id(),
            amount: amount.ok_or_else(|| Unclear("a line is beyond the largest amount".to_owned()))?,
            title: self.title,
            quantity: self.quantity,
            discount,
            ..Line::default()
        })
    }
}

impl Returned {
    fn line(&self) -> Line {
        Line {
            product_id: self.line_item.product_id(),
            title: self.line_item.title.clone(),
            quantity: self.quantity,
            amount: self.subtotal_set.as_ref().map_or(self.subtotal, |set| set.shop_money.amount).0,
            ..Line::default()
        }
    }
}

impl Buyer {
    fn customer(self, order_email: Option<String>) -> Customer {
        let names: Vec<String> = [self.first_name, self.last_name].into_iter().flatten().collect();
        let phone = self.phone.or_else(|| self.default_address.as_ref().and_then(|address| address.phone.clone()));
        Customer {
            id: self.id.to_string(),
            name: Some(names.join(" ")),
            email: self.email.or(order_email),
            phone,
            address: self.default_address.map(Address::text),
        }
    }
}

impl Address {
    fn text(self) -> String {
        let Address { address1, address2, zip, city, province, country, .. } = self;
        address([address1, address2, zip, city, province, country])
    }
}
