//! Sales to ask about.

use salespulse::ledger::event::{Customer, Event, Fact, Line, OrderPlaced};

use crate::ledger::{event, money};
use crate::support::TestTenant;

/// One order per call of two lines: tea for 2.00 and, by `n`, one of ten kinds of cake for 1.00.
pub fn order(customer: usize, n: usize) -> Event {
    let id = format!("o{customer}-{n}");
    let line = |product: String, category: &str, amount: &str| Line {
        title: Some(format!("A {product}")),
        product_id: product,
        category: Some(category.into()),
        quantity: 1,
        amount: money(amount),
        ..Line::default()
    };
    let placed = OrderPlaced {
        order_id: id.clone(),
        version: 1,
        channel: Some("web".into()),
        region: Some("North".into()),
        customer: Some(Customer {
            id: format!("c{customer}"),
            name: Some(format!("Customer {customer}")),
            ..Customer::default()
        }),
        lines: vec![line("tea".into(), "drinks", "2.00"), line(format!("cake{}", n % 10), "food", "1.00")],
        ..OrderPlaced::default()
    };
    // Two customers share each minute, so that there are ties.
    let when = format!("2026-06-{:02}T10:{:02}:00Z", 1 + n, (customer / 2) % 60);
    event(&id, &when, Fact::OrderPlaced(placed))
}

/// `orders` orders of each of `customers` customers.
pub async fn record(tenant: &TestTenant<'_>, customers: usize, orders: usize) {
    let events: Vec<Event> = (0..customers).flat_map(|c| (0..orders).map(move |n| order(c, n))).collect();
    for batch in events.chunks(500) {
        tenant.apply(batch.to_vec()).await;
    }
}
