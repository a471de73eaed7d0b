//! `auditLog`.

use async_graphql::{ComplexObject, Context, ID, InputObject, Json, Object, SimpleObject};
use serde_json::Value;
use uuid::Uuid;

use super::store;
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::connection;
use crate::error::Result;
use crate::graphql::context::{Needs, parse_id, read};
use crate::graphql::loader::load;
use crate::graphql::page::Page;
use crate::graphql::scalars::DateTime;
use crate::graphql::text::prose;
use crate::users::{User, UsersById};

const FILTER_CHARS_MAX: usize = 200;

#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// Who changed what and who signed in, newest first. Needs USERS_MANAGE.
    #[graphql(guard = "Needs(Permission::UsersManage)")]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only these.")] filter: Option<AuditFilter>,
        #[graphql(desc = "At most this many from the start, 0 to 100; 20 when neither `first` nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most this many from the end, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<AuditEntryConnection> {
        let page = Page::new(first, after, last, before)?;
        let filter = filter.unwrap_or_default().check()?;
        let rows = store::list(read(ctx).await?.as_ref(), &page, &filter).await?;
        Ok(AuditEntryConnection::new(&page, rows.into_iter().map(|(cursor, row)| (cursor, row.into())).collect()))
    }
}

/// Which entries of the log. What is absent does not count.
#[derive(Default, InputObject)]
struct AuditFilter {
    /// By this user.
    actor_id: Option<ID>,
    /// Of this kind, as dashboard.create; with a dot at its end, as session., of all such kinds.
    action: Option<String>,
    /// Done to this.
    subject: Option<String>,
    /// From this time on.
    since: Option<DateTime>,
    /// Before this time.
    until: Option<DateTime>,
}

impl AuditFilter {
    fn check(self) -> Result<store::Filter> {
        Ok(store::Filter {
            actor_id: self.actor_id.map(|id| parse_id(&id, "user")).transpose()?,
            action: self.action.map(|action| prose("action", action, FILTER_CHARS_MAX)).transpose()?,
            subject: self.subject.map(|subject| prose("subject", subject, FILTER_CHARS_MAX)).transpose()?,
            since: self.since.map(|at| at.0),
            until: self.until.map(|at| at.0),
        })
    }
}

/// One change that someone made.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub struct AuditEntry {
    /// The entry's id.
    id: ID,
    /// When.
    at: DateTime,
    #[graphql(skip)]
    actor_id: Option<Uuid>,
    /// What was done, as dashboard.create.
    action: String,
    /// What it was done to.
    subject: String,
    /// What it was before, without personal data.
    before: Option<Json<Value>>,
    /// What it was then, without personal data.
    after: Option<Json<Value>>,
    /// By what it was done: a session, a token of an operator, an api-key; null where nobody was signed in.
    through: Option<String>,
    /// Which session or API key.
    through_id: Option<ID>,
    /// From which network address.
    address: Option<String>,
}

#[ComplexObject]
impl AuditEntry {
    /// Who.
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
            before: row.before.map(Json),
            after: row.after.map(Json),
            through: row.through,
            through_id: row.through_id.map(ID::from),
            address: row.address,
        }
    }
}

connection!(AuditEntryConnection, AuditEntryEdge, AuditEntry, "audit entries");
