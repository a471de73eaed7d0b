//! `auditLog`.

use async_graphql::{ComplexObject, Context, ID, InputObject, Object, SimpleObject};
use serde_json::Value;
use uuid::Uuid;

use super::store;
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::connection;
use crate::error::Result;
use crate::graphql::context::{Requires, filter_id, read};
use crate::graphql::loader::load;
use crate::graphql::page::Page;
use crate::graphql::scalars::{DateTime, Json};
use crate::graphql::size::counted;
use crate::graphql::text::prose;
use crate::users::{User, UsersById};

const FILTER_CHARS_MAX: usize = 200;

#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// The audit log: who changed what and who signed in, newest first. Needs USERS_MANAGE.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which entries to list; omit for all.")] filter: Option<AuditFilter>,
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
    ) -> async_graphql::Result<Option<AuditEntryConnection>> {
        let page = Page::new(first, after, last, before)?;
        let filter = filter.unwrap_or_default().check()?;
        let listed = store::list(read(ctx).await?.as_ref(), &page, &filter).await?;
        Ok(Some(AuditEntryConnection::new(&page, listed.map(AuditEntry::from))))
    }
}

/// Which entries of the audit log to list. Fields that are omitted do not restrict.
#[derive(Default, InputObject)]
struct AuditFilter {
    /// Only entries of this user.
    actor_id: Option<ID>,
    /// Only this action, such as dashboard.create; or, ending with a dot as in session., all actions that begin with it.
    action: Option<String>,
    /// Only what was done to this.
    subject: Option<String>,
    /// Only entries from this time on (inclusive).
    since: Option<DateTime>,
    /// Only entries before this time (exclusive).
    until: Option<DateTime>,
}

impl AuditFilter {
    /// Error: BAD_USER_INPUT.
    fn check(self) -> Result<store::Filter> {
        Ok(store::Filter {
            actor_id: self.actor_id.as_ref().map(filter_id),
            action: self.action.map(|action| prose("filter.action", action, FILTER_CHARS_MAX)).transpose()?,
            subject: self.subject.map(|subject| prose("filter.subject", subject, FILTER_CHARS_MAX)).transpose()?,
            since: self.since.map(|at| at.0),
            until: self.until.map(|at| at.0),
        })
    }
}

/// An entry of the audit log.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct AuditEntry {
    /// The entry's id.
    id: ID,
    /// When it happened.
    at: DateTime,
    #[graphql(skip)]
    actor_id: Option<Uuid>,
    /// What was done, such as dashboard.create.
    action: String,
    /// What it was done to, mostly an id.
    subject: String,
    #[graphql(skip)]
    before: Option<Value>,
    #[graphql(skip)]
    after: Option<Value>,
    /// How the caller was signed in: session, token (issued by an operator) or api-key; integration for an erasure that a webhook asked for; otherwise null.
    through: Option<String>,
    /// The id of the session, API key or integration.
    through_id: Option<ID>,
    /// The network address it came from.
    address: Option<String>,
}

#[ComplexObject]
impl AuditEntry {
    /// The state before, without personal data; null if there was none.
    async fn before(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Json>> {
        Ok(counted(ctx, self.before.as_ref())?)
    }

    /// The state after, without personal data; null if there is none.
    async fn after(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Json>> {
        Ok(counted(ctx, self.after.as_ref())?)
    }

    /// The user who did it; null if nobody was signed in.
    async fn actor(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<User>> {
        match self.actor_id {
            Some(id) => Ok(load::<UsersById>(ctx, id).await?),
            None => Ok(None),
        }
    }
}

impl From<entity::audit_logs::Model> for AuditEntry {
    fn from(row: entity::audit_logs::Model) -> Self {
        AuditEntry {
            id: row.id.into(),
            at: DateTime(Timestamp(row.at)),
            actor_id: row.actor_id,
            action: row.action,
            subject: row.subject,
            before: row.before,
            after: row.after,
            through: row.through,
            through_id: row.through_id.map(ID::from),
            address: row.address,
        }
    }
}

connection!(AuditEntryConnection, AuditEntryEdge, AuditEntry, "audit entries");
