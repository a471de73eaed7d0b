//! `tenant`, `organizations`, `teams` and their types.

use std::collections::HashMap;

use async_graphql::{ComplexObject, Context, ID, Object, SimpleObject};
use uuid::Uuid;

use super::quotas::{self, Holder};
use super::teams::{self, MembersByTeam, MembershipsByTeam};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, read};
use crate::graphql::loader::{BatchLoad, load};
use crate::graphql::scalars::{Currency, Date, DateTime, Decimal, TimeZone};
use crate::ledger::organization::{self, list_organizations};
use crate::metrics::answer;
use crate::metrics::graphql::AsOf;
use crate::users::User;

#[derive(Default)]
pub struct PeopleQuery;

#[Object]
impl PeopleQuery {
    /// The tenant that the token belongs to.
    async fn tenant(&self, ctx: &Context<'_>) -> async_graphql::Result<Tenant> {
        let sql = "SELECT t.id, t.name, h.position, h.watermark, t.slug FROM tenants t \
                   JOIN ledger_heads h ON h.tenant_id = t.id WHERE t.id = $1";
        let row = read(ctx).await?.query_one(sql, []).await?.ok_or_else(|| Error::not_found("tenant"))?;
        let watermark: Option<Timestamp> = get(&row, 3)?;
        Ok(Tenant {
            id: get::<Uuid>(&row, 0)?.into(),
            slug: get(&row, 4)?,
            name: get(&row, 1)?,
            as_of: AsOf::from(answer::AsOf { position: get(&row, 2)?, watermark }),
        })
    }

    /// The tenant's organizations, sorted by slug; at most 100.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn organizations(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Organization>> {
        let tx = read(ctx).await?;
        let mut organizations = list_organizations(&tx).await?;
        organizations.sort_by(|a, b| a.slug.cmp(&b.slug));
        Ok(organizations.into_iter().map(Organization::from).collect())
    }

    /// The tenant's teams, sorted by name; at most 100.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn teams(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Team>> {
        let teams = teams::list(read(ctx).await?.as_ref()).await?;
        Ok(teams.into_iter().map(Team::from).collect())
    }

    /// The sales quotas of people and teams, latest start date first; at most 1000. Errors: BAD_USER_INPUT (both `userId` and `teamId`), NOT_FOUND.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn quotas(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only this salesperson's quotas.")] user_id: Option<ID>,
        #[graphql(desc = "Only this team's quotas.")] team_id: Option<ID>,
    ) -> async_graphql::Result<Vec<Quota>> {
        let tx = read(ctx).await?;
        let holder = match (&user_id, &team_id) {
            (None, None) => None,
            _ => {
                let holder = Holder::parse(user_id, team_id)?;
                holder.check(&tx).await?;
                Some(holder)
            }
        };
        Ok(quotas::list(&tx, holder).await?.into_iter().map(Quota::from).collect())
    }
}

/// A company whose data is kept apart from that of all others.
#[derive(SimpleObject)]
struct Tenant {
    /// The tenant's id.
    id: ID,
    /// Its short name, by which people sign in.
    slug: String,
    /// The tenant's name.
    name: String,
    /// The state of the tenant's ledger.
    as_of: AsOf,
}

/// A shop, brand or country of a tenant, with its own currency and time zone.
#[derive(Clone, SimpleObject)]
pub struct Organization {
    /// The organization's id.
    id: ID,
    /// Its short name, unique within the tenant.
    slug: String,
    /// Its name.
    name: String,
    /// The time zone in which its days begin.
    timezone: TimeZone,
    /// The currency of its metrics.
    currency: Currency,
    /// Whether events without an organization belong to it.
    is_default: bool,
}

/// Loads organizations by their number.
pub struct OrganizationsByNumber;

impl BatchLoad for OrganizationsByNumber {
    type Key = i32;
    type Value = Organization;

    async fn load(tx: &TenantTx, _: &[i32]) -> Result<HashMap<i32, Organization>> {
        // There are few.
        let all = list_organizations(tx).await?.into_iter();
        Ok(all.map(|organization| (organization.org_no, organization.into())).collect())
    }
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

/// People who sell together.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct Team {
    /// The team's id.
    id: ID,
    /// The team's name.
    name: String,
    #[graphql(skip)]
    team_id: Uuid,
}

#[ComplexObject]
impl Team {
    /// The members, sorted by name; at most 100.
    async fn members(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        Ok(load::<MembersByTeam>(ctx, self.team_id).await?.unwrap_or_default())
    }

    /// When whose sales were the team's, past and present, by the beginning.
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<TeamMembership>> {
        Ok(load::<MembershipsByTeam>(ctx, self.team_id).await?.unwrap_or_default())
    }
}

impl From<(Uuid, String)> for Team {
    fn from((team_id, name): (Uuid, String)) -> Self {
        Team { id: team_id.into(), name, team_id }
    }
}

/// A time in which somebody's sales were a team's.
#[derive(Clone, SimpleObject)]
pub struct TeamMembership {
    /// The member.
    pub user: User,
    /// The beginning; null for always.
    pub start: Option<DateTime>,
    /// The end (exclusive); null for current members.
    pub end: Option<DateTime>,
}

/// A sales quota of a person or a team for a period.
#[derive(SimpleObject)]
pub struct Quota {
    /// The quota's id.
    id: ID,
    /// The salesperson it is for; null if it is for a team.
    user_id: Option<ID>,
    /// The team it is for; null if it is for a salesperson.
    team_id: Option<ID>,
    /// The first day.
    start: Date,
    /// The end (exclusive).
    end: Date,
    /// The amount to be sold.
    amount: Decimal,
}

impl From<quotas::Quota> for Quota {
    fn from(quota: quotas::Quota) -> Self {
        let (user_id, team_id) = quota.holder.ids();
        Quota {
            id: quota.id.into(),
            user_id: user_id.map(ID::from),
            team_id: team_id.map(ID::from),
            start: Date(quota.start()),
            end: Date(quota.end()),
            amount: Decimal(quota.amount),
        }
    }
}
