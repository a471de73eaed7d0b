//! The fields of Shopify's payloads that we read.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::{Exact, address, list, shortened, sum};
use crate::integrations::Unclear;
use crate::ledger::check::ID_CHARS_MAX;
use crate::ledger::event::Customer;
use crate::money::Money;

#[derive(Deserialize)]
pub struct Order {
    /// The id that refunds refer to; also part of `admin_graphql_api_id`.
    pub id: u64,
    pub test: Option<bool>,
    pub created_at: String,
    pub processed_at: Option<String>,
    pub updated_at: String,
    pub cancelled_at: Option<String>,
    pub financial_status: Option<String>,
    /// The shop currency, of all amounts next to it.
    pub currency: Option<String>,
    /// Of everything that was ever in the order.
    pub total_price: Exact,
    pub total_price_set: Option<Both>,
    /// Without what was removed or returned.
    pub current_total_price: Option<Exact>,
    pub total_discounts: Option<Exact>,
    pub source_name: Option<String>,
    pub email: Option<String>,
    pub shipping_address: Option<Address>,
    pub billing_address: Option<Address>,
    pub customer: Option<Buyer>,
    #[serde(default, deserialize_with = "list")]
    pub line_items: Vec<Item>,
    /// Absent where the shop is configured to omit them.
    pub refunds: Option<Vec<Refund>>,
}

#[derive(Deserialize)]
pub struct Item {
    pub id: Option<u64>,
    pub product_id: Option<u64>,
    pub sku: Option<String>,
    pub title: Option<String>,
    pub gift_card: Option<bool>,
    /// Everything ever bought.
    pub quantity: i64,
    /// Without what was removed or returned.
    pub current_quantity: Option<i64>,
    /// Per unit.
    pub price: Exact,
    total_discount: Option<Exact>,
    #[serde(default, deserialize_with = "list")]
    discount_allocations: Vec<Allocation>,
}

#[derive(Deserialize)]
struct Allocation {
    amount: Exact,
}

#[derive(Deserialize)]
pub struct Buyer {
    id: u64,
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    default_address: Option<Address>,
}

#[derive(Deserialize)]
pub struct Address {
    address1: Option<String>,
    address2: Option<String>,
    zip: Option<String>,
    city: Option<String>,
    province: Option<String>,
    country: Option<String>,
    pub country_code: Option<String>,
    phone: Option<String>,
}

#[derive(Deserialize)]
pub struct Refund {
    pub id: u64,
    pub order_id: u64,
    pub created_at: String,
    pub processed_at: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub transactions: Vec<Transaction>,
    #[serde(default, deserialize_with = "list")]
    pub refund_line_items: Vec<Returned>,
    total_duties_set: Option<Both>,
    #[serde(default, deserialize_with = "list")]
    order_adjustments: Vec<Adjustment>,
}

#[derive(Deserialize)]
pub struct Transaction {
    pub kind: String,
    pub status: String,
    pub test: Option<bool>,
    pub amount: Exact,
    pub amount_set: Option<Both>,
    pub currency: Option<String>,
}

#[derive(Deserialize)]
pub struct Returned {
    pub quantity: i64,
    subtotal: Option<Exact>,
    subtotal_set: Option<Both>,
    total_tax_set: Option<Both>,
    pub line_item: Item,
}

/// Refunded shipping, or by how much less than their value was refunded for the goods (negative: more).
#[derive(Deserialize)]
struct Adjustment {
    kind: Option<String>,
    amount: Option<Exact>,
    amount_set: Option<Both>,
    tax_amount_set: Option<Both>,
}

/// An amount in shop and customer currency.
#[derive(Deserialize)]
pub struct Both {
    pub shop_money: Priced,
    pub presentment_money: Option<Priced>,
}

#[derive(Deserialize)]
pub struct Priced {
    pub amount: Exact,
    #[serde(alias = "currency")]
    pub currency_code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    pub id: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what a request for erasure looks like")]
pub struct Redacted {
    shop_id: u64,
    shop_domain: String,
    pub customer: Thing,
    orders_to_redact: Option<Vec<u64>>,
}

#[derive(Deserialize)]
pub struct Thing {
    pub id: u64,
}

impl Item {
    /// The product's id: its SKU, where the shop has one. One that is longer than the ledger accepts is truncated and
    /// ends in a hash of the whole.
    pub fn product_id(&self) -> String {
        let sku: String = self.sku.iter().flat_map(|sku| sku.chars()).filter(|c| !c.is_control()).collect();
        if sku.chars().count() > ID_CHARS_MAX {
            let hash = hex::encode(&Sha256::digest(&sku)[..8]);
            let begin: String = sku.chars().take(ID_CHARS_MAX - 1 - hash.len()).collect();
            return format!("{begin}~{hash}");
        }
        if !sku.is_empty() {
            return sku;
        }
        self.product_id.map_or_else(|| "no product".to_owned(), |id| id.to_string())
    }

    /// Across all units.
    pub fn discount(&self) -> Result<Money, Unclear> {
        if self.discount_allocations.is_empty() {
            return Ok(self.total_discount.unwrap_or_default().0);
        }
        sum(self.discount_allocations.iter().map(|allocation| allocation.amount.0))
    }

    /// Stored value, and not a sale.
    pub fn is_gift_card(&self) -> bool {
        self.gift_card == Some(true)
    }
}

impl Refund {
    /// Its amounts that are given in both currencies.
    pub fn sets(&self) -> impl Iterator<Item = &Both> {
        let lines = self.refund_line_items.iter().flat_map(|line| [&line.subtotal_set, &line.total_tax_set]);
        let adjustments = self.order_adjustments.iter().flat_map(|one| [&one.amount_set, &one.tax_amount_set]);
        lines.chain([&self.total_duties_set]).chain(adjustments).flatten()
    }

    /// What the shop withheld of the returned goods' value, such as a restocking fee.
    pub fn withheld(&self) -> Result<Money, Unclear> {
        let kept = self.order_adjustments.iter().filter(|one| one.kind.as_deref() != Some("shipping_refund"));
        let amounts = kept.map(|one| match &one.amount_set {
            Some(set) => set.shop_money.amount.0,
            None => one.amount.unwrap_or_default().0,
        });
        Ok(sum(amounts)?.max(Money::ZERO))
    }
}

impl Returned {
    /// The value of the goods, in shop currency.
    pub fn subtotal(&self) -> Result<Money, Unclear> {
        let subtotal = self.subtotal_set.as_ref().map(|set| set.shop_money.amount).or(self.subtotal);
        subtotal.map(|subtotal| subtotal.0).ok_or_else(|| Unclear("a refund's line without its subtotal".to_owned()))
    }
}

impl Buyer {
    pub fn customer(self, order_email: Option<String>) -> Customer {
        let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let names: Vec<String> = [self.first_name, self.last_name].into_iter().filter_map(said).collect();
        let of_address = || self.default_address.as_ref().and_then(|address| address.phone.clone());
        let phone = said(self.phone).or_else(of_address);
        shortened(Customer {
            id: self.id.to_string(),
            name: Some(names.join(" ")),
            email: said(self.email).or(order_email),
            phone,
            address: self.default_address.map(Address::text),
        })
    }
}

impl Address {
    fn text(self) -> String {
        let Address { address1, address2, zip, city, province, country, .. } = self;
        address([address1, address2, zip, city, province, country])
    }
}
