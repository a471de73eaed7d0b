//! Ledger heads of tenants, with concurrent reads coalesced: callers arriving while a read is in flight share the next
//! one, whichever their tenant. So each head was read after it was asked for, at the cost of one statement for all
//! waiting callers.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tracing::Instrument;

use crate::db::{Db, Head, TenantId};
use crate::error::Error;
use crate::guard::Guard;

/// The result of a read that is pending or in flight; `None` when it failed.
type Look = Shared<BoxFuture<'static, Option<Arc<HashMap<TenantId, Head>>>>>;

#[derive(Clone)]
pub struct Heads {
    db: Db,
    looks: Arc<Mutex<Looks>>,
}

#[derive(Default)]
struct Looks {
    under_way: Option<Look>,
    /// The next read, and the tenants it is for.
    waiting: Option<(Look, BTreeSet<TenantId>)>,
}

impl Heads {
    pub fn new(db: Db) -> Self {
        Heads { db, looks: Arc::default() }
    }

    /// The head as of this call or later, never earlier. `None` when it cannot be read.
    pub async fn get(&self, tenant: TenantId) -> Option<Head> {
        let look = {
            let mut looks = self.lock();
            let Looks { under_way, waiting } = &mut *looks;
            let (look, tenants) = waiting.get_or_insert_with(|| {
                let look = self.clone().look(under_way.clone()).boxed().shared();
                (look, BTreeSet::new())
            });
            tenants.insert(tenant);
            look.clone()
        };
        look.await?.get(&tenant.at(Guard::Heads)).copied()
    }

    /// Awaits the previous read, so that only one is in flight, then reads.
    async fn look(self, before: Option<Look>) -> Option<Arc<HashMap<TenantId, Head>>> {
        if let Some(before) = before {
            before.await;
        }
        let tenants = {
            let mut looks = self.lock();
            let (look, tenants) = looks.waiting.take()?;
            looks.under_way = Some(look);
            tenants
        };
        // In a task of its own: nobody may poll this future any more once the callers are gone, and then a read that it
        // had begun would keep the connection for good.
        let db = self.db.clone();
        let read = async move { db.list_heads(&tenants).await };
        let heads = tokio::spawn(read.in_current_span()).await.map_err(Error::internal).flatten();
        self.lock().under_way = None;
        match heads {
            Ok(heads) => {
                let heads = heads.into_iter().map(|(tenant, head)| (tenant.at(Guard::Heads), head));
                Some(Arc::new(heads.collect()))
            }
            Err(error) => {
                tracing::warn!(source = error.cause(), "heads not read");
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
