//! Whatever comes in, an answer with finite numbers in their order comes out, or a refusal.

use super::common::{DAY, request};
use models::forecasts::{Event, Forecast, Model, Refusal, Request, Series, forecast};
use proptest::prelude::*;

const MODELS: [Model; 6] = super::common::MODELS;

fn check(answer: &Result<Forecast, Refusal>, request: &Request) -> Result<(), TestCaseError> {
    let Ok(answer) = answer else { return Ok(()) };
    prop_assert_eq!(answer.points.len(), request.horizon);
    for point in &answer.points {
        prop_assert!(point.lower <= point.value && point.value <= point.upper, "{:?}", point);
        prop_assert!(point.lower.is_finite() && point.upper.is_finite());
        prop_assert!(request.floor.is_none_or(|floor| point.lower >= floor));
    }
    prop_assert!((0.0..=1.0).contains(&answer.quality.coverage));
    prop_assert!(answer.quality.mase.is_none_or(|mase| mase.is_finite() && mase >= 0.0));
    prop_assert!(answer.quality.origins >= 1 && !answer.models.is_empty());
    Ok(())
}

/// Numbers of very different sizes, round ones among them.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3,
        3 => Just(0.0),
        2 => (0..5).prop_map(f64::from),
        1 => -1e15..1e15,
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(5e-324),
    ]
}

fn values() -> impl Strategy<Value = Vec<Option<f64>>> {
    let gaps = prop_oneof![Just(0.999), Just(0.9), Just(0.3)];
    let length = prop_oneof![8 => 0..160_usize, 1 => 160..600_usize];
    (gaps, length)
        .prop_flat_map(|(share, length)| prop::collection::vec(prop::option::weighted(share, value()), length))
}

fn series() -> impl Strategy<Value = Series> {
    let step = prop_oneof![Just(3_600), Just(DAY), Just(7 * DAY), Just(2_629_800), Just(1)];
    let season = prop::sample::select(vec![1_usize, 7, 12, 24, 52, 96, 168]);
    (values(), step, -2_000_000_000_i64..4_000_000_000, season).prop_map(|(values, step, first, season)| {
        let starts = (0..values.len() as i64 + 41).map(|i| first + i * step).collect();
        Series { starts, values, season }
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let window = (0..4_000_000_000_i64, 0..10 * DAY).prop_map(|(start, length)| start..start + length);
    let event = prop::collection::vec(window, 0..3).prop_map(|windows| Event { name: String::new(), windows });
    let events = prop::collection::vec(event, 0..4);
    let model = prop::sample::select(MODELS.to_vec());
    (model, 1..40_usize, 0.5..0.99, prop::option::of(-10.0..10.0), events)
        .prop_map(|(model, horizon, level, floor, events)| Request { horizon, model, level, floor, events })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_series_give_finite_answers_or_refusals(series in series(), request in any_request()) {
        check(&forecast(&series, &request), &request)?;
    }

    #[test]
    fn a_known_pattern_gets_an_answer_from_every_model(
        level in -1e6..1e6,
        slope in -1e3..1e3,
        jump in prop::option::of((20..100_usize, -1e6..1e6)),
        index in 0..MODELS.len(),
    ) {
        let at = |i: usize| level + slope * i as f64 + jump.map_or(0.0, |(from, size)| if i >= from { size } else { 0.0 });
        let starts = (0..149).map(|i| i * DAY).collect();
        let series = Series { starts, values: (0..120).map(|i| Some(at(i))).collect(), season: 7 };
        let request = request(MODELS[index], 28, 0.8);
        let answer = forecast(&series, &request);
        prop_assert!(answer.is_ok(), "{answer:?}");
        check(&answer, &request)?;
    }
}
