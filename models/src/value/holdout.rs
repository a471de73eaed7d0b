//! Holdout evaluation: predictions as of an earlier day, from what was known then, compared with what came.

use serde::{Deserialize, Serialize};

use super::fit::{estimate_purchases, estimate_spend, known_on};
use super::model::Kind;
use super::purchases::PurchaseDays;

/// The predictions to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Backtest {
    /// The last complete day: an incomplete one cannot be told from a day without purchases.
    pub until_day: i32,
    /// Days between the cut and the end: 1 to [`HORIZON_DAYS_MAX`](super::HORIZON_DAYS_MAX).
    pub horizon_days: u32,
}

/// With fewer customers the standard error of the figures is near a tenth.
pub const JUDGED_MIN: usize = 50;

/// Predictions as of a day, compared with the days after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The last day known to the predictions.
    pub cut_day: i32,
    /// The horizon in days.
    pub horizon_days: u32,
    /// Customers known on that day.
    pub customers: usize,
    /// The probability that, of two customers of whom one came again and one did not, the latter had the higher churn:
    /// .5 is chance, 1 is perfect.
    pub auc: f64,
    /// Mean squared error of churn: 0 is perfect.
    pub brier: f64,
    /// The Brier score of predicting the actual churn rate for everybody.
    pub brier_of_share: f64,
    /// Mean predicted churn, and the share of customers who did not come again.
    pub churn_predicted: f64,
    pub churn_actual: f64,
    /// Predicted and actual purchases of all customers.
    pub purchases_predicted: f64,
    pub purchases_actual: u64,
    /// Predicted and actual revenue of all customers, in the smallest currency unit; no prediction where there were no
    /// paying customers yet.
    pub revenue_predicted_minor: Option<f64>,
    pub revenue_actual_minor: i128,
}

/// Why predictions cannot be evaluated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NotJudged {
    #[error("the history is shorter than twice the horizon")]
    HistoryTooShort,
    #[error("fewer than {JUDGED_MIN} customers were known a horizon ago")]
    TooFewCustomers,
    #[error("all customers came again, or none did")]
    SameForAll,
}

/// A customer's predictions and actual purchases.
#[derive(Clone, Copy)]
struct Outcome {
    churn: f64,
    expected_purchases: f64,
    expected_revenue: Option<f64>,
    purchases: u32,
    revenue_minor: i64,
}

impl Calibration {
    /// Evaluates the model as it would have been then, including the prior if it would have been used.
    pub(super) fn of(customers: &[PurchaseDays], kind: Kind, backtest: Backtest) -> Result<Calibration, NotJudged> {
        let Backtest { until_day, horizon_days } = backtest;
        let cut_day = until_day.saturating_sub_unsigned(horizon_days);
        let known = known_on(customers, cut_day);
        // The first and the last day both count.
        let seen_days = known.iter().map(|purchases| purchases.age_days() + 1).max();
        if seen_days.is_none_or(|seen| seen < horizon_days) {
            return Err(NotJudged::HistoryTooShort);
        }
        if known.len() < JUDGED_MIN {
            return Err(NotJudged::TooFewCustomers);
        }
        let model = estimate_purchases(kind, &known).model;
        let spend = estimate_spend(&known).map(|estimate| estimate.model);
        let judged = customers.iter().filter_map(|days| Some((days.until(cut_day)?, days)));
        let outcomes = judged.map(|(purchases, days)| {
            let expected_purchases = model.expected_purchases(&purchases, horizon_days);
            let (count, revenue_minor) = days.between(cut_day, until_day);
            Outcome {
                churn: model.churn(&purchases, horizon_days),
                expected_purchases,
                expected_revenue: spend.map(|spend| expected_purchases * spend.expected_spend(&purchases)),
                purchases: count,
                revenue_minor,
            }
        });
        summarize(&outcomes.collect::<Vec<_>>(), cut_day, horizon_days).ok_or(NotJudged::SameForAll)
    }

    /// Whether the predictions beat the constant churn rate.
    pub fn is_better_than_share(&self) -> bool {
        self.brier < self.brier_of_share
    }
}

impl Outcome {
    fn is_churned(self) -> bool {
        self.purchases == 0
    }

    fn churned(self) -> f64 {
        f64::from(u8::from(self.is_churned()))
    }
}

/// `None` unless some customers came again and some did not.
fn summarize(outcomes: &[Outcome], cut_day: i32, horizon_days: u32) -> Option<Calibration> {
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
    let churn_actual = mean(|outcome| outcome.churned());
    Some(Calibration {
        cut_day,
        horizon_days,
        customers: outcomes.len(),
        auc: auc(outcomes)?,
        brier: mean(|outcome| (outcome.churn - outcome.churned()).powi(2)),
        brier_of_share: churn_actual * (1.0 - churn_actual),
        churn_predicted: mean(|outcome| outcome.churn),
        churn_actual,
        purchases_predicted: outcomes.iter().map(|outcome| outcome.expected_purchases).sum(),
        purchases_actual: outcomes.iter().map(|outcome| u64::from(outcome.purchases)).sum(),
        revenue_predicted_minor: outcomes.iter().map(|outcome| outcome.expected_revenue).sum(),
        revenue_actual_minor: outcomes.iter().map(|outcome| i128::from(outcome.revenue_minor)).sum(),
    })
}

/// The area under the ROC curve of churn, by the Mann-Whitney statistic; ties count half.
fn auc(outcomes: &[Outcome]) -> Option<f64> {
    let mut ranked: Vec<(f64, bool)> = outcomes.iter().map(|outcome| (outcome.churn, outcome.is_churned())).collect();
    ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut came_below, mut pairs_in_order) = (0.0, 0.0);
    for tie in ranked.chunk_by(|a, b| a.0 == b.0) {
        let churned = tie.iter().filter(|outcome| outcome.1).count() as f64;
        let came = tie.len() as f64 - churned;
        pairs_in_order += churned * (came_below + came / 2.0);
        came_below += came;
    }
    let pairs = came_below * (ranked.len() as f64 - came_below);
    (pairs > 0.0).then(|| pairs_in_order / pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(churn: f64, purchases: u32) -> Outcome {
        Outcome { churn, expected_purchases: 0.5, expected_revenue: Some(100.0), purchases, revenue_minor: 150 }
    }

    #[test]
    fn figures_are_those_added_by_hand() {
        // Came again: .2 and .6; did not: .6 and .9. Of four pairs three are in order, and one is a tie: 3.5 / 4.
        // Squared errors: .04 + .36 + .16 + .01 = .57.
        let outcomes = [outcome(0.9, 0), outcome(0.2, 3), outcome(0.6, 0), outcome(0.6, 1)];
        let calibration = summarize(&outcomes, 7, 30).expect("figures");
        assert!((calibration.auc - 0.875).abs() < 1e-12 && (calibration.brier - 0.1425).abs() < 1e-12);
        assert!((calibration.churn_predicted - 0.575).abs() < 1e-12 && calibration.churn_actual == 0.5);
        assert_eq!((calibration.purchases_predicted, calibration.purchases_actual), (2.0, 4));
        assert_eq!((calibration.revenue_predicted_minor, calibration.revenue_actual_minor), (Some(400.0), 600));
        assert!(calibration.brier_of_share == 0.25 && calibration.is_better_than_share());
    }

    #[test]
    fn outcomes_that_are_all_the_same_judge_nothing() {
        assert_eq!(summarize(&[outcome(0.9, 0), outcome(0.2, 0)], 7, 30), None);
        assert_eq!(summarize(&[outcome(0.9, 1)], 7, 30), None);
        assert_eq!(summarize(&[], 7, 30), None);
    }

    #[test]
    fn what_cannot_be_judged_says_why() {
        let twice = |second: i32| PurchaseDays::from_orders([(0, 100), (second, 100)]).expect("days");
        let calibration = |customers: &[PurchaseDays], until_day| {
            Calibration::of(customers, Kind::MbgNbd, Backtest { until_day, horizon_days: 30 })
        };
        // Days 0 to 29 are 30 days before the cut.
        assert_eq!(calibration(&vec![twice(40); 60], 58), Err(NotJudged::HistoryTooShort));
        assert_eq!(calibration(&vec![twice(40); 60], 59), Err(NotJudged::SameForAll));
        assert_eq!(calibration(&vec![twice(40); 49], 59), Err(NotJudged::TooFewCustomers));
        let mixed: Vec<_> = (0..60).map(|i| twice(if i < 30 { 10 } else { 40 })).collect();
        let judged = calibration(&mixed, 59).expect("figures");
        assert_eq!((judged.cut_day, judged.customers, judged.purchases_actual), (29, 60, 30));
    }
}
