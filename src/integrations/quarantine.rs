//! Authenticated deliveries that could not be processed: kept, sealed, until somebody retries or dismisses them.

use sea_orm::{QueryResult, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::personal::QUARANTINED_BODIES;
use crate::sealing::{TenantKeys, fingerprint};

/// Per integration. Beyond that, the sender has to retry later.
const DELIVERIES_MAX: i64 = 10_000;

/// Audited columns of quarantined deliveries.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "quarantine",
    key: "id",
    columns: &[
        ("topic", "topic", Shown::Text),
        ("code", "code", Shown::Text),
        ("receivedAt", "received_at", Shown::Time),
        ("triedAt", "tried_at", Shown::Time),
    ],
    members: None,
};

/// A delivery in quarantine.
pub struct Quarantined {
    pub id: Uuid,
    pub integration_id: Uuid,
    pub delivery_id: String,
    pub topic: String,
    pub why: Why,
    pub happened_at: Timestamp,
    pub received_at: Timestamp,
    body: Vec<u8>,
}

/// Why it was quarantined.
#[derive(Clone, Debug)]
pub struct Why {
    pub code: String,
    pub reason: String,
}

/// The delivery to keep.
pub struct Kept<'a> {
    pub integration_id: Uuid,
    pub delivery_id: &'a str,
    pub topic: &'a str,
    pub happened_at: Timestamp,
    pub body: &'a str,
}

/// Keeps a delivery, once; a no-op if the integration has just been removed. Error: SERVICE_UNAVAILABLE at the limit.
pub async fn keep(tx: &TenantTx, keys: &TenantKeys, kept: &Kept<'_>, why: &Why, now: Timestamp) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM quarantine WHERE tenant_id = $1 AND integration_id = $2";
    if tx.count(sql, [kept.integration_id.into()]).await? >= DELIVERIES_MAX {
        return Err(Error::new(Code::ServiceUnavailable, "too many deliveries are waiting in quarantine"));
    }
    let id = Uuid::now_v7();
    let (body, key_version) = QUARANTINED_BODIES.seal(keys, tx, id, kept.body).await?;
    let print = print_of(keys, kept);
    let values: [Value; 11] = [
        id.into(),
        kept.integration_id.into(),
        kept.delivery_id.into(),
        kept.topic.into(),
        why.code.clone().into(),
        why.reason.clone().into(),
        body.into(),
        key_version.into(),
        kept.happened_at.into(),
        now.into(),
        print.into(),
    ];
    let sql = "INSERT INTO quarantine (tenant_id, id, integration_id, delivery_id, topic, code, reason, body, key_version, \
               happened_at, received_at, fingerprint) \
               SELECT $1, $2, i.id, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM integrations i \
               WHERE i.tenant_id = $1 AND i.id = $3 ON CONFLICT DO NOTHING";
    tx.execute(sql, values).await?;
    Ok(())
}

/// The quarantined copy of this delivery, with the same body.
pub async fn find_same(tx: &TenantTx, keys: &TenantKeys, kept: &Kept<'_>) -> Result<Option<Uuid>> {
    let sql = "SELECT id FROM quarantine WHERE tenant_id = $1 AND integration_id = $2 AND delivery_id = $3 AND fingerprint = $4";
    let values: [Value; 3] = [kept.integration_id.into(), kept.delivery_id.into(), print_of(keys, kept).into()];
    tx.query_one(sql, values).await?.map(|row| get(&row, 0)).transpose()
}

/// A fingerprint that distinguishes the bodies of one delivery.
fn print_of(keys: &TenantKeys, kept: &Kept<'_>) -> Vec<u8> {
    fingerprint(&keys.index, "quarantine.body", kept.body.as_bytes()).to_vec()
}

const COLUMNS: &str = "id, integration_id, delivery_id, topic, code, reason, happened_at, received_at, body";

/// A page of the deliveries of one integration or of all, newest first.
pub async fn list(tx: &TenantTx, page: &Page, integration: Option<Uuid>) -> Result<Listed<Quarantined>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "quarantine", keys: &[SortKey::descending("id", KeyKind::Uuid)] };
    let of_one = if integration.is_some() { " AND integration_id = $2" } else { "" };
    let from = format!("quarantine WHERE tenant_id = $1{of_one}");
    let matching = Matching { from, values: integration.into_iter().map(Value::from).collect() };
    let item = |row: &QueryResult| {
        let kept = quarantined_from(row)?;
        Ok((vec![kept.id.to_string()], kept))
    };
    matching.page(tx, page, &ORDER, COLUMNS, item).await
}

/// Error: NOT_FOUND.
pub async fn get_quarantined(tx: &TenantTx, id: Uuid) -> Result<Quarantined> {
    let sql = format!("SELECT {COLUMNS} FROM quarantine WHERE tenant_id = $1 AND id = $2");
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("delivery in quarantine"))?;
    quarantined_from(&row)
}

/// Records why and when another attempt failed.
pub async fn note(tx: &TenantTx, id: Uuid, why: &Why, now: Timestamp) -> Result<()> {
    let sql = "UPDATE quarantine SET code = $3, reason = $4, tried_at = $5 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, [id.into(), why.code.clone().into(), why.reason.clone().into(), now.into()]).await?;
    Ok(())
}

/// Error: NOT_FOUND.
pub async fn remove(tx: &TenantTx, id: Uuid) -> Result<()> {
    match remove_if_there(tx, id).await? {
        0 => Err(Error::not_found("delivery in quarantine")),
        _ => Ok(()),
    }
}

/// Returns the number removed.
pub async fn remove_if_there(tx: &TenantTx, id: Uuid) -> Result<u64> {
    tx.execute("DELETE FROM quarantine WHERE tenant_id = $1 AND id = $2", [id.into()]).await
}

/// Quarantined deliveries that name a customer by `id`, with their bodies.
pub async fn list_of_customer(tx: &TenantTx, keys: &TenantKeys, id: &str) -> Result<Vec<(Quarantined, Json)>> {
    let sql = format!("SELECT {COLUMNS} FROM quarantine WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT 50");
    let (mut found, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let rows = tx.query(&sql, [after.into()]).await?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = get(last, 0)?;
        for row in &rows {
            let kept = quarantined_from(row)?;
            let body: Option<Json> = serde_json::from_str(&kept.open(keys, tx)?).ok();
            found.extend(body.filter(|body| names_customer(body, id, false)).map(|body| (kept, body)));
        }
    }
}

/// Removes quarantined deliveries that name a customer by `id`.
pub async fn remove_all_of(tx: &TenantTx, keys: &TenantKeys, id: &str) -> Result<()> {
    for (kept, _) in list_of_customer(tx, keys, id).await? {
        remove(tx, kept.id).await?;
    }
    Ok(())
}

/// Whether a value within the JSON is `id`, as a string or a number, in a context about a customer.
fn names_customer(body: &Json, id: &str, is_customers: bool) -> bool {
    match body {
        Json::String(text) => is_customers && text == id,
        Json::Number(number) => is_customers && number.to_string() == id,
        Json::Array(items) => items.iter().any(|item| names_customer(item, id, is_customers)),
        Json::Object(members) => members.iter().any(|(name, member)| {
            let name = name.to_lowercase();
            let is_customers = is_customers || name.contains("customer") || name.contains("person");
            names_customer(member, id, is_customers)
        }),
        Json::Null | Json::Bool(_) => false,
    }
}

impl Quarantined {
    /// The body. Error: DECRYPTION_FAILED.
    pub fn open(&self, keys: &TenantKeys, tx: &TenantTx) -> Result<String> {
        QUARANTINED_BODIES.open(keys, tx.tenant(), self.id, &self.body)
    }
}

fn quarantined_from(row: &QueryResult) -> Result<Quarantined> {
    Ok(Quarantined {
        id: get(row, 0)?,
        integration_id: get(row, 1)?,
        delivery_id: get(row, 2)?,
        topic: get(row, 3)?,
        why: Why { code: get(row, 4)?, reason: get(row, 5)? },
        happened_at: get(row, 6)?,
        received_at: get(row, 7)?,
        body: get(row, 8)?,
    })
}
