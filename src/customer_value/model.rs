//! Metadata of a tenant's customer model, included with every number derived from it.

use async_graphql::{Enum, SimpleObject};
use models::value::{Basis, Calibration, NotJudged};

use super::store::Model;
use super::terms;
use crate::calendar::day_from_number;
use crate::graphql::scalars::{Count, Currency, Date, DateTime, Decimal, Position};
use crate::money::{Money, SCALE};

/// Where parameters come from.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum ModelBasis {
    /// They were fitted to this tenant's customers.
    Fitted,
    /// They were published for another shop, since there are too few customers here: they say how customers may behave, and nothing about these.
    Prior,
}

/// Predicts purchases by MBG/NBD and spend by Gamma-Gamma. Only orders in `currency` are used, each less its refunds; orders on the same day are one purchase.
#[derive(Clone, SimpleObject)]
pub struct CustomerModel {
    /// The models, and the version of their implementation.
    version: String,
    /// When it was fitted.
    fitted_at: DateTime,
    /// The last position of the ledger that is included.
    position: Position,
    /// The last day that is included, in the default organization's time zone; predictions begin after it.
    day: Date,
    /// The currency of all amounts.
    currency: Currency,
    /// Customers who have predictions.
    customers_count: Count,
    /// The number of customers that the purchase model was fitted to, or would have been: all of them, up to about 100000.
    sample_size: Count,
    /// Customers in the sample who bought on more than one day.
    repeaters_count: Count,
    /// Where the parameters of the purchase model come from.
    basis: ModelBasis,
    /// Why published parameters are used; null if they were fitted.
    basis_reason: Option<String>,
    /// Where the parameters of the spend model come from; null if nobody has paid yet.
    spend_basis: Option<ModelBasis>,
    /// Why published parameters are used, scaled to the average spend here; null if they were fitted.
    spend_basis_reason: Option<String>,
    /// The parameters: r, alpha in days, a and b of the purchase model; p, q and v (in the currency) of the spend model.
    parameters: Vec<ModelParameter>,
    /// The correlation of spend with purchase frequency, -1 to 1. The further it is from 0, the more the values of frequent customers are too low (positive) or too high (negative). Null if it cannot be determined.
    spend_frequency_correlation: Option<f64>,
    /// How well the same procedure did 90 days before the end of the last complete day; null if that cannot be determined yet.
    calibration: Option<ModelCalibration>,
    /// Why there is no calibration; null if there is one.
    calibration_reason: Option<String>,
}

/// A parameter of a model.
#[derive(Clone, SimpleObject)]
struct ModelParameter {
    /// Its symbol in the literature.
    name: String,
    /// Its value.
    value: f64,
}

/// Predictions made as of an earlier day, from what was known then, compared with what happened.
#[derive(Clone, SimpleObject)]
struct ModelCalibration {
    /// The last day whose data was used.
    day: Date,
    /// How many days after it were predicted.
    horizon_days: i32,
    /// Customers known on that day.
    customers_count: Count,
    /// The probability that, of a customer who came back and one who did not, the latter had the higher predicted churn: 0.5 is chance, 1 is perfect.
    auc: f64,
    /// The Brier score of churn, which is its mean squared error: 0 is perfect.
    brier: f64,
    /// The Brier score of a baseline that predicts the actual share of churn for everybody.
    brier_of_share: f64,
    /// The mean of the predicted churn.
    churn_predicted: f64,
    /// The share of customers who did not come back.
    churn_actual: f64,
    /// Purchases predicted, of all customers together.
    purchases_predicted: f64,
    /// Purchases made; orders on the same day are one purchase.
    purchases_actual: Count,
    /// Revenue predicted; null if nobody had paid yet.
    revenue_predicted: Option<Decimal>,
    /// Actual revenue.
    revenue_actual: Decimal,
}

impl CustomerModel {
    pub fn new(model: &Model) -> Self {
        let fit = &model.content.fit;
        let basis = |basis: Basis| if basis.is_prior() { ModelBasis::Prior } else { ModelBasis::Fitted };
        let calibration = fit.calibration.as_ref();
        CustomerModel {
            version: fit.version().to_owned(),
            fitted_at: DateTime(model.fitted_at),
            position: Position(model.position),
            day: Date(day_from_number(fit.as_of_day)),
            currency: Currency(model.content.currency.clone()),
            customers_count: Count(model.content.customers),
            sample_size: count(fit.purchases.customers),
            repeaters_count: count(fit.repeaters),
            basis: basis(fit.purchases.basis),
            basis_reason: reason(fit.purchases.basis),
            spend_basis_reason: fit.spend.as_ref().and_then(|spend| reason(spend.basis)),
            spend_basis: fit.spend.as_ref().map(|spend| basis(spend.basis)),
            parameters: parameters(model),
            spend_frequency_correlation: fit.spend_frequency_correlation,
            calibration: calibration.ok().map(ModelCalibration::from),
            calibration_reason: calibration.err().map(NotJudged::to_string),
        }
    }
}

fn reason(basis: Basis) -> Option<String> {
    match basis {
        Basis::Fitted => None,
        Basis::Prior(why) => Some(why.to_string()),
    }
}

fn parameters(model: &Model) -> Vec<ModelParameter> {
    let fit = &model.content.fit;
    let purchases = ["r", "alpha", "a", "b"].into_iter().zip(fit.purchases.model.parameters());
    let spend = fit.spend.iter().flat_map(|spend| {
        let [p, q, v_minor] = spend.model.parameters();
        ["p", "q", "v"].into_iter().zip([p, q, v_minor / SCALE as f64])
    });
    purchases.chain(spend).map(|(name, value)| ModelParameter { name: name.to_owned(), value }).collect()
}

impl From<&Calibration> for ModelCalibration {
    fn from(calibration: &Calibration) -> Self {
        ModelCalibration {
            day: Date(day_from_number(calibration.cut_day)),
            horizon_days: calibration.horizon_days.cast_signed(),
            customers_count: count(calibration.customers),
            auc: calibration.auc,
            brier: calibration.brier,
            brier_of_share: calibration.brier_of_share,
            churn_predicted: calibration.churn_predicted,
            churn_actual: calibration.churn_actual,
            purchases_predicted: calibration.purchases_predicted,
            purchases_actual: Count(calibration.purchases_actual.cast_signed()),
            revenue_predicted: calibration.revenue_predicted_minor.map(terms::to_money).map(Decimal),
            revenue_actual: Decimal(Money::from_sum(calibration.revenue_actual_minor).unwrap_or(Money(i64::MAX))),
        }
    }
}

fn count(n: usize) -> Count {
    Count(i64::try_from(n).unwrap_or(i64::MAX))
}
