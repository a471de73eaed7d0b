//! Made-up sales: 90 days of orders with one to three lines, some refunds and visits; the same for the same numbers.

use salespulse::clock::{DAY, Timestamp};
use salespulse::ledger::event::{Customer, Event, Fact, Line, OrderPlaced, RefundIssued, VisitsCounted};
use salespulse::money::Money;

pub const CHANNELS: [&str; 4] = ["web", "shop", "phone", "market"];
const REGIONS: [&str; 10] = ["North", "South", "East", "West", "Centre", "Coast", "Hills", "Isles", "Valley", "City"];
const CATEGORIES: [&str; 8] = ["tea", "coffee", "bread", "fruit", "tools", "books", "toys", "shoes"];
const CUSTOMERS: u64 = 20_000;
const PRODUCTS: u64 = 200;

/// A well mixed number from a counter (SplitMix64's finalizer).
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn below(n: u64, limit: u64) -> i64 {
    i64::try_from(n % limit).unwrap_or(0)
}

/// Made-up sales of 90 days.
#[derive(Clone, Copy)]
pub struct Sales {
    pub total: u64,
    /// Customers have names and e-mail addresses.
    pub has_persons: bool,
    pub end: Timestamp,
}

impl Sales {
    /// Event `n`; its time is `n` of `total` on the way through the 90 days before `end`, with a spread of a few hours.
    pub fn event(self, n: u64) -> Event {
        let Sales { total, has_persons, end } = self;
        let x = mix(n);
        let span = 90 * DAY;
        let on_the_way = i64::try_from(i128::from(span) * i128::from(n) / i128::from(total.max(1))).unwrap_or(0);
        let at = Timestamp((end.0 - span + on_the_way - below(x, 4 * 3600 * 1_000_000)).min(end.0));
        let channel = Some(CHANNELS[(x % 4) as usize].to_owned());
        let region = Some(REGIONS[(x >> 3) as usize % REGIONS.len()].to_owned());
        let fact = match x % 50 {
            0 => Fact::RefundIssued(RefundIssued {
                order_id: Some(format!("o-{}", n.saturating_sub(x % 1000))),
                amount: Some(Money(10_000 + below(x, 500_000))),
                ..RefundIssued::default()
            }),
            1 => Fact::VisitsCounted(VisitsCounted { count: 20 + below(x, 200), channel, region }),
            _ => Fact::OrderPlaced(OrderPlaced {
                order_id: format!("o-{n}"),
                version: 1,
                channel,
                region,
                customer: (x % 10 != 3).then(|| customer((x >> 8) % CUSTOMERS, has_persons)),
                lines: (0..1 + x % 3).map(|i| line(mix(x ^ i))).collect(),
                ..OrderPlaced::default()
            }),
        };
        Event { event_id: format!("o:{n}"), occurred_at: at, organization: None, fact }
    }
}

fn customer(n: u64, is_person: bool) -> Customer {
    let said = |text: String| is_person.then_some(text);
    Customer {
        id: format!("c{n}"),
        name: said(format!("Customer {n} of the benchmark")),
        email: said(format!("customer.{n}@benchmark.example")),
        ..Customer::default()
    }
}

fn line(x: u64) -> Line {
    let product = x % PRODUCTS;
    let quantity = 1 + below(x >> 9, 4);
    Line {
        product_id: format!("p{product}"),
        title: Some(format!("Product {product}")),
        category: Some(CATEGORIES[(product % 8) as usize].to_owned()),
        quantity,
        amount: Money(quantity * (9_900 + below(product * 7, 900) * 100)),
        ..Line::default()
    }
}
