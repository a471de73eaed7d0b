//! What the ledger accepts: one [`Event`] is one fact from a source, before it gets a position.
//!
//! All sources (GraphQL, REST, webhooks, import) make these; [`super::check`] decides whether one is
//! acceptable, [`super::Ledger::record`] stores it.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::money::Money;

/// A fact with its identity. `event_id` is unique per tenant: a repeat with the same content changes nothing, with
/// other content it is a conflict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    pub event_id: String,
    pub occurred_at: Timestamp,
    /// The organization's id or slug; `None` means the tenant's default organization.
    pub organization: Option<String>,
    pub fact: Fact,
}

impl Event {
    /// Whether it speaks of a person.
    pub fn has_person(&self) -> bool {
        matches!(&self.fact, Fact::OrderPlaced(OrderPlaced { customer: Some(_), .. }))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    OrderPlaced(OrderPlaced),
    OrderCancelled(OrderCancelled),
    RefundIssued(RefundIssued),
    VisitsCounted(VisitsCounted),
    ProductViewed(ProductViewed),
    DealClosed(DealClosed),
    ActivityLogged(ActivityLogged),
}

/// An order, or a newer version of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OrderPlaced {
    /// The source's id of the order.
    pub order_id: String,
    /// Of two versions of an order the higher one counts; an older or equal one changes nothing.
    pub version: i64,
    /// ISO 4217; `None` means the organization's currency.
    pub currency: Option<String>,
    /// What the order is worth; `None` means the sum of its lines.
    pub amount: Option<Money>,
    /// The discount already taken off `amount`; `None` means the sum of the lines' discounts.
    pub discount: Option<Money>,
    pub channel: Option<String>,
    pub region: Option<String>,
    pub customer: Option<Customer>,
    pub lines: Vec<Line>,
}

/// Who bought. What is `None` or empty stays as it is known.
#[derive(Clone, Default, PartialEq, Serialize)]
pub struct Customer {
    /// The source's id of the customer. It is stored in the clear.
    pub id: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
}

impl std::fmt::Debug for Customer {
    /// Without what identifies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Customer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One product within an order, or, with the refunded amount, within a refund.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// The source's id of the product (often its SKU).
    pub product_id: String,
    pub title: Option<String>,
    pub category: Option<String>,
    pub quantity: i64,
    /// What the line is worth in all (not per piece), in the order's currency.
    pub amount: Money,
    pub discount: Money,
    /// What the goods of this line cost the seller in all.
    pub cost: Option<Money>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderCancelled {
    pub order_id: String,
    pub version: i64,
}

/// Money given back, at its own time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RefundIssued {
    /// The source's id of the refund; `None` means the event's id.
    pub refund_id: Option<String>,
    /// The order refunded, if it is known; it may arrive later than the refund.
    pub order_id: Option<String>,
    pub currency: Option<String>,
    /// Positive. `None` means the sum of the lines.
    pub amount: Option<Money>,
    /// Where it belongs; what is `None` is taken from the order.
    pub channel: Option<String>,
    pub region: Option<String>,
    pub lines: Vec<Line>,
    /// An earlier refund was taken back (a credit note that was cancelled): the amounts count against refunds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_reversal: bool,
}

/// Visits (sessions) of a shop, counted by the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VisitsCounted {
    pub count: i64,
    pub channel: Option<String>,
    pub region: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProductViewed {
    pub product_id: String,
    pub count: i64,
}

/// A deal of a salesperson that was won or lost. Deals feed sales performance; they are not orders and add
/// nothing to revenue metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DealClosed {
    pub deal_id: String,
    pub version: i64,
    /// The salesperson: a user's id or e-mail address.
    pub owner: String,
    pub won: bool,
    pub currency: Option<String>,
    pub amount: Money,
}

/// Calls, e-mails, meetings of a salesperson.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActivityLogged {
    pub owner: String,
    pub activity: String,
    pub count: i64,
}

/// What happened to an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Stored, and it changed numbers.
    Applied { position: i64 },
    /// Stored, but a newer version of the same order, refund or deal was there already.
    Superseded { position: i64 },
    /// This very event was there already; `position` is the first one's.
    Repeated { position: i64 },
    /// Not stored.
    Refused(Refusal),
}

impl Outcome {
    /// In one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Applied { .. } => "applied",
            Outcome::Superseded { .. } => "superseded",
            Outcome::Repeated { .. } => "repeated",
            Outcome::Refused(_) => "refused",
        }
    }
}

/// Why one event was not stored. `code` is stable, `reason` is for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: RefusalCode,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// A field is missing, empty, too long or out of range.
    BadUserInput,
    /// Not a currency of ISO 4217.
    BadCurrency,
    /// No exchange rate is known for the event's date.
    NoExchangeRate,
    /// The id was used for other content.
    IdempotencyConflict,
    /// The organization, user or other named thing does not exist.
    NotFound,
    /// The sums that the event would change do not fit.
    AmountOutOfRange,
    /// The event is dated after now or before the retained months.
    TimeOutOfRange,
    /// The tenant's personal data was erased, and no more of it is taken.
    Erased,
}

impl RefusalCode {
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalCode::BadUserInput => "BAD_USER_INPUT",
            RefusalCode::BadCurrency => "BAD_CURRENCY",
            RefusalCode::NoExchangeRate => "NO_EXCHANGE_RATE",
            RefusalCode::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            RefusalCode::NotFound => "NOT_FOUND",
            RefusalCode::AmountOutOfRange => "AMOUNT_OUT_OF_RANGE",
            RefusalCode::TimeOutOfRange => "TIME_OUT_OF_RANGE",
            RefusalCode::Erased => "ERASED",
        }
    }
}
