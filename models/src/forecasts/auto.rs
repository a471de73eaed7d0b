//! AUTO: the mean of the two best models. Averaging guards against a model that was best by chance, with only a few
//! origins.
//!
//! The event effects that PROPHET learns are shared by all models: they forecast the history without them, and the
//! effects are added to the result. Otherwise a backtest, in which most days are ordinary, would mostly choose models
//! that ignore events.

use super::backtest::Backtest;
use super::model::Model;
use super::path::Path;

/// Number of models averaged.
const BEST: usize = 2;

/// The models AUTO chose, and its forecasts from each origin.
pub struct Choice {
    pub models: Vec<Model>,
    /// From each origin, by the models that the *other* origins would have chosen (leave-one-out), so that no origin
    /// evaluates its own choice. With a single origin there are no others, and the figure is optimistic.
    pub paths: Vec<Path>,
}

/// Chooses among models; `None` if all of them fail.
pub fn choose(backtest: &Backtest, models: impl IntoIterator<Item = Model>) -> Option<Choice> {
    let trials: Vec<(Model, Vec<Path>)> =
        models.into_iter().filter_map(|model| Some((model, backtest.run(model)?))).collect();
    let errors: Vec<Vec<f64>> = trials.iter().map(|(_, paths)| backtest.errors(paths)).collect();
    let path = |origin: usize| {
        let best = best(&errors, Some(origin).filter(|_| backtest.origins() > 1));
        mean(best.into_iter().filter_map(|trial| trials[trial].1.get(origin).cloned()))
    };
    let paths = (0..backtest.origins()).map(path).collect::<Option<Vec<Path>>>()?;
    let models = best(&errors, None).into_iter().map(|trial| trials[trial].0).collect();
    Some(Choice { models, paths })
}

/// The mean of one or two paths; `None` for none.
pub fn mean(paths: impl IntoIterator<Item = Path>) -> Option<Path> {
    paths.into_iter().reduce(|one, other| one.mean(&other))
}

/// The models with the smallest total error over all origins but one.
fn best(errors: &[Vec<f64>], without: Option<usize>) -> Vec<usize> {
    let total = |trial: usize| -> f64 {
        let counted = errors[trial].iter().enumerate().filter(|(origin, _)| Some(*origin) != without);
        counted.map(|(_, error)| error).sum()
    };
    let mut trials: Vec<usize> = (0..errors.len()).collect();
    trials.sort_by(|a, b| total(*a).total_cmp(&total(*b)));
    trials.truncate(BEST);
    trials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_can_be_left_out_of_the_choice() {
        // Sums 10, 6, 9; without the first origin 1, 5, 2.
        let errors = [vec![9.0, 1.0], vec![1.0, 5.0], vec![7.0, 2.0]];
        assert_eq!(best(&errors, None), [1, 2]);
        assert_eq!(best(&errors, Some(0)), [0, 2]);
    }
}
