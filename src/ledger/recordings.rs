//! Who recorded which events: `recordings`. A log beside the audit log, since a batch has events of many callers, and a
//! busy tenant has many batches. It is written in the batch's transaction, and immutable.

use async_graphql::{ComplexObject, Context, ID, InputObject, Object, SimpleObject};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::changes::Recorded;
use super::check::ID_CHARS_MAX;
use super::node_id::Numbered;
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::connection;
use crate::db::{Column, Inserts, OnConflict, Table, TenantTx, get};
use crate::error::Result;
use crate::graphql::context::{Requires, filter_id, read};
use crate::graphql::loader::load;
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::graphql::scalars::{Count, DateTime, Position};
use crate::graphql::text::prose;
use crate::users::{User, UsersById};

/// Adds a batch's recordings: one row for neighbouring events that the same caller recorded in the same way.
pub(super) fn add(inserts: &mut Inserts, recorded: &[Recorded], recorded_at: Timestamp) {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let (mut actors, mut through, mut through_ids, mut addresses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in recorded.chunk_by(|one, next| one.by == next.by) {
        let ([start, ..], [.., end]) = (run, run) else { continue };
        let (word, id) = start.by.through();
        first.push(start.position);
        last.push(end.position);
        actors.push(start.by.user_id);
        through.push(word.map(str::to_owned));
        through_ids.push(id);
        addresses.push(start.by.address.map(|address| address.to_string()));
    }
    let table = Table::new()
        .with("recorded_at", Column::Int(vec![recorded_at.0; first.len()]))
        .with("first_position", Column::Int(first))
        .with("last_position", Column::Int(last))
        .with("actor_id", Column::OptUuid(actors))
        .with("through", Column::OptText(through))
        .with("through_id", Column::OptUuid(through_ids))
        .with("address", Column::OptText(addresses));
    inserts.add("ledger_recordings", table, OnConflict::Fail);
}

#[derive(Default)]
pub struct RecordingQuery;

#[Object]
impl RecordingQuery {
    /// Who recorded the events of the ledger, newest first: what the audit log is for changes. Events that were refused or repeated are not in it, nor what was recorded before this list was kept. Needs USERS_MANAGE.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn recordings(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which recordings to list; omit for all.")] filter: Option<RecordingFilter>,
        #[graphql(
            desc = "Return at most this many items from the start of the list, 0 to 100; defaults to 20 if neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(
            desc = "Return at most this many items from the end of the list, 0 to 100; not together with `first`."
        )]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Option<RecordingConnection>> {
        let page = Page::new(first, after, last, before)?;
        let tx = read(ctx).await?;
        let listed = match filter.unwrap_or_default().matching(&tx).await? {
            Some(matching) => list(&tx, &page, matching).await?,
            None => Listed::nothing(),
        };
        Ok(Some(RecordingConnection::new(&page, listed)))
    }
}

/// Which recordings to list. Fields that are omitted do not restrict.
#[derive(Default, InputObject)]
struct RecordingFilter {
    /// Only what this user recorded.
    actor_id: Option<ID>,
    /// Only what came through this session, API key or integration.
    through_id: Option<ID>,
    /// Only the one with the event at this position.
    position: Option<Position>,
    /// Only the one with this event; none if raw entries of its month were dropped.
    event_id: Option<ID>,
    /// Only the one that brought this order in its latest version.
    order_id: Option<ID>,
    /// Only what was recorded from this time on (inclusive).
    since: Option<DateTime>,
    /// Only what was recorded before this time (exclusive).
    until: Option<DateTime>,
}

impl RecordingFilter {
    /// `None` where there can be none. Error: BAD_USER_INPUT.
    async fn matching(self, tx: &TenantTx) -> Result<Option<Matching>> {
        let mut matching = Matching::of("ledger_recordings WHERE tenant_id = $1");
        if let Some(id) = self.actor_id {
            matching.and("actor_id =", filter_id(&id));
        }
        if let Some(id) = self.through_id {
            matching.and("through_id =", filter_id(&id));
        }
        if let Some(since) = self.since {
            matching.and("recorded_at >=", since.0);
        }
        if let Some(until) = self.until {
            matching.and("recorded_at <", until.0);
        }
        let mut positions = Vec::new();
        if let Some(Position(position)) = self.position {
            positions.push(Some(position));
        }
        if let Some(ID(id)) = self.event_id {
            let id = prose("filter.eventId", id, ID_CHARS_MAX)?;
            let sql = "SELECT position FROM ledger_events WHERE tenant_id = $1 AND event_id = $2";
            positions.push(find_position(tx, sql, id.into()).await?);
        }
        if let Some(id) = self.order_id {
            // No order has the number 0.
            let number = Numbered::Order.find(&id).unwrap_or_default();
            let sql = "SELECT position FROM orders WHERE tenant_id = $1 AND order_no = $2";
            positions.push(find_position(tx, sql, number.into()).await?);
        }
        for position in positions {
            let Some(position) = position else { return Ok(None) };
            let Some(last) = find_last(tx, position).await? else { return Ok(None) };
            matching.and("last_position =", last);
        }
        Ok(Some(matching))
    }
}

async fn find_position(tx: &TenantTx, sql: &str, key: Value) -> Result<Option<i64>> {
    Ok(tx.query_one(sql, [key]).await?.map(|row| get(&row, 0)).transpose()?.flatten())
}

/// The last position of the recording that has the event at `position`: the first recording that ends there or later,
/// unless nobody is known to have recorded the event.
async fn find_last(tx: &TenantTx, position: i64) -> Result<Option<i64>> {
    let sql = "SELECT first_position, last_position FROM ledger_recordings WHERE tenant_id = $1 AND last_position >= $2 \
               ORDER BY last_position LIMIT 1";
    let Some(row) = tx.query_one(sql, [position.into()]).await? else { return Ok(None) };
    let (first, last): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    Ok((first <= position).then_some(last))
}

/// Neighbouring events of the ledger that somebody recorded together.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct Recording {
    /// The position of the first of the events.
    first_position: Position,
    /// The position of the last of them; all in between are of the same recording.
    last_position: Position,
    /// When they were recorded.
    at: DateTime,
    #[graphql(skip)]
    actor_id: Option<Uuid>,
    /// What they came through: session, token (issued by an operator), api-key, integration (its webhook), import (`salespulse import`) or demo.
    through: Option<String>,
    /// The id of the session, API key or integration.
    through_id: Option<ID>,
    /// The network address they came from.
    address: Option<String>,
}

#[ComplexObject]
impl Recording {
    /// How many events they are.
    async fn events_count(&self) -> Count {
        Count(self.last_position.0 - self.first_position.0 + 1)
    }

    /// The user who recorded them; null if nobody was signed in, as for webhooks and imports.
    async fn actor(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<User>> {
        match self.actor_id {
            Some(id) => Ok(load::<UsersById>(ctx, id).await?),
            None => Ok(None),
        }
    }
}

connection!(RecordingConnection, RecordingEdge, Recording, "recordings");

/// A page of recordings, newest first.
async fn list(tx: &TenantTx, page: &Page, matching: Matching) -> Result<Listed<Recording>> {
    const ORDER: SortOrder<'_> = SortOrder {
        name: "recordings",
        keys: &[SortKey::descending("recorded_at", KeyKind::Int), SortKey::descending("last_position", KeyKind::Int)],
    };
    const COLUMNS: &str = "recorded_at, last_position, first_position, actor_id, through, through_id, address";
    let item = |row: &QueryResult| {
        let (at, last): (i64, i64) = (get(row, 0)?, get(row, 1)?);
        let recording = Recording {
            first_position: Position(get(row, 2)?),
            last_position: Position(last),
            at: DateTime(Timestamp(at)),
            actor_id: get(row, 3)?,
            through: get(row, 4)?,
            through_id: get::<Option<Uuid>>(row, 5)?.map(ID::from),
            address: get(row, 6)?,
        };
        Ok((vec![at.to_string(), last.to_string()], recording))
    };
    matching.page(tx, page, &ORDER, COLUMNS, item).await
}
