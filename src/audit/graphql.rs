//! `auditLog`.

use async_graphql::{ComplexObject, Context, ID, Object, SimpleObject};
use uuid::Uuid;

use super::store;
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::connection;
use crate::graphql::context::{Needs, read};
use crate::graphql::loader::load;
use crate::graphql::page::Page;
use crate::graphql::scalars::DateTime;
use crate::users::{User, UsersById};

#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// Who changed what, newest first. Needs USERS_MANAGE.
    #[graphql(guard = "Needs(Permission::UsersManage)")]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most this many from the start, 1 to 100; 20 when neither `first` nor `last` is given.")]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most this many from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<AuditEntryConnection> {
        let page = Page::new(first, after, last, before)?;
        let rows = store::list(read(ctx).await?.as_ref(), &page).await?;
        Ok(AuditEntryConnection::new(&page, rows.into_iter().map(|(cursor, row)| (cursor, row.into())).collect()))
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
        }
    }
}

connection!(AuditEntryConnection, AuditEntryEdge, AuditEntry, "audit entries");
