//! Sales quotas of a person or a team for a period of days.

use async_graphql::ID;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::teams::get_team_name;
use crate::calendar::{day_from_number, day_number};
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::graphql::context::parse_id;
use crate::money::Money;
use crate::users::get_user;
use entity::quotas::{ActiveModel, Column, Entity, Model};

/// Maximum quotas per list.
const LISTED_MAX: u64 = 1000;

/// Owner of a quota or performance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    User(Uuid),
    Team(Uuid),
}

/// A quota; its days are half-open, in days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    pub id: Uuid,
    pub holder: Holder,
    pub start_day: i32,
    pub end_day: i32,
    pub amount: Money,
}

impl Holder {
    /// Error: BAD_USER_INPUT unless exactly one is given.
    pub fn new(user_id: Option<Uuid>, team_id: Option<Uuid>) -> Result<Holder> {
        match (user_id, team_id) {
            (Some(id), None) => Ok(Holder::User(id)),
            (None, Some(id)) => Ok(Holder::Team(id)),
            _ => Err(Error::bad_input("userId", "give exactly one of userId and teamId")),
        }
    }

    /// Like [`Holder::new`], from client ids. Errors: BAD_USER_INPUT, NOT_FOUND.
    pub fn parse(user_id: Option<ID>, team_id: Option<ID>) -> Result<Holder> {
        let user_id = user_id.map(|id| parse_id(&id, "user")).transpose()?;
        let team_id = team_id.map(|id| parse_id(&id, "team")).transpose()?;
        Holder::new(user_id, team_id)
    }

    /// The user's id or the team's.
    pub fn ids(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Holder::User(id) => (Some(id), None),
            Holder::Team(id) => (None, Some(id)),
        }
    }

    /// Error: NOT_FOUND.
    pub async fn check(self, tx: &TenantTx) -> Result<()> {
        match self {
            Holder::User(id) => get_user(tx, id).await.map(drop),
            Holder::Team(id) => get_team_name(tx, id).await.map(drop),
        }
    }

    fn condition(self) -> Condition {
        match self {
            Holder::User(id) => Condition::all().add(Column::UserId.eq(id)),
            Holder::Team(id) => Condition::all().add(Column::TeamId.eq(id)),
        }
    }
}

/// Upserts a quota by holder and days; also returns the previous amount. Errors: BAD_USER_INPUT, NOT_FOUND (holder).
pub async fn set(
    tx: &TenantTx,
    holder: Holder,
    start: chrono::NaiveDate,
    end: chrono::NaiveDate,
    amount: Money,
) -> Result<(Option<Money>, Quota)> {
    if end <= start {
        return Err(Error::bad_input("end", "must be after start"));
    }
    if amount <= Money::ZERO {
        return Err(Error::bad_input("amount", "must be positive"));
    }
    tx.lock_settings().await?;
    holder.check(tx).await?;
    let (start_day, end_day) = (day_number(start), day_number(end));
    let same = holder.condition().add(Column::StartDay.eq(start_day)).add(Column::EndDay.eq(end_day));
    let old = tx.find::<Entity>().filter(same).one(tx).await?;
    let id = old.as_ref().map_or_else(Uuid::now_v7, |old| old.id);
    let (user_id, team_id) = holder.ids();
    let row = ActiveModel {
        tenant_id: Set(tx.tenant().0),
        id: Set(id),
        user_id: Set(user_id),
        team_id: Set(team_id),
        start_day: Set(start_day.into()),
        end_day: Set(end_day.into()),
        amount: Set(amount.0),
    };
    if old.is_some() {
        row.update(tx).await?;
    } else {
        Entity::insert(row).exec_without_returning(tx).await?;
    }
    Ok((old.map(|old| Money(old.amount)), Quota { id, holder, start_day, end_day, amount }))
}

/// The newest quotas by first day, of one holder or all.
pub async fn list(tx: &TenantTx, holder: Option<Holder>) -> Result<Vec<Quota>> {
    let wanted = holder.map_or_else(Condition::all, Holder::condition);
    let newest = tx.find::<Entity>().filter(wanted).order_by_desc(Column::StartDay).order_by_asc(Column::Id);
    newest.limit(LISTED_MAX).all(tx).await?.iter().map(Quota::try_from).collect()
}

/// Deletes and returns a quota. Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid) -> Result<Quota> {
    let row = tx.find::<Entity>().filter(Column::Id.eq(id)).one(tx).await?;
    let quota = Quota::try_from(&row.ok_or_else(|| Error::not_found("quota"))?)?;
    tx.execute("DELETE FROM quotas WHERE tenant_id = $1 AND id = $2", [id.into()]).await?;
    Ok(quota)
}

/// The holder's quotas that overlap `start_day..end_day`.
pub async fn list_overlapping(tx: &TenantTx, holder: Holder, start_day: i32, end_day: i32) -> Result<Vec<Quota>> {
    let overlapping = holder.condition().add(Column::StartDay.lt(end_day)).add(Column::EndDay.gt(start_day));
    let rows = tx.find::<Entity>().filter(overlapping).order_by_asc(Column::StartDay).all(tx).await?;
    rows.iter().map(Quota::try_from).collect()
}

impl TryFrom<&Model> for Quota {
    type Error = Error;

    fn try_from(row: &Model) -> Result<Self> {
        let day = |day: i64| i32::try_from(day).map_err(Error::internal);
        let holder = Holder::new(row.user_id, row.team_id).map_err(|_| Error::internal("a quota of nobody"))?;
        Ok(Quota {
            id: row.id,
            holder,
            start_day: day(row.start_day)?,
            end_day: day(row.end_day)?,
            amount: Money(row.amount),
        })
    }
}

impl Quota {
    pub fn start(&self) -> chrono::NaiveDate {
        day_from_number(self.start_day)
    }

    pub fn end(&self) -> chrono::NaiveDate {
        day_from_number(self.end_day)
    }
}
