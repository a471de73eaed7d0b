//! Alert rules: evaluated with each committed batch, in its transaction, so that each change of state is logged with
//! the position that caused it.

pub mod graphql;
mod rule;
pub mod store;

pub use rule::{AlertCondition, AlertState, Rule};

use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::{Code, Result};
use crate::ledger::memory::Memory;
use crate::ledger::{BatchObserver, RecordedBatch};
use crate::metrics::answer::answer;
use crate::money::Money;

/// Evaluates the tenant's rules after each batch.
pub struct AlertObserver {
    pub memory: Memory,
}

#[async_trait::async_trait]
impl BatchObserver for AlertObserver {
    async fn batch_recorded(&self, tx: &TenantTx, batch: &RecordedBatch) -> Result<i64> {
        let mut logged = 0;
        if batch.is_backfill {
            return Ok(logged);
        }
        for rule in store::list_enabled(tx).await? {
            let value = self.value_of(tx, &rule, batch.now).await?;
            let state = rule.state_at(value);
            if state != rule.state {
                store::record_transition(tx, &rule, state, value, batch.last, batch.now).await?;
                logged += 1;
            }
        }
        Ok(logged)
    }
}

impl AlertObserver {
    /// The value of the rule's metric now. A rule that can no longer be answered (its organization is gone, currencies
    /// are mixed) has none; it must not keep sales from being recorded.
    async fn value_of(&self, tx: &TenantTx, rule: &Rule, now: Timestamp) -> Result<Option<Money>> {
        match answer(tx, &self.memory, &rule.plan(now), now).await {
            Ok(answer) => Ok(rule.metric.value(&answer.totals)),
            Err(error) if matches!(error.code, Code::Internal | Code::ServiceUnavailable) => Err(error),
            Err(_) => Ok(None),
        }
    }
}
