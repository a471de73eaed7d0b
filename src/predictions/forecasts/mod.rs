//! Forecasts of metrics and KPIs.

pub mod graphql;

use std::sync::Arc;

use models::forecasts::{self, Event, HORIZON_MAX, Model, Refusal, Request, Series};

use super::kept::{Kept, Key, Patience, bits};
use super::{floor, seasons};
use crate::clock::SECOND;
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::metrics::history::History;
use crate::metrics::input::Grain;
use crate::metrics::measured::Measured;

/// What is asked of a history.
#[derive(Clone, Debug)]
pub struct Question {
    pub measured: Measured,
    pub grain: Grain,
    pub horizon: usize,
    pub model: Model,
    /// The share of values that intervals are to cover.
    pub level: f64,
    /// What models may learn from beside what is measured.
    pub events: Vec<Event>,
}

/// A forecast, or why there is none.
#[derive(Debug)]
pub struct Made {
    pub forecast: Result<forecasts::Forecast, Refusal>,
    /// Buckets in the season that was learned; 1 for none.
    pub season: usize,
}

/// The forecasts of this process. Cheap to clone.
pub type Forecasts = Kept<Made>;

/// Forecasts that are kept; one of a year of days has 12 KB.
pub const KEPT_MAX: u64 = 4_000;

/// The forecast of a tenant's history. The same history gives the same forecast. Errors: PREDICTION_PENDING, and those of
/// [`refused`].
pub async fn forecast(
    forecasts: &Forecasts,
    tenant: TenantId,
    history: &History,
    question: Question,
    patience: Patience,
) -> Result<Arc<Made>> {
    let values = history.series(&question.measured);
    let to_come = history.ends_to_come().take(question.horizon.min(HORIZON_MAX));
    let starts: Vec<i64> =
        history.boundaries.iter().copied().chain(to_come).map(|at| at.0.div_euclid(SECOND)).collect();
    let numbers = starts.iter().map(|start| start.cast_unsigned()).chain(values.iter().map(|value| bits(*value)));
    let definition = history.definition(&question.measured);
    let key = Key::new(tenant, &format!("{question:?} {definition:?}"), numbers);
    let made = forecasts.get(key, patience, move || make(&question, starts, values)).await?;
    match &made.forecast {
        Ok(_) => Ok(made),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Learns the longest season that the history has enough of.
fn make(question: &Question, starts: Vec<i64>, values: Vec<Option<f64>>) -> Made {
    let request = Request {
        horizon: question.horizon,
        model: question.model,
        level: question.level,
        floor: floor(&question.measured),
        events: question.events.clone(),
    };
    let mut series = Series { starts, values, season: 1 };
    for season in seasons(question.grain) {
        series.season = *season;
        let forecast = forecasts::forecast(&series, &request);
        if *season == 1 || !matches!(forecast, Err(Refusal::TooShort { .. })) {
            return Made { forecast, season: *season };
        }
    }
    Made { forecast: Err(Refusal::Empty), season: 1 }
}

/// An honest "no" as callers see it.
fn refused(refusal: &Refusal) -> Error {
    let code = match refusal {
        Refusal::HorizonOutOfRange { .. } => return Error::bad_input("horizon", refusal.to_string()),
        Refusal::LevelOutOfRange { .. } => return Error::bad_input("level", refusal.to_string()),
        Refusal::Empty => Code::ForecastHistoryEmpty,
        Refusal::AllGaps => Code::ForecastHistoryAllGaps,
        Refusal::TooShort { .. } => Code::ForecastHistoryTooShort,
        Refusal::TooOld { .. } => Code::ForecastHistoryTooOld,
        Refusal::ValueOutOfRange { .. } => Code::ForecastValueOutOfRange,
        Refusal::NoFit { .. } => Code::ForecastNoFit,
        // Buckets of a ledger rise, and none is so old.
        Refusal::InvalidStarts => {
            return Error::bad_input("horizon", "the buckets to come must lie before the year 2200");
        }
        // Neither is the caller's: events are checked when they are stored, seasons are ours.
        Refusal::SeasonOutOfRange { .. } | Refusal::TooManyEvents { .. } => return Error::internal(*refusal),
    };
    Error::new(code, refusal.to_string())
}
