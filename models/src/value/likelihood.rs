//! Maximum likelihood estimation of the purchase models.

use super::minimize::{Valued, minimize};
use super::model::{ALPHA_RANGE_DAYS, Kind, PARAMETER_RANGE, PurchaseModel};
use super::purchases::Purchases;

/// Start of the search: r = a = b = 1 and α = a week.
const START: [f64; 4] = [1.0, 7.0, 1.0, 1.0];
/// The search may slightly exceed its soft walls, so they are this far inside the model's ranges, in logarithms.
const WALL_MARGIN: f64 = 1.0;

/// Customers with the same history, and their number.
struct Group {
    repeats: usize,
    recency_days: usize,
    age_days: usize,
    customers: f64,
}

/// The log-likelihood of a model's parameters given some customers.
pub struct Likelihood {
    kind: Kind,
    groups: Vec<Group>,
    customers: f64,
    chances_max: usize,
    age_days_max: usize,
}

/// ln Γ(c + n) - ln Γ(c) for n = 0, 1, … and its slope by c: sums of ln(c + i) and 1 / (c + i) over i < n.
struct Rising {
    ln: Vec<f64>,
    slope: Vec<f64>,
}

/// ln(α + d) and 1 / (α + d) for d = 0, 1, … days.
struct ByDay {
    ln: Vec<f64>,
    inverse: Vec<f64>,
}

impl Likelihood {
    pub fn new(kind: Kind, customers: &[Purchases]) -> Likelihood {
        let mut histories: Vec<(u32, u32, u32)> =
            customers.iter().map(|c| (c.repeats(), c.recency_days(), c.age_days())).collect();
        histories.sort_unstable();
        let same = histories.chunk_by(|a, b| a == b);
        let groups = same.filter_map(|same| {
            let &(repeats, recency_days, age_days) = same.first()?;
            Some(Group {
                repeats: repeats as usize,
                recency_days: recency_days as usize,
                age_days: age_days as usize,
                customers: same.len() as f64,
            })
        });
        Likelihood {
            kind,
            groups: groups.collect(),
            customers: customers.len() as f64,
            chances_max: histories.last().map_or(0, |last| kind.chances(last.0) as usize),
            age_days_max: histories.iter().map(|history| history.2 as usize).max().unwrap_or(0),
        }
    }

    /// The maximum likelihood estimate; `None` without customers, or where the search found no maximum.
    pub fn maximize(&self) -> Option<PurchaseModel> {
        if self.groups.is_empty() {
            return None;
        }
        let wall = |(low, high): (f64, f64)| (low.ln() + WALL_MARGIN, high.ln() - WALL_MARGIN);
        let limits = [PARAMETER_RANGE, ALPHA_RANGE_DAYS, PARAMETER_RANGE, PARAMETER_RANGE].map(wall);
        let [r, alpha_days, a, b] = minimize(|logs| self.mean_loss(logs), START.map(f64::ln), &limits)?.map(f64::exp);
        PurchaseModel::new(self.kind, r, alpha_days, a, b).ok()
    }

    /// The log-likelihood of all customers, with times in days; with weeks it is greater by ln 7 per repeat.
    pub fn of(&self, model: &PurchaseModel) -> f64 {
        -self.mean_loss(&model.parameters().map(f64::ln)).0 * self.customers
    }

    /// The mean negative log-likelihood, and its gradient by the logarithms of r, α, a and b.
    ///
    /// A customer with n chances to lapse, of whom O = a / (b + n - 1) ((α + T) / (α + t_x))^(r + x) are the odds of
    /// having lapsed at the last one, has the likelihood Γ(r + x) / Γ(r) · α^r / (α + T)^(r + x) · Γ(b + n) Γ(a + b) /
    /// (Γ(b) Γ(a + b + n)) · (1 + O), where O is 0 without a chance (that of Fader, Hardie & Lee, rearranged).
    fn mean_loss(&self, logs: &[f64; 4]) -> Valued<4> {
        let [r, alpha, a, b] = logs.map(f64::exp);
        let (rates, passes, chances) = (self.rising(r), self.rising(b), self.rising(a + b));
        let days = ByDay::new(alpha, self.age_days_max);
        let (mut value, mut slopes) = (0.0, [0.0; 4]);
        for group in &self.groups {
            let n = self.kind.chances(group.repeats as u32) as usize;
            let shape = r + group.repeats as f64;
            let (recency, age) = (group.recency_days, group.age_days);
            let ln_silence = days.ln[age] - days.ln[recency];
            let tail = b + n as f64 - 1.0;
            let (lapsed, ln_either) = if n == 0 { (0.0, 0.0) } else { odds(logs[2] - tail.ln() + shape * ln_silence) };
            let ln_likelihood =
                rates.ln[group.repeats] + r * logs[1] - shape * days.ln[age] + passes.ln[n] - chances.ln[n] + ln_either;
            let by_b = if n == 0 { 0.0 } else { -lapsed / tail };
            let by = [
                rates.slope[group.repeats] + logs[1] - days.ln[age] + lapsed * ln_silence,
                r / alpha - shape * days.inverse[age] + lapsed * shape * (days.inverse[age] - days.inverse[recency]),
                lapsed / a - chances.slope[n],
                passes.slope[n] - chances.slope[n] + by_b,
            ];
            value += group.customers * ln_likelihood;
            slopes.iter_mut().zip(by).for_each(|(slope, by)| *slope += group.customers * by);
        }
        let parameters = [r, alpha, a, b];
        (-value / self.customers, std::array::from_fn(|i| -slopes[i] * parameters[i] / self.customers))
    }

    fn rising(&self, c: f64) -> Rising {
        let terms = (0..=self.chances_max).map(|i| c + i as f64);
        let (mut ln, mut slope) = (0.0, 0.0);
        let (lns, slopes) = terms
            .map(|term| {
                let so_far = (ln, slope);
                (ln, slope) = (ln + term.ln(), slope + 1.0 / term);
                so_far
            })
            .unzip();
        Rising { ln: lns, slope: slopes }
    }
}

impl ByDay {
    fn new(alpha: f64, days_max: usize) -> ByDay {
        let sums = (0..=days_max).map(|day| alpha + day as f64);
        ByDay { ln: sums.clone().map(f64::ln).collect(), inverse: sums.map(f64::recip).collect() }
    }
}

/// The probability with the given log-odds, and ln(1 + O).
fn odds(ln_odds: f64) -> (f64, f64) {
    let smaller = (-ln_odds.abs()).exp();
    let probability = if ln_odds > 0.0 { 1.0 / (1.0 + smaller) } else { smaller / (1.0 + smaller) };
    (probability, ln_odds.max(0.0) + smaller.ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(repeats: u32, recency_days: u32, age_days: u32) -> Purchases {
        Purchases::new(repeats, recency_days, age_days, 0, 0).expect("a history")
    }

    #[test]
    fn likelihood_of_one_time_buyers_is_that_of_silence() {
        // BG/NBD: (α / (α + T))^r = 10 / 40. MBG/NBD, a = 1, b = 3: of a quarter lapsed at once, the others silent:
        // 1 / 4 + 3 / 4 · 10 / 40.
        let once = [customer(0, 0, 30)];
        for (kind, expected) in [(Kind::BgNbd, 0.25), (Kind::MbgNbd, 0.4375)] {
            let model = PurchaseModel::new(kind, 1.0, 10.0, 1.0, 3.0).expect("parameters");
            let found = Likelihood::new(kind, &once).of(&model);
            assert!((found - f64::ln(expected)).abs() < 1e-12, "{kind:?} {found}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_likelihood() {
        let customers =
            [customer(0, 0, 30), customer(0, 0, 0), customer(3, 20, 90), customer(3, 20, 90), customer(9, 80, 80)];
        for kind in [Kind::BgNbd, Kind::MbgNbd] {
            let likelihood = Likelihood::new(kind, &customers);
            let point = [-0.4, 2.5, 0.2, 0.6];
            let (_, slopes) = likelihood.mean_loss(&point);
            for (i, slope) in slopes.into_iter().enumerate() {
                let at = |by: f64| {
                    likelihood.mean_loss(&std::array::from_fn(|j| point[j] + if i == j { by } else { 0.0 })).0
                };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - difference).abs() < 1e-8, "{kind:?} {i}: {slope} {difference}");
            }
        }
    }

    #[test]
    fn nobody_has_no_greatest_likelihood() {
        assert_eq!(Likelihood::new(Kind::MbgNbd, &[]).maximize(), None);
    }

    #[test]
    fn great_odds_are_certain() {
        assert_eq!(odds(0.0), (0.5, std::f64::consts::LN_2));
        assert_eq!(odds(1e4), (1.0, 1e4));
        assert_eq!(odds(-1e4), (0.0, 0.0));
    }
}
