//! Events as clients give them: `SalesEventInput`, over GraphQL, REST and Standard Webhooks alike.

use std::sync::LazyLock;

use async_graphql::registry::Registry;
use async_graphql::{ID, InputObject, InputType, Value};

use super::event::{
    ActivityLogged, Customer, DealClosed, Event, Fact, Line, OrderCancelled, OrderPlaced, ProductViewed, RefundIssued,
    Refusal, RefusalCode, VisitsCounted,
};
use crate::graphql::misfit::{find_misfit, not_of_type};
use crate::graphql::scalars::{Count, DateTime, Decimal};
use crate::money::Money;

/// Reads one event of a list from JSON, where GraphQL does not: what GraphQL would refuse, with the same code and words.
/// Error: BAD_USER_INPUT, with the path of what is wrong, such as `events.3.orderPlaced.amount`, or of what lacks it.
pub fn read_event(index: usize, json: serde_json::Value) -> Result<Event, Refusal> {
    static TYPES: LazyLock<Registry> = LazyLock::new(|| {
        let mut types = Registry::default();
        SalesEventInput::create_type_info(&mut types);
        types
    });
    let place = format!("events.{index}");
    let bad = |reason: String| Refusal { code: RefusalCode::BadUserInput, reason };
    let none = || bad(not_of_type(&place, &SalesEventInput::type_name()));
    let value = Value::from_json(json).map_err(|_| none())?;
    if let Some(misfit) = find_misfit(&TYPES, &SalesEventInput::qualified_type_name(), &value, &place) {
        return Err(bad(misfit));
    }
    let input = SalesEventInput::parse(Some(value)).map_err(|_| none())?;
    input.into_event().map_err(|refusal| Refusal { reason: format!("{place}: {}", refusal.reason), ..refusal })
}

/// One sales event. Give exactly one of the fields from `orderPlaced` on.
#[derive(InputObject)]
pub(super) struct SalesEventInput {
    /// Unique within the tenant, 1 to 200 characters. Sending an event again with the same content changes nothing; with other content it is an IDEMPOTENCY_CONFLICT.
    pub event_id: ID,
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
    /// Error: BAD_USER_INPUT, unless it has exactly one fact.
    pub fn into_event(self) -> Result<Event, Refusal> {
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
