//! Storage of dashboards. Another user's dashboard that is not shared is "not found".

use entity::dashboards::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter, QueryResult,
};
use uuid::Uuid;

use super::{Dashboard, DashboardContent};
use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::{Code, Error, Result};
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};

/// Audited columns of dashboards.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "dashboards",
    key: "id",
    columns: &[
        ("name", "name", Shown::Text),
        ("description", "description", Shown::Text),
        ("isShared", "is_shared", Shown::Flag),
        ("isDefault", "is_default", Shown::Flag),
        ("columns", "CAST(columns AS BIGINT)", Shown::Number),
        ("filters", "filters", Shown::Document),
        ("widgets", "widgets", Shown::Document),
    ],
    members: None,
};

/// A dashboard visible to `user_id`.
pub async fn find_visible(tx: &TenantTx, id: Uuid, user_id: Uuid) -> Result<Option<Dashboard>> {
    let visible = Condition::any().add(Column::OwnerId.eq(user_id)).add(Column::IsShared.eq(true));
    let row = tx.find::<Entity>().filter(Column::Id.eq(id)).filter(visible).one(tx).await?;
    row.map(Dashboard::try_from).transpose()
}

/// A page of those visible to `user_id`, newest first: ids are time-ordered.
pub async fn list_visible(tx: &TenantTx, page: &Page, user_id: Uuid) -> Result<Listed<Dashboard>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "dashboards", keys: &[SortKey::descending("id", KeyKind::Uuid)] };
    let mut matching = Matching::of("dashboards WHERE tenant_id = $1");
    let owner = matching.bind(user_id);
    matching.from.push_str(&format!(" AND (owner_id = {owner} OR is_shared)"));
    let item = |row: &QueryResult| {
        let dashboard = Dashboard::try_from(Model::from_query_result(row, "")?)?;
        Ok((vec![dashboard.id.to_string()], dashboard))
    };
    matching.page(tx, page, &ORDER, "*", item).await
}

/// Maximum dashboards per owner.
const DASHBOARDS_MAX: i64 = 200;

/// Stores a new dashboard. Error: CONFLICT if its owner has reached the limit.
pub async fn create(tx: &TenantTx, owner_id: Uuid, content: DashboardContent, now: Timestamp) -> Result<Dashboard> {
    tx.lock_settings().await?;
    let sql = "SELECT count(*) FROM dashboards WHERE tenant_id = $1 AND owner_id = $2";
    if tx.count(sql, [owner_id.into()]).await? >= DASHBOARDS_MAX {
        return Err(Error::new(Code::Conflict, format!("you have {DASHBOARDS_MAX} dashboards already")));
    }
    let dashboard = Dashboard { id: Uuid::now_v7(), owner_id, updated_at: now, content };
    let row = ActiveModel { created_at: Set(now.0), ..row(tx, &dashboard)? };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(dashboard)
}

/// A dashboard owned by `owner_id`, locked against other changes until the transaction ends. Error: NOT_FOUND.
pub async fn lock_own(tx: &TenantTx, id: Uuid, owner_id: Uuid) -> Result<Dashboard> {
    tx.lock_settings().await?;
    let own = tx.find::<Entity>().filter(Column::Id.eq(id)).filter(Column::OwnerId.eq(owner_id));
    own.one(tx).await?.ok_or_else(|| Error::not_found("dashboard"))?.try_into()
}

/// Replaces a locked dashboard.
pub async fn update(tx: &TenantTx, dashboard: Dashboard) -> Result<Dashboard> {
    row(tx, &dashboard)?.update(tx).await?;
    Ok(dashboard)
}

/// Deletes a dashboard owned by `owner_id`. Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid, owner_id: Uuid) -> Result<()> {
    let sql = "DELETE FROM dashboards WHERE tenant_id = $1 AND id = $2 AND owner_id = $3";
    let deleted = tx.execute(sql, [id.into(), owner_id.into()]).await?;
    if deleted == 0 { Err(Error::not_found("dashboard")) } else { Ok(()) }
}

/// The default of an owner.
pub async fn find_default(tx: &TenantTx, owner_id: Uuid) -> Result<Option<Dashboard>> {
    let default = tx.find::<Entity>().filter(Column::OwnerId.eq(owner_id)).filter(Column::IsDefault.eq(true));
    default.one(tx).await?.map(Dashboard::try_from).transpose()
}

/// All columns except the creation time.
fn row(tx: &TenantTx, dashboard: &Dashboard) -> Result<ActiveModel> {
    let content = &dashboard.content;
    Ok(ActiveModel {
        tenant_id: Set(tx.tenant().0),
        id: Set(dashboard.id),
        owner_id: Set(dashboard.owner_id),
        name: Set(content.name.clone()),
        description: Set(content.description.clone()),
        is_shared: Set(content.is_shared),
        is_default: Set(content.is_default),
        columns: Set(content.columns),
        filters: Set(content.filters.as_ref().map(serde_json::to_value).transpose()?),
        widgets: Set(serde_json::to_value(&content.widgets)?),
        updated_at: Set(dashboard.updated_at.0),
        ..Default::default()
    })
}

impl TryFrom<Model> for Dashboard {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Dashboard {
            id: row.id,
            owner_id: row.owner_id,
            updated_at: Timestamp(row.updated_at),
            content: DashboardContent {
                name: row.name,
                description: row.description,
                is_shared: row.is_shared,
                is_default: row.is_default,
                columns: row.columns,
                filters: row.filters.map(serde_json::from_value).transpose()?,
                widgets: serde_json::from_value(row.widgets)?,
            },
        })
    }
}
