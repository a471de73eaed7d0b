//! `recordEvents` and its types.

use async_graphql::{Context, Enum, ID, InputObject, InputType, Object, Pos, SimpleObject, Value};

use super::event::{
    ActivityLogged, Customer, DealClosed, Event, Fact, Line, OrderCancelled, OrderPlaced, Outcome, ProductViewed,
    RefundIssued, Refusal, RefusalCode, VisitsCounted,
};
use crate::audit::By;
use crate::auth::Permission;
use crate::graphql::context::{Requires, app, caller, client};
use crate::graphql::scalars::{Count, DateTime, Decimal, Position};
use crate::money::Money;

#[derive(Default)]
pub struct LedgerMutation;

#[Object]
impl LedgerMutation {
    /// Records a batch of up to 1000 events; each gets its own result, in the order given. Who recorded them is in `recordings`. Needs SALES_EDIT. Errors: BAD_USER_INPUT (batch empty or too large), SERVICE_UNAVAILABLE (the batch has customers in it and the tenant's encryption keys cannot be reached).
    #[graphql(guard = "Requires(Permission::SalesEdit)")]
    async fn record_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The events, each carrying exactly one fact.")] events: Vec<SalesEventInput>,
        #[graphql(
            desc = "Set for historical data: the events count, but do not trigger alerts.",
            default_with = "Some(false)"
        )]
        backfill: Option<bool>,
    ) -> async_graphql::Result<RecordEventsResult> {
        let ids: Vec<ID> = events.iter().map(|event| event.event_id.clone()).collect();
        // Malformed events are answered here; the rest goes to the ledger.
        let checked: Vec<Result<Event, Refusal>> = events.into_iter().map(SalesEventInput::into_event).collect();
        let good: Vec<Event> = checked.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
        let (app, caller) = (app(ctx)?, caller(ctx)?);
        let tenant = caller.tenant;
        let answer = if good.is_empty() && !checked.is_empty() {
            let head = super::store::read_head(&app.db.read(tenant).await?).await?;
            super::Answer { outcomes: Vec::new(), position: head.position }
        } else {
            let by = By::caller(caller, client(ctx)?);
            app.ledger.record(tenant, by, good, backfill.unwrap_or(false)).await?
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

/// Parses an event from JSON shaped like `SalesEventInput`. Error: BAD_USER_INPUT, including for unknown fields.
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

/// An object key within `given` that `known` lacks.
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

/// The results of a batch of events.
#[derive(SimpleObject)]
struct RecordEventsResult {
    /// One result per event, in the order given.
    results: Vec<RecordedEvent>,
    /// The ledger's position after the batch.
    position: Position,
}

/// The result for one event.
#[derive(SimpleObject)]
struct RecordedEvent {
    /// The event's id.
    event_id: ID,
    /// What happened to it.
    outcome: RecordOutcome,
    /// Its position in the ledger; null if it was refused.
    position: Option<Position>,
    /// Why it was refused, as a stable code: BAD_USER_INPUT, BAD_CURRENCY, NO_EXCHANGE_RATE, IDEMPOTENCY_CONFLICT, NOT_FOUND, AMOUNT_OUT_OF_RANGE, TIME_OUT_OF_RANGE, ERASED. Null if it was not.
    code: Option<&'static str>,
    /// Why it was refused, in plain words; null if it was not.
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

/// What happened to an event.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum RecordOutcome {
    /// Stored.
    Applied,
    /// Stored, but a newer version was there already, so no number changed.
    Superseded,
    /// The same event was there already; nothing changed.
    Repeated,
    /// Not stored.
    Refused,
}

/// One sales event. Give exactly one of the fields from `orderPlaced` on.
#[derive(InputObject)]
struct SalesEventInput {
    /// Unique within the tenant, 1 to 200 characters. Sending an event again with the same content changes nothing; with other content it is an IDEMPOTENCY_CONFLICT.
    event_id: ID,
    /// When it happened; at most five minutes ahead of the server's clock.
    occurred_at: DateTime,
    /// The organization's id or slug; omit for the default one.
    organization_id: Option<ID>,
    /// An order, or a newer version of one.
    order_placed: Option<OrderPlacedInput>,
    /// An order was cancelled: it and its refunds no longer count.
    order_cancelled: Option<OrderCancelledInput>,
    /// A refund was issued.
    refund_issued: Option<RefundIssuedInput>,
    /// Visits to a shop were counted.
    visits_counted: Option<VisitsCountedInput>,
    /// A product page was viewed.
    product_viewed: Option<ProductViewedInput>,
    /// A salesperson's deal was won or lost.
    deal_closed: Option<DealClosedInput>,
    /// A salesperson called, wrote to or met someone.
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
    /// The source's id of the order, unique within the tenant: orders of several shops need different ids.
    order_id: ID,
    /// Of two versions of an order the higher one counts; an older or equal one changes nothing.
    #[graphql(default_with = "Some(Count(1))")]
    version: Option<Count>,
    /// A currency by its ISO 4217 code; omit for the organization's. Errors: BAD_CURRENCY, NO_EXCHANGE_RATE.
    currency: Option<String>,
    /// The total of the order after discounts; omit for the sum of its lines. Not negative.
    amount: Option<Decimal>,
    /// The discount, already deducted from the amount; omit for the sum of the lines' discounts.
    discount: Option<Decimal>,
    /// The sales channel.
    channel: Option<String>,
    /// The region.
    region: Option<String>,
    /// The customer; omit for guests.
    customer: Option<CustomerInput>,
    /// The order lines, at most 1000.
    #[graphql(default_with = "Some(Vec::new())")]
    lines: Option<Vec<OrderLineInput>>,
}

impl From<OrderPlacedInput> for OrderPlaced {
    fn from(input: OrderPlacedInput) -> Self {
        OrderPlaced {
            order_id: input.order_id.0,
            version: input.version.map_or(1, |version| version.0),
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

/// A customer. Fields that are omitted or blank keep their known values; for a customer who was erased only the id is used.
#[derive(InputObject)]
struct CustomerInput {
    /// The source's id of the customer. It is stored unencrypted, so it should not be a name or an address.
    id: ID,
    /// The customer's name; stored encrypted, like the fields below.
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

/// One line of an order or a refund.
#[derive(InputObject)]
struct OrderLineInput {
    /// The source's id of the product, often its SKU.
    product_id: ID,
    /// The product's title.
    title: Option<String>,
    /// The product's category.
    category: Option<String>,
    /// Units; 1 if omitted.
    #[graphql(default_with = "Some(1)")]
    quantity: Option<i32>,
    /// The total of the line after discounts, in the currency of the order or refund.
    amount: Decimal,
    /// The discount, already deducted from the line's amount.
    discount: Option<Decimal>,
    /// What the goods of the line cost the seller in total.
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

/// An order was cancelled.
#[derive(InputObject)]
struct OrderCancelledInput {
    /// The source's id of the order.
    order_id: ID,
    /// Must be higher than the version that is cancelled.
    #[graphql(default_with = "Some(Count(2))")]
    version: Option<Count>,
}

impl From<OrderCancelledInput> for OrderCancelled {
    fn from(input: OrderCancelledInput) -> Self {
        OrderCancelled { order_id: input.order_id.0, version: input.version.map_or(2, |version| version.0) }
    }
}

/// A refund was issued.
#[derive(InputObject)]
struct RefundIssuedInput {
    /// The source's id of the refund; omit to use the event's id.
    refund_id: Option<ID>,
    /// The source's id of the order refunded, which may be recorded later than the refund.
    order_id: Option<ID>,
    /// A currency by its ISO 4217 code; omit for the organization's.
    currency: Option<String>,
    /// The amount refunded, not negative; omit for the sum of the lines.
    amount: Option<Decimal>,
    /// The sales channel; omit for the order's.
    channel: Option<String>,
    /// The region; omit for the order's.
    region: Option<String>,
    /// The amounts refunded by product.
    #[graphql(default_with = "Some(Vec::new())")]
    lines: Option<Vec<OrderLineInput>>,
    /// Set if an earlier refund was reversed: the amounts, still not negative, are then deducted from refunds.
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

/// Visits (sessions) to a shop.
#[derive(InputObject)]
struct VisitsCountedInput {
    /// How many; 1 if omitted.
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

/// A product page was viewed.
#[derive(InputObject)]
struct ProductViewedInput {
    /// The source's id of the product.
    product_id: ID,
    /// How often; 1 if omitted.
    #[graphql(default_with = "Some(1)")]
    count: Option<i32>,
}

impl From<ProductViewedInput> for ProductViewed {
    fn from(input: ProductViewedInput) -> Self {
        ProductViewed { product_id: input.product_id.0, count: input.count.unwrap_or(1).into() }
    }
}

/// A salesperson's deal was won or lost. Deals feed sales performance and add nothing to revenue.
#[derive(InputObject)]
struct DealClosedInput {
    /// The source's id of the deal.
    deal_id: ID,
    /// Of two versions of a deal the higher one counts.
    #[graphql(default_with = "Some(Count(1))")]
    version: Option<Count>,
    /// The salesperson: a user's id or e-mail address.
    owner: ID,
    /// True if won, false if lost.
    won: bool,
    /// A currency by its ISO 4217 code; omit for the organization's.
    currency: Option<String>,
    /// The value of the deal, not negative.
    amount: Decimal,
}

impl From<DealClosedInput> for DealClosed {
    fn from(input: DealClosedInput) -> Self {
        DealClosed {
            deal_id: input.deal_id.0,
            version: input.version.map_or(1, |version| version.0),
            owner: input.owner.0,
            won: input.won,
            currency: input.currency,
            amount: input.amount.0,
        }
    }
}

/// A salesperson called, wrote to or met someone.
#[derive(InputObject)]
struct ActivityLoggedInput {
    /// The salesperson: a user's id or e-mail address.
    owner: ID,
    /// The kind of activity, such as call, email or meeting.
    activity: String,
    /// How often; 1 if omitted.
    #[graphql(default_with = "Some(1)")]
    count: Option<i32>,
}

impl From<ActivityLoggedInput> for ActivityLogged {
    fn from(input: ActivityLoggedInput) -> Self {
        ActivityLogged { owner: input.owner.0, activity: input.activity, count: input.count.unwrap_or(1).into() }
    }
}
