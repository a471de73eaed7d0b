//! Live sales: about once a second an order of the extract under a new id, occasionally a refund, and visits, which are
//! made up, since the extract has none.

use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Tenants;
use crate::app::App;
use crate::audit::{By, Means};
use crate::clock::Timestamp;
use crate::db::TenantId;
use crate::import::{ImportError, read_events};
use crate::ledger::event::{Event, Fact, OrderPlaced, RefundIssued, VisitsCounted};

const HOME: &str = "United Kingdom";
/// Pause between two sales, in milliseconds.
const PAUSE_MILLIS: std::ops::Range<u64> = 500..1500;
/// One in this many orders is partially refunded.
const REFUND_ONE_IN: u32 = 15;
/// Visits per order; the conversion rate is about the inverse of the range's middle.
const VISITS: std::ops::RangeInclusive<i64> = 5..=25;
/// Pause after a failure (such as an unavailable database).
const RETRY: Duration = Duration::from_secs(5);

pub async fn run(app: &App, tenants: Tenants, stop: &CancellationToken) {
    let orders = match read_orders().await {
        Ok(orders) => orders,
        Err(error) => return tracing::error!(%error, "the demo's sales cannot be read"),
    };
    tracing::info!("new sales begin");
    let mut has_failed = false;
    for order in orders.iter().cycle() {
        let pause = if has_failed { RETRY } else { Duration::from_millis(rand::rng().random_range(PAUSE_MILLIS)) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let events = sale(order, app.clock.now());
        let is_abroad = order.region.as_deref().is_some_and(|region| region != HOME);
        let is_recorded = record(app, tenants.gifts, events.clone()).await
            && (!is_abroad || record(app, tenants.abroad, events).await);
        has_failed = !is_recorded;
    }
}

async fn read_orders() -> Result<Vec<OrderPlaced>, ImportError> {
    let events = read_events(super::gifts_mapping()?, super::files()).await?;
    Ok(events
        .into_iter()
        .filter_map(|event| match event.fact {
            Fact::OrderPlaced(order) => Some(order),
            _ => None,
        })
        .collect())
}

/// A sale with its visits and possibly a refund of its first line.
fn sale(order: &OrderPlaced, now: Timestamp) -> Vec<Event> {
    let id = format!("live-{}", Uuid::now_v7().simple());
    let mut rng = rand::rng();
    let visits =
        VisitsCounted { count: rng.random_range(VISITS), channel: order.channel.clone(), region: order.region.clone() };
    let mut facts =
        vec![Fact::VisitsCounted(visits), Fact::OrderPlaced(OrderPlaced { order_id: id.clone(), ..order.clone() })];
    if rng.random_ratio(1, REFUND_ONE_IN) {
        let lines = order.lines.first().cloned().into_iter().collect();
        facts.push(Fact::RefundIssued(RefundIssued { order_id: Some(id.clone()), lines, ..RefundIssued::default() }));
    }
    let event = |(i, fact)| Event { event_id: format!("{id}-{i}"), occurred_at: now, organization: None, fact };
    facts.into_iter().enumerate().map(event).collect()
}

/// Whether the events were recorded.
async fn record(app: &App, tenant: TenantId, events: Vec<Event>) -> bool {
    let answer = app.ledger.record(tenant, By::means(Means::Demo, None), events, false).await;
    if let Err(error) = &answer {
        tracing::warn!(code = error.code.as_str(), "a sale of the demo was not recorded");
    }
    answer.is_ok()
}
