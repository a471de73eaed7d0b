//! Customer value: who will come again, when, how often and for how much; segments and retention.
//!
//! Data flows one way. The [`PurchaseDays`] of each customer are summarized as [`Purchases`]; [`fit`] estimates the
//! [`PurchaseModel`] and the [`SpendModel`] for all customers of a tenant, or uses a prior, and evaluates earlier
//! predictions; [`Fit::predict`] returns the predictions for one customer. [`Scale`] and [`Retention`] are descriptive
//! only.
//!
//! No database and no clock: days and months are numbers, counted from any fixed one. Amounts are exact integers in the
//! smallest unit of one currency. Results are deterministic, and never infinite or NaN.

mod error;
mod fit;
mod holdout;
mod lifetime;
mod likelihood;
mod minimize;
mod model;
mod prior;
mod purchases;
mod retention;
mod rfm;
mod spend;

pub use error::ValueError;
pub use fit::{Basis, CUSTOMERS_MIN, Estimate, Fit, REPEATERS_MIN, WhyPrior, fit};
pub use holdout::{Backtest, Calibration, JUDGED_MIN, NotJudged};
pub use lifetime::{DISCOUNT_MAX, Discount, MONTHS_MAX, Prediction, Terms};
pub use likelihood::Likelihood;
pub use model::{HORIZON_DAYS_MAX, Kind, PurchaseModel};
pub use prior::{purchase_prior, spend_prior};
pub use purchases::{AGE_DAYS_MAX, Order, PurchaseDays, Purchases, Refund};
pub use retention::{ActiveMonths, Cell, Cohort, CurvePoint, Month, Retention};
pub use rfm::{Rfm, Scale, Segment};
pub use spend::{SpendLikelihood, SpendModel, correlation_with_frequency};
