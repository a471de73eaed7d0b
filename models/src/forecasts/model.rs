//! The models, and what each forecasts from a history.

use super::event::Event;
use super::path::Path;
use super::request::Request;
use super::series::{History, Window};
use super::{ets, mstl, naive, prophet, theta};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Model {
    /// The mean of the two models that were best in a backtest.
    Auto,
    /// A bending trend with the seasons of the calendar and events.
    Prophet,
    /// The season by loess, the rest by exponential smoothing.
    Mstl,
    /// Exponential smoothing of level, trend and season.
    Ets,
    /// Exponential smoothing and the line through the history.
    Theta,
    /// The last season again.
    Naive,
}

/// What is asked of every model, in units of the window.
#[derive(Debug)]
pub struct Task<'a> {
    pub horizon: usize,
    pub events: &'a [Event],
    pub floor: Option<f64>,
}

impl<'a> Task<'a> {
    pub fn of(request: &'a Request, window: &Window) -> Task<'a> {
        let floor = request.floor.map(|floor| floor / window.scale);
        Task { horizon: window.ahead, events: &request.events, floor }
    }
}

impl Model {
    /// What AUTO chooses from, the simplest first.
    pub(super) fn candidates(season: usize) -> impl Iterator<Item = Model> {
        let all = [Model::Naive, Model::Theta, Model::Ets, Model::Mstl, Model::Prophet];
        // Without a season MSTL is ETS, which would be counted twice.
        all.into_iter().filter(move |model| season > 1 || *model != Model::Mstl)
    }

    /// Forecasts the buckets after a history. `None` if the model finds no finite numbers for it; AUTO is none itself.
    pub(super) fn forecast(self, history: &History, task: &Task) -> Option<Path> {
        let (values, horizon) = (&history.values, task.horizon);
        let path = match (self, history.constant()) {
            (Model::Auto, _) => None,
            (_, Some(value)) => Some(Path { values: vec![value; horizon], deviations: vec![0.0; horizon] }),
            (Model::Prophet, _) => prophet::forecast(history, task.events, horizon),
            (Model::Mstl, _) => mstl::forecast(values, history.season, horizon),
            (Model::Ets, _) => Some(ets::forecast(values, history.seasonality(), horizon)),
            (Model::Theta, _) => Some(theta::forecast(values, history.seasonality(), horizon)),
            (Model::Naive, _) => Some(naive::forecast(values, history.season, horizon)),
        };
        path.map(|path| path.at_least(task.floor)).filter(Path::is_finite)
    }
}
