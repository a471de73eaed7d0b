//! Predictions: applies the models of the crate [`models`] to a tenant's metrics. They are fitted in a dedicated
//! [`pool`], never on request threads, and cached ([`kept`]) by the history they were fitted to.
//!
//! Models compute in floating point; their results are converted to amounts at the boundary, in [`amount`].

pub mod anomalies;
pub mod events;
pub mod forecasts;
pub mod graphql;
pub mod kept;
pub mod pool;

use anomalies::{Detections, Explanations};
use events::Calendars;
use forecasts::Forecasts;
use pool::Pool;

use crate::error::{Code, Error, Result};
use crate::metrics::catalog::Metric;
use crate::metrics::input::Grain;
use crate::metrics::measured::Measured;
use crate::money::{Money, SCALE};

/// The prediction services of a process. Cheap to clone.
#[derive(Clone)]
pub struct Predictions {
    /// Runs the fits.
    pub pool: Pool,
    pub forecasts: Forecasts,
    pub detections: Detections,
    pub explanations: Explanations,
    pub calendars: Calendars,
}

impl Predictions {
    pub fn new(pool: Pool) -> Self {
        Predictions {
            forecasts: Forecasts::new("forecasts", forecasts::KEPT_MAX, pool.clone()),
            detections: Detections::new("anomalies", anomalies::KEPT_MAX, pool.clone()),
            explanations: Explanations::new("explanations", anomalies::EXPLANATIONS_MAX, pool.clone()),
            calendars: Calendars::default(),
            pool,
        }
    }
}

impl Default for Predictions {
    fn default() -> Self {
        Predictions::new(Pool::default())
    }
}

/// Seasonal periods of sales in buckets, longest first.
fn seasons(grain: Grain) -> &'static [usize] {
    match grain {
        Grain::QuarterHour => &[96, 1],
        Grain::Hour => &[168, 24, 1],
        Grain::Day => &[7, 1],
        Grain::Week => &[52, 1],
        Grain::Month => &[12, 1],
        Grain::Quarter => &[4, 1],
        Grain::Year => &[1],
    }
}

/// The lower bound of a metric. Revenue may be less than what is refunded, and a formula may yield anything.
pub fn floor(measured: &Measured) -> Option<f64> {
    measured.metric().filter(|metric| *metric != Metric::TotalRevenue).map(|_| 0.0)
}

/// A model's value of a metric or KPI as an amount: rounded to hundredths, which is finer than any model's accuracy;
/// rates and KPIs, which may be small, to ten-thousandths. Error: AMOUNT_OUT_OF_RANGE.
pub fn amount(measured: &Measured, value: f64) -> Result<Money> {
    let step = match measured {
        Measured::Metric(Metric::ConversionRate | Metric::RefundRate) | Measured::Kpi(_) => 1.0,
        Measured::Metric(_) => 100.0,
    };
    let units = (value * SCALE as f64 / step).round_ties_even() * step;
    // Half the range: no sum that was read lies beyond it.
    if units.abs() < i64::MAX as f64 / 2.0 {
        Ok(Money(units as i64))
    } else {
        Err(Error::new(Code::AmountOutOfRange, "what is expected is beyond the largest amount"))
    }
}

/// The same of what is expected, which is no less than the metric can be.
pub fn expected_amount(measured: &Measured, value: f64) -> Result<Money> {
    amount(measured, floor(measured).map_or(value, |floor| value.clamp(floor, f64::INFINITY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_expected_that_cannot_be() {
        let expected = |metric, value| expected_amount(&Measured::Metric(metric), value).map(|money| money.to_string());
        assert_eq!(expected(Metric::OrdersCount, -0.01).expect("an amount"), "0.00");
        assert_eq!(expected(Metric::TotalRevenue, -0.01).expect("an amount"), "-0.01");
        expected(Metric::OrdersCount, f64::NAN).expect_err("no amount");
    }

    #[test]
    fn what_is_expected_is_rounded_once() {
        let revenue = Measured::Metric(Metric::TotalRevenue);
        let money = |value| amount(&revenue, value).map(|m| m.to_string()).map_err(|e| e.code);
        assert_eq!(money(1234.565), Ok("1234.56".into()));
        assert_eq!(money(-0.004), Ok("0.00".into()));
        assert_eq!(money(1e15), Err(Code::AmountOutOfRange));
        assert_eq!(money(f64::NAN), Err(Code::AmountOutOfRange));
        for small in [Measured::Metric(Metric::ConversionRate), Measured::Kpi("per_visit".into())] {
            assert_eq!(amount(&small, 0.021_34).expect("a rate"), Money(213));
        }
    }
}
