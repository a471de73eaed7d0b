//! Prophet: a piecewise linear trend, calendar seasons and events (Taylor and Letham, "Forecasting at Scale", 2018).
//! `augurs-prophet` builds the features and assembles forecasts; our own solver fits the parameters.

mod lasso;
mod linalg;
mod posterior;
mod regressors;
mod solver;

use std::num::NonZeroU32;

use augurs_prophet::{
    FeatureMode, FeaturePrediction, PositiveFloat, PredictionData, Predictions, Prophet, ProphetOptions, Regressor,
    SeasonalityOption, Standardize, TrainingData,
};

use super::TRAINING_MIN;
use super::decompose::Mode;
use super::event::Event;
use super::path::Path;
use super::series::History;
use regressors::Regressors;
use solver::{Noise, Solver};

const DAY: f64 = 86_400.0;
/// Prophet's default prior scale of an event's effect, in units of the scaled series.
const EVENT_SCALE: f64 = 10.0;

/// Prophet's results for a history.
#[derive(Debug)]
pub struct Prophecy {
    pub path: Path,
    /// The effects of events on each bucket of the history and then of the path; `None` where the history contains no
    /// event.
    effects: Option<Vec<f64>>,
}

impl Prophecy {
    /// The effects of events on the buckets of the history and on those of the path.
    pub fn effects(&self) -> Option<(&[f64], &[f64])> {
        let effects = self.effects.as_ref()?;
        effects.split_at_checked(effects.len().checked_sub(self.path.values.len())?)
    }
}

/// Forecasts the `horizon` buckets after a history; `None` if it has too few values or the fit fails.
pub fn forecast(history: &History, events: &[Event], horizon: usize) -> Option<Prophecy> {
    let n = history.known.len();
    let known: Vec<usize> = (0..n).filter(|bucket| history.known[*bucket].is_some()).collect();
    if known.len() < TRAINING_MIN {
        return None;
    }
    let all: Vec<usize> = (0..n + horizon).collect();
    let (values, times) = (history.known.iter().flatten().copied().collect::<Vec<f64>>(), history.times(&known)?);
    let regressors = Regressors::of(history.starts, events, &known, &all)?;
    let scale = values.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
    let (first, last) = (*times.first()? as f64, *times.last()? as f64);

    let mode = mode(history);
    let solver = Solver::default();
    let mut prophet = Prophet::new(options(mode, last - first, n), &solver);
    for name in regressors.past.keys() {
        prophet.add_regressor(name.clone(), regressor(mode)?);
    }
    let has_events = !regressors.past.is_empty();
    let training = TrainingData::new(times, values).ok()?.with_regressors(regressors.past).ok()?;
    prophet.fit(training, Default::default()).ok()?;
    let all = history.times(&all)?;
    let prediction = PredictionData::new(all.clone()).with_regressors(regressors.all).ok()?;
    let predictions = prophet.predict(prediction).ok()?;
    let values = sum(&predictions, mode).split_off(n);

    let ahead = |start: i64| (start as f64 - last) / (last - first);
    let deviations = all[n..].iter().map(|start| scale * solver.noise().deviation(ahead(*start))).collect();
    let effects = has_events.then(|| of_events(&predictions, mode));
    Some(Prophecy { path: Path { values, deviations }, effects })
}

fn mode(history: &History) -> FeatureMode {
    match history.seasonality().map(|seasonality| seasonality.mode) {
        Some(Mode::Multiplicative) => FeatureMode::Multiplicative,
        Some(Mode::Additive) | None => FeatureMode::Additive,
    }
}

/// Prophet's defaults, without its simulation of intervals.
fn options(mode: FeatureMode, seconds: f64, buckets: usize) -> ProphetOptions {
    let days = seconds / DAY;
    let days_per_bucket = days / (buckets.max(2) - 1) as f64;
    // A season must be observed twice, with two points per harmonic.
    let season = |period: f64, order: f64| {
        let order = order.min((period / days_per_bucket / 2.0).floor());
        let order = NonZeroU32::new(order as u32).filter(|_| days >= 2.0 * period);
        order.map_or(SeasonalityOption::Manual(false), SeasonalityOption::Fourier)
    };
    ProphetOptions {
        yearly_seasonality: season(365.25, 10.0),
        weekly_seasonality: season(7.0, 3.0),
        daily_seasonality: season(1.0, 4.0),
        seasonality_mode: mode,
        uncertainty_samples: 0,
        ..ProphetOptions::default()
    }
}

fn regressor(mode: FeatureMode) -> Option<Regressor> {
    let regressor = match mode {
        FeatureMode::Additive => Regressor::additive(),
        FeatureMode::Multiplicative => Regressor::multiplicative(),
    };
    let scale = PositiveFloat::try_new(EVENT_SCALE).ok()?;
    Some(regressor.with_prior_scale(scale).with_standardize(Standardize::No))
}

/// The forecast from its components, summed in name order: the crate sums them in the order of a hash map.
fn sum(predictions: &Predictions, mode: FeatureMode) -> Vec<f64> {
    let features = by_name(predictions.seasonalities.iter().chain(&predictions.regressors));
    let trend = predictions.trend.point.iter().enumerate();
    match mode {
        FeatureMode::Additive => trend.map(|(i, trend)| trend + features(i)).collect(),
        FeatureMode::Multiplicative => trend.map(|(i, trend)| trend * (1.0 + features(i))).collect(),
    }
}

/// The contribution of events to the sum.
fn of_events(predictions: &Predictions, mode: FeatureMode) -> Vec<f64> {
    let events = by_name(predictions.regressors.iter());
    let trend = predictions.trend.point.iter().enumerate();
    match mode {
        FeatureMode::Additive => trend.map(|(i, _)| events(i)).collect(),
        FeatureMode::Multiplicative => trend.map(|(i, trend)| trend * events(i)).collect(),
    }
}

/// The sum of components in each bucket.
fn by_name<'a>(parts: impl Iterator<Item = (&'a String, &'a FeaturePrediction)>) -> impl Fn(usize) -> f64 {
    let mut parts: Vec<_> = parts.collect();
    parts.sort_by_key(|(name, _)| *name);
    move |i| parts.iter().filter_map(|(_, part)| part.point.get(i)).sum()
}

impl Noise {
    /// The standard deviation of the forecast `ahead` history lengths after the last value. Trend uncertainty adds to
    /// the noise: change points are assumed to continue as a Poisson process with Laplace distributed sizes, so that
    /// the variance is the integral of `2 size^2 (ahead - s)^2` over their times s.
    fn deviation(&self, ahead: f64) -> f64 {
        let bends = 2.0 * self.mean_change.powi(2) * self.changes * ahead.powi(3) / 3.0;
        (self.sigma.powi(2) + bends).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decompose::Seasonality;
    use super::*;

    const START: i64 = 1_704_067_200;

    fn history<'a>(starts: &'a [i64], known: &'a [Option<f64>], mode: Mode) -> History<'a> {
        let values = known.iter().flatten().copied().collect();
        let seasonality = Some(Seasonality { mode, index: vec![0.0; 7], is_significant: true });
        let known = known.into();
        History { starts, known, values, season: 7, seasonality: seasonality.into(), prophecy: Default::default() }
    }

    /// The series of `forecast-synthetic.json`, which documents its construction.
    fn synthetic() -> Vec<Option<f64>> {
        let week = [0.0, 5.0, 8.0, 3.0, 12.0, 30.0, 18.0];
        let mut state: u64 = 12_345;
        let value = |i: usize| {
            state = (state * 1_103_515_245 + 12_345) % (1 << 31);
            let noise = state as f64 / f64::from(1u32 << 31) - 0.5;
            200.0 + 0.15 * i as f64 + 0.25 * (i as f64 - 250.0).max(0.0) + week[i % 7] + 12.0 * noise
        };
        (0..392).map(value).map(Some).collect()
    }

    #[test]
    fn multiplicative_seasons_are_those_of_python() {
        let (starts, known): (Vec<i64>, _) = ((0..421).map(|i| START + i * 86_400).collect(), synthetic());
        let path = forecast(&history(&starts, &known, Mode::Multiplicative), &[], 28).expect("a forecast").path;
        // Values from prophet 1.5.0; the series is about 300.
        for (step, expected) in [(0, 290.498), (13, 317.846), (26, 338.474), (27, 323.449)] {
            assert!((path.values[step] - expected).abs() < 0.5, "{step}: {}", path.values[step]);
        }
    }

    #[test]
    fn the_first_day_is_about_as_uncertain_as_in_python() {
        let (starts, known): (Vec<i64>, _) = ((0..421).map(|i| START + i * 86_400).collect(), synthetic());
        let path = forecast(&history(&starts, &known, Mode::Additive), &[], 28).expect("a forecast").path;
        // An 80 % interval of 9.0 there, and wider later.
        assert!((2.0 * 1.2816 * path.deviations[0] - 9.0).abs() < 0.5, "{:?}", path.deviations);
        assert!(path.deviations[27] > path.deviations[0]);
    }

    #[test]
    fn seasons_follow_from_the_calendar() {
        let orders = |days: f64, buckets: usize| {
            let options = options(FeatureMode::Additive, days * DAY, buckets);
            let order = |season| match season {
                SeasonalityOption::Fourier(order) => order.get(),
                _ => 0,
            };
            [options.yearly_seasonality, options.weekly_seasonality, options.daily_seasonality].map(order)
        };
        assert_eq!(orders(1_000.0, 1_001), [10, 3, 0]);
        assert_eq!(orders(400.0, 401), [0, 3, 0]);
        assert_eq!(orders(365.25 * 5.0, 61), [6, 0, 0]);
        assert_eq!(orders(365.25 * 5.0, 21), [2, 0, 0]);
        assert_eq!(orders(7.0 * 150.0, 151), [10, 0, 0]);
        assert_eq!(orders(20.0, 481), [0, 3, 4]);
    }
}
