//! The models and their forecasts from a history.

use super::event::Event;
use super::path::Path;
use super::request::Request;
use super::series::{History, Window};
use super::{ets, mstl, naive, theta};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Model {
    /// The mean of the two models that were best in a backtest.
    Auto,
    /// A piecewise linear trend with calendar seasons and events.
    Prophet,
    /// Season by loess, the remainder by exponential smoothing.
    Mstl,
    /// Exponential smoothing of level, trend and season.
    Ets,
    /// Exponential smoothing combined with the regression line.
    Theta,
    /// The last season again.
    Naive,
}

/// The forecasting task for every model, in units of the window.
#[derive(Debug)]
pub struct Task<'a> {
    pub horizon: usize,
    pub events: &'a [Event],
    /// Whether event effects learned by PROPHET are added to other models' forecasts.
    pub shares_events: bool,
    pub floor: Option<f64>,
}

impl<'a> Task<'a> {
    pub fn of(request: &'a Request, window: &Window) -> Task<'a> {
        let floor = request.floor.map(|floor| floor / window.scale);
        let shares_events = request.model == Model::Auto;
        Task { horizon: window.ahead, events: &request.events, shares_events, floor }
    }

    /// The effects of events on the buckets of a history and on those after it, where models share them.
    fn shared<'h>(&self, history: &'h History) -> Option<(&'h [f64], &'h [f64])> {
        if !self.shares_events || self.events.is_empty() {
            return None;
        }
        history.prophecy(self.events, self.horizon)?.effects()
    }
}

impl Model {
    /// AUTO's candidates, simplest first.
    pub(super) fn candidates(season: usize) -> impl Iterator<Item = Model> {
        let all = [Model::Naive, Model::Theta, Model::Ets, Model::Mstl, Model::Prophet];
        // Without a season MSTL is ETS, which would be counted twice.
        all.into_iter().filter(move |model| season > 1 || *model != Model::Mstl)
    }

    /// Forecasts the buckets after a history. `None` if the result is not finite, and for AUTO, which is not a model
    /// itself.
    pub(super) fn forecast(self, history: &History, task: &Task) -> Option<Path> {
        let path = match (self, history.constant()) {
            (Model::Auto, _) => None,
            (_, Some(value)) => Some(constant(value, task.horizon)),
            (Model::Prophet, _) => history.prophecy(task.events, task.horizon).map(|prophecy| prophecy.path.clone()),
            _ => match task.shared(history) {
                Some((past, ahead)) => {
                    self.without_events(&history.without(past), task.horizon).map(|path| path.plus(ahead))
                }
                None => self.without_events(history, task.horizon),
            },
        };
        path.map(|path| path.at_least(task.floor)).filter(Path::is_finite)
    }

    /// The forecast of a model without events; `None` for AUTO and PROPHET.
    fn without_events(self, history: &History, horizon: usize) -> Option<Path> {
        let values = &history.values;
        match (self, history.constant()) {
            (Model::Auto | Model::Prophet, _) => None,
            (_, Some(value)) => Some(constant(value, horizon)),
            (Model::Mstl, _) => mstl::forecast(values, history.season, horizon),
            (Model::Ets, _) => Some(ets::forecast(values, history.seasonality(), horizon)),
            (Model::Theta, _) => Some(theta::forecast(values, history.seasonality(), horizon)),
            (Model::Naive, _) => Some(naive::forecast(values, history.season, horizon)),
        }
    }
}

fn constant(value: f64, horizon: usize) -> Path {
    Path { values: vec![value; horizon], deviations: vec![0.0; horizon] }
}
