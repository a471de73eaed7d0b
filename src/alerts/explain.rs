//! What was behind an alert of an anomaly: the channels, regions and categories that `anomalies` names for its hour or
//! day, as of the position that caused it. Nothing of it is stored: the ledger can tell for as long as it has its entries.

use std::sync::Arc;

use models::anomalies::MEMBER_SEASONS;
use models::forecasts::WINDOW_MAX;
use moka::future::Cache;
use uuid::Uuid;

use super::anomaly::grain_of;
use super::rule::{AlertCondition, AlertState};
use super::store::Transition;
use crate::clock::{MINUTE, Timestamp};
use crate::db::{LazyTx, TenantId, TenantTx};
use crate::error::{Code, Error, Result};
use crate::graphql::scalars::DateTime;
use crate::graphql::size::Size;
use crate::ledger::memory::Memory;
use crate::metrics::answer::answer;
use crate::metrics::catalog::Metric;
use crate::metrics::filter::MetricsFilters;
use crate::metrics::history::{HistoryArgs, HistoryPlan};
use crate::metrics::input::{DateRange, Grain, Weekday};
use crate::metrics::measured::Measured;
use crate::metrics::plan::Plan;
use crate::predictions::anomalies::{MemberContribution, UnusualBucket, explain_bucket, explains, season};

/// Maximum number of cached explanations, of about 1 KB.
const KEPT_MAX: u64 = 4_000;

/// What explains an alert; `None` if its bucket is none as of its position.
pub type Explanation = Option<Vec<MemberContribution>>;

/// The explanations of this process. As of its position, what was behind an alert does not change. Cheap to clone.
#[derive(Clone)]
pub struct AlertExplanations(Cache<(TenantId, Uuid), Arc<Explanation>>);

impl Default for AlertExplanations {
    fn default() -> Self {
        AlertExplanations(Cache::new(KEPT_MAX))
    }
}

impl AlertExplanations {
    /// The explanation of an alert, computed by `work` if missing, once for all who ask for it at the same time.
    pub async fn get(
        &self,
        tenant: TenantId,
        alert: Uuid,
        work: impl Future<Output = Result<Explanation>>,
    ) -> Result<Arc<Explanation>> {
        let found = self.0.try_get_with((tenant, alert), async { work.await.map(Arc::new) }).await;
        found.map_err(|error| Error::shared(&error))
    }
}

/// The hour or day that an alert found unusual.
#[derive(Clone, Debug)]
pub struct Examined {
    pub alert: Uuid,
    measured: Measured,
    grain: Grain,
    start: Timestamp,
    end: Timestamp,
    filters: MetricsFilters,
    position: i64,
}

impl Examined {
    /// `None` for alerts of other conditions and states, and for those from before their window was stored.
    pub fn by(alert: &Transition) -> Option<Examined> {
        let is_unusual = (alert.condition, alert.state) == (Some(AlertCondition::Anomaly), AlertState::Firing);
        let window = alert.window_minutes.filter(|_| is_unusual)?;
        // Buckets are examined when they end.
        let end = alert.triggered_at;
        Some(Examined {
            alert: alert.id,
            measured: alert.measured.clone(),
            grain: grain_of(window),
            start: Timestamp(end.0 - i64::from(window) * MINUTE),
            end,
            filters: alert.filters.clone().unwrap_or_default(),
            position: alert.position,
        })
    }

    /// Errors: AS_OF_NOT_AVAILABLE, and those of an answer with its filters.
    pub async fn explain(&self, tx: &TenantTx, memory: &Memory, now: Timestamp) -> Result<Explanation> {
        let Some(metric) = self.measured.metric().filter(|metric| explains(*metric)) else {
            return Ok(Some(Vec::new()));
        };
        let season = season(self.grain);
        // As far back as the bucket is compared; that is all, if something was sold then already. Otherwise it matters
        // when the history begins, which is looked for as far back as `anomalies` does.
        let compared = (MEMBER_SEASONS + 1) * season;
        for window in [compared.min(WINDOW_MAX), WINDOW_MAX] {
            let plan = self.plan(metric, window);
            // The clock of the server that reported it may be ahead.
            let answer = answer(tx, memory, &plan, now.max(self.end), &Size::default()).await;
            let mut answer = answer.map_err(|error| Error { argument: None, ..error })?;
            let (_, history) = answer.histories.pop().ok_or_else(|| Error::internal("a plan without its history"))?;
            let history = history.get()?;
            if history.buckets() < window && window < WINDOW_MAX {
                continue;
            }
            if history.is_cut && history.buckets() <= MEMBER_SEASONS * season {
                return Err(Error::new(Code::AsOfNotAvailable, "this needs months whose entries were dropped"));
            }
            let at = history.buckets().checked_sub(1);
            let Some(at) = at.filter(|_| history.boundaries.last() == Some(&self.end)) else { return Ok(None) };
            let unusual = UnusualBucket { at, metrics: vec![metric] };
            let behind = explain_bucket((&LazyTx::Begun(tx), memory), history, season, unusual).await?;
            return Ok(Some(behind));
        }
        Ok(None)
    }

    /// The plan whose answer has its history.
    fn plan(&self, metric: Metric, window: usize) -> Plan {
        let args = HistoryArgs {
            grain: self.grain,
            timezone: None,
            week_start: Weekday::Monday,
            window,
            covers_period: false,
            kpis: self.measured.kpis(),
        };
        Plan {
            period: DateRange {
                start: Some(DateTime(self.start)),
                end: Some(DateTime(self.end)),
                ..DateRange::default()
            },
            filters: self.filters.clone(),
            as_of: Some(self.position),
            histories: vec![HistoryPlan { args, needs: metric.needs() }],
            ..Plan::default()
        }
    }
}
