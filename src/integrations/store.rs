//! Storage of integrations, each with a row of `data_sources` that records its last delivery.

use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::{Kind, Settings};
use crate::audit::{AuditedTable, Shown};
use crate::clock::{MINUTE, Timestamp};
use crate::db::{TenantId, TenantTx, get, get_word, word, word_text};
use crate::error::{Code, Error, Result};
use crate::personal::INTEGRATION_SECRETS;
use crate::sealing::TenantKeys;
use crate::users::find_unknown;

const INTEGRATIONS_MAX: i64 = 100;
/// Resolution of the recorded time of the last delivery.
const NOTE_EVERY: i64 = MINUTE;

/// Audited columns of integrations. Secrets are omitted.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "integrations",
    key: "id",
    columns: &[
        ("kind", "kind", Shown::Text),
        ("name", "name", Shown::Text),
        ("settings", "settings", Shown::Document),
        ("enabled", "is_enabled", Shown::Flag),
    ],
    members: None,
};

/// An integration as it is stored.
#[derive(Clone)]
pub struct Integration {
    pub id: Uuid,
    pub kind: Kind,
    pub name: String,
    pub(super) settings: Settings,
    pub is_enabled: bool,
    pub created_at: Timestamp,
    pub last_delivery_at: Option<Timestamp>,
    /// Sealed; `None` once the tenant has been erased.
    secrets: Option<Vec<u8>>,
}

/// The validated content of an integration, new or changed.
pub struct IntegrationContent {
    pub name: String,
    pub(super) settings: Settings,
    pub is_enabled: bool,
}

const COLUMNS: &str = "i.id, i.kind, i.name, i.settings, i.is_enabled, i.created_at, i.secrets, d.last_sync_at";
const JOINED: &str =
    "integrations i LEFT JOIN data_sources d ON d.tenant_id = $1 AND d.integration_id = i.id WHERE i.tenant_id = $1";

/// All integrations, by name.
pub async fn list(tx: &TenantTx) -> Result<Vec<Integration>> {
    let sql = format!("SELECT {COLUMNS} FROM {JOINED} ORDER BY i.name LIMIT {INTEGRATIONS_MAX}");
    tx.query(&sql, []).await?.iter().map(integration_from).collect()
}

/// One integration.
pub async fn find(tx: &TenantTx, id: Uuid) -> Result<Option<Integration>> {
    let sql = format!("SELECT {COLUMNS} FROM {JOINED} AND i.id = $2");
    tx.query_one(&sql, [id.into()]).await?.as_ref().map(integration_from).transpose()
}

/// Error: NOT_FOUND.
pub async fn get_integration(tx: &TenantTx, id: Uuid) -> Result<Integration> {
    find(tx, id).await?.ok_or_else(|| Error::not_found("integration"))
}

/// Creates an integration. Errors: CONFLICT (name taken, too many), NOT_FOUND (organization, user).
pub async fn create(
    tx: &TenantTx,
    keys: &TenantKeys,
    kind: Kind,
    new: IntegrationContent,
    secret: &str,
    now: Timestamp,
) -> Result<Uuid> {
    tx.lock_settings().await?;
    check_names(tx, &new, None).await?;
    if tx.count("SELECT COUNT(*) FROM integrations WHERE tenant_id = $1", []).await? >= INTEGRATIONS_MAX {
        return Err(Error::new(Code::Conflict, format!("there are {INTEGRATIONS_MAX} integrations already")));
    }
    let id = Uuid::now_v7();
    let (secrets, key_version) = sealed(keys, tx, id, &[secret]).await?;
    let values: [Value; 8] = [
        id.into(),
        word(kind)?,
        new.name.clone().into(),
        serde_json::to_value(&new.settings)?.into(),
        new.is_enabled.into(),
        now.into(),
        secrets.into(),
        key_version.into(),
    ];
    let sql = "INSERT INTO integrations (tenant_id, id, kind, name, settings, is_enabled, created_at, secrets, key_version) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    tx.execute(sql, values).await?;
    let sql = "INSERT INTO data_sources (tenant_id, id, integration_id, kind, name, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let kind = word_text(kind)?.to_ascii_lowercase();
    tx.execute(sql, [Uuid::now_v7().into(), id.into(), kind.into(), new.name.into(), now.into()]).await?;
    Ok(id)
}

/// A change of the valid secrets.
pub struct SecretChange {
    /// The new secret.
    pub new: Option<String>,
    /// Whether older secrets become invalid.
    pub ends_old: bool,
}

/// Updates an integration. Errors: NOT_FOUND, CONFLICT.
pub async fn update(
    tx: &TenantTx,
    keys: &TenantKeys,
    id: Uuid,
    new: IntegrationContent,
    secrets: SecretChange,
) -> Result<()> {
    tx.lock_settings().await?;
    // First, because it locks the head: whoever quarantines or reseals locks the head before these rows.
    let resealed = reseal(tx, keys, id, secrets).await?;
    check_names(tx, &new, Some(id)).await?;
    let values =
        [id.into(), new.name.clone().into(), serde_json::to_value(&new.settings)?.into(), new.is_enabled.into()];
    let sql = "UPDATE integrations SET name = $3, settings = $4, is_enabled = $5 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, values).await?;
    tx.execute(
        "UPDATE data_sources SET name = $3 WHERE tenant_id = $1 AND integration_id = $2",
        [id.into(), new.name.into()],
    )
    .await?;
    if let Some((secrets, key_version)) = resealed {
        let sql = "UPDATE integrations SET secrets = $3, key_version = $4 WHERE tenant_id = $1 AND id = $2";
        tx.execute(sql, [id.into(), secrets.into(), key_version.into()]).await?;
    }
    Ok(())
}

/// The secrets after a change, sealed, with the key's version; `None` if they stay as they are.
async fn reseal(
    tx: &TenantTx,
    keys: &TenantKeys,
    id: Uuid,
    SecretChange { new, ends_old }: SecretChange,
) -> Result<Option<(Vec<u8>, i64)>> {
    if new.is_none() && !ends_old {
        return Ok(None);
    }
    let known = open_secrets(&get_integration(tx, id).await?, keys, tx.tenant())?;
    let mut good: Vec<&str> = Vec::with_capacity(2);
    for secret in new.iter().chain(&known) {
        if !good.contains(&secret.as_str()) {
            good.push(secret);
        }
    }
    good.truncate(if ends_old { 1 } else { 2 });
    sealed(keys, tx, id, &good).await.map(Some)
}

/// Removes an integration and its quarantine; recorded events stay. Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid) -> Result<()> {
    // Locked before its source, as by a delivery that is being quarantined.
    let sql = format!("SELECT 1 FROM integrations WHERE tenant_id = $1 AND id = $2 {}", tx.for_update());
    tx.query_one(&sql, [id.into()]).await?;
    tx.execute("DELETE FROM data_sources WHERE tenant_id = $1 AND integration_id = $2", [id.into()]).await?;
    match tx.execute("DELETE FROM integrations WHERE tenant_id = $1 AND id = $2", [id.into()]).await? {
        0 => Err(Error::not_found("integration")),
        _ => Ok(()),
    }
}

/// The valid secrets, newest first. Error: DECRYPTION_FAILED.
pub fn open_secrets(integration: &Integration, keys: &TenantKeys, tenant: TenantId) -> Result<Vec<String>> {
    let Some(sealed) = &integration.secrets else { return Ok(Vec::new()) };
    let text = INTEGRATION_SECRETS.open(keys, tenant, integration.id, sealed)?;
    Ok(serde_json::from_str(&text)?)
}

/// Records that something was delivered, about once a minute.
pub async fn note_delivery(tx: &TenantTx, integration: &Integration, now: Timestamp) -> Result<()> {
    let sql = "UPDATE data_sources SET last_sync_at = $3 WHERE tenant_id = $1 AND integration_id = $2 \
               AND (last_sync_at IS NULL OR last_sync_at < $3)";
    tx.execute(sql, [integration.id.into(), now.into()]).await?;
    Ok(())
}

impl Integration {
    /// Whether the time of the last delivery is due to be updated.
    pub fn is_to_note(&self, now: Timestamp) -> bool {
        self.last_delivery_at.is_none_or(|at| now.0 - at.0 >= NOTE_EVERY)
    }
}

async fn sealed(keys: &TenantKeys, tx: &TenantTx, id: Uuid, secrets: &[&str]) -> Result<(Vec<u8>, i64)> {
    INTEGRATION_SECRETS.seal(keys, tx, id, &serde_json::to_string(secrets)?).await
}

/// Checks that the users exist, and that the name is free.
async fn check_names(tx: &TenantTx, new: &IntegrationContent, id: Option<Uuid>) -> Result<()> {
    let sql = "SELECT 1 FROM data_sources WHERE tenant_id = $1 AND name = $2 AND (integration_id IS NULL OR integration_id <> $3)";
    let own = id.unwrap_or_default();
    if tx.query_one(sql, [new.name.clone().into(), own.into()]).await?.is_some() {
        return Err(Error::new(Code::Conflict, "there is already a data source with that name"));
    }
    let owners: Vec<Uuid> = new.settings.owners.iter().map(|owner| owner.user_id).collect();
    match find_unknown(tx, &owners).await? {
        Some(index) => Err(Error::not_found("user").about("userId").of_element("owners", index)),
        None => Ok(()),
    }
}

fn integration_from(row: &QueryResult) -> Result<Integration> {
    Ok(Integration {
        id: get(row, 0)?,
        kind: get_word(row, 1)?,
        name: get(row, 2)?,
        settings: serde_json::from_value(get(row, 3)?)?,
        is_enabled: get(row, 4)?,
        created_at: get(row, 5)?,
        secrets: get(row, 6)?,
        last_delivery_at: get(row, 7)?,
    })
}
