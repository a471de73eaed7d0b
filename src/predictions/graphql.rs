//! Predictions for the metrics and KPIs of a [`SalesMetrics`](crate::metrics::graphql::SalesMetrics).

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Context, Object, SelectionField};
use models::anomalies::Settings;
use models::forecasts::{Model, WINDOW_MAX};

use super::anomalies::graphql::{AnomalyReport, AnomalySensitivity};
use super::anomalies::{UnusualBucket, settings};
use super::events::CalendarEvent;
use super::forecasts::graphql::{Forecast, ForecastModel};
use super::kept::WaitPolicy;
use super::pool::Seat;
use super::{anomalies, forecasts};
use crate::db::LazyTx;
use crate::error::{Error, Result};
use crate::graphql::context::{app, caller, operation, read};
use crate::graphql::scalars::TimeZone;
use crate::metrics::answer::Answer;
use crate::metrics::catalog::{Metric, Needs};
use crate::metrics::graphql::prepared;
use crate::metrics::history::{HistoryArgs, HistoryPlan};
use crate::metrics::input::{Grain, Weekday};
use crate::metrics::look_ahead::argument;
use crate::metrics::measured::Measured;

const LEVEL: f64 = 0.8;
const WATCHED: [Metric; 4] = [Metric::TotalRevenue, Metric::OrdersCount, Metric::AvgOrderValue, Metric::Refunds];

/// The history that some metrics and KPIs are predicted from, with defaults for absent arguments.
fn args(
    measured: &[Measured],
    covers_period: bool,
    grain: Option<Grain>,
    timezone: Option<TimeZone>,
    week_start: Option<Weekday>,
) -> HistoryArgs {
    HistoryArgs {
        grain: grain.unwrap_or(Grain::Day),
        timezone: timezone.map(|zone| zone.0),
        week_start: week_start.unwrap_or(Weekday::Monday),
        window: WINDOW_MAX,
        covers_period,
        kpis: measured.iter().flat_map(Measured::kpis).collect(),
    }
}

/// What to forecast; `None` where both a metric and a KPI are given.
fn forecast_of(metric: Option<Metric>, kpi: Option<String>) -> Option<Measured> {
    let default = kpi.is_none().then_some(Metric::TotalRevenue);
    Measured::of(metric.or(default), kpi)
}

/// What to detect anomalies in.
fn judged(metrics: Option<Vec<Metric>>, kpis: Option<Vec<String>>) -> Vec<Measured> {
    let default = || if kpis.is_none() { WATCHED.to_vec() } else { Vec::new() };
    let metrics = metrics.unwrap_or_else(default);
    let kpis = kpis.into_iter().flatten().map(Measured::Kpi);
    metrics.into_iter().map(Measured::Metric).chain(kpis).collect()
}

/// The history that a selected field requires; `None` for other fields, and for one that asks for nothing that exists.
pub fn history_of(field: SelectionField<'_>) -> Result<Option<HistoryPlan>> {
    let (measured, covers_period) = match field.name() {
        "forecast" => {
            let measured = forecast_of(argument(field, "metric")?, argument(field, "kpi")?);
            (measured.into_iter().collect(), false)
        }
        "anomalies" => (judged(argument(field, "metrics")?, argument(field, "kpis")?), true),
        _ => return Ok(None),
    };
    if measured.is_empty() {
        return Ok(None);
    }
    let (grain, timezone) = (argument(field, "grain")?, argument(field, "timezone")?);
    let args = args(&measured, covers_period, grain, timezone, argument(field, "weekStart")?);
    let needs = measured.iter().fold(Needs::default(), |needs, measured| needs.and(measured.needs()));
    Ok(Some(HistoryPlan { args, needs }))
}

pub struct Predicted(pub Arc<Answer>);

#[Object]
impl Predicted {
    /// A forecast of a metric or KPI. It begins with the first bucket that is not complete by the end of the period (or by now, if that is earlier), as of the position of the answer. It is learned from up to 1461 buckets before that, whatever the start of the period. The same position, end and calendar of events give the same forecast. Null with an error: FORECAST_HISTORY_EMPTY, FORECAST_HISTORY_ALL_GAPS, FORECAST_HISTORY_TOO_SHORT, FORECAST_HISTORY_TOO_OLD, FORECAST_VALUE_OUT_OF_RANGE, FORECAST_NO_FIT, AS_OF_NOT_AVAILABLE (an earlier position that needs more than 200000 entries to be read), PREDICTION_PENDING (ask again in a moment), BAD_USER_INPUT (also for buckets after the year 2199). An error that fails the whole answer: NOT_FOUND (the KPI).
    #[expect(clippy::too_many_arguments, reason = "they are the contract's")]
    async fn forecast(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many buckets to forecast, 1 to 366.")] horizon: i32,
        #[graphql(desc = "The length of a bucket.", default_with = "Some(Grain::Day)")] grain: Option<Grain>,
        #[graphql(desc = "The forecasting model.", default_with = "Some(ForecastModel::Auto)")] model: Option<
            ForecastModel,
        >,
        #[graphql(
            desc = "The share of values that the prediction intervals should cover, 0.5 to 0.99.",
            default_with = "Some(LEVEL)"
        )]
        level: Option<f64>,
        #[graphql(desc = "The metric; TOTAL_REVENUE if neither a metric nor a KPI is given.")] metric: Option<Metric>,
        #[graphql(
            desc = "A KPI by name, instead of the metric. Buckets in which it has no value are treated as unknown."
        )]
        kpi: Option<String>,
        #[graphql(
            desc = "The time zone in which buckets begin; omit for that of the period, else the organization's."
        )]
        timezone: Option<TimeZone>,
        #[graphql(desc = "The first day of the week, for WEEK buckets.", default_with = "Some(Weekday::Monday)")]
        week_start: Option<Weekday>,
    ) -> async_graphql::Result<Option<Forecast>> {
        let measured = forecast_of(metric, kpi);
        let measured = measured.ok_or_else(|| Error::bad_input("kpi", "give either a metric or a KPI"))?;
        let args = args(std::slice::from_ref(&measured), false, grain, timezone, week_start);
        let question = forecasts::Question {
            measured,
            grain: args.grain,
            horizon: usize::try_from(horizon).unwrap_or_default(),
            model: model.unwrap_or(ForecastModel::Auto).into(),
            level: level.unwrap_or(LEVEL),
            events: Vec::new(),
        };
        Ok(Some(self.make_forecast(ctx, &args, question).await?))
    }

    /// The unusual buckets of the period, among those that are complete. What was to be expected is derived from the season and trend on both sides of a bucket, within the period and up to 1461 buckets before its end; metrics and KPIs are judged together. The same position and period give the same anomalies. Null with an error: ANOMALY_HISTORY_TOO_SHORT (10 buckets), AMOUNT_OUT_OF_RANGE (what is expected of a KPI exceeds 64 bits), AS_OF_NOT_AVAILABLE (an earlier position that needs more than 200000 entries to be read), PREDICTION_PENDING (ask again in a moment), BAD_USER_INPUT (more than 10000 buckets). An error that fails the whole answer: NOT_FOUND (a KPI).
    #[expect(clippy::too_many_arguments, reason = "they are the contract's")]
    async fn anomalies(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many buckets to report.", default_with = "Some(AnomalySensitivity::Medium)")]
        sensitivity: Option<AnomalySensitivity>,
        #[graphql(
            desc = "The metrics to judge together: with the KPIs one to eight, all different. TOTAL_REVENUE, ORDERS_COUNT, AVG_ORDER_VALUE and REFUNDS if neither are given."
        )]
        metrics: Option<Vec<Metric>>,
        #[graphql(desc = "KPIs by name, judged together with the metrics.")] kpis: Option<Vec<String>>,
        #[graphql(desc = "The length of a bucket.", default_with = "Some(Grain::Day)")] grain: Option<Grain>,
        #[graphql(
            desc = "The time zone in which buckets begin; omit for that of the period, else the organization's."
        )]
        timezone: Option<TimeZone>,
        #[graphql(desc = "The first day of the week, for WEEK buckets.", default_with = "Some(Weekday::Monday)")]
        week_start: Option<Weekday>,
    ) -> async_graphql::Result<Option<AnomalyReport>> {
        let sensitivity = sensitivity.unwrap_or(AnomalySensitivity::Medium).into();
        let measured = judged(metrics, kpis);
        check_judged(&measured)?;
        let args = args(&measured, true, grain, timezone, week_start);
        Ok(Some(self.find_anomalies(ctx, &args, &measured, settings(args.grain, sensitivity)).await?))
    }
}

impl Predicted {
    async fn make_forecast(
        &self,
        ctx: &Context<'_>,
        args: &HistoryArgs,
        mut question: forecasts::Question,
    ) -> Result<Forecast> {
        let history = prepared(&self.0.histories, args)?.get()?;
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        if matches!(question.model, Model::Auto | Model::Prophet) {
            let calendars = &app.predictions.calendars;
            let calendar = match calendars.find(tenant, history.head.policy_epoch) {
                Some(calendar) => calendar,
                None => calendars.read(read(ctx).await?.as_ref()).await?,
            };
            question.events = calendar.iter().map(CalendarEvent::on_the_clock).collect();
        }
        let (measured, level) = (question.measured.clone(), question.level);
        let made = forecasts::forecast(&app.predictions.forecasts, tenant, history, question, patience(ctx)?).await?;
        Forecast::new(&measured, level, &made, history)
    }

    async fn find_anomalies(
        &self,
        ctx: &Context<'_>,
        args: &HistoryArgs,
        measured: &[Measured],
        settings: Settings,
    ) -> Result<AnomalyReport> {
        let history = prepared(&self.0.histories, args)?.get()?;
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        let (detections, patience) = (&app.predictions.detections, patience(ctx)?);
        let found = anomalies::find(detections, tenant, history, measured, settings, patience.clone()).await?;
        let detection = found.as_ref().as_ref().map_err(|error| Error::internal(*error))?;
        let within = anomalies::since(detection, history, self.0.span.start);
        let is_explained = ctx.look_ahead().field("groups").field("anomalies").field("contributions").exists();
        let parts = if is_explained {
            // A query reads from its one snapshot; a subscription has none, and has usually read it before.
            let snapshot = match patience {
                WaitPolicy::Request(_) => Some(read(ctx).await?),
                WaitPolicy::Subscription => None,
            };
            let reads = snapshot.as_deref().map_or_else(|| LazyTx::later(&app.db, tenant), LazyTx::Begun);
            let (explanations, from) = (&app.predictions.explanations, (&reads, &app.memory, tenant));
            let unusual: Vec<_> = within.iter().map(|anomaly| UnusualBucket::of(measured, anomaly)).collect();
            anomalies::explain(explanations, from, history, settings.season_buckets, &unusual, patience).await?
        } else {
            Arc::default()
        };
        AnomalyReport::new(history, measured, detection, &within, &parts)
    }
}

/// Error: BAD_USER_INPUT.
fn check_judged(judged: &[Measured]) -> Result<()> {
    let is_repeated = judged.iter().enumerate().any(|(i, measured)| judged[..i].contains(measured));
    if judged.is_empty() || judged.len() > anomalies::MEASURED_MAX || is_repeated {
        let message = format!("give one to {} metrics and KPIs, each once", anomalies::MEASURED_MAX);
        return Err(Error::bad_input("metrics", message));
    }
    Ok(())
}

fn patience(ctx: &Context<'_>) -> Result<WaitPolicy> {
    Ok(match ctx.query_env.operation.node.ty {
        OperationType::Subscription => WaitPolicy::Subscription,
        OperationType::Query | OperationType::Mutation => WaitPolicy::Request(operation(ctx)?.loader(Seat::default)),
    })
}
