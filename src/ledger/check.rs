//! Stateless validation of an event, before any database read.

use super::event::{Event, Fact, Line, Refusal, RefusalCode};
use crate::clock::{MINUTE, Timestamp};
use crate::money::{EVENT_AMOUNT_MAX, Money, is_currency};

/// How far ahead of the server's clock an event may be dated.
pub const AHEAD_MAX: i64 = 5 * MINUTE;
pub const ID_CHARS_MAX: usize = 200;
pub const TEXT_CHARS_MAX: usize = 500;
const LINES_MAX: usize = 1000;
/// As large as JSON has whole numbers exactly.
const VERSION_MAX: i64 = 1 << 53;
const QUANTITY_MAX: i64 = 1_000_000_000;

type Checked = Result<(), Refusal>;

/// Refuses what can never be stored: empty or overlong ids, amounts out of range, unknown currencies, times too far
/// ahead.
pub fn check(event: &Event, now: Timestamp) -> Checked {
    id("eventId", &event.event_id)?;
    if let Some(organization) = &event.organization {
        id("organizationId", organization)?;
    }
    if event.occurred_at.0 < 0 {
        return refuse(RefusalCode::TimeOutOfRange, "occurredAt is before 1970");
    }
    if event.occurred_at.0 > now.0 + AHEAD_MAX {
        return refuse(RefusalCode::TimeOutOfRange, "occurredAt is more than five minutes ahead of the server's clock");
    }
    match &event.fact {
        Fact::OrderPlaced(order) => {
            id("orderId", &order.order_id)?;
            version(order.version)?;
            currency(order.currency.as_deref())?;
            amount("amount", order.amount)?;
            amount("discount", order.discount)?;
            texts([("channel", &order.channel), ("region", &order.region)])?;
            if let Some(customer) = &order.customer {
                id("customer.id", &customer.id)?;
                texts([("customer.name", &customer.name), ("customer.email", &customer.email)])?;
                texts([("customer.phone", &customer.phone), ("customer.address", &customer.address)])?;
            }
            if order.amount.is_none() && order.lines.is_empty() {
                return refuse(RefusalCode::BadUserInput, "an order needs an amount or lines");
            }
            lines(&order.lines)
        }
        Fact::OrderCancelled(cancelled) => {
            id("orderId", &cancelled.order_id)?;
            version(cancelled.version)
        }
        Fact::RefundIssued(refund) => {
            if let Some(refund_id) = &refund.refund_id {
                id("refundId", refund_id)?;
            }
            if let Some(order_id) = &refund.order_id {
                id("orderId", order_id)?;
            }
            currency(refund.currency.as_deref())?;
            amount("amount", refund.amount)?;
            texts([("channel", &refund.channel), ("region", &refund.region)])?;
            if refund.amount.is_none() && refund.lines.is_empty() {
                return refuse(RefusalCode::BadUserInput, "a refund needs an amount or lines");
            }
            lines(&refund.lines)
        }
        Fact::VisitsCounted(visits) => {
            texts([("channel", &visits.channel), ("region", &visits.region)])?;
            count(visits.count)
        }
        Fact::ProductViewed(viewed) => {
            id("productId", &viewed.product_id)?;
            count(viewed.count)
        }
        Fact::DealClosed(deal) => {
            id("dealId", &deal.deal_id)?;
            id("owner", &deal.owner)?;
            version(deal.version)?;
            currency(deal.currency.as_deref())?;
            amount("amount", Some(deal.amount))
        }
        Fact::ActivityLogged(activity) => {
            id("owner", &activity.owner)?;
            id("activity", &activity.activity)?;
            count(activity.count)
        }
    }
}

fn lines(lines: &[Line]) -> Checked {
    if lines.len() > LINES_MAX {
        return refuse(RefusalCode::BadUserInput, format!("more than {LINES_MAX} lines"));
    }
    for line in lines {
        id("productId", &line.product_id)?;
        texts([("title", &line.title), ("category", &line.category)])?;
        if !(0..=QUANTITY_MAX).contains(&line.quantity) {
            return refuse(RefusalCode::BadUserInput, format!("quantity must be from 0 to {QUANTITY_MAX}"));
        }
        amount("line amount", Some(line.amount))?;
        amount("line discount", Some(line.discount))?;
        amount("line cost", line.cost)?;
    }
    Ok(())
}

fn id(name: &str, value: &str) -> Checked {
    match value.chars().count() {
        0 => refuse(RefusalCode::BadUserInput, format!("{name} is empty")),
        n if n > ID_CHARS_MAX => {
            refuse(RefusalCode::BadUserInput, format!("{name} is longer than {ID_CHARS_MAX} characters"))
        }
        _ if value.chars().any(char::is_control) => {
            refuse(RefusalCode::BadUserInput, format!("{name} contains a control character"))
        }
        _ => Ok(()),
    }
}

fn texts<const N: usize>(named: [(&str, &Option<String>); N]) -> Checked {
    for (name, value) in named {
        let Some(value) = value else { continue };
        if value.chars().count() > TEXT_CHARS_MAX {
            return refuse(RefusalCode::BadUserInput, format!("{name} is longer than {TEXT_CHARS_MAX} characters"));
        }
        if value.contains('\0') {
            return refuse(RefusalCode::BadUserInput, format!("{name} contains a NUL"));
        }
    }
    Ok(())
}

fn amount(name: &str, value: Option<Money>) -> Checked {
    match value {
        Some(amount) if amount.is_negative() => refuse(RefusalCode::BadUserInput, format!("{name} is negative")),
        Some(amount) if amount > EVENT_AMOUNT_MAX => {
            refuse(RefusalCode::AmountOutOfRange, format!("{name} is beyond {EVENT_AMOUNT_MAX}"))
        }
        _ => Ok(()),
    }
}

fn currency(code: Option<&str>) -> Checked {
    match code {
        Some(code) if !is_currency(code) => refuse(RefusalCode::BadCurrency, "not a currency code of ISO 4217"),
        _ => Ok(()),
    }
}

fn version(version: i64) -> Checked {
    match version {
        0..=VERSION_MAX => Ok(()),
        ..0 => refuse(RefusalCode::BadUserInput, "version is negative"),
        _ => refuse(RefusalCode::BadUserInput, "version is beyond 2^53"),
    }
}

fn count(count: i64) -> Checked {
    if (1..=QUANTITY_MAX).contains(&count) {
        Ok(())
    } else {
        refuse(RefusalCode::BadUserInput, format!("count must be from 1 to {QUANTITY_MAX}"))
    }
}

fn refuse(code: RefusalCode, reason: impl Into<String>) -> Checked {
    Err(Refusal { code, reason: reason.into() })
}
