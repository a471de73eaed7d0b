//! Forecasts as GraphQL objects.

use std::sync::Arc;

use async_graphql::{Enum, SimpleObject};
use models::forecasts::Model;

use super::Made;
use crate::clock::{SECOND, Timestamp};
use crate::error::{Error, Result};
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
    /// The mean of the two models that were best in a backtest on this history. What PROPHET learns of events of the calendar is added to what the others say, too.
    Auto,
    /// A trend that bends, the seasons of the calendar, and the events of the tenant's calendar.
    Prophet,
    /// The season by local regression, the rest by exponential smoothing.
    Mstl,
    /// Exponential smoothing of level, trend and season.
    Ets,
    /// Exponential smoothing and the line through the history.
    Theta,
    /// The last season again: what any other model has to beat.
    Naive,
}

/// A forecast of one metric or KPI, with what is known of its quality.
#[derive(SimpleObject)]
pub struct Forecast {
    /// The metric; null where a KPI is forecast.
    metric: Option<Metric>,
    /// The KPI that is forecast, by its name.
    kpi: Option<String>,
    /// What the values are: amounts in the currency of the answer, numbers of things, shares, or seconds.
    unit: KpiUnit,
    /// The buckets to come, in order, from the first on that was not over. Where the last buckets that were have no value, the training ends before.
    points: Vec<ForecastPoint>,
    /// The model; for AUTO the two whose mean this is.
    models: Vec<ForecastModel>,
    /// The share of values that intervals are made to cover.
    level: f64,
    /// The share of values of the backtest that lay in their intervals: what `level` comes to here.
    coverage: f64,
    /// The mean absolute error of the backtest, in units of the mean difference between values one season apart: below 1, it was smaller than that. Null where each season repeats the last.
    mase: Option<f64>,
    /// The moments of the past from which forecasts were made and compared with what came.
    origins: usize,
    /// Buckets in the season that was learned; 1 for none.
    season: usize,
    /// What was learned from.
    training: Training,
    /// The state of the ledger that was learned from. In a subscription it may be an earlier one than that of the answer: a forecast is made anew when a bucket is over.
    as_of: AsOf,
}

/// One bucket to come.
#[derive(SimpleObject)]
struct ForecastPoint {
    /// The first moment of the bucket.
    start: DateTime,
    /// The first moment after it.
    end: DateTime,
    /// What is expected: hundredths at the finest, of rates and KPIs ten thousandths. Counts have fractions. It is a middle: a mean, or, of a model whose season multiplies, nearer to a median.
    value: Decimal,
    /// The lower end of the interval.
    lower: Decimal,
    /// The upper end of the interval.
    upper: Decimal,
}

/// The part of the history that was learned from.
#[derive(SimpleObject)]
pub struct Training {
    /// The first moment.
    start: DateTime,
    /// The first moment after it.
    end: DateTime,
    /// Buckets, those without a value included.
    buckets: Count,
    /// Buckets with a value.
    known: Count,
}

impl Training {
    pub fn new(start: Timestamp, end: Timestamp, buckets: usize, known: usize) -> Self {
        let count = |n: usize| Count(i64::try_from(n).unwrap_or(i64::MAX));
        Training { start: DateTime(start), end: DateTime(end), buckets: count(buckets), known: count(known) }
    }
}

impl Forecast {
    /// Error: AMOUNT_OUT_OF_RANGE.
    pub fn new(measured: &Measured, level: f64, made: &Arc<Made>, history: &History) -> Result<Self> {
        let forecast = made.forecast.as_ref().map_err(|refusal| Error::internal(*refusal))?;
        let at = |secs: i64| Timestamp(secs * SECOND);
        let point = |(point, end): (&models::forecasts::Point, Timestamp)| {
            Ok(ForecastPoint {
                start: DateTime(at(point.start)),
                end: DateTime(end),
                value: Decimal(amount(measured, point.value)?),
                lower: Decimal(amount(measured, point.lower)?),
                upper: Decimal(amount(measured, point.upper)?),
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
            origins: forecast.quality.origins,
            season: made.season,
            training: Training::new(at(training.start), at(training.end), training.buckets, training.known),
            as_of: AsOf::from(history.as_of),
        })
    }
}
