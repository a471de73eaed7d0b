//! Root fields that depend on the ledger and the settings alone, so that their answers may be cached.

use async_graphql::Context;

use super::store::read_head;
use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::context::operation;
use crate::graphql::response_cache::Freshness;

/// Records that the root field of `ctx`, read in `tx`, stays the same until the ledger or the settings change.
pub async fn depends_on_head(ctx: &Context<'_>, tx: &TenantTx) -> Result<()> {
    let head = read_head(tx).await?.to_db();
    operation(ctx)?.depends_on(ctx.field(), Some(Freshness { head, until: None, is_personal: false }));
    Ok(())
}
