//! What predictions are for, where nobody says otherwise.

use models::value::{Discount, Terms};

use crate::error::{Error, Result};
use crate::money::Money;

/// Churn is foreseen for this long, and judged by it.
pub const CHURN_DAYS: u32 = 90;
/// Revenue and purchases are foreseen for this long.
pub const PURCHASES_DAYS: u32 = 365;
/// A lifetime that is valued.
pub const LIFETIME_MONTHS: u32 = 36;
/// How much less an amount is worth a year later.
pub const DISCOUNT_RATE: f64 = 0.1;
/// The share of revenue that is kept: all of it, as long as costs are not known.
pub const MARGIN: f64 = 1.0;

/// The terms of the predictions that are kept.
pub fn kept() -> Result<Terms> {
    Terms::new(CHURN_DAYS, LIFETIME_MONTHS, Discount::Annual(DISCOUNT_RATE), MARGIN).map_err(Error::internal)
}

/// A predicted amount in ten thousandths as money; it is rounded here and nowhere before.
pub fn to_money(minor: f64) -> Money {
    Money(minor.round_ties_even() as i64)
}
