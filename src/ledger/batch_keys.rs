//! Collects the entities a batch of events refers to, which must be loaded.

use std::collections::BTreeSet;

use super::changes::{DimensionKind, Loaded};
use super::event::{Event, Fact};
use crate::clock::{DAY, Timestamp};

/// The names a batch mentions.
#[derive(Default)]
pub(super) struct BatchKeys {
    /// Orders placed or cancelled.
    pub placed: BTreeSet<String>,
    /// Those that occur more than once.
    pub placed_again: BTreeSet<String>,
    /// Those and the refunded orders.
    pub orders: BTreeSet<String>,
    pub customers: BTreeSet<String>,
    pub placed_customers: Vec<PlacedOrder>,
    pub refunds: BTreeSet<String>,
    pub products: BTreeSet<String>,
    pub dimensions: BTreeSet<(DimensionKind, String)>,
    pub deals: BTreeSet<String>,
    pub users: BTreeSet<String>,
    /// Currencies that differ from some organization's, and the UTC days their rates are wanted for.
    pub foreign_currencies: BTreeSet<(String, i64)>,
}

/// The customer and time of an order.
pub(super) struct PlacedOrder {
    pub order_id: String,
    pub customer_id: String,
    pub at: Timestamp,
}

impl BatchKeys {
    pub(super) fn of(events: &[&Event], loaded: &Loaded) -> Self {
        let mut batch_keys = BatchKeys::default();
        for event in events {
            batch_keys.add(event, loaded);
        }
        batch_keys
    }

    fn add(&mut self, event: &Event, loaded: &Loaded) {
        match &event.fact {
            Fact::OrderPlaced(order) => {
                self.placed(&order.order_id);
                if let Some(customer) = &order.customer {
                    self.customers.insert(customer.id.clone());
                    let (order_id, customer_id) = (order.order_id.clone(), customer.id.clone());
                    self.placed_customers.push(PlacedOrder { order_id, customer_id, at: event.occurred_at });
                }
                self.dimension(DimensionKind::Channel, order.channel.as_ref(), loaded);
                self.dimension(DimensionKind::Region, order.region.as_ref(), loaded);
                self.lines(&order.lines, loaded);
                self.currency(order.currency.as_deref(), event.occurred_at, loaded);
            }
            Fact::OrderCancelled(cancelled) => self.placed(&cancelled.order_id),
            Fact::RefundIssued(refund) => {
                self.refunds.insert(refund.refund_id.clone().unwrap_or_else(|| event.event_id.clone()));
                self.orders.extend(refund.order_id.clone());
                self.dimension(DimensionKind::Channel, refund.channel.as_ref(), loaded);
                self.dimension(DimensionKind::Region, refund.region.as_ref(), loaded);
                self.lines(&refund.lines, loaded);
                self.currency(refund.currency.as_deref(), event.occurred_at, loaded);
            }
            Fact::VisitsCounted(visits) => {
                self.dimension(DimensionKind::Channel, visits.channel.as_ref(), loaded);
                self.dimension(DimensionKind::Region, visits.region.as_ref(), loaded);
            }
            Fact::ProductViewed(viewed) => self.product(&viewed.product_id, loaded),
            Fact::DealClosed(deal) => {
                self.deals.insert(deal.deal_id.clone());
                self.users.insert(deal.owner.clone());
                self.currency(deal.currency.as_deref(), event.occurred_at, loaded);
            }
            Fact::ActivityLogged(activity) => drop(self.users.insert(activity.owner.clone())),
        }
    }

    fn placed(&mut self, order_id: &str) {
        if !self.placed.insert(order_id.to_owned()) {
            self.placed_again.insert(order_id.to_owned());
        }
        self.orders.insert(order_id.to_owned());
    }

    fn lines(&mut self, lines: &[super::event::Line], loaded: &Loaded) {
        for line in lines {
            self.product(&line.product_id, loaded);
            self.dimension(DimensionKind::Category, line.category.as_ref(), loaded);
        }
    }

    fn product(&mut self, sku: &str, loaded: &Loaded) {
        if !loaded.names.products.contains_key(sku) {
            self.products.insert(sku.to_owned());
        }
    }

    fn dimension(&mut self, kind: DimensionKind, name: Option<&String>, loaded: &Loaded) {
        if let Some(name) = name {
            let key = (kind, name.clone());
            if !loaded.names.dimensions.contains_key(&key) {
                self.dimensions.insert(key);
            }
        }
    }

    fn currency(&mut self, code: Option<&str>, at: Timestamp, loaded: &Loaded) {
        if let Some(code) = code.filter(|code| loaded.organizations.iter().any(|o| o.currency != **code)) {
            self.foreign_currencies.insert((code.to_owned(), at.0.div_euclid(DAY)));
        }
    }
}
