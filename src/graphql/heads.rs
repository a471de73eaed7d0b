//! Where tenants' ledgers stand, asked by many at once: those who ask while one look is under way share the next one.
//! So each answer was read after it was asked for, at the cost of one statement for all who wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::db::{Db, Head, TenantId};
use crate::guard::Guard;

/// A look that has not begun, or is under way; `None` when it failed.
type Look = Shared<BoxFuture<'static, Option<Head>>>;

#[derive(Clone)]
pub struct Heads {
    db: Db,
    looks: Arc<Mutex<HashMap<TenantId, Looks>>>,
}

#[derive(Default)]
struct Looks {
    under_way: Option<Look>,
    waiting: Option<Look>,
}

impl Heads {
    pub fn new(db: Db) -> Self {
        Heads { db, looks: Arc::default() }
    }

    /// The head as it is now or later, but not earlier. `None` when it cannot be read.
    pub async fn get(&self, tenant: TenantId) -> Option<Head> {
        let look = {
            let mut looks = self.lock();
            let looks = looks.entry(tenant.at(Guard::Heads)).or_default();
            match &looks.waiting {
                Some(waiting) => waiting.clone(),
                None => {
                    let look = self.clone().look(tenant, looks.under_way.clone()).boxed().shared();
                    looks.waiting = Some(look.clone());
                    look
                }
            }
        };
        look.await
    }

    /// Waits for the look before it, so that one is under way at a time, then looks.
    async fn look(self, tenant: TenantId, before: Option<Look>) -> Option<Head> {
        if let Some(before) = before {
            before.await;
        }
        let key = tenant.at(Guard::Heads);
        if let Some(looks) = self.lock().get_mut(&key) {
            looks.under_way = looks.waiting.take();
        }
        let head = self.db.head(tenant).await;
        let mut all = self.lock();
        if let Some(looks) = all.get_mut(&key) {
            looks.under_way = None;
            if looks.waiting.is_none() {
                all.remove(&key);
            }
        }
        match head {
            Ok(head) => head,
            Err(error) => {
                tracing::warn!(tenant = %tenant.0, source = ?error.source, "head not read");
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Looks>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
