//! Spend per purchase: the Gamma-Gamma model (Fader & Hardie, The Gamma-Gamma model of monetary value, 2013, after
//! Colombo & Jiang, A stochastic RFM model, 1999).
//!
//! A customer's purchase amounts are gamma distributed (shape p, an individual rate), and over customers the rates are
//! gamma distributed (shape q, rate v). Spend is assumed to be independent of purchase frequency; the correlation says
//! how far that holds. Amounts are in the smallest currency unit.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::{digamma, ln_gamma};

use super::error::ValueError;
use super::minimize::{Valued, minimize};
use super::purchases::Purchases;

/// Start of the search for p, q - 1 and v, with amounts divided by their mean.
const START: [f64; 3] = [1.0, 1.0, 1.0];
/// Search ranges of p, q - 1 and v. With q near 1 the mean over customers depends on the few largest, so q stays at
/// least 1.05; p and v extend to where the distributions are practically points.
const LIMITS: [(f64, f64); 3] = [(1e-2, 1e4), (0.05, 1e4), (1e-4, 1e6)];

/// The parameters of the Gamma-Gamma model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpendModel {
    p: f64,
    q: f64,
    v_minor: f64,
}

impl SpendModel {
    /// Error: a parameter that is not positive and finite, or q not above 1, where there is no mean.
    pub fn new(p: f64, q: f64, v_minor: f64) -> Result<SpendModel, ValueError> {
        let is_valid = [p, q - 1.0, v_minor].iter().all(|value| *value > 0.0 && value.is_finite());
        if is_valid { Ok(SpendModel { p, q, v_minor }) } else { Err(ValueError::ParameterOutOfRange) }
    }

    /// p, q and v.
    pub fn parameters(&self) -> [f64; 3] {
        [self.p, self.q, self.v_minor]
    }

    /// E[M]: mean spend over customers, p v / (q - 1).
    pub fn mean_spend(&self) -> f64 {
        self.p * self.v_minor / (self.q - 1.0)
    }

    /// E[M | x, z]: mean spend of a customer with x repeats of z on average, p (v + x z) / (p x + q - 1). It lies
    /// between the customer's own mean and that over customers. A negative own mean, from refunds, counts as zero.
    pub fn expected_spend(&self, customer: &Purchases) -> f64 {
        let spent = f64::from(customer.repeats()) * customer.mean_spend().max(0.0);
        self.p * (self.v_minor + spent) / (self.p * f64::from(customer.repeats()) + self.q - 1.0)
    }
}

/// Customers with the same number of repeats.
struct Group {
    repeats: f64,
    /// Mean spends, relative to the mean over all customers.
    means: Vec<f64>,
}

/// The log-likelihood of spend parameters given paying repeat customers.
pub struct SpendLikelihood {
    groups: Vec<Group>,
    customers: f64,
    scale_minor: f64,
}

impl SpendLikelihood {
    /// Customers without a repeat, or with no spend in repeats, carry no information and are left out.
    pub fn new(customers: &[Purchases]) -> SpendLikelihood {
        let mut spends: Vec<(u32, f64)> = paying(customers).collect();
        spends.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let scale_minor = spends.iter().map(|spend| spend.1 / spends.len() as f64).sum();
        let same = spends.chunk_by(|a, b| a.0 == b.0);
        let groups = same.filter_map(|same| {
            let repeats = f64::from(same.first()?.0);
            Some(Group { repeats, means: same.iter().map(|spend| spend.1 / scale_minor).collect() })
        });
        SpendLikelihood { groups: groups.collect(), customers: spends.len() as f64, scale_minor }
    }

    /// The number of paying repeat customers.
    pub fn customers(&self) -> usize {
        self.groups.iter().map(|group| group.means.len()).sum()
    }

    /// The maximum likelihood estimate; `None` without customers, or where the search found no maximum.
    pub fn maximize(&self) -> Option<SpendModel> {
        if self.groups.is_empty() {
            return None;
        }
        let limits = LIMITS.map(|(low, high)| (low.ln(), high.ln()));
        let [p, q_less_1, v] = minimize(|logs| self.mean_loss(logs), START.map(f64::ln), &limits)?.map(f64::exp);
        SpendModel::new(p, 1.0 + q_less_1, v * self.scale_minor).ok()
    }

    /// The log-likelihood of all customers, with amounts in the smallest currency unit; in a unit 100 times as large it
    /// is greater by ln 100 per customer.
    pub fn of(&self, model: &SpendModel) -> f64 {
        if self.groups.is_empty() {
            return 0.0;
        }
        let logs = [model.p, model.q - 1.0, model.v_minor / self.scale_minor].map(f64::ln);
        -self.customers * (self.mean_loss(&logs).0 + self.scale_minor.ln())
    }

    /// The mean negative log-likelihood, and its gradient by the logarithms of p, q - 1 and v.
    ///
    /// Of a customer with a mean of z in x repeats the log-likelihood is (marginal density of z, Fader & Hardie) ln Γ(p
    /// x + q) - ln Γ(p x) - ln Γ(q) + q ln v + (p x - 1) ln z + p x ln x - (p x + q) ln(x z + v).
    fn mean_loss(&self, logs: &[f64; 3]) -> Valued<3> {
        let [p, q_less_1, v] = logs.map(f64::exp);
        let q = 1.0 + q_less_1;
        let (mut value, mut by_p, mut by_q, mut by_v) = (0.0, 0.0, 0.0, 0.0);
        for group in &self.groups {
            let (x, count) = (group.repeats, group.means.len() as f64);
            let (shape, both) = (p * x, p * x + q);
            let (mut ln_means, mut ln_sums, mut inverse_sums) = (0.0, 0.0, 0.0);
            for z in &group.means {
                let sum = x * z + v;
                ln_means += z.ln();
                ln_sums += sum.ln();
                inverse_sums += 1.0 / sum;
            }
            value += count * (ln_gamma(both) - ln_gamma(shape) - ln_gamma(q) + q * logs[2] + shape * x.ln())
                + (shape - 1.0) * ln_means
                - both * ln_sums;
            by_p += x * (count * (digamma(both) - digamma(shape) + x.ln()) + ln_means - ln_sums);
            by_q += count * (digamma(both) - digamma(q) + logs[2]) - ln_sums;
            by_v += count * q / v - both * inverse_sums;
        }
        let slopes = [by_p * p, by_q * q_less_1, by_v * v];
        (-value / self.customers, slopes.map(|slope| -slope / self.customers))
    }
}

/// Pearson's correlation of mean spend with the number of repeats over paying repeat customers; `None` where one of the
/// two is constant.
pub fn correlation_with_frequency(customers: &[Purchases]) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = paying(customers).map(|(repeats, spend)| (f64::from(repeats), spend)).collect();
    let count = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (dx, dy) = (x - x_mean, y - y_mean);
        (xx, yy, xy) = (xx + dx * dx, yy + dy * dy, xy + dx * dy);
    }
    let r = xy / (xx.sqrt() * yy.sqrt());
    r.is_finite().then_some(r.clamp(-1.0, 1.0))
}

/// Repeats and mean spend of paying repeat customers.
fn paying(customers: &[Purchases]) -> impl Iterator<Item = (u32, f64)> {
    customers.iter().map(|customer| (customer.repeats(), customer.mean_spend())).filter(|(_, spend)| *spend > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(repeats: u32, repeat_minor: i64) -> Purchases {
        Purchases::new(repeats, repeats, repeats, repeat_minor, repeat_minor).expect("a history")
    }

    #[test]
    fn expected_spend_lies_between_own_mean_and_that_of_all() {
        let model = SpendModel::new(2.0, 3.0, 1_000.0).expect("parameters");
        // 2 · 1000 / (3 - 1), and 2 (1000 + 2 · 400) / (2 · 2 + 3 - 1).
        assert_eq!((model.mean_spend(), model.expected_spend(&customer(0, 0))), (1_000.0, 1_000.0));
        assert_eq!(model.expected_spend(&customer(2, 800)), 600.0);
        // Everything refunded: 2 · 1000 / 6.
        assert!((model.expected_spend(&customer(2, -800)) - 1_000.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn parameters_without_a_mean_are_refused() {
        for (p, q, v) in [(0.0, 2.0, 1.0), (1.0, 1.0, 1.0), (1.0, 2.0, f64::NAN), (f64::INFINITY, 2.0, 1.0)] {
            assert_eq!(SpendModel::new(p, q, v), Err(ValueError::ParameterOutOfRange));
        }
    }

    #[test]
    fn slopes_are_those_of_the_likelihood() {
        let likelihood =
            SpendLikelihood::new(&[customer(1, 300), customer(1, 900), customer(4, 2_000), customer(0, 0)]);
        assert_eq!(likelihood.customers(), 3);
        let point = [0.3, -0.2, 0.7];
        let (_, slopes) = likelihood.mean_loss(&point);
        for (i, slope) in slopes.into_iter().enumerate() {
            let at =
                |by: f64| likelihood.mean_loss(&std::array::from_fn(|j| point[j] + if i == j { by } else { 0.0 })).0;
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((slope - difference).abs() < 1e-8, "{i}: {slope} {difference}");
        }
    }

    #[test]
    fn correlation_is_pearsons() {
        // Repeats 1, 2, 3 and means 100, 300, 200: deviations (-1, 0, 1) and (-100, 100, 0); 100 / √(2 · 20,000) = .5.
        let customers = [customer(1, 100), customer(2, 600), customer(3, 600), customer(0, 0), customer(9, -9)];
        assert!((correlation_with_frequency(&customers).expect("a figure") - 0.5).abs() < 1e-12);
        assert_eq!(correlation_with_frequency(&[customer(1, 100), customer(1, 200)]), None);
        assert_eq!(correlation_with_frequency(&[]), None);
    }
}
