//! Customers made by the models themselves, with known parameters: the fits find these, and the predictions come true.

use models::value::{Backtest, Basis, Kind, PurchaseDays, fit};

/// Steele, Lea & Flood, Fast splittable pseudorandom number generators, 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // Never 0, whose logarithm is infinite.
        (((bits ^ (bits >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A gamma-distributed number of a whole shape and rate 1: a sum of exponential ones.
    fn gamma(&mut self, shape: u32) -> f64 {
        (0..shape).map(|_| -self.uniform().ln()).sum()
    }
}

/// The time that is watched, in days, which here are short beside the time between purchases: two of one day, which
/// count as one, are rare.
const DAYS: f64 = 3_600.0;

/// r = 1, α = 600 days, a = 1, b = 3; p = 6, q = 4, v = 1500.
fn customer(random: &mut SplitMix64) -> PurchaseDays {
    let rate = random.gamma(1) / 600.0;
    let (lapsing, staying) = (random.gamma(1), random.gamma(3));
    let lapse = lapsing / (lapsing + staying);
    let spend_rate = random.gamma(4) / 1_500.0;
    let mut orders = Vec::new();
    let mut time = random.uniform() * 900.0;
    while time < DAYS {
        orders.push((time as i32, (random.gamma(6) / spend_rate) as i64));
        if random.uniform() < lapse {
            break;
        }
        time += random.gamma(1) / rate;
    }
    PurchaseDays::from_orders(orders).expect("days")
}

#[test]
fn fits_find_what_customers_were_made_with() {
    let mut random = SplitMix64(1);
    let customers: Vec<PurchaseDays> = (0..20_000).map(|_| customer(&mut random)).collect();
    let fit = fit(&customers, 3_599, Kind::MbgNbd, Backtest { until_day: 3_599, horizon_days: 1_350 }).expect("a fit");
    assert_eq!(fit.purchases.basis, Basis::Fitted);
    let spend = fit.spend.expect("a spend model").model;
    let found = fit.purchases.model.parameters().into_iter().chain(spend.parameters());
    // With so many customers the standard error of b, p and v is still some 5 %, that of the mean is small.
    for (found, made) in found.zip([1.0, 600.0, 1.0, 3.0, 6.0, 4.0, 1_500.0]) {
        assert!((found / made - 1.0).abs() < 0.15, "{found}, made with {made}");
    }
    assert!((spend.mean_spend() / 3_000.0 - 1.0).abs() < 0.03, "{}", spend.mean_spend());
    let judged = fit.calibration.expect("a calibration");
    assert!((judged.churn_predicted - judged.churn_actual).abs() < 0.01, "{judged:?}");
    assert!((judged.purchases_predicted / judged.purchases_actual as f64 - 1.0).abs() < 0.03, "{judged:?}");
    let revenue = judged.revenue_predicted_minor.expect("a prediction") / judged.revenue_actual_minor as f64;
    assert!((revenue - 1.0).abs() < 0.05, "{judged:?}");
    assert!(fit.spend_frequency_correlation.expect("a figure").abs() < 0.05);
}
