//! Accessors for the resolver context: the application's services and the caller.

use std::sync::Arc;

use async_graphql::{Context, Guard};

use super::operation::Operation;
use super::reads::Reads;
use crate::app::App;
use crate::auth::sessions::Client;
use crate::auth::{Caller, Permission};
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Code, Error, Result};

/// The application's services.
pub fn app<'a>(ctx: &Context<'a>) -> Result<&'a App> {
    ctx.data::<App>().map_err(|_| Error::internal("no app in the context"))
}

/// The caller.
pub fn caller<'a>(ctx: &Context<'a>) -> Result<&'a Caller> {
    let caller = ctx.data::<Arc<Caller>>().map(Arc::as_ref);
    caller.map_err(|_| Error::unauthenticated())
}

/// The client the request came from.
pub fn client<'a>(ctx: &Context<'a>) -> Result<&'a Client> {
    ctx.data::<Arc<Client>>().map(Arc::as_ref).map_err(|_| Error::internal("no client in the context"))
}

/// A read transaction of the caller's tenant; always the same one within a query.
pub async fn read(ctx: &Context<'_>) -> Result<Arc<TenantTx>> {
    operation(ctx)?.reads().get(&app(ctx)?.db, caller(ctx)?.tenant).await
}

/// Rejects callers that lack a permission: a second time, as [`super::roots`] has left out such fields. async-graphql
/// calls it after it has read the arguments.
pub struct Requires(pub Permission);

impl Guard for Requires {
    async fn check(&self, ctx: &Context<'_>) -> async_graphql::Result<()> {
        Ok(check_may(caller(ctx)?, self.0)?)
    }
}

/// Error: FORBIDDEN, when the caller lacks the permission.
pub fn check_may(caller: &Caller, needed: Permission) -> Result<()> {
    if caller.may(needed) {
        return Ok(());
    }
    let name = async_graphql::resolver_utils::enum_value(needed);
    Err(Error::new(Code::Forbidden, format!("this needs the permission {name}, which the token does not have")))
}

/// The running operation.
pub fn operation<'a>(ctx: &Context<'a>) -> Result<&'a Arc<Operation>> {
    ctx.data::<Arc<Operation>>().map_err(|_| Error::internal("no operation in the context"))
}

/// The running operation's loader of type `L`.
pub fn loader<L: std::any::Any + Send + Sync>(
    ctx: &Context<'_>,
    make: impl FnOnce(Arc<Reads>, Db, TenantId) -> L,
) -> Result<Arc<L>> {
    let operation = operation(ctx)?;
    let (db, tenant) = (app(ctx)?.db.clone(), caller(ctx)?.tenant);
    Ok(operation.loader(|| make(Arc::clone(operation.reads()), db, tenant)))
}

/// Parses the id in a filter: what is no UUID identifies nothing, like one that nothing has.
pub fn filter_id(id: &async_graphql::ID) -> uuid::Uuid {
    uuid::Uuid::parse_str(id).unwrap_or_default()
}

/// Parses an argument that is a UUID; anything else identifies nothing. Error: NOT_FOUND.
pub fn parse_id(id: &async_graphql::ID, what: &str) -> Result<uuid::Uuid> {
    uuid::Uuid::parse_str(id).map_err(|_| Error::not_found(what))
}
