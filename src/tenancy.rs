//! Tenants with their first users and organization: the prerequisites of everything else.

use uuid::Uuid;

use crate::audit::{self, Entry};
use crate::auth::Role;
use crate::clock::Timestamp;
use crate::db::{Db, TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::organization::{Organization, list_organizations};
use crate::ledger::rates;
use crate::ledger::store::read_head;
use crate::users::{NewUser, insert_user};

/// The initial settings of a tenant.
pub struct NewTenant<'a> {
    pub slug: &'a str,
    pub name: &'a str,
    /// IANA name.
    pub timezone: chrono_tz::Tz,
    /// ISO 4217.
    pub currency: &'a str,
}

/// A tenant with one user for each role.
#[derive(Clone, Debug)]
pub struct CreatedTenant {
    pub id: TenantId,
    pub users: Vec<(Role, Uuid)>,
}

/// Creates a tenant with its default organization, an empty ledger and one user for each role. Error: CONFLICT when the
/// slug is taken.
pub async fn create_tenant(db: &Db, new: &NewTenant<'_>, now: Timestamp) -> Result<CreatedTenant> {
    if find_tenant(db, new.slug).await?.is_some() {
        return Err(Error::new(Code::Conflict, format!("there is a tenant {} already", new.slug)));
    }
    let id = Uuid::now_v7();
    let tx = db.write(TenantId(id)).await?;
    tx.wait_for_owner().await?;
    tx.execute(
        "INSERT INTO tenants (id, slug, name, created_at) VALUES ($1, $2, $3, $4)",
        [new.slug.into(), new.name.into(), now.into()],
    )
    .await?;
    tx.execute(
        "INSERT INTO organizations (tenant_id, id, org_no, slug, name, timezone, currency, is_default, created_at) \
         VALUES ($1, $2, 1, $3, $4, $5, $6, true, $7)",
        [
            Uuid::now_v7().into(),
            new.slug.into(),
            new.name.into(),
            new.timezone.name().into(),
            new.currency.into(),
            now.into(),
        ],
    )
    .await?;
    tx.execute(
        "INSERT INTO ledger_heads (tenant_id, position, policy_epoch, folded, largest_sum, tail_volume, last_customer_no, \
         last_product_no, last_order_no, last_refund_no, last_dimension_no, last_alert_no) \
         VALUES ($1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
        [],
    )
    .await?;
    let mut users = Vec::new();
    for role in Role::ALL {
        let email = format!("{}@{}.example", role.as_str(), new.slug);
        let user = NewUser { email: &email, name: role.as_str(), role, password_hash: None, is_invited: false };
        users.push((role, insert_user(&tx, user, now).await?));
    }
    let after = serde_json::json!({ "by": "operator", "slug": new.slug, "name": new.name });
    audit::record_by_operator(&tx, now, Entry::of("tenant.create", id).after(after)).await?;
    tx.commit().await?;
    Ok(CreatedTenant { id: TenantId(id), users })
}

/// Copies what decides how events are recorded from one tenant to another that has just been created: organizations,
/// exchange rates, the months that were dropped, and whether the tenant was erased.
pub async fn copy_settings(from: &TenantTx, to: &TenantTx) -> Result<()> {
    for organization in list_organizations(from).await? {
        let Organization { id, org_no, slug, name, timezone, currency, is_default } = organization;
        if is_default {
            let sql = "UPDATE organizations SET id = $2, slug = $3, name = $4, timezone = $5, currency = $6 \
                       WHERE tenant_id = $1 AND is_default";
            to.execute(sql, [id.into(), slug.into(), name.into(), timezone.name().into(), currency.into()]).await?;
            continue;
        }
        let sql = "INSERT INTO organizations (tenant_id, id, org_no, slug, name, timezone, currency, is_default, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, false, 0)";
        let values = [id.into(), org_no.into(), slug.into(), name.into(), timezone.name().into(), currency.into()];
        to.execute(sql, values).await?;
    }
    rates::save(to, &rates::list(from).await?).await?;
    let retained_from = read_head(from).await?.retained_from;
    to.execute("UPDATE ledger_heads SET retained_from = $2 WHERE tenant_id = $1", [retained_from.into()]).await?;
    let row = from.query_one("SELECT erased_at FROM tenants WHERE id = $1", []).await?;
    let erased_at: Option<i64> = row.map_or(Ok(None), |row| get(&row, 0))?;
    to.execute("UPDATE tenants SET erased_at = $2 WHERE id = $1", [erased_at.into()]).await?;
    Ok(())
}

/// Longer than any slug, and than any notation of an id.
const NAME_BYTES_MAX: usize = 64;

/// The tenant with a slug or id.
pub async fn find_tenant(db: &Db, name: &str) -> Result<Option<TenantId>> {
    if name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Ok(None);
    }
    let id = Uuid::parse_str(name).unwrap_or_default();
    let rows =
        db.query_all_tenants("SELECT id FROM tenants WHERE slug = $1 OR id = $2", [name.into(), id.into()]).await?;
    rows.first().map(|row| get(row, 0).map(TenantId)).transpose()
}

/// All tenants: slug and id.
pub async fn list_tenants(db: &Db) -> Result<Vec<(String, TenantId)>> {
    let rows = db.query_all_tenants("SELECT slug, id FROM tenants ORDER BY slug", []).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, TenantId(get(row, 1)?)))).collect()
}
