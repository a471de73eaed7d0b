//! `integrations`, `quarantine` and their types.

use std::collections::BTreeSet;

use async_graphql::{ComplexObject, Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use uuid::Uuid;

use super::quarantine::{self, Quarantined};
use super::store::{self, Integration, IntegrationContent};
use super::{Kind, Owner, Settings, http};
use crate::auth::Permission;
use crate::connection;
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, app, caller, filter_id, parse_id, read};
use crate::graphql::given::given;
use crate::graphql::page::Page;
use crate::graphql::scalars::DateTime;
use crate::graphql::text;
use crate::ledger::organization::{Organization, find_organization};

const NAME_CHARS_MAX: usize = 100;
const CHANNEL_CHARS_MAX: usize = 200;
const OWNERS_MAX: usize = 1_000;
const OWNER_CHARS_MAX: usize = 100;

#[derive(Default)]
pub struct IntegrationQuery;

#[Object]
impl IntegrationQuery {
    /// Shops and CRMs that send their events by webhook, sorted by name; at most 100. Needs INTEGRATIONS_MANAGE.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn integrations(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<IntegrationNode>>> {
        Ok(Some(store::list(read(ctx).await?.as_ref()).await?.into_iter().map(IntegrationNode::from).collect()))
    }

    /// Authenticated webhook deliveries that were not understood or were refused, newest first. Needs INTEGRATIONS_MANAGE.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn quarantine(
        &self,
        ctx: &Context<'_>,
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
        #[graphql(desc = "Only deliveries from this integration.")] integration_id: Option<ID>,
    ) -> async_graphql::Result<Option<QuarantinedDeliveryConnection>> {
        let page = Page::new(first, after, last, before)?;
        let integration = integration_id.as_ref().map(filter_id);
        let listed = quarantine::list(read(ctx).await?.as_ref(), &page, integration).await?;
        Ok(Some(QuarantinedDeliveryConnection::new(&page, listed.map(QuarantinedDelivery::from))))
    }
}

/// The settings of a new integration.
#[derive(InputObject)]
pub struct IntegrationInput {
    /// Its name, 1 to 100 characters; no other data source may have the same.
    name: String,
    /// The organization its events belong to, by id or slug; omit for the default organization.
    organization_id: Option<ID>,
    /// The sales channel of all its orders; omit for what the shop says.
    channel: Option<String>,
    /// Whether the shop's test orders count.
    #[graphql(default_with = "Some(false)")]
    counts_tests: Option<bool>,
    /// For CRMs: all of their people, and the users they are here. Deals closed by others go to the quarantine.
    #[graphql(default_with = "Some(Vec::new())")]
    owners: Option<Vec<IntegrationOwnerInput>>,
    /// Whether its deliveries are accepted. While they are not, senders are told to retry later.
    #[graphql(default_with = "Some(true)")]
    enabled: Option<bool>,
}

/// Changes of an integration. What is omitted stays as it is.
#[derive(InputObject)]
pub struct IntegrationChanges {
    /// Its name, 1 to 100 characters; no other data source may have the same.
    name: MaybeUndefined<String>,
    /// The organization its events belong to, by id or slug; null for the default organization.
    organization_id: MaybeUndefined<ID>,
    /// The sales channel of all its orders; null for what the shop says.
    channel: MaybeUndefined<String>,
    /// Whether the shop's test orders count.
    counts_tests: MaybeUndefined<bool>,
    /// For CRMs: all of their people, and the users they are here. Deals closed by others go to the quarantine.
    owners: MaybeUndefined<Vec<IntegrationOwnerInput>>,
    /// Whether its deliveries are accepted. While they are not, senders are told to retry later.
    enabled: MaybeUndefined<bool>,
}

/// Which user a person in the CRM is.
#[derive(InputObject)]
pub struct IntegrationOwnerInput {
    /// The person's id in the CRM.
    external_id: ID,
    /// The user.
    user_id: ID,
}

impl IntegrationInput {
    /// Errors: BAD_USER_INPUT, NOT_FOUND (organization, user).
    pub fn check(self, organizations: &[Organization]) -> Result<IntegrationContent> {
        Ok(IntegrationContent {
            name: text::name("name", &self.name, NAME_CHARS_MAX)?,
            is_enabled: self.enabled.unwrap_or(true),
            settings: Settings {
                organization: self.organization_id.map(|id| id_of(&id, organizations)).transpose()?,
                channel: self.channel.map(|channel| text::name("channel", &channel, CHANNEL_CHARS_MAX)).transpose()?,
                counts_tests: self.counts_tests.unwrap_or_default(),
                owners: check_owners(self.owners.unwrap_or_default())?,
            },
        })
    }
}

impl IntegrationChanges {
    /// Errors: BAD_USER_INPUT, NOT_FOUND (organization, user).
    pub fn apply(self, old: &Integration, organizations: &[Organization]) -> Result<IntegrationContent> {
        let Settings { organization, channel, counts_tests, owners } = old.settings.clone();
        let name = given("name", self.name)?.map(|name| text::name("name", &name, NAME_CHARS_MAX)).transpose()?;
        Ok(IntegrationContent {
            name: name.unwrap_or_else(|| old.name.clone()),
            is_enabled: given("enabled", self.enabled)?.unwrap_or(old.is_enabled),
            settings: Settings {
                organization: match self.organization_id {
                    MaybeUndefined::Undefined => organization,
                    MaybeUndefined::Null => None,
                    MaybeUndefined::Value(id) => Some(id_of(&id, organizations)?),
                },
                channel: match self.channel {
                    MaybeUndefined::Undefined => channel,
                    MaybeUndefined::Null => None,
                    MaybeUndefined::Value(channel) => Some(text::name("channel", &channel, CHANNEL_CHARS_MAX)?),
                },
                counts_tests: given("countsTests", self.counts_tests)?.unwrap_or(counts_tests),
                owners: given("owners", self.owners)?.map(check_owners).transpose()?.unwrap_or(owners),
            },
        })
    }
}

/// The id of the organization with this id or slug.
fn id_of(name: &ID, organizations: &[Organization]) -> Result<Uuid> {
    let organization = find_organization(organizations, Some(name));
    organization.map(|found| found.id).ok_or_else(|| Error::not_found("organization").about("organizationId"))
}

fn check_owners(owners: Vec<IntegrationOwnerInput>) -> Result<Vec<Owner>> {
    if owners.len() > OWNERS_MAX {
        return Err(Error::bad_input("owners", format!("more than {OWNERS_MAX}")));
    }
    let owner = |owner: IntegrationOwnerInput| {
        let external_id = text::name("externalId", &owner.external_id, OWNER_CHARS_MAX)?;
        let user_id = parse_id(&owner.user_id, "user").map_err(|error| error.about("userId"))?;
        Ok::<_, Error>(Owner { external_id, user_id })
    };
    let of_list = |(index, one)| owner(one).map_err(|error| error.of_element("owners", index));
    let owners = owners.into_iter().enumerate().map(of_list).collect::<Result<Vec<Owner>>>()?;
    let mut known = BTreeSet::new();
    match owners.iter().position(|owner| !known.insert(&owner.external_id)) {
        Some(index) => {
            let error = Error::bad_input("externalId", "is given twice; each person is one user");
            Err(error.of_element("owners", index))
        }
        None => Ok(owners),
    }
}

/// A shop or CRM that sends its events by webhook.
#[derive(SimpleObject)]
#[graphql(complex, name = "Integration")]
pub struct IntegrationNode {
    /// The integration's id.
    id: ID,
    /// The kind of shop or CRM.
    kind: Kind,
    /// Its name.
    name: String,
    /// The organization its events belong to; null means the default one.
    organization_id: Option<ID>,
    /// The sales channel of all its orders; null means as the shop says.
    channel: Option<String>,
    /// Whether the shop's test orders count.
    counts_tests: bool,
    /// The people in the CRM, and the users they are here.
    owners: Vec<IntegrationOwner>,
    /// Whether its deliveries are accepted.
    enabled: bool,
    /// When it was created.
    created_at: DateTime,
    /// When it last sent something, to the minute; null if never.
    last_delivery_at: Option<DateTime>,
    #[graphql(skip)]
    uuid: Uuid,
}

/// Which user a person in the CRM is.
#[derive(SimpleObject)]
pub struct IntegrationOwner {
    /// The person's id in the CRM.
    external_id: ID,
    /// The user's id.
    user_id: ID,
}

#[ComplexObject]
impl IntegrationNode {
    /// The URL that the shop or CRM must send to, by POST.
    async fn url(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        Ok(format!("{}{}", app(ctx)?.public_url, http::path_of(caller(ctx)?.tenant, self.uuid)))
    }
}

impl From<Integration> for IntegrationNode {
    fn from(integration: Integration) -> Self {
        let Settings { organization, channel, counts_tests, owners } = integration.settings;
        let owner =
            |owner: Owner| IntegrationOwner { external_id: owner.external_id.into(), user_id: owner.user_id.into() };
        IntegrationNode {
            id: integration.id.into(),
            kind: integration.kind,
            name: integration.name,
            organization_id: organization.map(ID::from),
            channel,
            counts_tests,
            owners: owners.into_iter().map(owner).collect(),
            enabled: integration.is_enabled,
            created_at: DateTime(integration.created_at),
            last_delivery_at: integration.last_delivery_at.map(DateTime),
            uuid: integration.id,
        }
    }
}

/// A webhook delivery that was not processed, or only in part: if it had several events, all but the refused ones are in the ledger. It is kept for 90 days.
#[derive(Clone, SimpleObject)]
pub struct QuarantinedDelivery {
    /// Its id in this API.
    id: ID,
    /// The integration that sent it.
    integration_id: ID,
    /// The sender's id of the delivery, or a hash of it.
    delivery_id: String,
    /// Its topic, as given by the sender.
    topic: String,
    /// Why it was not processed, as a stable code: UNCLEAR, or the code of an event that the ledger refused.
    code: String,
    /// Why it was not processed, in plain words. Of several events of STANDARD it names the first one refused by its place, such as `events.2`.
    reason: String,
    /// When it was first received.
    received_at: DateTime,
}

impl From<Quarantined> for QuarantinedDelivery {
    fn from(kept: Quarantined) -> Self {
        QuarantinedDelivery {
            id: kept.id.into(),
            integration_id: kept.integration_id.into(),
            delivery_id: kept.delivery_id,
            topic: kept.topic,
            code: kept.why.code,
            reason: kept.why.reason,
            received_at: DateTime(kept.received_at),
        }
    }
}

connection!(QuarantinedDeliveryConnection, QuarantinedDeliveryEdge, QuarantinedDelivery, "quarantined deliveries");
