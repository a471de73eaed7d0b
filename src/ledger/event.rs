//! Input of the ledger: one [`Event`] is one fact from a source, before it gets a position.
//!
//! All sources (GraphQL, REST, webhooks, import) produce these; [`super::check`] validates one,
//! [`super::Ledger::record`] stores it.
//!
//! A repeat is recognized by the hash of its JSON, which is stored for good (`item.rs`). So the JSON of an event must stay
//! the same: a new field is left out where it is not given (`skip_serializing_if`), and none is renamed, moved or given
//! another type. Otherwise, repeats of what an earlier version recorded would become conflicts.

use serde::Serialize;
use strum::IntoStaticStr;

use crate::clock::Timestamp;
use crate::money::Money;

/// A fact with its identity. `event_id` is unique per tenant and is the idempotency key: a repeat with the same content
/// is a no-op, with other content a conflict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    pub event_id: String,
    pub occurred_at: Timestamp,
    /// The organization's id or slug; `None` means the tenant's default organization.
    pub organization: Option<String>,
    pub fact: Fact,
}

impl Event {
    /// Whether it contains personal data.
    pub fn has_person(&self) -> bool {
        matches!(&self.fact, Fact::OrderPlaced(OrderPlaced { customer: Some(_), .. }))
    }

    /// Makes blank texts as if they were not given. Whether there were any.
    pub fn remove_blanks(&mut self) -> bool {
        let (places, lines, customer) = match &mut self.fact {
            Fact::OrderPlaced(order) => {
                ([&mut order.channel, &mut order.region], order.lines.as_mut_slice(), order.customer.as_mut())
            }
            Fact::RefundIssued(refund) => {
                ([&mut refund.channel, &mut refund.region], refund.lines.as_mut_slice(), None)
            }
            Fact::VisitsCounted(visits) => ([&mut visits.channel, &mut visits.region], [].as_mut_slice(), None),
            Fact::OrderCancelled(_) | Fact::ProductViewed(_) | Fact::DealClosed(_) | Fact::ActivityLogged(_) => {
                return false;
            }
        };
        let of_lines = lines.iter_mut().flat_map(|line| [&mut line.title, &mut line.category]);
        let of_customer = customer.map(|of| [&mut of.name, &mut of.email, &mut of.phone, &mut of.address]);
        let mut had_blanks = false;
        for text in places.into_iter().chain(of_lines).chain(of_customer.into_iter().flatten()) {
            had_blanks |= text.take_if(|text| text.trim().is_empty()).is_some();
        }
        had_blanks
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
    /// Total value of the order; `None` means the sum of its lines.
    pub amount: Option<Money>,
    /// Discount already deducted from `amount`; `None` means the sum of the lines' discounts.
    pub discount: Option<Money>,
    pub channel: Option<String>,
    pub region: Option<String>,
    pub customer: Option<Customer>,
    pub lines: Vec<Line>,
}

/// The buyer. Fields that are `None` or blank keep their known values.
#[derive(Clone, Default, PartialEq, Serialize)]
pub struct Customer {
    /// The source's id of the customer, stored in the clear.
    pub id: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
}

impl std::fmt::Debug for Customer {
    /// Omits identifying fields.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Customer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One product within an order or, with the refunded amount, within a refund.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// The source's id of the product (often its SKU).
    pub product_id: String,
    pub title: Option<String>,
    pub category: Option<String>,
    pub quantity: i64,
    /// Total of the line (not per unit), in the order's currency.
    pub amount: Money,
    pub discount: Money,
    /// Total cost of the line's goods to the seller.
    pub cost: Option<Money>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderCancelled {
    pub order_id: String,
    pub version: i64,
}

/// Money paid back, dated at its own time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RefundIssued {
    /// The source's id of the refund; `None` means the event's id.
    pub refund_id: Option<String>,
    /// The refunded order, if known; it may arrive after the refund.
    pub order_id: Option<String>,
    pub currency: Option<String>,
    /// Positive. `None` means the sum of the lines.
    pub amount: Option<Money>,
    /// Attribution; `None` is taken from the order.
    pub channel: Option<String>,
    pub region: Option<String>,
    pub lines: Vec<Line>,
    /// An earlier refund was reversed (a cancelled credit note): the amounts are subtracted from refunds.
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

/// A salesperson's deal, won or lost. Deals feed sales performance; they are not orders and contribute nothing to
/// revenue metrics.
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

/// A salesperson's calls, e-mails and meetings.
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
    /// Stored, but a newer version of the same order, refund or deal already existed.
    Superseded { position: i64 },
    /// Duplicate of a recorded event; `position` is that of the first.
    Repeated { position: i64 },
    /// Not stored.
    Refused(Refusal),
}

impl Outcome {
    /// Stable identifier of the variant.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Applied { .. } => "applied",
            Outcome::Superseded { .. } => "superseded",
            Outcome::Repeated { .. } => "repeated",
            Outcome::Refused(_) => "refused",
        }
    }
}

/// Why an event was not stored. `code` is stable, `reason` is for humans.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: RefusalCode,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalCode {
    /// A field is missing, empty, too long or out of range.
    BadUserInput,
    /// Not an ISO 4217 currency.
    BadCurrency,
    /// No exchange rate is known for the event's date.
    NoExchangeRate,
    /// The id was already used for different content.
    IdempotencyConflict,
    /// The organization, user or other referenced entity does not exist.
    NotFound,
    /// A sum the event would change would overflow.
    AmountOutOfRange,
    /// The event is dated in the future or before the retained months.
    TimeOutOfRange,
    /// The tenant's personal data was erased and no more is accepted.
    Erased,
}

impl RefusalCode {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
