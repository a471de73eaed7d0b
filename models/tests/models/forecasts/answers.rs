//! What is answered and what is refused.

use std::time::{Duration, Instant};

use super::common::{DAY, MODELS, Noise, request};
use models::forecasts::{Event, Forecast, Model, Refusal, Request, Series, WINDOW_MAX, forecast};

fn days(values: Vec<Option<f64>>) -> Series {
    Series { starts: (0..values.len() as i64 + 60).map(|day| day * DAY).collect(), values, season: 7 }
}

/// Sales of days: a level, a week and noise.
fn sales(days: usize) -> Vec<Option<f64>> {
    let mut noise = Noise::new(1);
    (0..days).map(|day| Some(100.0 + [0.0, 2.0, 4.0, 6.0, 20.0, 40.0, 10.0][day % 7] + 3.0 * noise.normal())).collect()
}

fn ask(series: &Series, model: Model) -> Forecast {
    forecast(series, &request(model, 14, 0.8)).expect("a forecast")
}

fn refused(series: &Series, request: &Request) -> (Refusal, &'static str) {
    let refusal = forecast(series, request).expect_err("a refusal");
    (refusal, refusal.code())
}

#[test]
fn what_cannot_be_forecast_is_refused_with_a_code() {
    let fortnight = request(Model::Auto, 14, 0.8);
    assert_eq!(refused(&days(vec![]), &fortnight).1, "FORECAST_HISTORY_EMPTY");
    assert_eq!(refused(&days(vec![None; 50]), &fortnight).1, "FORECAST_HISTORY_ALL_GAPS");
    // Two weeks to learn from and a fortnight to check; gaps do not count.
    let mut short = sales(30);
    short[5..10].fill(None);
    let too_short = Refusal::TooShort { known: 25, needed: 28 };
    assert_eq!(refused(&days(short), &fortnight), (too_short, "FORECAST_HISTORY_TOO_SHORT"));
    let series = days(sales(100));
    for (code, request) in [
        ("FORECAST_HORIZON_OUT_OF_RANGE", Request { horizon: 0, ..fortnight.clone() }),
        ("FORECAST_HORIZON_OUT_OF_RANGE", Request { horizon: 367, ..fortnight.clone() }),
        ("FORECAST_INVALID_STARTS", Request { horizon: 60, ..fortnight.clone() }),
        ("FORECAST_LEVEL_OUT_OF_RANGE", Request { level: 0.995, ..fortnight.clone() }),
        ("FORECAST_LEVEL_OUT_OF_RANGE", Request { level: f64::NAN, ..fortnight.clone() }),
        ("FORECAST_VALUE_OUT_OF_RANGE", Request { floor: Some(f64::INFINITY), ..fortnight.clone() }),
        ("FORECAST_TOO_MANY_EVENTS", Request { events: vec![christmas(vec![]); 51], ..fortnight.clone() }),
    ] {
        assert_eq!(refused(&series, &request).1, code);
    }
    for value in [f64::NAN, f64::INFINITY, 1e16] {
        let mut values = sales(100);
        values[50] = Some(value);
        assert_eq!(refused(&days(values), &fortnight).1, "FORECAST_VALUE_OUT_OF_RANGE");
    }
    let mut twice = series.clone();
    twice.starts[10] = twice.starts[9];
    assert_eq!(refused(&twice, &fortnight).1, "FORECAST_INVALID_STARTS");
    let mut far = series.clone();
    far.starts[0] = i64::MIN;
    assert_eq!(refused(&far, &fortnight).1, "FORECAST_INVALID_STARTS");
    assert_eq!(refused(&Series { season: 0, ..series }, &fortnight).1, "FORECAST_SEASON_OUT_OF_RANGE");
}

#[test]
fn the_shortest_history_is_enough_for_every_model() {
    for model in MODELS {
        assert_eq!(ask(&days(sales(28)), model).quality.origins, 1);
    }
}

#[test]
fn every_forecast_is_held_against_the_last_season_repeated() {
    // The same growth every week: repeating the last one is off by one step in the first week, by two in the second.
    let series = days((0..140).map(|day| Some(100.0 + 10.0 * f64::from(day / 7))).collect());
    let naive = ask(&series, Model::Naive).quality;
    assert_eq!(naive.mase, naive.naive_mase);
    assert!((naive.mase.expect("steps") - 1.5).abs() < 1e-9, "{naive:?}");
    for model in MODELS {
        let quality = ask(&series, model).quality;
        assert_eq!(quality.naive_mase, naive.mase, "{model:?}");
        assert!(quality.mase <= naive.mase, "{model:?}: {quality:?}");
    }
}

#[test]
fn a_constant_series_stays_as_it_is() {
    for (model, value) in MODELS.into_iter().flat_map(|model| [(model, 0.0), (model, 5.0), (model, -3.25)]) {
        let answer = ask(&days(vec![Some(value); 90]), model);
        assert!(answer.points.iter().all(|point| (point.lower, point.value, point.upper) == (value, value, value)));
        assert_eq!((answer.quality.mase, answer.quality.coverage), (None, 1.0));
    }
}

#[test]
fn after_a_level_break_the_new_level_is_forecast() {
    let mut values = sales(200);
    for value in &mut values[150..] {
        *value = value.map(|value| value + 1_000.0);
    }
    let answer = ask(&days(values), Model::Auto);
    for point in answer.points {
        assert!((point.value - 1_115.0).abs() < 60.0, "{point:?}");
    }
}

#[test]
fn sales_that_begin_suddenly_do_not_blow_intervals_up() {
    // Before them models expected nothing but zeros, with certainty.
    let mut values = vec![Some(0.0); 160];
    values.extend(sales(20));
    for model in MODELS {
        let answer = ask(&days(values.clone()), model);
        let widest = answer.points.iter().map(|point| point.upper - point.lower).fold(0.0, f64::max);
        assert!(widest < 2_000.0, "{model:?}: {widest}");
    }
}

#[test]
fn gaps_are_bridged_and_the_forecast_begins_after_the_last_bucket() {
    let whole = days(sales(140));
    let mut series = whole.clone();
    for day in [3, 20, 21, 22, 77] {
        series.values[day] = None;
    }
    series.values.extend([None; 5]);
    for model in MODELS {
        let (with, without) = (ask(&series, model), ask(&whole, model));
        assert_eq!((with.points[0].start, with.points.len()), (145 * DAY, without.points.len()));
        assert_eq!((with.training.buckets, with.training.known, with.training.end), (140, 135, 140 * DAY));
        for (with, without) in with.points.iter().zip(&without.points[5..]) {
            assert!((with.value - without.value).abs() < 6.0, "{model:?} {with:?} {without:?}");
        }
    }
}

#[test]
fn a_floor_cuts_values_and_intervals() {
    let falling: Vec<Option<f64>> =
        sales(120).into_iter().zip((0..).map(f64::from)).map(|(y, i)| Some(y? - i)).collect();
    let series = days(falling);
    let free = ask(&series, Model::Ets);
    assert!(free.points.iter().any(|point| point.lower < 0.0));
    let cut = forecast(&series, &Request { floor: Some(0.0), ..request(Model::Ets, 14, 0.8) }).expect("a forecast");
    assert!(cut.points.iter().all(|point| point.lower >= 0.0 && point.value >= 0.0));
}

#[test]
fn of_a_long_history_the_recent_part_is_learned_from_and_named() {
    const HOUR: i64 = 3_600;
    let starts = (0..100_015).map(|hour| hour * HOUR).collect();
    let answer = ask(&Series { starts, values: sales(100_000), season: 7 }, Model::Auto);
    assert_eq!((answer.training.buckets, answer.training.end), (WINDOW_MAX, 100_000 * HOUR));
    assert_eq!(answer.training.start, (100_000 - WINDOW_MAX as i64) * HOUR);
}

#[test]
fn a_higher_level_gives_wider_intervals() {
    let series = days(sales(140));
    let width = |level: f64| {
        let answer = forecast(&series, &request(Model::Auto, 14, level)).expect("a forecast");
        answer.points[0].upper - answer.points[0].lower
    };
    assert!(width(0.5) < width(0.8) && width(0.8) < width(0.95) && width(0.95) < width(0.99));
}

fn christmas(windows: Vec<std::ops::Range<i64>>) -> Event {
    Event { name: "Christmas sale".into(), windows }
}

#[test]
fn an_event_that_was_seen_is_expected_again() {
    let sale = |day: i64| day * DAY..(day + 2) * DAY;
    let mut values = sales(200);
    for day in [40, 41, 100, 101, 160, 161] {
        values[day] = values[day].map(|value| value + 300.0);
    }
    let series = days(values);
    let events = vec![christmas([40, 100, 160, 205].map(sale).to_vec())];
    let with = forecast(&series, &Request { events, ..request(Model::Prophet, 14, 0.8) }).expect("a forecast");
    let without = ask(&series, Model::Prophet);
    for (i, (with, without)) in with.points.iter().zip(&without.points).enumerate() {
        let effect = with.value - without.value;
        let expected = if [5, 6].contains(&i) { 300.0 } else { 0.0 };
        assert!((effect - expected).abs() < 25.0, "day {i}: {effect}");
    }
}

#[test]
fn what_auto_takes_knows_events_too() {
    let sale = |day: i64| day * DAY..(day + 2) * DAY;
    let calm = sales(200);
    // The last sale was a week ago, where it is in the season that comes again.
    for past in [vec![40, 100, 160], vec![40, 100, 195], vec![120]] {
        let mut values = calm.clone();
        for day in past.iter().flat_map(|first| [*first, first + 1]) {
            values[day as usize] = values[day as usize].map(|value| value + 300.0);
        }
        let plain = ask(&days(calm.clone()), Model::Auto);
        let windows = past.iter().copied().chain([205]).map(sale).collect();
        let request = Request { events: vec![christmas(windows)], ..request(Model::Auto, 14, 0.8) };
        let known = forecast(&days(values), &request).expect("a forecast");
        for (i, (known, plain)) in known.points.iter().zip(&plain.points).enumerate() {
            let expected = if [5, 6].contains(&i) { 300.0 } else { 0.0 };
            assert!((known.value - plain.value - expected).abs() < 30.0, "{past:?}, day {i}: {known:?} {plain:?}");
        }
    }
}

#[test]
fn two_years_of_days_are_fitted_in_moments() {
    let series = days(sales(730));
    for model in MODELS {
        let fit = || {
            let begun = Instant::now();
            forecast(&series, &request(model, 28, 0.8)).expect("a forecast");
            begun.elapsed()
        };
        // The least is that of whoever was disturbed least.
        let least = (0..5).map(|_| fit()).min().expect("five");
        println!("{model:?}: {least:?}");
        assert!(least < Duration::from_secs(5), "{model:?}: {least:?}");
    }
}

/// Three events on the same days of the past, each again on another day: each has a third of what was seen.
#[test]
fn events_that_came_together_share_their_effect() {
    let weekly = |day: i64| 1000.0 + 10.0 * (day % 7) as f64;
    let seen: Vec<i64> = (0..6).map(|n| 20 + 30 * n).collect();
    let sales = |day: i64| weekly(day) + if seen.contains(&day) { 5000.0 } else { 0.0 };
    let series = days((0..200).map(|day| Some(sales(day))).collect());
    let day = |day: i64| day * DAY..(day + 1) * DAY;
    let event = |next: i64| christmas(seen.iter().copied().chain([next]).map(day).collect());
    let events: Vec<Event> = [202, 205, 209].map(event).to_vec();
    let request = Request { events, ..request(Model::Prophet, 14, 0.8) };
    let first = forecast(&series, &request).expect("a forecast");
    for next in [202, 205, 209] {
        let effect = first.points[next - 200].value - weekly(next as i64);
        assert!((effect / (5000.0 / 3.0) - 1.0).abs() < 0.01, "{next}: {effect}");
    }
    assert!((0..5).all(|_| forecast(&series, &request).as_ref() == Ok(&first)));
}

#[test]
fn the_same_question_has_the_same_answer_to_the_last_digit() {
    let series = days(sales(800));
    let days_from = |day: i64| day * DAY..(day + 3) * DAY;
    let events: Vec<Event> = (0..8).map(|n| christmas([n, n + 365].map(days_from).to_vec())).collect();
    for model in [Model::Prophet, Model::Auto] {
        let request = Request { events: events.clone(), ..request(model, 14, 0.8) };
        let first = forecast(&series, &request);
        assert!((0..5).all(|_| forecast(&series, &request) == first));
    }
}
