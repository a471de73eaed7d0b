//! The purchase models: how often a customer buys while active, and when the customer lapses.
//!
//! While active, a customer buys at random at an individual rate, and lapses at each chance with an individual
//! probability; over customers, rates are gamma distributed (r, α) and probabilities beta distributed (a, b). The two
//! models differ only in the chances to lapse:
//! - BG/NBD (Fader, Hardie & Lee, "Counting your customers" the easy way, Marketing Science 24(2), 2005): after each
//!   repeat purchase, so that one-time buyers are active for sure;
//! - MBG/NBD (Batislam, Denizel & Filiztekin, Empirical validation and comparison of models for customer base analysis,
//!   International Journal of Research in Marketing 24(3), 2007): after every purchase, including the first.
//!
//! So each formula is written once, in terms of the number of chances. Times are in days; the papers' α in weeks
//! is α / 7 here.

use serde::{Deserialize, Serialize};

use super::error::ValueError;
use super::purchases::Purchases;

/// The chances to lapse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// After every purchase.
    #[default]
    MbgNbd,
    /// After every repeat purchase.
    BgNbd,
}

/// A purchase model and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PurchaseModel {
    pub(super) kind: Kind,
    pub(super) r: f64,
    pub(super) alpha_days: f64,
    pub(super) a: f64,
    pub(super) b: f64,
}

/// The range of r, a and b; beyond it a gamma or beta distribution is practically a point, or concentrated at its ends.
pub const PARAMETER_RANGE: (f64, f64) = (1e-4, 1e4);
/// The range of α: from minutes to centuries.
pub const ALPHA_RANGE_DAYS: (f64, f64) = (1e-2, 1e5);

/// The maximum horizon: ten years.
pub const HORIZON_DAYS_MAX: u32 = 3_650;

/// Maximum number of future purchases considered; nobody's repeats go that far.
const TERMS_MAX: u32 = 100_000;

impl Kind {
    /// The number of chances to lapse of a customer with `repeats`.
    pub fn chances(self, repeats: u32) -> u32 {
        match self {
            Kind::MbgNbd => repeats + 1,
            Kind::BgNbd => repeats,
        }
    }
}

impl PurchaseModel {
    /// Error: a parameter out of its range.
    pub fn new(kind: Kind, r: f64, alpha_days: f64, a: f64, b: f64) -> Result<PurchaseModel, ValueError> {
        let is_within = |value: f64, (low, high): (f64, f64)| (low..=high).contains(&value);
        if [r, a, b].iter().all(|value| is_within(*value, PARAMETER_RANGE)) && is_within(alpha_days, ALPHA_RANGE_DAYS) {
            Ok(PurchaseModel { kind, r, alpha_days, a, b })
        } else {
            Err(ValueError::ParameterOutOfRange)
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// r, α in days, a and b.
    pub fn parameters(&self) -> [f64; 4] {
        [self.r, self.alpha_days, self.a, self.b]
    }

    /// The probability that the customer has not lapsed.
    ///
    /// Not one minus churn: BG/NBD gives 1 to every one-time buyer, so that those least likely to come back would have
    /// the least churn. Use [`churn`](Self::churn).
    pub fn p_alive(&self, customer: &Purchases) -> f64 {
        let chances = f64::from(self.kind.chances(customer.repeats()));
        if chances == 0.0 {
            return 1.0;
        }
        let at_last_purchase = self.alpha_days + f64::from(customer.recency_days());
        let ln_silence = self.shape(customer) * (self.rate_days(customer) / at_last_purchase).ln();
        let odds_of_lapse = self.a / (self.b + chances - 1.0) * ln_silence.exp();
        1.0 / (1.0 + odds_of_lapse)
    }

    /// The probability of no purchase in the next `horizon_days`: lapsed already, or active and not buying, 1 -
    /// P(alive) (1 - ((α + T) / (α + T + h))^(r + x)). Decreases with the horizon.
    pub fn churn(&self, customer: &Purchases, horizon_days: u32) -> f64 {
        let ln_silent = -self.shape(customer) * (f64::from(horizon_days) / self.rate_days(customer)).ln_1p();
        1.0 + self.p_alive(customer) * ln_silent.exp_m1()
    }

    /// E[Y(h) | x, t_x, T]: expected purchases in the next `horizon_days`.
    pub fn expected_purchases(&self, customer: &Purchases, horizon_days: u32) -> f64 {
        self.p_alive(customer) * self.expected_while_active(customer, horizon_days)
    }

    /// Median days until an active customer's next purchase; `None` beyond [`HORIZON_DAYS_MAX`]. The mean is infinite
    /// for most one-time buyers, the median never is.
    pub fn median_days_to_next(&self, customer: &Purchases) -> Option<u32> {
        let days = self.rate_days(customer) * (std::f64::consts::LN_2 / self.shape(customer)).exp_m1();
        (days <= f64::from(HORIZON_DAYS_MAX)).then_some(days.ceil() as u32)
    }

    /// E[Y(h)] of a customer who is active now.
    ///
    /// Without lapsing, the number of purchases K would be negative binomial; the j-th of them happens if all chances
    /// before it passed, which has the probability S_j = Π_{i<j} (b' + i) / (a + b' + i), b' = b + chances so far.
    /// Hence E[Y(h)] = Σ_k P(K = k) Σ_{j<k} S_j. The papers express the same as a hypergeometric function 2F1 divided
    /// by a - 1; this sum has positive terms only, so that nothing cancels and a = 1 is not a special case.
    fn expected_while_active(&self, customer: &Purchases, horizon_days: u32) -> f64 {
        let (shape, horizon_days) = (self.shape(customer), f64::from(horizon_days));
        let share = horizon_days / (self.rate_days(customer) + horizon_days);
        let passed = self.b + f64::from(self.kind.chances(customer.repeats()));
        let (mut weight, mut survives, mut purchases) = (1.0, 1.0, 0.0);
        // The weights of K are relative: dividing by their sum avoids a power that could underflow.
        let (mut weights, mut weighted) = (1.0, 0.0);
        for k in (0..TERMS_MAX).map(f64::from) {
            let ratio = (shape + k) / (k + 1.0) * share;
            weight *= ratio;
            purchases += survives;
            survives *= (passed + k) / (self.a + passed + k);
            let term = weight * purchases;
            weights += weight;
            weighted += term;
            if ratio < 1.0 && term <= weighted * (1.0 - ratio) * f64::EPSILON {
                break;
            }
            if weights > 1e200 {
                (weight, weights, weighted) = (weight * 1e-200, weights * 1e-200, weighted * 1e-200);
            }
        }
        weighted / weights
    }

    /// r + x, the shape of the customer's own gamma distribution.
    fn shape(&self, customer: &Purchases) -> f64 {
        self.r + f64::from(customer.repeats())
    }

    /// α + T, its rate.
    fn rate_days(&self, customer: &Purchases) -> f64 {
        self.alpha_days + f64::from(customer.age_days())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(repeats: u32, recency_days: u32, age_days: u32) -> Purchases {
        Purchases::new(repeats, recency_days, age_days, 0, 0).expect("a history")
    }

    fn model(kind: Kind, a: f64) -> PurchaseModel {
        PurchaseModel::new(kind, 0.8, 30.0, a, 2.0).expect("parameters")
    }

    /// E[Y(h)] of an active customer as in the papers, with 2F1 summed after Euler's transformation.
    fn by_hypergeometric(model: &PurchaseModel, customer: &Purchases, horizon_days: u32) -> f64 {
        let horizon_days = f64::from(horizon_days);
        let (s, rate) = (model.shape(customer), model.rate_days(customer));
        let passed = model.b + f64::from(model.kind.chances(customer.repeats()));
        let (c, z) = (model.a + passed - 1.0, horizon_days / (rate + horizon_days));
        let (mut term, mut sum) = (1.0, 1.0);
        for k in (0..5_000).map(f64::from) {
            term *= (c - s + k) * (c - passed + k) / ((c + k) * (k + 1.0)) * z;
            sum += term;
        }
        c / (model.a - 1.0) * (1.0 - (1.0 - z).powf(model.a - 1.0) * sum)
    }

    #[test]
    fn one_time_buyer_is_active_for_sure_only_where_first_purchases_lapse_nobody() {
        // Odds of lapse 1 / 2 · (20 / 10)^1 = 1, so P(alive) = 1 / 2; churn in 20 days 1 - (1 - (20 / 40)^1) / 2 = 3 /
        // 4.
        let mbg = PurchaseModel::new(Kind::MbgNbd, 1.0, 10.0, 1.0, 2.0).expect("parameters");
        let once = customer(0, 0, 10);
        assert!((mbg.p_alive(&once) - 0.5).abs() < 1e-12);
        assert!((mbg.churn(&once, 20) - 0.75).abs() < 1e-12);
        let bg = PurchaseModel::new(Kind::BgNbd, 1.0, 10.0, 1.0, 2.0).expect("parameters");
        assert!((bg.p_alive(&once), bg.churn(&once, 20)) == (1.0, 0.5));
        // With a gamma (1, 19) rate half have bought again within 19 (2 - 1) days.
        assert_eq!(mbg.median_days_to_next(&customer(0, 0, 9)), Some(19));
    }

    #[test]
    fn sum_over_purchases_is_the_hypergeometric_form() {
        for kind in [Kind::MbgNbd, Kind::BgNbd] {
            for a in [0.3, 0.9, 1.7] {
                for customer in [customer(0, 0, 0), customer(0, 0, 200), customer(3, 40, 90), customer(40, 300, 310)] {
                    for horizon_days in [1, 90, 700] {
                        let model = model(kind, a);
                        let sum = model.expected_while_active(&customer, horizon_days);
                        let known = by_hypergeometric(&model, &customer, horizon_days);
                        assert!(
                            (sum / known - 1.0).abs() < 1e-9,
                            "{kind:?} {a} {customer:?} {horizon_days}: {sum} {known}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn expected_purchases_pass_a_of_one_without_a_step() {
        let at = |a| model(Kind::MbgNbd, a).expected_purchases(&customer(3, 40, 90), 90);
        assert!((at(1.0) - f64::midpoint(at(1.0 - 1e-6), at(1.0 + 1e-6))).abs() < 1e-10);
    }

    #[test]
    fn many_purchases_to_come_are_summed_without_underflow() {
        // Almost no lapse, at almost 20 a day: 1 / (1 + h / rate)^shape is far below the smallest number.
        let busy = PurchaseModel::new(Kind::BgNbd, 2_000.0, 100.0, 1e-4, 1e4).expect("parameters");
        let purchases = busy.expected_purchases(&customer(0, 0, 0), 365);
        assert!((purchases / 7_300.0 - 1.0).abs() < 1e-3, "{purchases}");
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e4] {
            assert_eq!(PurchaseModel::new(Kind::MbgNbd, bad, 30.0, 1.0, 2.0), Err(ValueError::ParameterOutOfRange));
        }
        assert_eq!(PurchaseModel::new(Kind::MbgNbd, 1.0, 0.0, 1.0, 2.0), Err(ValueError::ParameterOutOfRange));
    }
}
