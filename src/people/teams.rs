//! Teams and their members.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::{Column, OnConflict, Table, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::graphql::text;
use crate::users::{USER_COLUMNS, User, find_unknown, user_from};

pub const TEAMS_MAX: u64 = 100;
const MEMBERS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 200;

/// Audited columns of teams.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "teams",
    key: "id",
    columns: &[("name", "name", Shown::Text)],
    members: Some((
        "memberIds",
        "SELECT user_id FROM team_members WHERE tenant_id = $1 AND team_id = $2 ORDER BY user_id",
    )),
};

/// Validated content of a team.
pub struct NewTeam {
    name: String,
    /// `None` leaves the members unchanged.
    member_ids: Option<Vec<Uuid>>,
}

impl NewTeam {
    /// Error: BAD_USER_INPUT (name, memberIds).
    pub fn new(name: &str, member_ids: Option<Vec<Uuid>>) -> Result<Self> {
        if member_ids.as_ref().is_some_and(|ids| ids.len() > MEMBERS_MAX) {
            return Err(Error::bad_input("memberIds", format!("more than {MEMBERS_MAX} members")));
        }
        Ok(NewTeam { name: text::name("name", name, NAME_CHARS_MAX)?, member_ids })
    }
}

/// Id and name of all teams, by name.
pub async fn list(tx: &TenantTx) -> Result<Vec<(Uuid, String)>> {
    use entity::teams::{Column, Entity};
    let query = tx.find::<Entity>().order_by_asc(Column::Name).limit(TEAMS_MAX);
    Ok(query.select_only().columns([Column::Id, Column::Name]).into_tuple().all(tx).await?)
}

/// Error: NOT_FOUND.
pub async fn get_team_name(tx: &TenantTx, id: Uuid) -> Result<String> {
    use entity::teams::{Column, Entity};
    let found = tx.find::<Entity>().filter(Column::Id.eq(id)).one(tx).await?;
    Ok(found.ok_or_else(|| Error::not_found("team"))?.name)
}

/// The current members of a team.
pub async fn team_user_ids(tx: &TenantTx, id: Uuid) -> Result<Vec<Uuid>> {
    use entity::team_members::{Column, Entity};
    let query = tx.find::<Entity>().filter(Column::TeamId.eq(id)).order_by_asc(Column::UserId);
    Ok(query.select_only().column(Column::UserId).into_tuple().all(tx).await?)
}

/// Returns id and name. Errors: CONFLICT (name taken, too many), NOT_FOUND (member).
pub async fn create(tx: &TenantTx, new: NewTeam, now: Timestamp) -> Result<(Uuid, String)> {
    tx.lock_settings().await?;
    if tx.find::<entity::teams::Entity>().count(tx).await? >= TEAMS_MAX {
        return Err(Error::new(Code::Conflict, format!("there are {TEAMS_MAX} teams already")));
    }
    check_name(tx, &new.name, None).await?;
    let id = Uuid::now_v7();
    let row = entity::teams::ActiveModel {
        tenant_id: Set(tx.tenant().0),
        id: Set(id),
        name: Set(new.name.clone()),
        created_at: Set(now.0),
    };
    entity::teams::Entity::insert(row).exec_without_returning(tx).await?;
    set_members(tx, id, new.member_ids).await?;
    Ok((id, new.name))
}

/// Errors: NOT_FOUND (team, member), CONFLICT (name taken).
pub async fn update(tx: &TenantTx, id: Uuid, new: NewTeam) -> Result<(Uuid, String)> {
    tx.lock_settings().await?;
    let sql = "UPDATE teams SET name = $3 WHERE tenant_id = $1 AND id = $2";
    get_team_name(tx, id).await?;
    check_name(tx, &new.name, Some(id)).await?;
    tx.execute(sql, [id.into(), new.name.clone().into()]).await?;
    set_members(tx, id, new.member_ids).await?;
    Ok((id, new.name))
}

/// Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid) -> Result<()> {
    let deleted = tx.execute("DELETE FROM teams WHERE tenant_id = $1 AND id = $2", [id.into()]).await?;
    if deleted == 0 { Err(Error::not_found("team")) } else { Ok(()) }
}

async fn check_name(tx: &TenantTx, name: &str, own: Option<Uuid>) -> Result<()> {
    use entity::teams::{Column, Entity};
    let taken = tx.find::<Entity>().filter(Column::Name.eq(name)).one(tx).await?;
    if taken.is_some_and(|team| Some(team.id) != own) {
        return Err(Error::new(Code::Conflict, "the name is taken"));
    }
    Ok(())
}

async fn set_members(tx: &TenantTx, id: Uuid, member_ids: Option<Vec<Uuid>>) -> Result<()> {
    let Some(member_ids) = member_ids else { return Ok(()) };
    if let Some(index) = find_unknown(tx, &member_ids).await? {
        return Err(Error::not_found("user").of_element("memberIds", index));
    }
    let member_ids: Vec<Uuid> = BTreeSet::from_iter(member_ids).into_iter().collect();
    tx.execute("DELETE FROM team_members WHERE tenant_id = $1 AND team_id = $2", [id.into()]).await?;
    let rows = Table::new()
        .with("team_id", Column::Uuid(vec![id; member_ids.len()]))
        .with("user_id", Column::Uuid(member_ids));
    tx.insert("team_members", &rows, OnConflict::Fail).await?;
    Ok(())
}

/// Loads the members of teams, by name.
pub struct MembersByTeam;

impl BatchLoad for MembersByTeam {
    type Key = Uuid;
    type Value = Vec<User>;

    async fn load(tx: &TenantTx, keys: &[Uuid]) -> Result<HashMap<Uuid, Vec<User>>> {
        let sql = format!(
            "SELECT m.team_id, {USER_COLUMNS} FROM {{keys}} {{each team_members m: m.team_id = k.team_id}} \
             JOIN users u ON u.tenant_id = m.tenant_id AND u.id = m.user_id \
             ORDER BY u.name, u.id"
        );
        let mut members: HashMap<Uuid, Vec<User>> = HashMap::new();
        for row in tx.query_by_keys(&sql, &Table::new().with("team_id", Column::Uuid(keys.to_vec()))).await? {
            members.entry(get(&row, 0)?).or_default().push(user_from(&row, 1)?);
        }
        Ok(members)
    }
}
