//! What an operation reads from: a query reads all of its answer from one snapshot, so that its parts agree, and with one
//! connection. A mutation must see what it has just written, so there each reading has a snapshot of its own.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::db::{Db, TenantId, TenantTx};
use crate::error::Result;

#[derive(Default)]
pub struct Reads {
    /// The query's snapshot, taken when it is first needed; `None` for other operations.
    shared: Option<OnceCell<Arc<TenantTx>>>,
}

impl Reads {
    pub fn of_one_snapshot() -> Self {
        Reads { shared: Some(OnceCell::new()) }
    }

    /// A reading transaction of the tenant.
    pub async fn get(&self, db: &Db, tenant: TenantId) -> Result<Arc<TenantTx>> {
        let begin = async || db.read(tenant).await.map(Arc::new);
        match &self.shared {
            Some(snapshot) => snapshot.get_or_try_init(begin).await.cloned(),
            None => begin().await,
        }
    }
}
