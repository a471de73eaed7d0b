//! Mutations of organizations, teams and quotas.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object};
use serde_json::json;
use uuid::Uuid;

use super::graphql::{Organization, Quota, Team};
use super::organizations::{self, OrganizationContent};
use super::quotas::{self, Holder};
use super::teams::{self, TeamContent};
use crate::audit::{Entry, change};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, app, parse_id};
use crate::graphql::given::given;
use crate::graphql::scalars::{Currency, Date, DateTime, Decimal, TimeZone};
use crate::ledger::organization::{self as ledger, list_organizations};

#[derive(Default)]
pub struct PeopleMutation;

#[Object]
impl PeopleMutation {
    /// Creates an organization. Needs USERS_MANAGE. Error: CONFLICT (slug taken).
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization.")] input: OrganizationInput,
    ) -> async_graphql::Result<Organization> {
        let new = input.check()?;
        let change = change(ctx).await?;
        let organization = organizations::create(&change, new, app(ctx)?.clock.now()).await?;
        let after = change.see(&organizations::LOGGED, organization.id).await?;
        change.commit(Entry::of("organization.create", organization.id).after(after)).await?;
        Ok(organization.into())
    }

    /// Changes an organization; what `input` leaves out stays as it is. Its time zone and currency can no longer change once events have been recorded. Needs USERS_MANAGE. Errors: NOT_FOUND, CONFLICT.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn update_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization's id.")] id: ID,
        #[graphql(desc = "What changes.")] input: OrganizationChanges,
    ) -> async_graphql::Result<Organization> {
        let id = parse_id(&id, "organization")?;
        let change = change(ctx).await?;
        let before = change.see(&organizations::LOGGED, id).await?;
        let known = list_organizations(&change).await?.into_iter().find(|organization| organization.id == id);
        let new = input.apply(known.ok_or_else(|| Error::not_found("organization"))?)?;
        let organization = organizations::update(&change, id, new).await?;
        let after = change.see(&organizations::LOGGED, id).await?;
        change.commit_if_changed(Entry::of("organization.update", id).before(before).after(after)).await?;
        Ok(organization.into())
    }

    /// Creates a team. Needs USERS_MANAGE. Errors: NOT_FOUND (a member), CONFLICT (name taken).
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn create_team(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The team.")] input: TeamInput,
    ) -> async_graphql::Result<Team> {
        let now = app(ctx)?.clock.now();
        let new = input.check(now)?;
        let change = change(ctx).await?;
        let team = teams::create(&change, new, now).await?;
        let after = change.see(&teams::LOGGED, team.0).await?;
        change.commit(Entry::of("team.create", team.0).after(after)).await?;
        Ok(team.into())
    }

    /// Renames a team or replaces its members; what `input` leaves out stays as it is, and past sales of those who leave stay the team's. Needs USERS_MANAGE. Errors: NOT_FOUND, CONFLICT.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn update_team(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The team's id.")] id: ID,
        #[graphql(desc = "What changes.")] input: TeamChanges,
    ) -> async_graphql::Result<Team> {
        let id = parse_id(&id, "team")?;
        let now = app(ctx)?.clock.now();
        let change = change(ctx).await?;
        let before = change.see(&teams::LOGGED, id).await?;
        let new = input.apply(teams::get_team_name(&change, id).await?, now)?;
        let team = teams::update(&change, id, new, now).await?;
        let after = change.see(&teams::LOGGED, id).await?;
        change.commit_if_changed(Entry::of("team.update", id).before(before).after(after)).await?;
        Ok(team.into())
    }

    /// Deletes a team with its quotas, and returns its id. Needs USERS_MANAGE. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn delete_team(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The team's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let team_id = parse_id(&id, "team")?;
        let change = change(ctx).await?;
        let before = change.see(&teams::LOGGED, team_id).await?;
        // They go with it.
        for quota in quotas::list_overlapping(&change, Holder::Team(team_id), i32::MIN, i32::MAX).await? {
            change.log(Entry::of("quota.delete", quota.id).before(told(&quota))).await?;
        }
        teams::delete(&change, team_id).await?;
        change.commit(Entry::of("team.delete", team_id).before(before)).await?;
        Ok(id)
    }

    /// Sets the sales quota of a person or a team for a period, replacing their quota for the same period if there is one. Needs USERS_MANAGE. Error: NOT_FOUND (user, team).
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn set_quota(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The quota.")] input: QuotaInput,
    ) -> async_graphql::Result<Quota> {
        let holder = Holder::parse(input.user_id, input.team_id)?;
        let change = change(ctx).await?;
        let (before, quota) = quotas::set(&change, holder, input.start.0, input.end.0, input.amount.0).await?;
        let before = before.map(|amount| told(&quotas::Quota { amount, ..quota }));
        change.commit_if_changed(Entry::of("quota.set", quota.id).before(before).after(told(&quota))).await?;
        Ok(quota.into())
    }

    /// Deletes a quota and returns its id. Needs USERS_MANAGE. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::UsersManage)")]
    async fn delete_quota(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The quota's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let quota_id = parse_id(&id, "quota")?;
        let change = change(ctx).await?;
        let before = quotas::delete(&change, quota_id).await?;
        change.commit(Entry::of("quota.delete", quota_id).before(Some(told(&before)))).await?;
        Ok(id)
    }
}

/// A quota, for the log.
fn told(quota: &quotas::Quota) -> serde_json::Value {
    let (user_id, team_id) = quota.holder.ids();
    let (start, end) = (quota.start().to_string(), quota.end().to_string());
    json!({ "userId": user_id, "teamId": team_id, "start": start, "end": end, "amount": quota.amount.to_string() })
}

/// The settings of a new organization.
#[derive(InputObject)]
struct OrganizationInput {
    /// Its short name, unique in the tenant: lower-case letters, digits and hyphens, at most 60.
    slug: String,
    /// Its name, 1 to 200 characters.
    name: String,
    /// The time zone in which its days begin.
    timezone: TimeZone,
    /// The currency of its metrics.
    currency: Currency,
}

impl OrganizationInput {
    /// Error: BAD_USER_INPUT.
    fn check(self) -> Result<OrganizationContent> {
        OrganizationContent::new(self.slug, &self.name, self.timezone.0, self.currency.0)
    }
}

/// Changes of an organization. What is omitted stays as it is.
#[derive(InputObject)]
struct OrganizationChanges {
    /// Its short name, unique in the tenant: lower-case letters, digits and hyphens, at most 60.
    slug: MaybeUndefined<String>,
    /// Its name, 1 to 200 characters.
    name: MaybeUndefined<String>,
    /// The time zone in which its days begin.
    timezone: MaybeUndefined<TimeZone>,
    /// The currency of its metrics.
    currency: MaybeUndefined<Currency>,
}

impl OrganizationChanges {
    /// Error: BAD_USER_INPUT.
    fn apply(self, old: ledger::Organization) -> Result<OrganizationContent> {
        let slug = given("slug", self.slug)?.unwrap_or(old.slug);
        let name = given("name", self.name)?.unwrap_or(old.name);
        let timezone = given("timezone", self.timezone)?.map_or(old.timezone, |timezone| timezone.0);
        let currency = given("currency", self.currency)?.map_or(old.currency, |currency| currency.0);
        OrganizationContent::new(slug, &name, timezone, currency)
    }
}

/// The settings of a new team.
#[derive(InputObject)]
struct TeamInput {
    /// The team's name, unique in the tenant, 1 to 200 characters.
    name: String,
    /// The users in it, at most 100; omit for nobody.
    member_ids: Option<Vec<ID>>,
    /// From when on the sales of its members count as the team's. Not in the future. Omit for always.
    members_from: Option<DateTime>,
}

impl TeamInput {
    /// Errors: BAD_USER_INPUT, NOT_FOUND.
    fn check(self, now: Timestamp) -> Result<TeamContent> {
        TeamContent::new(&self.name, members(self.member_ids)?, self.members_from.map(|from| from.0), now)
    }
}

/// Changes of a team. What is omitted stays as it is.
#[derive(InputObject)]
struct TeamChanges {
    /// The team's name, unique in the tenant, 1 to 200 characters.
    name: MaybeUndefined<String>,
    /// The users in it, at most 100.
    member_ids: MaybeUndefined<Vec<ID>>,
    /// From when on `memberIds` are the members, whatever was said before of the time after it; the sales of each count as the team's from then on. Not in the future. Omit for now.
    members_from: MaybeUndefined<DateTime>,
}

impl TeamChanges {
    /// Errors: BAD_USER_INPUT, NOT_FOUND.
    fn apply(self, old: String, now: Timestamp) -> Result<TeamContent> {
        let name = given("name", self.name)?.unwrap_or(old);
        let member_ids = members(given("memberIds", self.member_ids)?)?;
        TeamContent::new(&name, member_ids, given("membersFrom", self.members_from)?.map(|from| from.0), now)
    }
}

fn members(ids: Option<Vec<ID>>) -> Result<Option<Vec<Uuid>>> {
    let member = |(index, id): (usize, &ID)| parse_id(id, "user").map_err(|error| error.of_element("memberIds", index));
    ids.map(|ids| ids.iter().enumerate().map(member).collect()).transpose()
}

/// A sales quota. Give exactly one of `userId` and `teamId`.
#[derive(InputObject)]
struct QuotaInput {
    /// The salesperson.
    user_id: Option<ID>,
    /// The team.
    team_id: Option<ID>,
    /// The first day, in the default organization's time zone.
    start: Date,
    /// The end (exclusive).
    end: Date,
    /// The amount to be sold, in the default organization's currency; positive.
    amount: Decimal,
}
