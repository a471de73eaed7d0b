//! Writers: each event is tried again, at any server, until it is acknowledged.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::processes::World;

/// Pause of a writer between its requests.
const PAUSE: Duration = Duration::from_millis(60);
/// Customers of a tenant for each event of the largest request.
const CUSTOMERS_EACH: u64 = 50;
/// Pause before something is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// An event that a server has acknowledged.
pub struct Acknowledged {
    pub tenant: usize,
    pub event_id: String,
    pub position: i64,
}

const RECORD: &str = "mutation ($events: [SalesEventInput!]!) {
    recordEvents(events: $events) { results { outcome position code } } }";

/// Requests have at most `batch_max` events.
pub async fn write(
    world: &World,
    writer: usize,
    batch_max: u64,
    mut random: StdRng,
    end: &CancellationToken,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let mut number = 0u64;
    while !end.is_cancelled() {
        let tenant = random.random_range(0..world.tenants.len());
        let events: Vec<Value> = (0..random.random_range(1..=batch_max))
            .map(|_| {
                number += 1;
                event(writer, number, CUSTOMERS_EACH * batch_max, &mut random)
            })
            .collect();
        // What was begun is finished: an event without an answer may or may not be there.
        loop {
            let server = &world.servers[random.random_range(0..2)];
            let token = &world.tenants[tenant].token;
            let answer = client::post(server.address, token, RECORD, json!({ "events": events })).await;
            let Some(answer) = answer else {
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            };
            for (event, result) in events.iter().zip(answer["recordEvents"]["results"].as_array().expect("a list")) {
                let position = result["position"].as_str().expect("it is a good event");
                acknowledged.push(Acknowledged {
                    tenant,
                    event_id: event["eventId"].as_str().expect("an id").to_owned(),
                    position: position.parse().expect("a number"),
                });
            }
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    acknowledged
}

/// Mostly a sale; also a newer version of an earlier one, a cancellation, a refund, an old sale.
fn event(writer: usize, number: u64, customers: u64, random: &mut StdRng) -> Value {
    let earlier = random.random_range(1..=number);
    let late_minutes = if random.random_ratio(1, 10) { random.random_range(0..2000) } else { 0 };
    let now = salespulse::clock::Clock::now(&salespulse::clock::SystemClock);
    let at = chrono::DateTime::from_timestamp_micros(now.0).expect("a time") - chrono::Duration::minutes(late_minutes);
    let (id, order) = (format!("e{writer}-{number}"), |n: u64| format!("o{writer}-{n}"));
    let amount = format!("{}.00", random.random_range(1..100));
    let customer = json!({ "id": format!("c{}", random.random_range(0..customers)) });
    let mut event = json!({ "eventId": id, "occurredAt": at.to_rfc3339() });
    let fact = match random.random_range(0..20) {
        0 => ("orderCancelled", json!({ "orderId": order(earlier), "version": 1_000_000 })),
        1 | 2 => (
            "orderPlaced",
            json!({ "orderId": order(earlier), "version": number, "amount": amount, "customer": customer }),
        ),
        3 => ("refundIssued", json!({ "orderId": order(earlier), "amount": "1.00" })),
        _ => (
            "orderPlaced",
            json!({ "orderId": order(number), "version": number, "amount": amount, "customer": customer }),
        ),
    };
    event[fact.0] = fact.1;
    event
}
