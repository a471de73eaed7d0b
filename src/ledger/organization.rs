//! A tenant's organizations as the ledger and the metrics need them.

use chrono_tz::Tz;
use uuid::Uuid;

use crate::db::{TenantTx, get};
use crate::error::{Error, Result};

/// A shop, brand or country with its own currency and time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Organization {
    pub id: Uuid,
    /// The short number used in entries and rollups.
    pub org_no: i32,
    pub slug: String,
    pub name: String,
    pub timezone: Tz,
    pub currency: String,
    pub is_default: bool,
}

/// All organizations of the tenant, the default one first.
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

/// The organization named by id or slug; the default one for `None`.
pub fn find_organization<'a>(organizations: &'a [Organization], name: Option<&str>) -> Option<&'a Organization> {
    match name {
        None => organizations.iter().find(|o| o.is_default),
        Some(name) => {
            let id = Uuid::parse_str(name).ok();
            organizations.iter().find(|o| o.slug == name || Some(o.id) == id)
        }
    }
}
