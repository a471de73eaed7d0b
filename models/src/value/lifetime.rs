//! Predictions for one customer: the next purchase, future purchases, and their value.

use super::error::ValueError;
use super::model::{HORIZON_DAYS_MAX, PurchaseModel};
use super::purchases::Purchases;
use super::spend::SpendModel;

/// The maximum lifetime: ten years.
pub const MONTHS_MAX: u32 = 120;
/// The maximum discount rate, per month or year.
pub const DISCOUNT_MAX: f64 = 1.0;

const MONTH_DAYS: f64 = 365.25 / 12.0;

/// A discount rate: .1 is 10 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discount {
    Monthly(f64),
    Annual(f64),
}

/// The terms of predictions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    horizon_days: u32,
    months: u32,
    /// The monthly discount factor.
    month_factor: f64,
    margin: f64,
}

/// Predictions for a customer. Amounts are in the smallest currency unit; `None` where there are no paying customers
/// yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The probability that the customer has not lapsed. Its complement is not churn, see [`PurchaseModel::p_alive`].
    pub p_alive: f64,
    /// The probability of no purchase within the horizon.
    pub churn: f64,
    /// Expected purchases within the horizon, counting the orders of one day as one.
    pub expected_purchases: f64,
    /// Median days until an active customer's next purchase; `None` beyond ten years.
    pub next_purchase_days: Option<u32>,
    /// Expected spend per future purchase.
    pub expected_spend_minor: Option<f64>,
    /// The margin of all expected purchases within the lifetime, discounted to now. Excludes past spend.
    pub lifetime_value_minor: Option<f64>,
}

impl Terms {
    /// Ranges: a horizon of 1 to [`HORIZON_DAYS_MAX`] days, a lifetime of 1 to [`MONTHS_MAX`] months, a discount rate
    /// from 0 to [`DISCOUNT_MAX`], a margin (share of spend that is kept) from 0 to 1. Errors: anything else.
    pub fn new(horizon_days: u32, months: u32, discount: Discount, margin: f64) -> Result<Terms, ValueError> {
        if !(1..=HORIZON_DAYS_MAX).contains(&horizon_days) {
            return Err(ValueError::HorizonOutOfRange);
        }
        if !(1..=MONTHS_MAX).contains(&months) {
            return Err(ValueError::MonthsOutOfRange);
        }
        let (rate, months_of_rate) = match discount {
            Discount::Monthly(rate) => (rate, 1.0),
            Discount::Annual(rate) => (rate, 12.0),
        };
        if !(0.0..=DISCOUNT_MAX).contains(&rate) {
            return Err(ValueError::DiscountOutOfRange);
        }
        if !(0.0..=1.0).contains(&margin) {
            return Err(ValueError::MarginOutOfRange);
        }
        Ok(Terms { horizon_days, months, month_factor: (1.0 + rate).powf(-1.0 / months_of_rate), margin })
    }
}

/// Predictions for one customer.
pub fn predict(
    purchases: &PurchaseModel,
    spend: Option<&SpendModel>,
    customer: &Purchases,
    terms: &Terms,
) -> Prediction {
    let expected_spend_minor = spend.map(|spend| spend.expected_spend(customer));
    let value = |spend: f64| spend * terms.margin * discounted_purchases(purchases, customer, terms);
    Prediction {
        p_alive: purchases.p_alive(customer),
        churn: purchases.churn(customer, terms.horizon_days),
        expected_purchases: purchases.expected_purchases(customer, terms.horizon_days),
        next_purchase_days: purchases.median_days_to_next(customer),
        expected_spend_minor,
        lifetime_value_minor: expected_spend_minor.map(value),
    }
}

/// Expected purchases within the lifetime, those of each month discounted from its end.
fn discounted_purchases(model: &PurchaseModel, customer: &Purchases, terms: &Terms) -> f64 {
    let (mut before, mut factor, mut discounted) = (0.0, 1.0, 0.0);
    for month in 1..=terms.months {
        let purchases = model.expected_purchases(customer, (f64::from(month) * MONTH_DAYS).round() as u32);
        factor *= terms.month_factor;
        discounted += factor * (purchases - before).max(0.0);
        before = purchases;
    }
    discounted
}

#[cfg(test)]
mod tests {
    use super::super::model::Kind;
    use super::*;

    fn models() -> (PurchaseModel, SpendModel) {
        let purchases = PurchaseModel::new(Kind::MbgNbd, 0.8, 30.0, 0.9, 2.0).expect("parameters");
        (purchases, SpendModel::new(2.0, 3.0, 1_000.0).expect("parameters"))
    }

    fn value(months: u32, discount: Discount, margin: f64) -> f64 {
        let (purchases, spend) = models();
        let customer = Purchases::new(3, 40, 90, 2_400, 3_000).expect("a history");
        let terms = Terms::new(90, months, discount, margin).expect("terms");
        predict(&purchases, Some(&spend), &customer, &terms).lifetime_value_minor.expect("a value")
    }

    #[test]
    fn value_without_discount_is_purchases_times_spend_times_margin() {
        let (purchases, spend) = models();
        let customer = Purchases::new(3, 40, 90, 2_400, 3_000).expect("a history");
        let expected = purchases.expected_purchases(&customer, 365) * spend.expected_spend(&customer) * 0.4;
        assert!((value(12, Discount::Annual(0.0), 0.4) / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn discount_is_taken_at_the_end_of_each_month() {
        // A single month at 25 %: 1 / 1.25 of it. Twelve months at 1 % each are a year at 1.01^12 - 1.
        let of_a_month = value(1, Discount::Monthly(0.25), 1.0) / value(1, Discount::Monthly(0.0), 1.0);
        assert!((of_a_month - 0.8).abs() < 1e-12);
        let by_year = value(12, Discount::Annual(1.01_f64.powi(12) - 1.0), 1.0);
        assert!((value(12, Discount::Monthly(0.01), 1.0) / by_year - 1.0).abs() < 1e-12);
    }

    #[test]
    fn nobody_pays_where_nobody_paid() {
        let (purchases, _) = models();
        let customer = Purchases::new(0, 0, 0, 0, 0).expect("a history");
        let terms = Terms::new(90, 12, Discount::Annual(0.1), 1.0).expect("terms");
        let prediction = predict(&purchases, None, &customer, &terms);
        assert_eq!((prediction.expected_spend_minor, prediction.lifetime_value_minor), (None, None));
        // 30 (2^(1 / .8) - 1) = 41.35 days.
        assert_eq!(prediction.next_purchase_days, Some(42));
    }

    #[test]
    fn terms_out_of_range_are_refused() {
        let terms = |horizon, months, rate, margin| Terms::new(horizon, months, Discount::Annual(rate), margin).err();
        assert_eq!(terms(0, 12, 0.1, 1.0), Some(ValueError::HorizonOutOfRange));
        assert_eq!(terms(90, 121, 0.1, 1.0), Some(ValueError::MonthsOutOfRange));
        assert_eq!(terms(90, 12, f64::NAN, 1.0), Some(ValueError::DiscountOutOfRange));
        assert_eq!(terms(90, 12, -0.1, 1.0), Some(ValueError::DiscountOutOfRange));
        assert_eq!(terms(90, 12, 0.1, 1.1), Some(ValueError::MarginOutOfRange));
        assert_eq!(terms(90, 12, 0.1, 1.0), None);
    }
}
