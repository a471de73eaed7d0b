//! `me`, `tenant`, `organizations`, `teams` and their mutations.

use async_graphql::{Context, ID, Object, SimpleObject};

use crate::auth::Permission;
use crate::graphql::context::{Needs, read};
use crate::graphql::scalars::{Currency, TimeZone};
use crate::ledger::organization::{self, list_organizations};

#[derive(Default)]
pub struct PeopleQuery;

#[Object]
impl PeopleQuery {
    /// The tenant's organizations, by slug; at most 100.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn organizations(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Organization>> {
        let tx = read(ctx).await?;
        let mut organizations = list_organizations(&tx).await?;
        organizations.sort_by(|a, b| a.slug.cmp(&b.slug));
        Ok(organizations.into_iter().map(Organization::from).collect())
    }
}

/// A shop, brand or country of a tenant, with its own currency and time zone.
#[derive(SimpleObject)]
pub struct Organization {
    /// The organization's id.
    id: ID,
    /// Its short name, unique in the tenant.
    slug: String,
    /// Its name.
    name: String,
    /// The zone in which its days begin.
    timezone: TimeZone,
    /// The currency of its metrics.
    currency: Currency,
    /// Whether events without an organization belong to it.
    is_default: bool,
}

impl From<organization::Organization> for Organization {
    fn from(o: organization::Organization) -> Self {
        Organization {
            id: o.id.into(),
            slug: o.slug,
            name: o.name,
            timezone: TimeZone(o.timezone),
            currency: Currency(o.currency),
            is_default: o.is_default,
        }
    }
}
