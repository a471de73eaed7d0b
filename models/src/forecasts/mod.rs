//! Forecasts with quality estimates.
//!
//! [`forecast`] takes a metric by bucket and returns future buckets, each with an interval, and quality figures: the
//! models used, their backtest errors, the empirical coverage of their intervals, and the training data. Insufficient
//! histories are refused.
//!
//! Everything is a pure function of its input: no clock, no randomness, no state.
//!
//! ```text
//! Series -> Window -> Backtest: History of each origin -> Model -> Path      -> errors, scores
//!                  -> History of now                   -> Model -> Path + factor of the scores -> Forecast
//! ```

mod auto;
mod backtest;
mod conformal;
mod decompose;
mod ets;
mod event;
mod least_squares;
mod line;
mod model;
mod mstl;
mod naive;
mod normal;
mod path;
mod prophet;
mod refusal;
mod request;
mod series;
mod simplex;
mod theta;

pub use event::Event;
pub use model::Model;
pub use refusal::Refusal;
pub use request::{Forecast, Point, Quality, Request, Training};
pub use series::Series;

use auto::Choice;
use backtest::Backtest;
use model::Task;
use path::Path;
use series::Window;

/// A year of days.
pub const HORIZON_MAX: usize = 366;
/// A year of days.
pub const SEASON_MAX: usize = 366;
/// Maximum number of training buckets, the most recent ones: four years of days. Older ones say little about the
/// future.
pub const WINDOW_MAX: usize = 1_461;
/// Minimum number of training values: more than the seven parameters of the richest model without a season.
pub const TRAINING_MIN: usize = 10;
pub const LEVEL_MIN: f64 = 0.5;
pub const LEVEL_MAX: f64 = 0.99;
/// The largest value: beyond it a float cannot distinguish integers.
pub const VALUE_MAX: f64 = 1e15;
pub const EVENTS_MAX: usize = 50;
/// Maximum number of occurrences of all events.
pub const EVENT_WINDOWS_MAX: usize = 1_000;

/// Forecasts the buckets after the last one of the series. Trailing buckets without a value are forecast too, but not
/// returned.
pub fn forecast(series: &Series, request: &Request) -> Result<Forecast, Refusal> {
    request.check()?;
    let window = Window::of(series, request.horizon)?;
    let task = Task::of(request, &window);
    let backtest = Backtest::new(&window, &task);
    let no_fit = Refusal::NoFit { model: request.model };
    let choice = match request.model {
        Model::Auto => auto::choose(&backtest, Model::candidates(window.season)).ok_or(no_fit)?,
        model => Choice { models: vec![model], paths: backtest.run(model).ok_or(no_fit)? },
    };
    let now = window.before(window.values.len());
    let fits = choice.models.iter().filter_map(|model| Some((*model, model.forecast(&now, &task)?)));
    let (models, paths): (Vec<Model>, Vec<Path>) = fits.unzip();
    let path = auto::mean(paths).ok_or(no_fit)?;
    let scores = backtest.scores(&choice.paths, &path);
    let mut points = points(&window, &path, conformal::factor(&scores, request.level), request.floor);
    points.drain(..window.ahead.saturating_sub(request.horizon).min(points.len()));
    if !points.iter().all(Point::is_finite) {
        return Err(no_fit);
    }
    let mase = |paths: &[Path]| window.relative(series::mean(&backtest.errors(paths)));
    let quality = Quality {
        mase: mase(&choice.paths),
        naive_mase: backtest.run(Model::Naive).and_then(|paths| mase(&paths)),
        coverage: conformal::coverage(&scores, request.level).ok_or(no_fit)?,
        origins: backtest.origins(),
    };
    Ok(Forecast { points, models, quality, training: window.training() })
}

/// The forecast in the units of the series, with intervals of `factor` deviations on each side.
fn points(window: &Window, path: &Path, factor: f64, floor: Option<f64>) -> Vec<Point> {
    // The floor is applied again, since scaling it back and forth may change its last digit.
    let scaled = |value: f64| (value * window.scale).max(floor.unwrap_or(f64::NEG_INFINITY));
    let point = |((start, value), deviation): ((&i64, &f64), &f64)| Point {
        start: *start,
        value: scaled(*value),
        lower: scaled(value - factor * deviation),
        upper: scaled(value + factor * deviation),
    };
    let starts = window.starts.iter().skip(window.values.len());
    starts.zip(&path.values).zip(&path.deviations).map(point).collect()
}
