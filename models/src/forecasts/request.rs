//! Requests and results.

use super::event::Event;
use super::model::Model;
use super::refusal::Refusal;
use super::{EVENT_WINDOWS_MAX, EVENTS_MAX, HORIZON_MAX, LEVEL_MAX, LEVEL_MIN, VALUE_MAX};

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Number of buckets to forecast after the last one of the series.
    pub horizon: usize,
    pub model: Model,
    /// Nominal coverage of the intervals, .5 to .99.
    pub level: f64,
    /// Lower bound of values: 0 for counts and revenue.
    pub floor: Option<f64>,
    /// Used by PROPHET, and through it by AUTO.
    pub events: Vec<Event>,
}

impl Request {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if !(1..=HORIZON_MAX).contains(&self.horizon) {
            return Err(Refusal::HorizonOutOfRange);
        }
        if !(LEVEL_MIN..=LEVEL_MAX).contains(&self.level) {
            return Err(Refusal::LevelOutOfRange { level: self.level });
        }
        if let Some(value) = self.floor.filter(|floor| !(-VALUE_MAX..=VALUE_MAX).contains(floor)) {
            return Err(Refusal::ValueOutOfRange { value });
        }
        let windows: usize = self.events.iter().map(|event| event.windows.len()).sum();
        if self.events.len() > EVENTS_MAX || windows > EVENT_WINDOWS_MAX {
            return Err(Refusal::TooManyEvents { events: self.events.len(), windows });
        }
        Ok(())
    }
}

/// A forecast with its quality.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The buckets after the last one of the series.
    pub points: Vec<Point>,
    /// The model, or the two that AUTO averages.
    pub models: Vec<Model>,
    pub quality: Quality,
    pub training: Training,
}

/// One bucket of a forecast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since 1970.
    pub start: i64,
    pub value: f64,
    pub lower: f64,
    pub upper: f64,
}

impl Point {
    pub(super) fn is_finite(&self) -> bool {
        self.lower.is_finite() && self.value.is_finite() && self.upper.is_finite()
    }
}

/// Backtest quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// The mean absolute scaled error, relative to the mean difference between values one season apart (Hyndman and
    /// Koehler 2006): below 1, errors were smaller than those. `None` if each season repeats the last exactly.
    pub mase: Option<f64>,
    /// The same of NAIVE. The farther ahead, the larger it is, often above 1.
    pub naive_mase: Option<f64>,
    /// Empirical coverage of the intervals. Those of each origin were calibrated on the other origins alone; with a
    /// single origin they are the model's own.
    pub coverage: f64,
    /// Number of past times from which forecasts were made and compared with what came.
    pub origins: usize,
}

/// The part of the history that was learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// From the start of the first bucket to the end of the last, in seconds since 1970.
    pub start: i64,
    pub end: i64,
    pub buckets: usize,
    /// Buckets with a value.
    pub known: usize,
}
