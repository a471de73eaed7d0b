//! Teams and their members.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::graphql::TeamMembership;
use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::{Column, OnConflict, Table, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::graphql::scalars::DateTime;
use crate::graphql::text;
use crate::ledger::check::AHEAD_MAX;
use crate::metrics::period::Span;
use crate::users::{USER_COLUMNS, User, find_unknown, user_from};

const TEAMS_MAX: u64 = 100;
/// Before the first sale there can be.
const ALWAYS: Timestamp = Timestamp(0);
const MEMBERS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 200;

/// Who belonged to team `$2` from when to when, of all times; current members have no end.
const MEMBERSHIPS: &str = "SELECT user_id, joined_at, NULL FROM team_members WHERE tenant_id = $1 AND team_id = $2 \
    UNION ALL SELECT user_id, joined_at, left_at FROM past_team_members WHERE tenant_id = $1 AND team_id = $2 \
    ORDER BY 1, 2";

/// Audited columns of teams.
pub const LOGGED: AuditedTable =
    AuditedTable { table: "teams", key: "id", columns: &[("name", "name", Shown::Text)], members: Some(MEMBERSHIPS) };

/// Validated content of a team.
pub struct TeamContent {
    name: String,
    /// `None` leaves the members unchanged.
    member_ids: Option<Vec<Uuid>>,
    /// From when on these are the members; `None` means from now on or, for a new team, always.
    members_from: Option<Timestamp>,
}

impl TeamContent {
    /// Error: BAD_USER_INPUT (name, memberIds, membersFrom).
    pub fn new(
        name: &str,
        member_ids: Option<Vec<Uuid>>,
        members_from: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self> {
        if members_from.is_some_and(|from| from.0 > now.0 + AHEAD_MAX) {
            return Err(Error::bad_input("membersFrom", "must not be in the future"));
        }
        if members_from.is_some() && member_ids.is_none() {
            return Err(Error::bad_input("membersFrom", "needs memberIds"));
        }
        if member_ids.as_ref().is_some_and(|ids| ids.len() > MEMBERS_MAX) {
            return Err(Error::bad_input("memberIds", format!("more than {MEMBERS_MAX} members")));
        }
        let members_from = members_from.map(|from| from.clamp(ALWAYS, now));
        Ok(TeamContent { name: text::name("name", name, NAME_CHARS_MAX)?, member_ids, members_from })
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

/// Who belonged to a team in `span`, and in which parts of it, which do not overlap.
pub async fn list_members_in(tx: &TenantTx, id: Uuid, span: Span) -> Result<Vec<(Uuid, Span)>> {
    let mut members: Vec<(Uuid, Span)> = Vec::new();
    for row in tx.query(MEMBERSHIPS, [id.into()]).await? {
        let user_id = get(&row, 0)?;
        let start = span.start.max(get(&row, 1)?);
        let end = get::<Option<i64>>(&row, 2)?.map_or(span.end, |left_at| span.end.min(Timestamp(left_at)));
        match members.last_mut() {
            _ if start >= end => {}
            Some((before, part)) if *before == user_id && start <= part.end => part.end = part.end.max(end),
            _ => members.push((user_id, Span { start, end })),
        }
    }
    Ok(members)
}

/// Returns id and name. Errors: CONFLICT (name taken, too many), NOT_FOUND (member).
pub async fn create(tx: &TenantTx, new: TeamContent, now: Timestamp) -> Result<(Uuid, String)> {
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
    if let Some(member_ids) = new.member_ids {
        set_members(tx, id, member_ids, new.members_from.unwrap_or(ALWAYS)).await?;
    }
    Ok((id, new.name))
}

/// Errors: NOT_FOUND (team, member), CONFLICT (name taken).
pub async fn update(tx: &TenantTx, id: Uuid, new: TeamContent, now: Timestamp) -> Result<(Uuid, String)> {
    tx.lock_settings().await?;
    let sql = "UPDATE teams SET name = $3 WHERE tenant_id = $1 AND id = $2";
    get_team_name(tx, id).await?;
    check_name(tx, &new.name, Some(id)).await?;
    tx.execute(sql, [id.into(), new.name.clone().into()]).await?;
    if let Some(member_ids) = new.member_ids {
        set_members(tx, id, member_ids, new.members_from.unwrap_or(now)).await?;
    }
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

/// Makes `member_ids` the members from `from` on, whatever was said before of the time after it.
async fn set_members(tx: &TenantTx, id: Uuid, member_ids: Vec<Uuid>, from: Timestamp) -> Result<()> {
    if let Some(index) = find_unknown(tx, &member_ids).await? {
        return Err(Error::not_found("user").of_element("memberIds", index));
    }
    // Who belonged to it at that time stays since then; the past of the others ends with it.
    let (mut members, mut past) = (BTreeMap::new(), Vec::new());
    for (user_id, part) in list_members_in(tx, id, Span { start: ALWAYS, end: Timestamp(i64::MAX) }).await? {
        if part.start > from || part.start == from && !member_ids.contains(&user_id) {
            continue;
        }
        if part.end >= from && member_ids.contains(&user_id) {
            members.entry(user_id).or_insert(part.start.0);
        } else {
            past.push((user_id, part.start.0, part.end.min(from).0));
        }
    }
    for user_id in member_ids {
        members.entry(user_id).or_insert(from.0);
    }
    for table in ["team_members", "past_team_members"] {
        tx.execute(&format!("DELETE FROM {table} WHERE tenant_id = $1 AND team_id = $2"), [id.into()]).await?;
    }
    let rows = Table::new()
        .with("team_id", Column::Uuid(vec![id; members.len()]))
        .with("user_id", Column::Uuid(members.keys().copied().collect()))
        .with("joined_at", Column::Int(members.into_values().collect()));
    tx.insert("team_members", &rows, OnConflict::Fail).await?;
    let rows = Table::new()
        .with("team_id", Column::Uuid(vec![id; past.len()]))
        .with("user_id", Column::Uuid(past.iter().map(|(user_id, _, _)| *user_id).collect()))
        .with("joined_at", Column::Int(past.iter().map(|(_, joined_at, _)| *joined_at).collect()))
        .with("left_at", Column::Int(past.iter().map(|(_, _, left_at)| *left_at).collect()));
    tx.insert("past_team_members", &rows, OnConflict::Fail).await?;
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
             JOIN users u ON u.tenant_id = $1 AND u.id = m.user_id \
             ORDER BY u.name, u.id"
        );
        let mut members: HashMap<Uuid, Vec<User>> = HashMap::new();
        for row in tx.query_by_keys(&sql, &Table::new().with("team_id", Column::Uuid(keys.to_vec()))).await? {
            members.entry(get(&row, 0)?).or_default().push(user_from(&row, 1)?);
        }
        Ok(members)
    }
}

/// Loads who belonged to teams when, by the beginning.
pub struct MembershipsByTeam;

impl BatchLoad for MembershipsByTeam {
    type Key = Uuid;
    type Value = Vec<TeamMembership>;

    async fn load(tx: &TenantTx, keys: &[Uuid]) -> Result<HashMap<Uuid, Vec<TeamMembership>>> {
        let part = |table: &str, left_at: &str| {
            format!(
                "SELECT m.team_id, m.joined_at AS joined_at, {left_at}, {USER_COLUMNS} \
                 FROM {{keys}} {{each {table} m: m.team_id = k.team_id}} \
                 JOIN users u ON u.tenant_id = $1 AND u.id = m.user_id"
            )
        };
        let sql = format!(
            "{} UNION ALL {} ORDER BY joined_at, 4",
            part("past_team_members", "m.left_at"),
            part("team_members", "NULL")
        );
        let mut memberships: HashMap<Uuid, Vec<TeamMembership>> = HashMap::new();
        for row in tx.query_by_keys(&sql, &Table::new().with("team_id", Column::Uuid(keys.to_vec()))).await? {
            let (joined_at, left_at): (i64, Option<i64>) = (get(&row, 1)?, get(&row, 2)?);
            memberships.entry(get(&row, 0)?).or_default().push(TeamMembership {
                user: user_from(&row, 3)?,
                start: Some(Timestamp(joined_at)).filter(|start| *start > ALWAYS).map(DateTime),
                end: left_at.map(|left_at| DateTime(Timestamp(left_at))),
            });
        }
        Ok(memberships)
    }
}
