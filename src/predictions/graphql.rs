//! What is predicted of the metrics of a [`SalesMetrics`](crate::metrics::graphql::SalesMetrics).

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Context, Object, SelectionField};
use models::anomalies::Settings;
use models::forecasts::Model;

use super::anomalies::graphql::{AnomalyReport, AnomalySensitivity};
use super::anomalies::settings;
use super::forecasts::graphql::{Forecast, ForecastModel};
use super::kept::Patience;
use super::{anomalies, forecasts};
use crate::db::LazyTx;
use crate::error::{Error, Result};
use crate::graphql::context::{app, caller, read};
use crate::graphql::scalars::TimeZone;
use crate::metrics::answer::Answer;
use crate::metrics::catalog::{Metric, Needs};
use crate::metrics::graphql::{argument, prepared};
use crate::metrics::history::{HistoryArgs, HistoryPlan};
use crate::metrics::input::{Grain, Weekday};

const LEVEL: f64 = 0.8;
const WATCHED: [Metric; 4] = [Metric::TotalRevenue, Metric::OrdersCount, Metric::AvgOrderValue, Metric::Refunds];

/// What is meant where an argument is absent.
fn args(grain: Option<Grain>, timezone: Option<TimeZone>, week_start: Option<Weekday>) -> HistoryArgs {
    HistoryArgs {
        grain: grain.unwrap_or(Grain::Day),
        timezone: timezone.map(|zone| zone.0),
        week_start: week_start.unwrap_or(Weekday::Monday),
    }
}

/// The history that a selected field is made from; `None` for one that is none of these.
pub fn history_of(field: SelectionField<'_>) -> Result<Option<HistoryPlan>> {
    let (needs, covers_period) = match field.name() {
        "forecast" => (argument::<Option<Metric>>(field, "metric")?.unwrap_or(Metric::TotalRevenue).needs(), false),
        "anomalies" => {
            let metrics = argument::<Option<Vec<Metric>>>(field, "metrics")?;
            (Needs::of(metrics.unwrap_or_else(|| WATCHED.to_vec())), true)
        }
        _ => return Ok(None),
    };
    let args = args(argument(field, "grain")?, argument(field, "timezone")?, argument(field, "weekStart")?);
    Ok(Some(HistoryPlan { args, needs, covers_period }))
}

pub struct Predicted(pub Arc<Answer>);

#[Object]
impl Predicted {
    /// What is to be expected of a metric after the period: from the last bucket on that is over by the period's end (or now, if that is sooner) at the answer's position. It is learned from up to 1461 buckets before, whatever the period's start. The same position, end and calendar of events give the same forecast. Null with an error: FORECAST_HISTORY_EMPTY, FORECAST_HISTORY_ALL_GAPS, FORECAST_HISTORY_TOO_SHORT, FORECAST_HISTORY_TOO_OLD, FORECAST_VALUE_OUT_OF_RANGE, FORECAST_NO_FIT, AS_OF_NOT_AVAILABLE (as of an earlier position, from more than 200000 entries), PREDICTION_PENDING (ask again in a moment), BAD_USER_INPUT (also buckets to come after 2199).
    #[expect(clippy::too_many_arguments, reason = "they are the contract's")]
    async fn forecast(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many buckets to forecast, 1 to 366.")] horizon: i32,
        #[graphql(desc = "How long a bucket is.", default_with = "Some(Grain::Day)")] grain: Option<Grain>,
        #[graphql(desc = "How to forecast.", default_with = "Some(ForecastModel::Auto)")] model: Option<ForecastModel>,
        #[graphql(
            desc = "The share of values that intervals are to cover, 0.5 to 0.99.",
            default_with = "Some(LEVEL)"
        )]
        level: Option<f64>,
        #[graphql(desc = "The metric.", default_with = "Some(Metric::TotalRevenue)")] metric: Option<Metric>,
        #[graphql(desc = "The zone in which buckets begin; absent means the organization's.")] timezone: Option<
            TimeZone,
        >,
        #[graphql(desc = "The first day of a week, for grain WEEK.", default_with = "Some(Weekday::Monday)")]
        week_start: Option<Weekday>,
    ) -> async_graphql::Result<Option<Forecast>> {
        let args = args(grain, timezone, week_start);
        let question = forecasts::Question {
            metric: metric.unwrap_or(Metric::TotalRevenue),
            grain: args.grain,
            horizon: usize::try_from(horizon).unwrap_or_default(),
            model: model.unwrap_or(ForecastModel::Auto).into(),
            level: level.unwrap_or(LEVEL),
            events: Vec::new(),
        };
        Ok(Some(self.make_forecast(ctx, args, question).await?))
    }

    /// Which buckets of the period were unusual, of those that are over: what metrics were expected to be follows from their season and trend, on both sides of a bucket, in the period and up to 1461 buckets before its end; they are judged together. The same position and period give the same anomalies. Null with an error: ANOMALY_HISTORY_TOO_SHORT (10 buckets), AS_OF_NOT_AVAILABLE (as of an earlier position, from more than 200000 entries), PREDICTION_PENDING (ask again in a moment), BAD_USER_INPUT (more than 10000 buckets).
    async fn anomalies(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How much is worth a word.", default_with = "Some(AnomalySensitivity::Medium)")]
        sensitivity: Option<AnomalySensitivity>,
        #[graphql(
            desc = "The metrics that are judged together, one to eight, each once.",
            default_with = "Some(WATCHED.to_vec())"
        )]
        metrics: Option<Vec<Metric>>,
        #[graphql(desc = "How long a bucket is.", default_with = "Some(Grain::Day)")] grain: Option<Grain>,
        #[graphql(desc = "The zone in which buckets begin; absent means the organization's.")] timezone: Option<
            TimeZone,
        >,
        #[graphql(desc = "The first day of a week, for grain WEEK.", default_with = "Some(Weekday::Monday)")]
        week_start: Option<Weekday>,
    ) -> async_graphql::Result<Option<AnomalyReport>> {
        let args = args(grain, timezone, week_start);
        let sensitivity = sensitivity.unwrap_or(AnomalySensitivity::Medium).into();
        let metrics = metrics.unwrap_or_else(|| WATCHED.to_vec());
        Ok(Some(self.find_anomalies(ctx, args, &metrics, settings(args.grain, sensitivity)).await?))
    }
}

impl Predicted {
    async fn make_forecast(
        &self,
        ctx: &Context<'_>,
        args: HistoryArgs,
        mut question: forecasts::Question,
    ) -> Result<Forecast> {
        let history = prepared(&self.0.histories, &args)?.get()?;
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        if matches!(question.model, Model::Auto | Model::Prophet) {
            let calendars = &app.predictions.calendars;
            let calendar = match calendars.find(tenant, history.head.policy_epoch) {
                Some(calendar) => calendar,
                None => calendars.read(read(ctx).await?.as_ref()).await?,
            };
            question.events = calendar.iter().map(|event| event.in_zone(history.zone)).collect();
        }
        let (metric, level) = (question.metric, question.level);
        let made = forecasts::forecast(&app.predictions.forecasts, tenant, history, question, patience(ctx)).await?;
        Forecast::new(metric, level, &made, history)
    }

    async fn find_anomalies(
        &self,
        ctx: &Context<'_>,
        args: HistoryArgs,
        metrics: &[Metric],
        settings: Settings,
    ) -> Result<AnomalyReport> {
        check_metrics(metrics)?;
        let history = prepared(&self.0.histories, &args)?.get()?;
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        let detections = &app.predictions.detections;
        let found = anomalies::find(detections, tenant, history, metrics, settings, patience(ctx)).await?;
        let detection = found.as_ref().as_ref().map_err(|error| Error::internal(*error))?;
        let within = anomalies::since(detection, history, self.0.span.start);
        let is_explained = ctx.look_ahead().field("groups").field("anomalies").field("contributions").exists();
        let parts = if is_explained {
            // A query reads from its one snapshot; a subscription has none, and mostly read it before.
            let snapshot = if patience(ctx) == Patience::Request { Some(read(ctx).await?) } else { None };
            let reads = snapshot.as_deref().map_or_else(|| LazyTx::later(&app.db, tenant), LazyTx::Begun);
            let (explanations, from) = (&app.predictions.explanations, (&reads, &app.memory, tenant));
            let judged = (metrics, settings.season_buckets);
            anomalies::explain(explanations, from, history, judged, &within, patience(ctx)).await?
        } else {
            Arc::default()
        };
        AnomalyReport::new(history, metrics, detection, &within, &parts)
    }
}

/// Error: BAD_USER_INPUT.
fn check_metrics(metrics: &[Metric]) -> Result<()> {
    let is_repeated = metrics.iter().enumerate().any(|(i, metric)| metrics[..i].contains(metric));
    if metrics.is_empty() || metrics.len() > anomalies::METRICS_MAX || is_repeated {
        return Err(Error::bad_input("metrics", format!("give one to {} metrics, each once", anomalies::METRICS_MAX)));
    }
    Ok(())
}

fn patience(ctx: &Context<'_>) -> Patience {
    match ctx.query_env.operation.node.ty {
        OperationType::Subscription => Patience::Subscription,
        OperationType::Query | OperationType::Mutation => Patience::Request,
    }
}
