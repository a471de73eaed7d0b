//! Organizations: created and updated, never deleted, since entries refer to them.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::{Code, Error, Result};
use crate::graphql::text;
use crate::ledger::organization::{Organization, has_facts};
use crate::ledger::store::{begin_policy_epoch, read_head};

const ORGANIZATIONS_MAX: usize = 100;
const SLUG_CHARS_MAX: usize = 60;
const NAME_CHARS_MAX: usize = 200;

/// Audited columns of organizations.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "organizations",
    key: "id",
    columns: &[
        ("slug", "slug", Shown::Text),
        ("name", "name", Shown::Text),
        ("timezone", "timezone", Shown::Text),
        ("currency", "currency", Shown::Text),
    ],
    members: None,
};

/// Validated content of an organization.
pub struct OrganizationContent {
    slug: String,
    name: String,
    timezone: chrono_tz::Tz,
    currency: String,
}

impl OrganizationContent {
    /// Error: BAD_USER_INPUT (slug, name).
    pub fn new(slug: String, name: &str, timezone: chrono_tz::Tz, currency: String) -> Result<Self> {
        check_form(&slug)?;
        Ok(OrganizationContent { slug, name: name_of(name)?, timezone, currency })
    }
}

/// Checks the form of a slug. Error: BAD_USER_INPUT.
pub fn check_form(slug: &str) -> Result<()> {
    let is_slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if slug.is_empty() || slug.len() > SLUG_CHARS_MAX || !slug.chars().all(is_slug) {
        let message = format!("must have 1 to {SLUG_CHARS_MAX} lower-case letters, digits and hyphens");
        return Err(Error::bad_input("slug", message));
    }
    // Organizations are looked up by id or slug, so the two must be unambiguous.
    if Uuid::parse_str(slug).is_ok() {
        return Err(Error::bad_input("slug", "must not be an id"));
    }
    Ok(())
}

/// The name of an organization. Error: BAD_USER_INPUT.
pub fn name_of(name: &str) -> Result<String> {
    text::name("name", name, NAME_CHARS_MAX)
}

/// Errors: CONFLICT (slug taken, too many).
pub async fn create(tx: &TenantTx, new: OrganizationContent, now: Timestamp) -> Result<Organization> {
    // Lanes re-read organizations once per epoch; the epoch's head lock prevents duplicate numbers.
    begin_policy_epoch(tx).await?;
    let rows = rows(tx).await?;
    if rows.len() >= ORGANIZATIONS_MAX {
        return Err(Error::new(Code::Conflict, format!("there are {ORGANIZATIONS_MAX} organizations already")));
    }
    check_slug(&rows, &new.slug, None)?;
    let organization = Organization {
        id: Uuid::now_v7(),
        org_no: rows.iter().map(|(_, _, org_no)| *org_no).max().unwrap_or(0) + 1,
        slug: new.slug,
        name: new.name,
        timezone: new.timezone,
        currency: new.currency,
        is_default: false,
    };
    let row = entity::organizations::ActiveModel {
        tenant_id: Set(tx.tenant().0),
        id: Set(organization.id),
        org_no: Set(organization.org_no),
        slug: Set(organization.slug.clone()),
        name: Set(organization.name.clone()),
        timezone: Set(organization.timezone.name().to_owned()),
        currency: Set(organization.currency.clone()),
        is_default: Set(false),
        created_at: Set(now.0),
    };
    entity::organizations::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(organization)
}

/// Errors: NOT_FOUND, CONFLICT (slug taken; zone or currency of an organization with events).
pub async fn update(tx: &TenantTx, id: Uuid, new: OrganizationContent) -> Result<Organization> {
    use entity::organizations::{Column, Entity};
    begin_policy_epoch(tx).await?;
    let old = tx.find::<Entity>().filter(Column::Id.eq(id)).one(tx).await?;
    let old = old.ok_or_else(|| Error::not_found("organization"))?;
    check_slug(&rows(tx).await?, &new.slug, Some(id))?;
    let is_same = old.timezone == new.timezone.name() && old.currency == new.currency;
    // Customer and product totals are in the default organization's currency, whoever sold.
    let is_of_all = old.is_default && old.currency != new.currency;
    let is_in_use = has_events(tx, old.org_no).await? || (is_of_all && read_head(tx).await?.position > 0);
    if !is_same && is_in_use {
        let message = "the time zone and the currency cannot be changed once events are recorded";
        return Err(Error::new(Code::Conflict, message));
    }
    let sql = "UPDATE organizations SET slug = $3, name = $4, timezone = $5, currency = $6 \
               WHERE tenant_id = $1 AND id = $2";
    let values = [
        id.into(),
        new.slug.clone().into(),
        new.name.clone().into(),
        new.timezone.name().into(),
        new.currency.clone().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(Organization {
        id,
        org_no: old.org_no,
        slug: new.slug,
        name: new.name,
        timezone: new.timezone,
        currency: new.currency,
        is_default: old.is_default,
    })
}

/// Id, slug and number of each.
async fn rows(tx: &TenantTx) -> Result<Vec<(Uuid, String, i32)>> {
    use entity::organizations::{Column, Entity};
    let columns = [Column::Id, Column::Slug, Column::OrgNo];
    Ok(tx.find::<Entity>().select_only().columns(columns).into_tuple().all(tx).await?)
}

fn check_slug(rows: &[(Uuid, String, i32)], slug: &str, own: Option<Uuid>) -> Result<()> {
    if rows.iter().any(|(id, taken, _)| taken == slug && Some(*id) != own) {
        return Err(Error::new(Code::Conflict, "the slug is taken"));
    }
    Ok(())
}

/// Whether anything recorded depends on the organization's zone or currency. The refund of a cancelled order is in no
/// rollup, but would come back with the order.
async fn has_events(tx: &TenantTx, org_no: i32) -> Result<bool> {
    let sql = "SELECT 1 WHERE EXISTS (SELECT 1 FROM sales_performance WHERE tenant_id = $1 AND org_no = $2) \
               OR EXISTS (SELECT 1 FROM refunds WHERE tenant_id = $1 AND org_no = $2)";
    Ok(has_facts(tx, org_no, None).await? || tx.query_one(sql, [org_no.into()]).await?.is_some())
}
