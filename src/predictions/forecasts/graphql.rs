//! Forecasts as GraphQL objects.

use std::sync::Arc;

use async_graphql::{Enum, SimpleObject};
use models::forecasts::Model;

use super::FittedForecast;
use crate::clock::{SECOND, Timestamp};
use crate::error::{Code, Error, Result};
use crate::graphql::scalars::{Count, DateTime, Decimal};
use crate::metrics::catalog::Metric;
use crate::metrics::graphql::AsOf;
use crate::metrics::history::History;
use crate::metrics::kpis::graphql::KpiUnit;
use crate::metrics::measured::Measured;
use crate::predictions::amount;

/// How a forecast is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Model")]
pub enum ForecastModel {
    /// The mean of the two models that did best in a backtest on this history. What PROPHET learns about calendar events is added to the other models, too.
    Auto,
    /// Prophet: a trend that can bend, calendar seasonality, and the events of the tenant's calendar.
    Prophet,
    /// Seasonal decomposition by local regression, with exponential smoothing of the rest.
    Mstl,
    /// Exponential smoothing of level, trend and season.
    Ets,
    /// The theta method: exponential smoothing combined with a straight line through the history.
    Theta,
    /// Seasonal naive: the last season again. It is the baseline that any other model has to beat.
    Naive,
}

/// A forecast of one metric or KPI, with measures of its quality.
#[derive(SimpleObject)]
pub struct Forecast {
    /// The metric that is forecast; null if a KPI is.
    metric: Option<Metric>,
    /// The name of the KPI that is forecast; null if a metric is.
    kpi: Option<String>,
    /// The unit of the values; money is in the currency of the answer.
    unit: KpiUnit,
    /// The forecast buckets in order, beginning with the first one that was not complete. If the last buckets before that have no value, the training ends earlier.
    points: Vec<ForecastPoint>,
    /// The model; for AUTO the two that were averaged.
    models: Vec<ForecastModel>,
    /// The share of values that the prediction intervals are meant to cover.
    level: f64,
    /// The share of values in the backtest that lay within their intervals: what `level` amounts to here.
    coverage: f64,
    /// Mean absolute scaled error of the backtest: the mean absolute error divided by the mean difference between values one season apart. Null if every season repeats the one before.
    mase: Option<f64>,
    /// The same of NAIVE in the same backtest: a forecast whose `mase` is less is better than repeating the last season.
    naive_mase: Option<f64>,
    /// How many moments in the past were forecast from in the backtest.
    origins: usize,
    /// The length of the season that was learned, in buckets; 1 if there is none.
    season: usize,
    /// The history that was learned from.
    training: Training,
    /// The state of the ledger that was learned from. In a subscription it may be earlier than that of the answer, as a forecast is only recomputed when a bucket is over.
    as_of: AsOf,
}

/// One forecast bucket.
#[derive(SimpleObject)]
struct ForecastPoint {
    /// The start of the bucket.
    start: DateTime,
    /// Its end (exclusive).
    end: DateTime,
    /// The expected value, to hundredths; for rates and KPIs to ten thousandths. Counts may have fractions. It is a central value: the mean or, for models with a multiplicative season, closer to the median.
    value: Decimal,
    /// The lower end of the prediction interval.
    lower: Decimal,
    /// The upper end of the prediction interval.
    upper: Decimal,
}

/// The part of the history that was learned from.
#[derive(SimpleObject)]
pub struct Training {
    /// Its start.
    start: DateTime,
    /// Its end (exclusive).
    end: DateTime,
    /// The number of buckets, including those without a value.
    buckets: Count,
    /// The number of buckets with a value.
    known: Count,
}

impl Training {
    pub fn new(start: Timestamp, end: Timestamp, buckets: usize, known: usize) -> Self {
        let count = |n: usize| Count(i64::try_from(n).unwrap_or(i64::MAX));
        Training { start: DateTime(start), end: DateTime(end), buckets: count(buckets), known: count(known) }
    }
}

impl Forecast {
    /// Error: FORECAST_VALUE_OUT_OF_RANGE.
    pub fn new(measured: &Measured, level: f64, made: &Arc<FittedForecast>, history: &History) -> Result<Self> {
        let forecast = made.forecast.as_ref().map_err(|refusal| Error::internal(*refusal))?;
        let at = |secs: i64| Timestamp(secs * SECOND);
        let amount =
            |value| amount(measured, value).map_err(|error| Error { code: Code::ForecastValueOutOfRange, ..error });
        let point = |(point, end): (&models::forecasts::Point, Timestamp)| {
            Ok(ForecastPoint {
                start: DateTime(at(point.start)),
                end: DateTime(end),
                value: Decimal(amount(point.value)?),
                lower: Decimal(amount(point.lower)?),
                upper: Decimal(amount(point.upper)?),
            })
        };
        let first = forecast.points.first().map_or(0, |point| point.start);
        let ends = history.boundaries.iter().copied().chain(history.ends_to_come()).skip_while(|end| *end <= at(first));
        let points = forecast.points.iter().zip(ends).map(point).collect::<Result<_>>()?;
        let training = forecast.training;
        Ok(Forecast {
            metric: measured.metric(),
            kpi: measured.kpi().map(str::to_owned),
            unit: history.unit(measured).into(),
            points,
            models: forecast.models.iter().copied().map(ForecastModel::from).collect(),
            level,
            coverage: forecast.quality.coverage,
            mase: forecast.quality.mase,
            naive_mase: forecast.quality.naive_mase,
            origins: forecast.quality.origins,
            season: made.season,
            training: Training::new(at(training.start), at(training.end), training.buckets, training.known),
            as_of: AsOf::from(history.as_of),
        })
    }
}
