//! Default terms of predictions.

use models::value::{Discount, Terms};

use crate::error::{Error, Result};
use crate::money::Money;

/// Horizon of churn predictions, and of their evaluation.
pub const CHURN_DAYS: u32 = 90;
/// Horizon of revenue and purchase predictions.
pub const PURCHASES_DAYS: u32 = 365;
/// Horizon of the lifetime value.
pub const LIFETIME_MONTHS: u32 = 36;
/// Annual discount rate.
pub const DISCOUNT_RATE: f64 = 0.1;
/// Contribution margin: all of the revenue, as long as costs are unknown.
pub const MARGIN: f64 = 1.0;

/// The terms of the stored predictions.
pub fn kept() -> Result<Terms> {
    Terms::new(CHURN_DAYS, LIFETIME_MONTHS, Discount::Annual(DISCOUNT_RATE), MARGIN).map_err(Error::internal)
}

/// Converts a predicted amount in ten-thousandths to money, rounding here and nowhere earlier.
pub fn to_money(minor: f64) -> Money {
    Money(minor.round_ties_even() as i64)
}
