//! Ledger heads of tenants, with concurrent reads coalesced: callers arriving while a read is in flight share the next
//! one, whichever their tenant. So each head was read after it was asked for, at the cost of one statement for all
//! waiting callers.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tracing::Instrument;

use super::pool::past_dead;
use super::{Head, Standing, TenantId, dialect, get};
use crate::error::{Code, Error, Result};
use crate::guard::Guard;

/// The result of a read that is pending or in flight; `None` when it failed.
type Look = Shared<BoxFuture<'static, Option<Arc<HashMap<TenantId, Standing>>>>>;

#[derive(Clone)]
pub struct Heads {
    /// To all tenants' rows.
    across: DatabaseConnection,
    /// On PostgreSQL.
    connection: Arc<dialect::HeadsConnection>,
    looks: Arc<Mutex<Looks>>,
}

#[derive(Default)]
struct Looks {
    under_way: Option<Look>,
    /// The next read, and the tenants it is for.
    waiting: Option<(Look, BTreeSet<TenantId>)>,
}

impl Heads {
    pub fn new(across: DatabaseConnection) -> Self {
        Heads { across, connection: Arc::default(), looks: Arc::default() }
    }

    /// The head as of this call or later, never earlier; `None` if there is no such tenant. Error: SERVICE_UNAVAILABLE,
    /// whose cause is logged.
    pub async fn get(&self, tenant: TenantId) -> Result<Option<Standing>> {
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
        let unavailable = || Error::new(Code::ServiceUnavailable, "the database does not answer; try again");
        Ok(look.await.ok_or_else(unavailable)?.get(&tenant.at(Guard::Heads)).copied())
    }

    /// Awaits the previous read, so that only one is in flight, then reads.
    async fn look(self, before: Option<Look>) -> Option<Arc<HashMap<TenantId, Standing>>> {
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
        let heads = self.clone();
        let read = async move { heads.list(&tenants).await };
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

    /// The current heads of `tenants`, omitting those that do not exist, each by one statement without a surrounding
    /// transaction; on PostgreSQL all by one, which is given up when it is not answered.
    async fn list(&self, tenants: &BTreeSet<TenantId>) -> Result<Vec<(TenantId, Standing)>> {
        if self.across.get_database_backend() == DbBackend::Postgres {
            return Ok(self.connection.list(&self.across, tenants).await?);
        }
        let sql = "SELECT position, policy_epoch, last_alert_no, folded, watermark, retained_from, last_product_no, \
                   last_dimension_no FROM ledger_heads WHERE tenant_id = $1";
        let (open, _) = dialect::count_connections(&self.across);
        let mut heads = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [tenant.0.into()]);
            let rows = past_dead(open, || self.across.query_all_raw(statement.clone())).await?;
            for row in rows {
                let standing = Standing {
                    head: Head { position: get(&row, 0)?, policy_epoch: get(&row, 1)?, last_alert_no: get(&row, 2)? },
                    folded: get(&row, 3)?,
                    watermark: get(&row, 4)?,
                    retained_from: get(&row, 5)?,
                    last_product_no: get(&row, 6)?,
                    last_dimension_no: get(&row, 7)?,
                };
                heads.push((*tenant, standing));
            }
        }
        Ok(heads)
    }

    /// Allows the connections to be closed.
    pub async fn close(&self) {
        self.connection.close().await;
    }

    fn lock(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
