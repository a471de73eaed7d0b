//! A tenant's organizations as used by the ledger and the metrics.

use std::sync::Arc;

use chrono_tz::Tz;
use moka::sync::Cache;
use uuid::Uuid;

use crate::db::{TenantId, TenantTx, get};
use crate::error::{Error, Result};
use crate::guard::Guard;

/// A shop, brand or country with its own currency and time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Organization {
    pub id: Uuid,
    /// Short number used in entries and rollups.
    pub org_no: i32,
    pub slug: String,
    pub name: String,
    pub timezone: Tz,
    pub currency: String,
    pub is_default: bool,
}

/// Tenants whose organizations are cached per process.
const REMEMBERED_MAX: u64 = 10_000;

/// Organizations by tenant, each as of a policy epoch. Cheap to clone.
#[derive(Clone)]
pub struct Organizations(Cache<TenantId, (i64, Arc<Vec<Organization>>)>);

impl Default for Organizations {
    fn default() -> Self {
        Organizations(Cache::new(REMEMBERED_MAX))
    }
}

impl Organizations {
    /// All organizations of the tenant, the default first; `policy_epoch` must be what `tx` sees.
    pub async fn get(&self, tx: &TenantTx, policy_epoch: i64) -> Result<Arc<Vec<Organization>>> {
        if let Some((epoch, organizations)) = self.0.get(&tx.tenant().at(Guard::Organizations))
            && epoch == policy_epoch
        {
            return Ok(organizations);
        }
        let organizations = Arc::new(list_organizations(tx).await?);
        // Not cached: a write transaction may still roll back.
        if !tx.may_write() {
            self.0.insert(tx.tenant().at(Guard::Organizations), (policy_epoch, Arc::clone(&organizations)));
        }
        Ok(organizations)
    }

    /// Caches what a committed transaction saw.
    pub fn remember(&self, tenant: TenantId, policy_epoch: i64, organizations: Arc<Vec<Organization>>) {
        self.0.insert(tenant.at(Guard::Organizations), (policy_epoch, organizations));
    }
}

/// All organizations of the tenant, the default first.
pub async fn list_organizations(tx: &TenantTx) -> Result<Vec<Organization>> {
    let rows = tx
        .query(
            "SELECT id, org_no, slug, name, timezone, currency, is_default FROM organizations \
             WHERE tenant_id = $1 ORDER BY is_default DESC, slug",
            [],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let timezone: String = get(row, 4)?;
            Ok(Organization {
                id: get(row, 0)?,
                org_no: get(row, 1)?,
                slug: get(row, 2)?,
                name: get(row, 3)?,
                timezone: timezone.parse().map_err(|_| Error::internal("an organization with an unknown time zone"))?,
                currency: get(row, 5)?,
                is_default: get(row, 6)?,
            })
        })
        .collect()
}

/// Whether an organization contributes anything to metrics, or did as of a position.
pub async fn has_facts(tx: &TenantTx, org_no: i32, as_of: Option<i64>) -> Result<bool> {
    let sql = "SELECT 1 WHERE EXISTS (SELECT 1 FROM sales_metrics_base WHERE tenant_id = $1 AND org_no = $2) \
               OR EXISTS (SELECT 1 FROM ledger_entries e JOIN ledger_heads h ON h.tenant_id = e.tenant_id \
                          WHERE e.tenant_id = $1 AND e.position > h.folded AND e.org_no = $2)";
    let has_now = tx.query_one(sql, [org_no.into()]).await?.is_some();
    match as_of {
        // One without any would have all entries looked through.
        Some(position) if has_now => {
            let sql = "SELECT 1 FROM ledger_entries WHERE tenant_id = $1 AND org_no = $2 AND position <= $3 LIMIT 1";
            Ok(tx.query_one(sql, [org_no.into(), position.into()]).await?.is_some())
        }
        _ => Ok(has_now),
    }
}

/// The organization with this id or slug; the default for `None`.
pub fn find_organization<'a>(organizations: &'a [Organization], name: Option<&str>) -> Option<&'a Organization> {
    match name {
        None => organizations.iter().find(|o| o.is_default),
        Some(name) => {
            let id = Uuid::parse_str(name).ok();
            organizations.iter().find(|o| o.slug == name || Some(o.id) == id)
        }
    }
}
