//! The snapshot an operation reads from: a query reads its whole response from one snapshot, so that its parts are
//! consistent, and on one connection. A mutation must see its own writes, so each of its reads has its own snapshot.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::db::{Db, TenantId, TenantTx};
use crate::error::Result;

#[derive(Default)]
pub struct Reads {
    /// The query's snapshot, taken on first use; `None` for other operations.
    shared: Option<OnceCell<Arc<TenantTx>>>,
}

impl Reads {
    pub fn of_one_snapshot() -> Self {
        Reads { shared: Some(OnceCell::new()) }
    }

    /// A read transaction of the tenant.
    pub async fn get(&self, db: &Db, tenant: TenantId) -> Result<Arc<TenantTx>> {
        let begin = async || db.read(tenant).await.map(Arc::new);
        match &self.shared {
            Some(snapshot) => snapshot.get_or_try_init(begin).await.cloned(),
            None => begin().await,
        }
    }
}
