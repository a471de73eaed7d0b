//! On the public series AUTO is better than each of its models, and intervals cover what they promise.

use super::common::{MODELS, data, request, samples};
use models::forecasts::{Model, forecast};

#[test]
fn auto_beats_each_model_and_intervals_keep_their_promise() {
    let Some(data) = data() else { return };
    let mut errors = MODELS.map(|_| Vec::new());
    let (mut inside, mut values) = (0, 0);
    for sample in samples(&data) {
        for trial in sample.trials() {
            let answers = MODELS.map(|model| forecast(&trial.series, &request(model, sample.horizon, 0.8)).ok());
            // Only what every model answers.
            let Some(answers) = answers.into_iter().collect::<Option<Vec<_>>>() else { continue };
            let known = || trial.actual.iter().enumerate().filter_map(|(i, actual)| Some((i, (*actual)?)));
            for (answer, errors) in answers.iter().zip(&mut errors) {
                let sum: f64 = known().map(|(i, actual)| (actual - answer.points[i].value).abs()).sum();
                errors.push(sum / known().count() as f64 / trial.scale);
            }
            let auto = &answers[MODELS.len() - 1];
            inside += known().filter(|(i, y)| auto.points[*i].lower <= *y && *y <= auto.points[*i].upper).count();
            values += known().count();
        }
    }
    assert!(errors[0].len() >= 40, "{} forecasts", errors[0].len());
    let mase = errors.map(|errors| errors.iter().sum::<f64>() / errors.len() as f64);
    println!("{:?}", MODELS.iter().zip(&mase).collect::<Vec<(&Model, &f64)>>());
    let (auto, single) = mase.split_last().expect("models");
    assert!(single.iter().all(|mase| auto < mase), "AUTO {auto}, others {single:?}");
    let coverage = f64::from(inside as u32) / f64::from(values as u32);
    println!("coverage {coverage:.3} of {values}");
    assert!((0.75..=0.85).contains(&coverage), "{coverage}");
}
