//! `dataKeys`, `rotateKeys`, `eraseCustomer`, `exportCustomer`.

use async_graphql::{Context, ID, Json, Object, SimpleObject};
use serde_json::Value;

use super::erasure::{erase_customer, erased};
use super::export::export;
use super::rotation::{self, Version};
use crate::audit::{self, Entry};
use crate::auth::Permission;
use crate::customers::{Customer, get_customer};
use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::context::{Requires, app, caller, read};
use crate::graphql::scalars::{Count, DateTime};
use crate::integrations::quarantine::find_of_customer;
use crate::ledger::node_id::Numbered;

#[derive(Default)]
pub struct PrivacyQuery;

#[Object]
impl PrivacyQuery {
    /// The keys that encrypt customers' personal data, and the progress of their rotation. Needs PERSONAL_MANAGE.
    #[graphql(guard = "Requires(Permission::PersonalManage)")]
    async fn data_keys(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<DataKeys>> {
        Ok(Some(DataKeys::read(read(ctx).await?.as_ref()).await?))
    }
}

#[derive(Default)]
pub struct PrivacyMutation;

#[Object]
impl PrivacyMutation {
    /// Creates a new data key, which encrypts from now on. What older keys have encrypted is re-encrypted as events come in, and a key that is no longer needed is destroyed, after ten minutes at the earliest; `dataKeys` shows the progress. Needs PERSONAL_MANAGE. Errors: CONFLICT (another rotation is starting at the same time, or the tenant was erased), SERVICE_UNAVAILABLE (the key-encryption key cannot be reached).
    #[graphql(guard = "Requires(Permission::PersonalManage)")]
    async fn rotate_keys(&self, ctx: &Context<'_>) -> async_graphql::Result<DataKeys> {
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        let new = rotation::make_key(app, tenant).await?;
        let change = audit::change(ctx).await?;
        rotation::take_over(&change, &new, app.clock.now()).await?;
        change.commit(Entry::of("data-key.rotate", new.version)).await?;
        app.keys.forget(tenant);
        Ok(DataKeys::read(read(ctx).await?.as_ref()).await?)
    }

    /// Erases what identifies a customer: name, e-mail address, phone number, postal address, and the source's id. Orders and all metrics stay. Later events with the same source id still count for this customer, but nothing else about the customer is taken from them. This cannot be undone; repeating it changes nothing. Needs PERSONAL_MANAGE. Errors: NOT_FOUND, CONFLICT (the tenant was erased), SERVICE_UNAVAILABLE.
    #[graphql(guard = "Requires(Permission::PersonalManage)")]
    async fn erase_customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] customer_id: ID,
    ) -> async_graphql::Result<Customer> {
        let customer_no = Numbered::Customer.parse(&customer_id)?;
        let (app, tenant) = (app(ctx)?, caller(ctx)?.tenant);
        let keys = app.keys.get(tenant).await?.ok_or_else(erased)?;
        let found = {
            let tx = app.db.read(tenant).await?;
            find_of_customer(&tx, &app.keys, &get_customer(&tx, customer_no).await?.external_id).await?
        };
        let change = audit::change(ctx).await?;
        if erase_customer(&change, (&app.keys, &keys), customer_no, &found, app.clock.now()).await? {
            change.commit(Entry::of("customer.erase", customer_id.as_str())).await?;
        }
        Ok(get_customer(read(ctx).await?.as_ref(), customer_no).await?)
    }

    /// Everything held about one customer, as a JSON object: the profile, orders with lines and refunds, predictions, quarantined deliveries, and audit log entries. The export itself is recorded in the audit log. Needs PERSONAL_MANAGE. Errors: NOT_FOUND, DECRYPTION_FAILED, SERVICE_UNAVAILABLE.
    #[graphql(guard = "Requires(Permission::PersonalManage)")]
    async fn export_customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's id.")] customer_id: ID,
    ) -> async_graphql::Result<Json<Value>> {
        let customer_no = Numbered::Customer.parse(&customer_id)?;
        let exported = export(read(ctx).await?.as_ref(), &app(ctx)?.keys, customer_no).await?;
        // Audited before it is returned.
        audit::change(ctx).await?.commit(Entry::of("customer.export", customer_id.as_str())).await?;
        Ok(Json(exported))
    }
}

/// The keys that encrypt the tenant's personal data.
#[derive(SimpleObject)]
struct DataKeys {
    /// Encrypted rows (of customers, integrations and quarantined deliveries) that have yet to be re-encrypted; 0 if no rotation is under way.
    rows_left: Count,
    /// The keys, newest first; none before the first customer was recorded, and none after the tenant was erased.
    keys: Vec<DataKey>,
}

/// One data key.
#[derive(SimpleObject)]
struct DataKey {
    /// Its version. The newest key encrypts, the others only decrypt.
    version: Count,
    /// When it was created.
    created_at: DateTime,
    /// Since when it only decrypts; null for the one that encrypts.
    retired_at: Option<DateTime>,
    /// Encrypted rows with data encrypted by this key and none encrypted by an older one.
    rows: Count,
}

impl DataKeys {
    async fn read(tx: &TenantTx) -> Result<Self> {
        let versions = rotation::list_versions(tx).await?;
        let rows_left =
            versions.iter().filter(|version| version.retired_at.is_some()).map(|version| version.rows).sum();
        Ok(DataKeys { rows_left: count(rows_left), keys: versions.into_iter().map(DataKey::from).collect() })
    }
}

impl From<Version> for DataKey {
    fn from(version: Version) -> Self {
        DataKey {
            version: Count(version.version.into()),
            created_at: DateTime(version.created_at),
            retired_at: version.retired_at.map(DateTime),
            rows: count(version.rows),
        }
    }
}

fn count(rows: u64) -> Count {
    Count(i64::try_from(rows).unwrap_or(i64::MAX))
}
