//! Any input gets an answer in its bounds, or is refused.

use models::value::{
    Backtest, Discount, Fit, Kind, Prediction, PurchaseDays, PurchaseModel, Purchases, SpendModel, Terms, fit,
};
use proptest::prelude::*;

const KINDS: [Kind; 2] = [Kind::MbgNbd, Kind::BgNbd];

fn terms() -> Terms {
    Terms::new(90, 24, Discount::Annual(0.1), 0.3).expect("terms")
}

fn check_prediction(prediction: &Prediction) {
    let is_share = |share: f64| (0.0..=1.0).contains(&share);
    let is_amount = |amount: f64| amount >= 0.0 && amount.is_finite();
    assert!(is_share(prediction.p_alive) && is_share(prediction.churn), "{prediction:?}");
    assert!(is_amount(prediction.expected_purchases), "{prediction:?}");
    assert!(prediction.expected_spend_minor.is_none_or(is_amount), "{prediction:?}");
    assert!(prediction.lifetime_value_minor.is_none_or(is_amount), "{prediction:?}");
}

fn check_fit(fit: &Fit) {
    let spend = fit.spend.iter().flat_map(|spend| [spend.log_likelihood].into_iter().chain(spend.model.parameters()));
    let purchases = fit.purchases.model.parameters().into_iter().chain([fit.purchases.log_likelihood]);
    assert!(purchases.chain(spend).all(f64::is_finite), "{fit:?}");
    assert!(fit.spend_frequency_correlation.is_none_or(|r| (-1.0..=1.0).contains(&r)), "{fit:?}");
    if let Ok(judged) = fit.calibration {
        let shares = [judged.auc, judged.brier, judged.churn_predicted, judged.churn_actual];
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{fit:?}");
        assert!(judged.purchases_predicted.is_finite(), "{fit:?}");
        assert!(judged.revenue_predicted_minor.is_none_or(f64::is_finite), "{fit:?}");
    }
}

fn check(customers: &[PurchaseDays], as_of_day: i32) {
    for kind in KINDS {
        let backtest = Backtest { until_day: as_of_day, horizon_days: 30 };
        let Ok(fit) = fit(customers, as_of_day, kind, backtest) else { continue };
        check_fit(&fit);
        for customer in customers.iter().filter_map(|days| days.until(as_of_day)) {
            check_prediction(&fit.predict(&customer, &terms()));
        }
    }
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), -1_000i64..1_000, 1_000i64..100_000, Just(i64::MAX / 4_000), Just(i64::MIN / 4_000)]
}

fn orders() -> impl Strategy<Value = Vec<(i32, i64)>> {
    let day = prop_oneof![0i32..10, 0i32..400, Just(0), Just(399)];
    prop::collection::vec((day, amount()), 1..30)
}

fn history() -> impl Strategy<Value = Purchases> {
    (0u32..36_525, 0u32..36_525, 0u32..36_525, amount()).prop_map(|(a, b, c, minor)| {
        let mut days = [a, b, c];
        days.sort_unstable();
        let [repeats, recency, age] = if days[0] == 0 { [0, 0, days[2]] } else { days };
        Purchases::new(repeats, recency, age, minor, minor).expect("a history")
    })
}

fn model() -> impl Strategy<Value = PurchaseModel> {
    let any = || -4.0..4.0f64;
    (any(), -2.0..5.0f64, any(), any(), prop::bool::ANY).prop_map(|(r, alpha, a, b, is_bg)| {
        let [r, alpha, a, b] = [r, alpha, a, b].map(|exponent| 10f64.powf(exponent));
        PurchaseModel::new(KINDS[usize::from(is_bg)], r, alpha, a, b).expect("parameters")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A few kinds of customers, many of each, so that models are fitted to what no distribution is like.
    #[test]
    fn fits_of_odd_tenants_are_sound(
        kinds in prop::collection::vec(orders(), 1..6), copies in 1usize..120, as_of_day in -1i32..500,
    ) {
        let of_kinds = kinds.into_iter().map(|orders| PurchaseDays::from_orders(orders).expect("days"));
        let customers: Vec<PurchaseDays> = of_kinds.flat_map(|days| vec![days; copies]).collect();
        check(&customers, as_of_day);
    }

    #[test]
    fn fits_of_varied_tenants_are_sound(all in prop::collection::vec(orders(), 200..300), as_of_day in 0i32..500) {
        let customers: Vec<PurchaseDays> =
            all.into_iter().map(|orders| PurchaseDays::from_orders(orders).expect("days")).collect();
        check(&customers, as_of_day);
    }
}

proptest! {
    #[test]
    fn predictions_are_in_bounds(model in model(), customer in history(), days in 1u32..3_650) {
        prop_assert!((0.0..=1.0).contains(&model.p_alive(&customer)));
        let later = days + days / 2;
        let (near, far) = (model.churn(&customer, days), model.churn(&customer, later));
        prop_assert!((0.0..=1.0).contains(&near) && (0.0..=1.0).contains(&far));
        prop_assert!(far <= near + f64::EPSILON, "{near} {far}");
        let (near, far) = (model.expected_purchases(&customer, days), model.expected_purchases(&customer, later));
        prop_assert!(near >= 0.0 && far.is_finite() && near <= far * (1.0 + 1e-9), "{near} {far}");
    }

    #[test]
    fn spend_is_in_bounds(customer in history(), p in 1e-3..1e4, q in 1.001..1e4, v in 1e-6..1e15) {
        let spend = SpendModel::new(p, q, v).expect("parameters").expected_spend(&customer);
        prop_assert!(spend >= 0.0 && spend.is_finite());
    }
}

#[test]
fn tenants_at_the_edges_are_answered() {
    let days = |orders: &[(i32, i64)]| PurchaseDays::from_orders(orders.iter().copied()).expect("days");
    let daily: Vec<(i32, i64)> = (0..10_000).map(|day| (day, 100)).collect();
    for customers in [
        vec![days(&[(0, 100)])],
        vec![days(&[(0, 100)]); 500],
        vec![days(&[(0, 100), (50, 300)]); 500],
        vec![days(&[(0, 0), (50, 0)]); 500],
        vec![days(&[(0, -100), (50, -300)]); 500],
        vec![days(&[(100, 100)]); 500],
        vec![days(&daily); 300],
        [vec![days(&daily); 1], vec![days(&[(9_000, 1)]); 300], vec![days(&[(1, 1), (9_000, i64::MAX / 2)]); 60]]
            .concat(),
        vec![days(&[(i32::MAX, 5)]); 3],
        vec![days(&[(i32::MIN, 5)]); 60],
    ] {
        check(&customers, 100);
        check(&customers, 10_000);
        check(&customers, i32::MAX);
    }
    assert!(fit(&[], 100, Kind::MbgNbd, Backtest { until_day: 100, horizon_days: 30 }).is_err());
}
