//! Backtest with a rolling origin, from each of which every model forecasts what came after it (Tashman 2000).
//! Everything that a forecast depends on is determined anew at each origin, from what was known there.

use super::model::{Model, Task};
use super::path::Path;
use super::series::{History, Window, mean, training_min};

/// Maximum number of origins. With few, the choice of model is down to chance; beyond eight little is gained, and fits
/// are expensive.
const ORIGINS: usize = 8;
/// Lower bound of the deviation that scales an error, as a share of the current expected deviation.
const DEVIATION_SHARE: f64 = 0.25;
/// Lower bound of the deviation, for values scaled to 1: an exact model expects none.
const DEVIATION_MIN: f64 = 1e-12;

pub struct Backtest<'a> {
    origins: Vec<Origin<'a>>,
    task: &'a Task<'a>,
}

struct Origin<'a> {
    history: History<'a>,
    /// The values after it, as far as known.
    actual: &'a [Option<f64>],
}

impl<'a> Backtest<'a> {
    /// Origins one horizon apart, the last one a horizon before the end.
    pub fn new(window: &'a Window<'a>, task: &'a Task<'a>) -> Backtest<'a> {
        let (horizon, n) = (task.horizon, window.values.len());
        let is_enough = |end: usize| window.values[..end].iter().flatten().count() >= training_min(window.season);
        let ends = (1..=ORIGINS).filter_map(|back| n.checked_sub(back * horizon)).take_while(|end| is_enough(*end));
        let origin = |end: usize| Origin { history: window.before(end), actual: &window.values[end..end + horizon] };
        let origins = ends.map(origin).filter(|origin| origin.actual.iter().any(Option::is_some)).collect();
        Backtest { origins, task }
    }

    pub fn origins(&self) -> usize {
        self.origins.len()
    }

    /// The forecasts of a model from each origin; `None` if one fails.
    pub fn run(&self, model: Model) -> Option<Vec<Path>> {
        self.origins.iter().map(|origin| model.forecast(&origin.history, self.task)).collect()
    }

    /// The mean absolute error of the forecast from each origin.
    pub fn errors(&self, paths: &[Path]) -> Vec<f64> {
        let error = |(origin, path): (&Origin, &Path)| {
            mean(&origin.compare(path).map(|(error, _)| error).collect::<Vec<f64>>())
        };
        self.origins.iter().zip(paths).map(error).collect()
    }

    /// The scaled errors of each origin, latest first, in units of the deviations expected there. Before the first
    /// nonzero value no deviation is expected, and errors and intervals would be unbounded; so the deviation is at
    /// least a share of that expected `now`.
    pub fn scores(&self, paths: &[Path], now: &Path) -> Vec<Vec<f64>> {
        let least = |now: f64| (now * DEVIATION_SHARE).max(DEVIATION_MIN);
        let scores = |(origin, path): (&Origin, &Path)| {
            let deviations = path.deviations.iter().zip(&now.deviations).map(|(then, now)| then.max(least(*now)));
            let path = Path { values: path.values.clone(), deviations: deviations.collect() };
            origin.compare(&path).map(|(error, deviation)| error / deviation).collect()
        };
        self.origins.iter().zip(paths).map(scores).collect()
    }
}

impl Origin<'_> {
    /// The absolute error of each known bucket, and its expected deviation.
    fn compare(&self, path: &Path) -> impl Iterator<Item = (f64, f64)> {
        let forecasts = path.values.iter().zip(&path.deviations);
        self.actual
            .iter()
            .zip(forecasts)
            .filter_map(|(actual, (value, deviation))| Some(((actual.as_ref()? - value).abs(), *deviation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(values: Vec<Option<f64>>, starts: &[i64]) -> Window<'_> {
        Window { starts, values, season: 7, scale: 1.0, ahead: 7 }
    }

    /// A week on a line, between 0 and 1.
    fn values() -> Vec<Option<f64>> {
        (0..100).map(|t| Some(0.3 + 0.002 * t as f64 + [0.0, 0.1, 0.3, 0.2, 0.05, 0.02, 0.15][t % 7])).collect()
    }

    #[test]
    fn origins_lie_one_horizon_apart_as_far_back_as_there_is_enough_to_learn_from() {
        let starts: Vec<i64> = (0..120).map(|day| day * 86_400).collect();
        // Fourteen values at least: 100 - 3 x 28 = 16.
        for (horizon, expected) in [(28, vec![72, 44, 16]), (1, (92..100).rev().collect())] {
            let (window, task) =
                (window(values(), &starts), Task { horizon, events: &[], shares_events: true, floor: None });
            let backtest = Backtest::new(&window, &task);
            let ends: Vec<usize> = backtest.origins.iter().map(|origin| origin.history.known.len()).collect();
            assert_eq!(ends, expected);
        }
    }

    #[test]
    fn nothing_is_known_of_what_comes_after_an_origin() {
        let starts: Vec<i64> = (0..120).map(|day| day * 86_400).collect();
        let mut changed = values();
        changed[72..].fill(Some(0.9));
        let task = Task { horizon: 28, events: &[], shares_events: true, floor: None };
        for model in Model::candidates(7) {
            let paths =
                [values(), changed.clone()].map(|values| Backtest::new(&window(values, &starts), &task).run(model));
            assert!(paths[0].is_some() && paths[0] == paths[1], "{model:?}");
        }
    }

    #[test]
    fn errors_are_means_over_known_buckets() {
        let starts: Vec<i64> = (0..120).map(|day| day * 86_400).collect();
        let mut values = values();
        values[94] = None;
        let (window, task) =
            (window(values, &starts), Task { horizon: 7, events: &[], shares_events: true, floor: None });
        let backtest = Backtest::new(&window, &task);
        let paths = backtest.run(Model::Naive).expect("forecasts");
        // The line rises by .014 a week.
        assert!(backtest.errors(&paths).iter().all(|error| (error - 0.014).abs() < 1e-12));
        assert_eq!(backtest.scores(&paths, &paths[0])[0].len(), 6);
    }
}
