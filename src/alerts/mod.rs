//! Alert rules: evaluated with each committed batch, in its transaction.

use crate::db::TenantTx;
use crate::error::Result;
use crate::ledger::{BatchObserver, RecordedBatch};

/// Evaluates the tenant's rules after each batch.
pub struct AlertObserver;

#[async_trait::async_trait]
impl BatchObserver for AlertObserver {
    async fn batch_recorded(&self, _tx: &TenantTx, _batch: &RecordedBatch) -> Result<bytes::Bytes> {
        Ok(bytes::Bytes::new())
    }
}
