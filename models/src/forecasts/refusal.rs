//! Why there is no forecast.

use super::model::Model;
use super::{EVENT_WINDOWS_MAX, EVENTS_MAX, HORIZON_MAX, LEVEL_MAX, LEVEL_MIN, SEASON_MAX};

/// A refusal, with a stable code.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no history yet")]
    Empty,
    #[error("no bucket of the history has a value")]
    AllGaps,
    #[error("{needed} buckets with a value are needed for this season and horizon, there are {known}")]
    TooShort { known: usize, needed: usize },
    #[error("the last {unknown} buckets have no value: with the horizon they must be {HORIZON_MAX} at most")]
    TooOld { unknown: usize },
    #[error("the horizon must be 1 to {HORIZON_MAX} buckets")]
    HorizonOutOfRange,
    #[error("the season must be 1 (none) to {SEASON_MAX} buckets, not {season}")]
    SeasonOutOfRange { season: usize },
    #[error("the level must be {LEVEL_MIN} to {LEVEL_MAX}, not {level}")]
    LevelOutOfRange { level: f64 },
    #[error("the value or limit {value} is not a number that can be forecast")]
    ValueOutOfRange { value: f64 },
    #[error("the starts of buckets must rise, reach to the end of the horizon and lie within years 1900 to 2200")]
    InvalidStarts,
    #[error(
        "at most {EVENTS_MAX} events and {EVENT_WINDOWS_MAX} times of them can be used, not {events} and {windows}"
    )]
    TooManyEvents { events: usize, windows: usize },
    #[error("the model {model:?} finds no forecast for this history")]
    NoFit { model: Model },
}

impl Refusal {
    /// The code by which callers distinguish refusals.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Empty => "FORECAST_HISTORY_EMPTY",
            Refusal::AllGaps => "FORECAST_HISTORY_ALL_GAPS",
            Refusal::TooShort { .. } => "FORECAST_HISTORY_TOO_SHORT",
            Refusal::TooOld { .. } => "FORECAST_HISTORY_TOO_OLD",
            Refusal::HorizonOutOfRange => "FORECAST_HORIZON_OUT_OF_RANGE",
            Refusal::SeasonOutOfRange { .. } => "FORECAST_SEASON_OUT_OF_RANGE",
            Refusal::LevelOutOfRange { .. } => "FORECAST_LEVEL_OUT_OF_RANGE",
            Refusal::ValueOutOfRange { .. } => "FORECAST_VALUE_OUT_OF_RANGE",
            Refusal::InvalidStarts => "FORECAST_INVALID_STARTS",
            Refusal::TooManyEvents { .. } => "FORECAST_TOO_MANY_EVENTS",
            Refusal::NoFit { .. } => "FORECAST_NO_FIT",
        }
    }
}
