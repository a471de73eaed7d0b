//! Refunds, in shop currency.

use super::super::{minus, share, sum, time};
use super::payload::{Both, Refund, Transaction};
use crate::integrations::{Delivery, Settings, Unclear};
use crate::ledger::event::{Event, Fact, Line, RefundIssued};
use crate::money::{Money, div_half_even};

/// What a refund's order states about the shop; empty for a refund sent on its own.
#[derive(Clone, Copy, Default)]
pub struct Shop<'a> {
    pub currency: Option<&'a str>,
    /// The order's amount in both currencies.
    pub total: Option<&'a Both>,
}

/// The refunded money.
pub struct Paid {
    pub succeeded: Money,
    pub pending: Money,
    pub currency: Option<String>,
    /// Whether it is in shop currency, as the lines are.
    pub is_shops: bool,
}

/// `None` where no money has been refunded yet: pending money comes with the order once it has arrived. Refunds to gift
/// cards do not count.
pub fn refund(
    delivery: &Delivery<'_>,
    refund: &Refund,
    shop: Shop<'_>,
    settings: &Settings,
) -> Result<Option<Event>, Unclear> {
    let paid = paid(refund, shop, settings)?;
    if paid.succeeded == Money::ZERO || paid.pending != Money::ZERO {
        return Ok(None);
    }
    let lines = if paid.is_shops { lines(refund, paid.succeeded)? } else { Vec::new() };
    let is_gift_card = |at: &usize| refund.refund_line_items.get(*at).is_some_and(|one| one.line_item.is_gift_card());
    let (of_cards, lines): (Vec<_>, Vec<_>) = lines.into_iter().enumerate().partition(|(at, _)| is_gift_card(at));
    let of_cards = sum(of_cards.iter().map(|(_, line)| line.amount))?;
    let amount = minus(paid.succeeded, of_cards)?;
    if amount == Money::ZERO {
        return Ok(None);
    }
    let at = time(refund.processed_at.as_deref().unwrap_or(&refund.created_at))?;
    let fact = Fact::RefundIssued(RefundIssued {
        refund_id: Some(refund.id.to_string()),
        order_id: Some(refund.order_id.to_string()),
        currency: paid.currency,
        amount: Some(amount),
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        ..RefundIssued::default()
    });
    Ok(Some(delivery.event(&format!("refund-{}", refund.id), at, settings, fact)))
}

/// The returned lines, each with its share of `amount` where their total is higher.
pub fn lines(refund: &Refund, amount: Money) -> Result<Vec<Line>, Unclear> {
    let mut lines = Vec::with_capacity(refund.refund_line_items.len());
    for returned in &refund.refund_line_items {
        lines.push(Line {
            product_id: returned.line_item.product_id(),
            title: returned.line_item.title.clone(),
            quantity: returned.quantity,
            amount: returned.subtotal()?,
            ..Line::default()
        });
    }
    share(amount, &mut lines)?;
    Ok(lines)
}

/// In shop currency, where the amount in it is known.
pub fn paid(refund: &Refund, shop: Shop<'_>, settings: &Settings) -> Result<Paid, Unclear> {
    let of_refund = refund.transactions.iter().filter(|one| one.kind == "refund");
    let of_refund = of_refund.filter(|one| settings.counts_tests || one.test != Some(true));
    let with = |status: &str| of_refund.clone().filter(|one| one.status == status).collect::<Vec<_>>();
    let (succeeded, pending) = (with("success"), with("pending"));
    let of_shop = shop.currency.or_else(|| refund.sets().next().map(|set| set.shop_money.currency_code.as_str()));
    let mut currencies = succeeded.iter().chain(&pending).filter_map(|one| one.currency.as_deref());
    let currency = currencies.next().or(of_shop);
    if currencies.any(|other| Some(other) != currency) {
        return Err(Unclear("a refund in several currencies".to_owned()));
    }
    let rate = match (of_shop, currency) {
        (Some(of_shop), Some(currency)) if of_shop != currency => {
            Rate::of(refund.sets(), of_shop, currency).or_else(|| Rate::of(shop.total, of_shop, currency))
        }
        _ => Some(Rate::ONE),
    };
    let told: Vec<&Transaction> = succeeded.iter().chain(&pending).copied().collect();
    let are_told = of_shop.is_some_and(|code| told.iter().all(|one| one.in_shop(code).is_some()));
    let amount = |transactions: &[&Transaction]| match (of_shop, rate) {
        (Some(code), _) if are_told => sum(transactions.iter().filter_map(|one| one.in_shop(code))),
        (_, rate) => rate.unwrap_or(Rate::ONE).convert(sum(transactions.iter().map(|one| one.amount.0))?),
    };
    let is_shops = are_told || rate.is_some();
    Ok(Paid {
        succeeded: amount(&succeeded)?,
        pending: amount(&pending)?,
        currency: if is_shops { of_shop.or(currency) } else { currency }.map(str::to_owned),
        is_shops,
    })
}

impl Transaction {
    fn in_shop(&self, currency: &str) -> Option<Money> {
        let told = self.amount_set.as_ref().map(|set| &set.shop_money);
        told.filter(|told| told.currency_code == currency).map(|told| told.amount.0)
    }
}

/// An exchange rate between two currencies.
#[derive(Clone, Copy)]
struct Rate {
    of_shop: i128,
    of_customer: i128,
}

impl Rate {
    const ONE: Rate = Rate { of_shop: 1, of_customer: 1 };

    /// From amounts given in both; `None` where all of them are zero.
    fn of<'a>(sets: impl IntoIterator<Item = &'a Both>, shop: &str, customer: &str) -> Option<Rate> {
        let mut rate = Rate { of_shop: 0, of_customer: 0 };
        for Both { shop_money, presentment_money } in sets {
            let Some(presentment) = presentment_money else { continue };
            if shop_money.currency_code == shop && presentment.currency_code == customer {
                rate.of_shop += i128::from(shop_money.amount.0.0.unsigned_abs());
                rate.of_customer += i128::from(presentment.amount.0.0.unsigned_abs());
            }
        }
        (rate.of_shop > 0 && rate.of_customer > 0).then_some(rate)
    }

    fn convert(self, amount: Money) -> Result<Money, Unclear> {
        let converted = div_half_even(i128::from(amount.0) * self.of_shop, self.of_customer);
        Money::from_sum(converted).ok_or_else(|| Unclear("a refund is beyond the largest amount".to_owned()))
    }
}
