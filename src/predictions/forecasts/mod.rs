//! Forecasts of metrics and KPIs.

pub mod graphql;

use std::sync::Arc;

use models::forecasts::{self, Event, HORIZON_MAX, Model, Refusal, Request, Series};

use super::kept::{FitCache, Key, WaitPolicy, bits};
use super::{floor, seasons};
use crate::calendar::dial::Dial;
use crate::clock::{SECOND, Timestamp};
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::metrics::history::History;
use crate::metrics::input::Grain;
use crate::metrics::measured::Measured;

/// The parameters of a forecast.
#[derive(Clone, Debug)]
pub struct Question {
    pub measured: Measured,
    pub grain: Grain,
    pub horizon: usize,
    pub model: Model,
    /// The nominal coverage of prediction intervals.
    pub level: f64,
    /// Events that models may learn from, beside the history.
    pub events: Vec<Event>,
}

/// A forecast, or why there is none.
#[derive(Debug)]
pub struct FittedForecast {
    pub forecast: Result<forecasts::Forecast, Refusal>,
    /// The length of the season that was learned, in buckets; 1 if there is none.
    pub season: usize,
}

/// The forecasts of this process. Cheap to clone.
pub type Forecasts = FitCache<FittedForecast>;

/// Maximum number of cached forecasts; one of a year of days takes 12 KB.
pub const KEPT_MAX: u64 = 4_000;

/// The forecast of a tenant's history. Deterministic in the history. Errors: PREDICTION_PENDING, and those of
/// [`refused`].
pub async fn forecast(
    forecasts: &Forecasts,
    tenant: TenantId,
    history: &History,
    question: Question,
    patience: WaitPolicy,
) -> Result<Arc<FittedForecast>> {
    let (values, over) = (history.series(&question.measured), history.boundaries.len());
    let to_come = history.ends_to_come().take(question.horizon.min(HORIZON_MAX));
    let boundaries: Vec<Timestamp> = history.boundaries.iter().copied().chain(to_come).collect();
    let dial = history.dial(&boundaries);
    let numbers = boundaries.iter().map(|at| at.0.cast_unsigned()).chain(values.iter().map(|value| bits(*value)));
    // Two time zones may have the same bucket boundaries and different clocks.
    let numbers = numbers.chain(dial.starts.iter().map(|start| start.cast_unsigned()));
    let definition = history.definition(&question.measured);
    let key = Key::new(tenant, &format!("{question:?} {definition:?}"), numbers);
    let buckets = Buckets { boundaries, over: over - 1, dial };
    let made = forecasts.get(key, patience, move || make(&question, &buckets, &values)).await?;
    match &made.forecast {
        Ok(_) => Ok(made),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Fits with the longest season that the history covers sufficiently.
fn make(question: &Question, buckets: &Buckets, values: &[Option<f64>]) -> FittedForecast {
    let laid = buckets.dial.lay(values);
    let request = Request {
        horizon: buckets.horizon(question.horizon, laid.len()),
        model: question.model,
        level: question.level,
        floor: floor(&question.measured),
        events: question.events.clone(),
    };
    let mut series = Series { starts: buckets.dial.starts.clone(), values: laid, season: 1 };
    for season in seasons(question.grain) {
        series.season = *season;
        let forecast = forecasts::forecast(&series, &request);
        if *season == 1 || !matches!(forecast, Err(Refusal::TooShort { .. })) {
            let forecast = forecast.map(|forecast| buckets.told(forecast, series.values.len()));
            return FittedForecast { forecast, season: *season };
        }
    }
    FittedForecast { forecast: Err(Refusal::Empty), season: 1 }
}

/// Complete buckets followed by future ones. Models use positions on the clock instead.
struct Buckets {
    boundaries: Vec<Timestamp>,
    over: usize,
    dial: Dial,
}

impl Buckets {
    /// The positions of future buckets, relative to the first `laid` positions.
    fn to_come(&self, laid: usize) -> impl Iterator<Item = (usize, Timestamp)> {
        let buckets = self.over..self.boundaries.len().saturating_sub(1);
        buckets.filter_map(move |bucket| Some((self.dial.place(bucket)?.saturating_sub(laid), self.boundaries[bucket])))
    }

    /// The number of positions to forecast for that many buckets: one more where an hour is skipped.
    fn horizon(&self, asked: usize, laid: usize) -> usize {
        let places = self.to_come(laid).map(|(place, _)| place + 1).max();
        if asked > HORIZON_MAX { asked } else { places.map_or(asked, |places| places.min(HORIZON_MAX)) }
    }

    /// Maps a forecast from positions to buckets.
    fn told(&self, forecast: forecasts::Forecast, laid: usize) -> forecasts::Forecast {
        let secs = |at: Timestamp| at.0.div_euclid(SECOND);
        let point = |(place, start)| {
            // The last point stands in for one that is a position beyond the longest horizon.
            let point = forecast.points.get(place).or(forecast.points.last())?;
            Some(forecasts::Point { start: secs(start), ..*point })
        };
        let points = self.to_come(laid).filter_map(point).collect();
        let numbers: Vec<Option<usize>> = (0..self.over).map(Some).collect();
        let buckets = self.dial.lay(&numbers);
        let place = |start: i64| self.dial.starts.partition_point(|other| *other < start);
        let bucket = |place: usize| buckets.get(place).copied().flatten().unwrap_or(place);
        let training = forecast.training;
        let (first, last) = (bucket(place(training.start)), bucket(place(training.end).saturating_sub(1)));
        let edge = |bucket: usize| self.boundaries.get(bucket).copied().map_or(0, secs);
        let training = forecasts::Training {
            start: edge(first),
            end: edge(last + 1),
            buckets: (last + 1).saturating_sub(first),
            known: training.known,
        };
        forecasts::Forecast { points, training, ..forecast }
    }
}

/// A model's refusal as an error for callers.
fn refused(refusal: &Refusal) -> Error {
    let code = match refusal {
        Refusal::HorizonOutOfRange => return Error::bad_input("horizon", refusal.to_string()),
        Refusal::LevelOutOfRange { .. } => return Error::bad_input("level", refusal.to_string()),
        Refusal::Empty => Code::ForecastHistoryEmpty,
        Refusal::AllGaps => Code::ForecastHistoryAllGaps,
        Refusal::TooShort { .. } => Code::ForecastHistoryTooShort,
        Refusal::TooOld { .. } => Code::ForecastHistoryTooOld,
        Refusal::ValueOutOfRange { .. } => Code::ForecastValueOutOfRange,
        Refusal::NoFit { .. } => Code::ForecastNoFit,
        // Buckets of a ledger are ascending, and none is that old.
        Refusal::InvalidStarts => {
            return Error::bad_input("horizon", "the buckets to come must lie before the year 2200");
        }
        // Not the caller's fault: events are validated when stored, and seasons are ours.
        Refusal::SeasonOutOfRange { .. } | Refusal::TooManyEvents { .. } => return Error::internal(*refusal),
    };
    Error::new(code, refusal.to_string())
}
