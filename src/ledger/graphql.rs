//! `recordEvents` and its types.

use async_graphql::{Context, Enum, ID, InputObject, InputType, Object, Pos, SimpleObject, Value};

use super::event::{
    ActivityLogged, Customer, DealClosed, Event, Fact, Line, OrderCancelled, OrderPlaced, Outcome, ProductViewed,
    RefundIssued, Refusal, RefusalCode, VisitsCounted,
};
use crate::auth::Permission;
use crate::graphql::context::{Needs, app, caller};
use crate::graphql::scalars::{DateTime, Decimal, Position};
use crate::money::Money;

#[derive(Default)]
pub struct LedgerMutation;

#[Object]
impl LedgerMutation {
    /// Records a batch of up to 1000 events; each gets its own answer, in the order given. Needs SALES_EDIT. Errors: BAD_USER_INPUT (batch too large or empty), SERVICE_UNAVAILABLE (events of customers while the tenant's keys cannot be reached).
    #[graphql(guard = "Needs(Permission::SalesEdit)")]
    async fn record_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The events, each with exactly one fact.")] events: Vec<SalesEventInput>,
        #[graphql(desc = "History that is not news: it fires no alert.", default_with = "Some(false)")]
        backfill: Option<bool>,
    ) -> async_graphql::Result<RecordEventsResult> {
        let ids: Vec<ID> = events.iter().map(|event| event.event_id.clone()).collect();
        // Events that are no event by their form are answered here; the rest goes to the ledger.
        let checked: Vec<Result<Event, Refusal>> = events.into_iter().map(SalesEventInput::into_event).collect();
        let good: Vec<Event> = checked.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        let answer = if good.is_empty() && !checked.is_empty() {
            let head = super::store::read_head(&app.db.read(tenant).await?).await?;
            super::Answer { outcomes: Vec::new(), position: head.position }
        } else {
            app.ledger.record(tenant, good, backfill.unwrap_or(false)).await?
        };
        let mut outcomes = answer.outcomes.into_iter();
        let results = ids
            .into_iter()
            .zip(checked)
            .filter_map(|(event_id, event)| {
                let outcome = match event {
                    Ok(_) => outcomes.next()?,
                    Err(refusal) => Outcome::Refused(refusal),
                };
                Some(RecordedEvent::new(event_id, outcome))
            })
            .collect();
        Ok(RecordEventsResult { results, position: Position(answer.position) })
    }
}

/// An event as JSON in the form of `SalesEventInput`. Error: BAD_USER_INPUT, for names that it does not have too.
pub fn parse_event(json: serde_json::Value) -> Result<Event, Refusal> {
    let bad = |reason: String| Refusal { code: RefusalCode::BadUserInput, reason };
    let value = Value::from_json(json).map_err(|_| bad("not an event".to_owned()))?;
    let input = SalesEventInput::parse(Some(value.clone()))
        .map_err(|error| bad(error.into_server_error(Pos::default()).message))?;
    if let Some(name) = find_unknown(&value, &input.to_value()) {
        return Err(bad(format!("an event has no {name}")));
    }
    input.into_event()
}

/// A name of an object within `given` that `known` does not have.
fn find_unknown<'a>(given: &'a Value, known: &Value) -> Option<&'a str> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(name, value)| match known.get(name) {
            Some(known) => find_unknown(value, known),
            None => Some(name.as_str()),
        }),
        (Value::List(given), Value::List(known)) => {
            given.iter().zip(known).find_map(|(given, known)| find_unknown(given, known))
        }
        _ => None,
    }
}

/// The answers to a batch of events, in its order.
#[derive(SimpleObject)]
struct RecordEventsResult {
    /// One answer per event.
    results: Vec<RecordedEvent>,
    /// The ledger's position after the batch.
    position: Position,
}

/// What became of one event.
#[derive(SimpleObject)]
struct RecordedEvent {
    /// The event's id.
    event_id: ID,
    /// What became of it.
    outcome: RecordOutcome,
    /// Its position; null when it was refused.
    position: Option<Position>,
    /// Why it was refused, stable: BAD_USER_INPUT, BAD_CURRENCY, NO_EXCHANGE_RATE, IDEMPOTENCY_CONFLICT, NOT_FOUND, AMOUNT_OUT_OF_RANGE, TIME_OUT_OF_RANGE, ERASED.
    code: Option<&'static str>,
    /// Why it was refused, in words.
    reason: Option<String>,
}

impl RecordedEvent {
    fn new(event_id: ID, outcome: Outcome) -> Self {
        let (kind, position, refusal) = match outcome {
            Outcome::Applied { position } => (RecordOutcome::Applied, Some(position), None),
            Outcome::Superseded { position } => (RecordOutcome::Superseded, Some(position), None),
            Outcome::Repeated { position } => (RecordOutcome::Repeated, Some(position), None),
            Outcome::Refused(refusal) => (RecordOutcome::Refused, None, Some(refusal)),
        };
        RecordedEvent {
            event_id,
            outcome: kind,
            position: position.map(Position),
            code: refusal.as_ref().map(|r| r.code.as_str()),
            reason: refusal.map(|r| r.reason),
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum RecordOutcome {
    /// Stored.
    Applied,
    /// Stored; a newer version was there already, so no number changed.
    Superseded,
    /// The same event was there already; nothing changed.
    Repeated,
    /// Not stored.
    Refused,
}

/// One event of sales with exactly one fact.
#[derive(InputObject)]
struct SalesEventInput {
    /// Unique per tenant, 1 to 200 characters. A repeat with the same content changes nothing; with other content it is an IDEMPOTENCY_CONFLICT.
    event_id: ID,
    /// When it happened; at most five minutes ahead of the server's clock.
    occurred_at: DateTime,
    /// The organization's id or slug; absent means the default one.
    organization_id: Option<ID>,
    /// An order, or a newer version of one.
    order_placed: Option<OrderPlacedInput>,
    /// An order was called off: it and its refunds no longer count.
    order_cancelled: Option<OrderCancelledInput>,
    /// Money was given back.
    refund_issued: Option<RefundIssuedInput>,
    /// Visits of a shop were counted.
    visits_counted: Option<VisitsCountedInput>,
    /// A product's page was looked at.
    product_viewed: Option<ProductViewedInput>,
    /// A deal of a salesperson was won or lost.
    deal_closed: Option<DealClosedInput>,
    /// A salesperson called, wrote or met someone.
    activity_logged: Option<ActivityLoggedInput>,
}

impl SalesEventInput {
    fn into_event(self) -> Result<Event, Refusal> {
        let facts = [
            self.order_placed.map(|input| Fact::OrderPlaced(input.into())),
            self.order_cancelled.map(|input| Fact::OrderCancelled(input.into())),
            self.refund_issued.map(|input| Fact::RefundIssued(input.into())),
            self.visits_counted.map(|input| Fact::VisitsCounted(input.into())),
            self.product_viewed.map(|input| Fact::ProductViewed(input.into())),
            self.deal_closed.map(|input| Fact::DealClosed(input.into())),
            self.activity_logged.map(|input| Fact::ActivityLogged(input.into())),
        ];
        let mut facts = facts.into_iter().flatten();
        let (Some(fact), None) = (facts.next(), facts.next()) else {
            return Err(Refusal {
                code: RefusalCode::BadUserInput,
                reason: "an event has exactly one fact".to_owned(),
            });
        };
        Ok(Event {
            event_id: self.event_id.0,
            occurred_at: self.occurred_at.0,
            organization: self.organization_id.map(|id| id.0),
            fact,
        })
    }
}

/// An order, or a newer version of one.
#[derive(InputObject)]
struct OrderPlacedInput {
    /// The source's id of the order, of one order of the tenant: orders of several shops need ids that differ.
    order_id: ID,
    /// Of two versions of one order the higher counts; an older or equal one changes nothing.
    #[graphql(default_with = "Some(1)")]
    version: Option<i32>,
    /// Absent means the organization's currency. Errors: BAD_CURRENCY, NO_EXCHANGE_RATE.
    currency: Option<String>,
    /// What the order is worth; absent means the sum of its lines. Not negative.
    amount: Option<Decimal>,
    /// The discount already taken off; absent means the sum of the lines' discounts.
    discount: Option<Decimal>,
    /// The sales channel.
    channel: Option<String>,
    /// The region.
    region: Option<String>,
    /// Who bought; absent for guests.
    customer: Option<CustomerInput>,
    /// What was bought, at most 1000 lines.
    #[graphql(default_with = "Some(Vec::new())")]
    lines: Option<Vec<OrderLineInput>>,
}

impl From<OrderPlacedInput> for OrderPlaced {
    fn from(input: OrderPlacedInput) -> Self {
        OrderPlaced {
            order_id: input.order_id.0,
            version: input.version.unwrap_or(1).into(),
            currency: input.currency,
            amount: input.amount.map(|a| a.0),
            discount: input.discount.map(|d| d.0),
            channel: input.channel,
            region: input.region,
            customer: input.customer.map(Customer::from),
            lines: lines(input.lines),
        }
    }
}

/// Who bought. What is absent or empty stays as it is known; of a customer who was erased nothing but the id is taken.
#[derive(InputObject)]
struct CustomerInput {
    /// The source's id of the customer. It is stored in the clear, so let it be no name or address.
    id: ID,
    /// The customer's name; stored sealed, as all that follows.
    name: Option<String>,
    /// The customer's e-mail address.
    email: Option<String>,
    /// The customer's phone number.
    phone: Option<String>,
    /// The customer's postal address.
    address: Option<String>,
}

impl From<CustomerInput> for Customer {
    fn from(input: CustomerInput) -> Self {
        let CustomerInput { id, name, email, phone, address } = input;
        Customer { id: id.0, name, email, phone, address }
    }
}

/// One product within an order or a refund.
#[derive(InputObject)]
struct OrderLineInput {
    /// The source's id of the product, often its SKU.
    product_id: ID,
    /// What the product is called.
    title: Option<String>,
    /// The product's category.
    category: Option<String>,
    /// Pieces; 1 when absent.
    #[graphql(default_with = "Some(1)")]
    quantity: Option<i32>,
    /// What the line is worth in all, in the currency of the order.
    amount: Decimal,
    /// The discount already taken off the line.
    discount: Option<Decimal>,
    /// What the goods of the line cost the seller in all.
    cost: Option<Decimal>,
}

fn lines(input: Option<Vec<OrderLineInput>>) -> Vec<Line> {
    let line = |line: OrderLineInput| Line {
        product_id: line.product_id.0,
        title: line.title,
        category: line.category,
        quantity: line.quantity.unwrap_or(1).into(),
        amount: line.amount.0,
        discount: line.discount.map_or(Money::ZERO, |d| d.0),
        cost: line.cost.map(|c| c.0),
    };
    input.unwrap_or_default().into_iter().map(line).collect()
}

/// An order was called off.
#[derive(InputObject)]
struct OrderCancelledInput {
    /// The source's id of the order.
    order_id: ID,
    /// Must be higher than the version cancelled.
    #[graphql(default_with = "Some(2)")]
    version: Option<i32>,
}

impl From<OrderCancelledInput> for OrderCancelled {
    fn from(input: OrderCancelledInput) -> Self {
        OrderCancelled { order_id: input.order_id.0, version: input.version.unwrap_or(2).into() }
    }
}

/// Money was given back.
#[derive(InputObject)]
struct RefundIssuedInput {
    /// The source's id of the refund; absent means the event's id.
    refund_id: Option<ID>,
    /// The order refunded; it may be recorded later than the refund.
    order_id: Option<ID>,
    /// Absent means the organization's currency.
    currency: Option<String>,
    /// What was given back, not negative; absent means the sum of the lines.
    amount: Option<Decimal>,
    /// The sales channel; absent means the order's.
    channel: Option<String>,
    /// The region; absent means the order's.
    region: Option<String>,
    /// What was given back by product.
    #[graphql(default_with = "Some(Vec::new())")]
    lines: Option<Vec<OrderLineInput>>,
    /// An earlier refund was taken back: the amounts, still not negative, count against refunds.
    #[graphql(default_with = "Some(false)")]
    reversal: Option<bool>,
}

impl From<RefundIssuedInput> for RefundIssued {
    fn from(input: RefundIssuedInput) -> Self {
        RefundIssued {
            refund_id: input.refund_id.map(|id| id.0),
            order_id: input.order_id.map(|id| id.0),
            currency: input.currency,
            amount: input.amount.map(|a| a.0),
            channel: input.channel,
            region: input.region,
            lines: lines(input.lines),
            is_reversal: input.reversal.unwrap_or(false),
        }
    }
}

/// Visits (sessions) of a shop.
#[derive(InputObject)]
struct VisitsCountedInput {
    /// How many; 1 when absent.
    #[graphql(default_with = "Some(1)")]
    count: Option<i32>,
    /// The sales channel.
    channel: Option<String>,
    /// The region.
    region: Option<String>,
}

impl From<VisitsCountedInput> for VisitsCounted {
    fn from(input: VisitsCountedInput) -> Self {
        VisitsCounted { count: input.count.unwrap_or(1).into(), channel: input.channel, region: input.region }
    }
}

/// A product's page was looked at.
#[derive(InputObject)]
struct ProductViewedInput {
    /// The source's id of the product.
    product_id: ID,
    /// How often; 1 when absent.
    #[graphql(default_with = "Some(1)")]
    count: Option<i32>,
}

impl From<ProductViewedInput> for ProductViewed {
    fn from(input: ProductViewedInput) -> Self {
        ProductViewed { product_id: input.product_id.0, count: input.count.unwrap_or(1).into() }
    }
}

/// A deal of a salesperson was won or lost. Deals feed sales performance and add nothing to revenue.
#[derive(InputObject)]
struct DealClosedInput {
    /// The source's id of the deal.
    deal_id: ID,
    /// Of two versions of one deal the higher counts.
    #[graphql(default_with = "Some(1)")]
    version: Option<i32>,
    /// The salesperson: a user's id or e-mail address.
    owner: ID,
    /// Won or lost.
    won: bool,
    /// Absent means the organization's currency.
    currency: Option<String>,
    /// What the deal is worth.
    amount: Decimal,
}

impl From<DealClosedInput> for DealClosed {
    fn from(input: DealClosedInput) -> Self {
        DealClosed {
            deal_id: input.deal_id.0,
            version: input.version.unwrap_or(1).into(),
            owner: input.owner.0,
            won: input.won,
            currency: input.currency,
            amount: input.amount.0,
        }
    }
}

/// A salesperson called, wrote or met someone.
#[derive(InputObject)]
struct ActivityLoggedInput {
    /// The salesperson: a user's id or e-mail address.
    owner: ID,
    /// What was done, as call, email or meeting.
    activity: String,
    /// How often; 1 when absent.
    #[graphql(default_with = "Some(1)")]
    count: Option<i32>,
}

impl From<ActivityLoggedInput> for ActivityLogged {
    fn from(input: ActivityLoggedInput) -> Self {
        ActivityLogged { owner: input.owner.0, activity: input.activity, count: input.count.unwrap_or(1).into() }
    }
}
