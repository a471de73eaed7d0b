//! Stripe: typed events, signed with a timestamp. A captured charge is an order; amounts are integers in the currency's
//! smallest unit.

use serde::Deserialize;

use super::{is_hmac, is_recent, shortened};
use crate::clock::{SECOND, Timestamp};
use crate::integrations::{Connector, Delivery, Label, Request, Settings, Unclear, WebhookContent};
use crate::ledger::event::{Customer, Fact, OrderPlaced, RefundIssued};
use crate::money::{Money, SCALE};

pub struct Stripe;

impl Connector for Stripe {
    fn check_secret(&self, secret: &str) -> Result<(), &'static str> {
        if secret.starts_with("whsec_") {
            Ok(())
        } else {
            Err("the secret of a Stripe endpoint must begin with whsec_")
        }
    }

    fn is_signed(&self, request: &Request<'_>, secret: &str, now: Timestamp) -> bool {
        let header = request.header(&["stripe-signature"]).unwrap_or_default();
        let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
        let Some(seconds) = pairs().find_map(|(name, value)| (name == "t").then_some(value)) else { return false };
        let is_now = seconds.parse().is_ok_and(|seconds| is_recent(seconds, now));
        let signatures = pairs().filter(|(name, _)| *name == "v1").filter_map(|(_, value)| hex::decode(value).ok());
        is_now && is_hmac(secret.as_bytes(), &[seconds.as_bytes(), b".", request.body], signatures)
    }

    fn label(&self, request: &Request<'_>) -> Label {
        let named: Option<Named> = serde_json::from_slice(request.body).ok();
        let named = named.filter(|named| named.object == "event");
        named.map_or_else(Label::default, |named| Label { topic: named.kind, id: Some(named.id), at: None })
    }

    fn read(&self, delivery: &Delivery<'_>, settings: &Settings) -> Result<WebhookContent, Unclear> {
        match delivery.topic {
            "charge.succeeded" | "charge.captured" | "charge.updated" => charge(delivery, delivery.json()?, settings),
            "refund.created" | "refund.updated" | "charge.refund.updated" => {
                refund(delivery, delivery.json()?, settings)
            }
            "refund.failed" => Err(Unclear("a refund failed: check whether it was counted before".to_owned())),
            "" => Err(Unclear("the body is not a Stripe event with its object".to_owned())),
            _ => Ok(WebhookContent::Nothing),
        }
    }
}

#[derive(Deserialize)]
struct Named {
    id: String,
    /// Thin events, which do not include their object, have a different one.
    object: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct About<T> {
    /// API version of the endpoint, which determines the event's form.
    api_version: Option<String>,
    /// The connected account, if any.
    account: Option<String>,
    created: i64,
    livemode: bool,
    data: Data<T>,
}

#[derive(Deserialize)]
struct Data<T> {
    object: T,
}

#[derive(Deserialize)]
struct Charge {
    id: String,
    created: i64,
    amount_captured: i64,
    currency: String,
    captured: bool,
    status: String,
    customer: Option<String>,
    billing_details: Option<Billing>,
    shipping: Option<Shipping>,
}

#[derive(Deserialize)]
struct Shipping {
    address: Option<Address>,
}

#[derive(Deserialize)]
struct Billing {
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    address: Option<Address>,
}

#[derive(Deserialize)]
struct Address {
    line1: Option<String>,
    line2: Option<String>,
    postal_code: Option<String>,
    city: Option<String>,
    state: Option<String>,
    country: Option<String>,
}

#[derive(Deserialize)]
struct Refund {
    id: String,
    created: i64,
    amount: i64,
    currency: String,
    charge: Option<String>,
    status: Option<String>,
}

impl<T> About<T> {
    /// Error: it concerns another account's money.
    fn check_account(&self) -> Result<(), Unclear> {
        match &self.account {
            Some(_) => Err(Unclear("an event of a connected account, whose money is its own".to_owned())),
            None => Ok(()),
        }
    }
}

/// The first version in which a refund is always of captured money (docs.stripe.com/changelog/basil). Before, partially
/// captured or released authorizations create refunds as well, indistinguishable from others.
const REFUNDS_SINCE: &str = "2025-03-31";

impl About<Refund> {
    /// Error: it may be a refund of money that was never captured.
    fn check_version(&self) -> Result<(), Unclear> {
        let date = self.api_version.as_deref().and_then(|version| version.get(..REFUNDS_SINCE.len()));
        if date.is_some_and(|date| date >= REFUNDS_SINCE) {
            return Ok(());
        }
        Err(Unclear(
            "refunds are told apart since 2025-03-31.basil: set the endpoint's API version to it or newer".to_owned(),
        ))
    }
}

fn charge(delivery: &Delivery<'_>, about: About<Charge>, settings: &Settings) -> Result<WebhookContent, Unclear> {
    about.check_account()?;
    let charge = about.data.object;
    let is_taken = charge.captured && charge.status == "succeeded";
    if !is_taken || !(about.livemode || settings.counts_tests) {
        return Ok(WebhookContent::Nothing);
    }
    let shipping = charge.shipping.as_ref().and_then(|shipping| shipping.address.as_ref());
    let billing = charge.billing_details.as_ref().and_then(|billing| billing.address.as_ref());
    let region = [shipping, billing].into_iter().flatten().find_map(|address| address.country.clone());
    let fact = Fact::OrderPlaced(OrderPlaced {
        order_id: charge.id.clone(),
        version: about.created,
        amount: Some(amount(charge.amount_captured, &charge.currency)?),
        currency: Some(charge.currency.to_ascii_uppercase()),
        channel: Some(settings.channel.clone().unwrap_or_else(|| "stripe".to_owned())),
        region,
        customer: charge.customer.map(|id| customer(id, charge.billing_details)),
        ..OrderPlaced::default()
    });
    Ok(WebhookContent::Events(vec![delivery.event(
        &format!("{}-{}", charge.id, about.created),
        seconds(charge.created)?,
        settings,
        fact,
    )]))
}

fn refund(delivery: &Delivery<'_>, about: About<Refund>, settings: &Settings) -> Result<WebhookContent, Unclear> {
    about.check_account()?;
    about.check_version()?;
    let refund = about.data.object;
    match refund.status.as_deref() {
        Some("succeeded") if about.livemode || settings.counts_tests => {}
        Some("failed" | "canceled") => {
            return Err(Unclear("a refund was not carried out: check whether it was counted before".to_owned()));
        }
        None => return Err(Unclear("a refund that does not say whether it succeeded".to_owned())),
        Some(_) => return Ok(WebhookContent::Nothing),
    }
    let fact = Fact::RefundIssued(RefundIssued {
        refund_id: Some(refund.id.clone()),
        order_id: refund.charge,
        amount: Some(amount(refund.amount, &refund.currency)?),
        currency: Some(refund.currency.to_ascii_uppercase()),
        ..RefundIssued::default()
    });
    Ok(WebhookContent::Events(vec![delivery.event(&refund.id, seconds(refund.created)?, settings, fact)]))
}

fn customer(id: String, billing: Option<Billing>) -> Customer {
    let Some(Billing { name, email, phone, address }) = billing else { return Customer { id, ..Customer::default() } };
    let address = address.map(|Address { line1, line2, postal_code, city, state, country }| {
        super::address([line1, line2, postal_code, city, state, country])
    });
    shortened(Customer { id, name, email, phone, address })
}

fn seconds(seconds: i64) -> Result<Timestamp, Unclear> {
    seconds.checked_mul(SECOND).map(Timestamp).ok_or_else(|| Unclear("time out of range".to_owned()))
}

/// Currencies whose amounts Stripe gives in whole units, and in thousandths (docs.stripe.com/currencies); all others
/// are in hundredths, including ISK and UGX.
const WHOLE: [&str; 15] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];
const THOUSANDTHS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

fn amount(smallest: i64, currency: &str) -> Result<Money, Unclear> {
    let units = match currency {
        code if WHOLE.contains(&code) => SCALE,
        code if THOUSANDTHS.contains(&code) => SCALE / 1000,
        _ => SCALE / 100,
    };
    smallest.checked_mul(units).map(Money).ok_or_else(|| Unclear("an amount is beyond the largest amount".to_owned()))
}
