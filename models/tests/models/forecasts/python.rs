//! The same forecasts as the Python libraries that the field refers to (prophet 1.5.0, statsforecast 2.1.1).

use super::common::{DAY, Sample, day, request, samples};
use crate::data;
use models::forecasts::{Model, Series, forecast};

const TRAINING: usize = 392;
const HORIZON: usize = 28;

/// The values that the vector describes: a line with a bend, a week, and noise of a linear congruential generator.
fn synthetic() -> Vec<f64> {
    let week = [0.0, 5.0, 8.0, 3.0, 12.0, 30.0, 18.0];
    let mut state: u64 = 12_345;
    let value = |i: usize| {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        let noise = state as f64 / f64::from(1u32 << 31) - 0.5;
        let bend = if i > 250 { 0.25 * (i as f64 - 250.0) } else { 0.0 };
        ((200.0 + 0.15 * i as f64 + bend + week[i % 7] + 12.0 * noise) * 1e4).round() / 1e4
    };
    (0..TRAINING + HORIZON).map(value).collect()
}

/// The vector, its series up to the origin, and what came.
fn vector() -> (serde_json::Value, Series, Vec<f64>) {
    let text = std::fs::read_to_string(data().join("model_vectors/forecast-synthetic.json")).expect("the vector");
    let vector: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut values = synthetic();
    let sum = vector["y_sum"].as_f64().expect("a sum");
    assert!((values.iter().sum::<f64>() - sum).abs() < 1e-3, "not the series of the vector");
    let start = day("2024-01-01");
    let starts = (0..=values.len() as i64).map(|i| start + i * DAY).collect();
    let actual = values.split_off(TRAINING);
    (vector, Series { starts, values: values.into_iter().map(Some).collect(), season: 7 }, actual)
}

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn forecasts_are_those_of_python() {
    let (vector, series, _) = vector();
    // The values are about 300.
    for (model, expected, tolerance) in [
        (Model::Prophet, &vector["prophet"]["additive"]["yhat"], 0.5),
        (Model::Mstl, &vector["statsforecast"]["mstl_ets"]["mean"], 0.5),
        (Model::Ets, &vector["statsforecast"]["auto_ets"]["mean"], 0.5),
        (Model::Naive, &vector["statsforecast"]["seasonal_naive"]["mean"], 1e-3),
    ] {
        let expected: Vec<f64> = expected.as_array().expect("values").iter().flat_map(|value| value.as_f64()).collect();
        let answer = forecast(&series, &request(model, HORIZON, 0.8)).expect("a forecast");
        assert_eq!(answer.points.len(), expected.len());
        let differences = answer.points.iter().zip(&expected).map(|(point, expected)| (point.value - expected).abs());
        let largest = differences.fold(0.0, f64::max);
        println!("{model:?} differs by at most {largest:.3}");
        assert!(largest <= tolerance, "{model:?} differs by {largest}");
    }
}

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn theta_is_no_worse_than_that_of_python() {
    let (vector, series, actual) = vector();
    let answer = forecast(&series, &request(Model::Theta, HORIZON, 0.8)).expect("a forecast");
    let error = mean(answer.points.iter().zip(&actual).map(|(point, value)| (point.value - value).abs()));
    println!("mean absolute error {error:.2}");
    assert!(error <= vector["statsforecast"]["auto_theta"]["mae"].as_f64().expect("an error"), "{error}");
}

/// Ours may choose other weights, but a mistake in one of them would show.
const MASE_RATIO_MAX: f64 = 1.15;

#[test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
fn models_are_about_as_accurate_as_those_of_python() {
    let data = data();
    let text = std::fs::read_to_string(data.join("model_vectors/forecast-mase.json")).expect("the vector");
    let vector: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let names = vector["models"].as_array().expect("names");
    // Those of the vector's series that are carried here and long enough for all three origins.
    let series: Vec<(Sample, &serde_json::Value)> = [
        ("prophet_retail_sales", "retail_sales_us", 12),
        ("prophet_air_passengers", "air_passengers", 12),
        ("prophet_pedestrians", "pedestrians", 28),
        ("prophet_wp_log_peyton", "wp_log_peyton_manning", 28),
    ]
    .into_iter()
    .map(|(prefix, name, horizon)| {
        let sample = samples(&data).into_iter().find(|sample| sample.name.starts_with(prefix)).expect("a series");
        (Sample { horizon, ..sample }, &vector["mase"][name])
    })
    .collect();
    for (model, theirs) in [
        (Model::Naive, "py_snaive"),
        (Model::Ets, "py_autoets"),
        (Model::Mstl, "py_mstl_ets"),
        (Model::Theta, "py_autotheta"),
        (Model::Prophet, "py_prophet"),
    ] {
        let column = names.iter().position(|name| name == theirs).expect("a model");
        let ours = mean(series.iter().map(|(sample, _)| mase(sample, model)));
        let theirs = mean(series.iter().map(|(_, mase)| mase[column].as_f64().expect("a number")));
        println!("{model:?} {ours:.3}, in Python {theirs:.3}");
        assert!(ours <= theirs * MASE_RATIO_MAX, "{model:?} {ours:.3}, in Python {theirs:.3}");
    }
}

/// The mean MASE over three origins.
fn mase(sample: &Sample, model: Model) -> f64 {
    mean(sample.trials().iter().map(|trial| {
        let answer = forecast(&trial.series, &request(model, sample.horizon, 0.8)).expect("a forecast");
        let known =
            answer.points.iter().zip(&trial.actual).filter_map(|(point, actual)| Some((point.value, (*actual)?)));
        mean(known.map(|(value, actual)| (value - actual).abs())) / trial.scale
    }))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}
