//! Fits the models to all customers of a tenant, or falls back to the prior where there are too few.

use serde::{Deserialize, Serialize};

use super::error::ValueError;
use super::holdout::{Backtest, Calibration, NotJudged};
use super::lifetime::{Prediction, Terms, predict};
use super::likelihood::Likelihood;
use super::model::{HORIZON_DAYS_MAX, Kind, PurchaseModel};
use super::prior::{purchase_prior, spend_prior};
use super::purchases::{PurchaseDays, Purchases};
use super::spend::{SpendLikelihood, SpendModel, correlation_with_frequency};

/// With fewer customers, estimates of four parameters are down to chance, and the prior is used.
pub const CUSTOMERS_MIN: usize = 200;
/// Likewise for repeat customers, the only ones that carry information on purchase rates and repeat spend.
pub const REPEATERS_MIN: usize = 50;

/// Where parameters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// This tenant's customers.
    Fitted,
    /// Published parameters of another shop.
    Prior(WhyPrior),
}

/// Why the prior was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum WhyPrior {
    #[error("fewer than {CUSTOMERS_MIN} customers")]
    TooFewCustomers,
    #[error("fewer than {REPEATERS_MIN} customers who came again")]
    TooFewRepeaters,
    #[error("no parameters fit best")]
    NoMaximum,
}

/// A model and the basis of its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate<Model> {
    pub model: Model,
    pub basis: Basis,
    /// Customers the model was fitted to, or would have been.
    pub customers: usize,
    /// The log-likelihood of the parameters given these customers, with times in days and amounts in the smallest
    /// currency unit.
    pub log_likelihood: f64,
}

/// Models of a tenant's customers as of a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The last day of the training data.
    pub as_of_day: i32,
    pub purchases: Estimate<PurchaseModel>,
    /// `None` where total spend is not positive yet.
    pub spend: Option<Estimate<SpendModel>>,
    /// Customers who bought on more than one day.
    pub repeaters: usize,
    /// Pearson's correlation of mean spend with repeats. The spend model assumes independence; far from 0, lifetime
    /// values of frequent customers are too low (positive) or too high (negative).
    pub spend_frequency_correlation: Option<f64>,
    /// How well the same procedure performed one horizon before the end of the backtest; or why that cannot be
    /// determined.
    pub calibration: Result<Calibration, NotJudged>,
}

impl Basis {
    pub fn is_prior(self) -> bool {
        matches!(self, Basis::Prior(_))
    }
}

impl Fit {
    /// Identifies the models and the version of their computation.
    pub fn version(&self) -> &'static str {
        match self.purchases.model.kind() {
            Kind::MbgNbd => "MBG/NBD + Gamma-Gamma 1",
            Kind::BgNbd => "BG/NBD + Gamma-Gamma 1",
        }
    }

    /// Predictions for one customer as of the day of the fit.
    pub fn predict(&self, customer: &Purchases, terms: &Terms) -> Prediction {
        predict(&self.purchases.model, self.spend.as_ref().map(|spend| &spend.model), customer, terms)
    }
}

/// Fits the models to purchases up to the end of `as_of_day`; later customers are ignored.
///
/// Errors: no customers, a horizon of the backtest out of range.
pub fn fit(customers: &[PurchaseDays], as_of_day: i32, kind: Kind, backtest: Backtest) -> Result<Fit, ValueError> {
    if !(1..=HORIZON_DAYS_MAX).contains(&backtest.horizon_days) {
        return Err(ValueError::HorizonOutOfRange);
    }
    let known = known_on(customers, as_of_day);
    if known.is_empty() {
        return Err(ValueError::NoCustomers);
    }
    Ok(Fit {
        as_of_day,
        purchases: estimate_purchases(kind, &known),
        spend: estimate_spend(&known),
        repeaters: repeaters(&known),
        spend_frequency_correlation: correlation_with_frequency(&known),
        calibration: Calibration::of(customers, kind, backtest),
    })
}

/// The customers known at the end of a day.
pub fn known_on(customers: &[PurchaseDays], day: i32) -> Vec<Purchases> {
    customers.iter().filter_map(|days| days.until(day)).collect()
}

/// Estimates the purchase model of some customers.
pub fn estimate_purchases(kind: Kind, customers: &[Purchases]) -> Estimate<PurchaseModel> {
    let likelihood = Likelihood::new(kind, customers);
    let fitted = if customers.len() < CUSTOMERS_MIN {
        Err(WhyPrior::TooFewCustomers)
    } else if repeaters(customers) < REPEATERS_MIN {
        Err(WhyPrior::TooFewRepeaters)
    } else {
        likelihood.maximize().ok_or(WhyPrior::NoMaximum)
    };
    let (model, basis) = match fitted {
        Ok(model) => (model, Basis::Fitted),
        Err(why) => (purchase_prior(kind), Basis::Prior(why)),
    };
    Estimate { model, basis, customers: customers.len(), log_likelihood: likelihood.of(&model) }
}

/// Estimates the spend model of some customers; `None` where total spend is not positive yet.
pub fn estimate_spend(customers: &[Purchases]) -> Option<Estimate<SpendModel>> {
    let likelihood = SpendLikelihood::new(customers);
    let fitted = if likelihood.customers() < REPEATERS_MIN {
        Err(WhyPrior::TooFewRepeaters)
    } else {
        likelihood.maximize().ok_or(WhyPrior::NoMaximum)
    };
    let (model, basis) = match fitted {
        Ok(model) => (model, Basis::Fitted),
        Err(why) => (spend_prior(mean_spend_minor(customers))?, Basis::Prior(why)),
    };
    Some(Estimate { model, basis, customers: likelihood.customers(), log_likelihood: likelihood.of(&model) })
}

/// Mean spend per purchase over all customers, including first purchases.
fn mean_spend_minor(customers: &[Purchases]) -> f64 {
    let total: i128 = customers.iter().map(|customer| i128::from(customer.total_minor())).sum();
    let purchases: u64 = customers.iter().map(|customer| u64::from(customer.purchase_days())).sum();
    total as f64 / purchases as f64
}

fn repeaters(customers: &[Purchases]) -> usize {
    customers.iter().filter(|customer| customer.repeats() > 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `repeaters` of `customers` come again, each after a different time.
    fn customers(customers: i32, repeaters: i32) -> Vec<PurchaseDays> {
        let days = |i: i32| {
            let again = (i < repeaters).then_some((1 + i % 40, 500 + i64::from(i)));
            PurchaseDays::from_orders([(0, 700)].into_iter().chain(again)).expect("days")
        };
        (0..customers).map(days).collect()
    }

    const BACKTEST: Backtest = Backtest { until_day: 90, horizon_days: 30 };

    fn basis(customers: &[PurchaseDays]) -> Basis {
        fit(customers, 90, Kind::MbgNbd, BACKTEST).expect("a fit").purchases.basis
    }

    #[test]
    fn small_tenants_get_the_prior() {
        assert_eq!(basis(&customers(199, 100)), Basis::Prior(WhyPrior::TooFewCustomers));
        assert_eq!(basis(&customers(200, 49)), Basis::Prior(WhyPrior::TooFewRepeaters));
        assert_eq!(basis(&customers(200, 50)), Basis::Fitted);
        let small = fit(&customers(3, 1), 90, Kind::MbgNbd, BACKTEST).expect("a fit");
        assert_eq!(small.purchases.model, purchase_prior(Kind::MbgNbd));
        assert_eq!((small.purchases.customers, small.repeaters), (3, 1));
        // (3 · 700 + 500) / 4 purchases.
        let spend = small.spend.expect("a spend model");
        assert!(spend.basis.is_prior() && (spend.model.mean_spend() - 650.0).abs() < 1e-9);
    }

    #[test]
    fn prior_is_less_likely_than_the_fit() {
        let fitted = fit(&customers(400, 120), 90, Kind::MbgNbd, BACKTEST).expect("a fit").purchases;
        let known = known_on(&customers(400, 120), 90);
        let of_prior = Likelihood::new(Kind::MbgNbd, &known).of(&purchase_prior(Kind::MbgNbd));
        assert!(fitted.basis == Basis::Fitted && fitted.log_likelihood > of_prior);
    }

    #[test]
    fn nobody_is_refused() {
        assert_eq!(fit(&[], 90, Kind::MbgNbd, BACKTEST).err(), Some(ValueError::NoCustomers));
        assert_eq!(fit(&customers(9, 0), -1, Kind::MbgNbd, BACKTEST).err(), Some(ValueError::NoCustomers));
        let of_no_days = Backtest { horizon_days: 0, ..BACKTEST };
        assert_eq!(fit(&customers(9, 0), 90, Kind::MbgNbd, of_no_days).err(), Some(ValueError::HorizonOutOfRange));
    }
}
