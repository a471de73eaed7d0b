//! Authenticated deliveries that could not be processed: kept, sealed, until somebody retries or dismisses them.

use sea_orm::{QueryResult, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::audit::{AuditedTable, Shown};
use crate::clock::Timestamp;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::personal::{Access, Keys, QUARANTINED_BODIES};
use crate::sealing::{TenantKeys, fingerprint};

/// Per integration. Beyond that, the sender has to retry later.
const DELIVERIES_MAX: i64 = 10_000;
/// Bodies read at a time, which may have 8 MiB each.
const BODIES_MAX: i64 = 8;

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

/// A delivery in quarantine, without its body.
pub struct Quarantined {
    pub id: Uuid,
    pub integration_id: Uuid,
    pub delivery_id: String,
    pub topic: String,
    pub why: Why,
    pub happened_at: Timestamp,
    pub received_at: Timestamp,
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

const COLUMNS: &str = "id, integration_id, delivery_id, topic, code, reason, happened_at, received_at";

/// A page of the deliveries of one integration or of all, newest first.
pub async fn list(tx: &TenantTx, page: &Page, integration: Option<Uuid>) -> Result<Listed<Quarantined>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "quarantine", keys: &[SortKey::descending("id", KeyKind::Uuid)] };
    let mut matching = Matching::of("quarantine WHERE tenant_id = $1");
    if let Some(id) = integration {
        matching.and("integration_id =", id);
    }
    let item = |row: &QueryResult| {
        let kept = quarantined_from(row)?;
        Ok((vec![kept.id.to_string()], kept))
    };
    matching.page(tx, page, &ORDER, COLUMNS, item).await
}

/// A delivery and its body. Errors: NOT_FOUND, DECRYPTION_FAILED.
pub async fn get_with_body(tx: &TenantTx, keys: &TenantKeys, id: Uuid) -> Result<(Quarantined, String)> {
    let sql = format!("SELECT {COLUMNS}, body FROM quarantine WHERE tenant_id = $1 AND id = $2");
    let row = tx.query_one(&sql, [id.into()]).await?.ok_or_else(|| Error::not_found("delivery in quarantine"))?;
    Ok((quarantined_from(&row)?, body_from(&row, keys, tx)?))
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

/// What a search has found.
pub struct Found {
    ids: Vec<Uuid>,
    /// Where it ended: later ids were not searched.
    last: Uuid,
}

/// Finds what is quarantined of a customer, to be [removed](remove_of_customer). It takes long where much is kept, so
/// nothing should be locked meanwhile. Errors as for [`Keys::load`].
pub async fn find_of_customer(tx: &TenantTx, keys: &Keys, customer: &str) -> Result<Found> {
    let (ids, last) = search(tx, keys, customer, Uuid::nil(), |kept, _| Some(kept.id)).await?;
    Ok(Found { ids, last })
}

/// What is quarantined of a customer, with the bodies; without those that are no JSON, which need not be the
/// customer's. Errors as for [`Keys::load`].
pub async fn list_of_customer(tx: &TenantTx, keys: &Keys, customer: &str) -> Result<Vec<(Quarantined, Json)>> {
    let (listed, _) = search(tx, keys, customer, Uuid::nil(), |kept, body| body.map(|body| (kept, body))).await?;
    Ok(listed)
}

/// Removes what was found of a customer and is still there, and what has been quarantined since.
pub async fn remove_of_customer(tx: &TenantTx, keys: &Keys, customer: &str, found: &Found) -> Result<()> {
    let (since, _) = search(tx, keys, customer, found.last, |kept, _| Some(kept.id)).await?;
    let ids = Table::new().with("id", Column::Uuid(found.ids.iter().copied().chain(since).collect()));
    tx.execute_by_keys("DELETE FROM quarantine WHERE tenant_id = $1 AND id IN (SELECT k.id FROM {keys})", &ids).await?;
    Ok(())
}

/// What `pick` makes of the deliveries after the id `after` that name a customer, and the last id searched. A body that
/// cannot be opened is skipped: it tells nobody anything.
async fn search<T>(
    tx: &TenantTx,
    keys: &Keys,
    customer: &str,
    mut after: Uuid,
    pick: impl Fn(Quarantined, Option<Json>) -> Option<T>,
) -> Result<(Vec<T>, Uuid)> {
    let mut found = Vec::new();
    let Access::Keys(held) = keys.load(tx).await? else { return Ok((found, after)) };
    let sql = format!("SELECT {COLUMNS}, body FROM quarantine WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3");
    loop {
        let rows = tx.query(&sql, [after.into(), BODIES_MAX.into()]).await?;
        let Some(last) = rows.last() else { return Ok((found, after)) };
        after = get(last, 0)?;
        for row in &rows {
            let kept = quarantined_from(row)?;
            match body_from(row, &held.keys, tx) {
                Ok(body) => found.extend(naming(&body, customer).and_then(|body| pick(kept, body))),
                Err(error) => {
                    let (tenant, id) = (tx.tenant().0, kept.id);
                    tracing::error!(%tenant, %id, source = error.cause(), "quarantined body not searched");
                }
            }
        }
    }
}

/// Whether a body names a customer; then with its JSON. In a body that is no JSON, the id counts wherever it is.
fn naming(body: &str, customer: &str) -> Option<Option<Json>> {
    // Without escapes, JSON has its texts as they are. Most bodies need not be parsed.
    if !body.contains('\\') && !body.contains(customer) {
        return None;
    }
    match serde_json::from_str(body) {
        Ok(json) => names_customer(&json, customer).then_some(Some(json)),
        Err(_) => has_word(body, customer).then_some(None),
    }
}

/// Whether `id` is the value of a member such as `customer` or `customer_id`, or the `id` within a `customer`.
fn names_customer(body: &Json, id: &str) -> bool {
    let is_id = |value: &Json| match value {
        Json::String(text) => text == id,
        Json::Number(number) => number.to_string() == id,
        _ => false,
    };
    match body {
        Json::Array(items) => items.iter().any(|item| names_customer(item, id)),
        Json::Object(members) => members.iter().any(|(name, member)| {
            let names = match name.to_lowercase().replace('_', "").as_str() {
                "customer" => is_id(member) || member.get("id").is_some_and(is_id),
                "person" => member.get("id").is_some_and(is_id),
                "customerid" | "personid" => is_id(member),
                _ => false,
            };
            names || names_customer(member, id)
        }),
        _ => false,
    }
}

/// Whether `word` is in the text, and not only as a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    let is_end = |next: Option<char>| !next.is_some_and(char::is_alphanumeric);
    let mut found = text.match_indices(word);
    found.any(|(at, _)| is_end(text[..at].chars().next_back()) && is_end(text[at + word.len()..].chars().next()))
}

/// The body, after the columns. Error: DECRYPTION_FAILED.
fn body_from(row: &QueryResult, keys: &TenantKeys, tx: &TenantTx) -> Result<String> {
    QUARANTINED_BODIES.open(keys, tx.tenant(), get(row, 0)?, &get::<Vec<u8>>(row, 8)?)
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_a_customer_only_where_it_says_so() {
        for body in [
            r#"{ "customer": { "id": 77, "email": "ann@example.com" } }"#,
            r#"{ "order": [{ "customer": { "default_address": { "customer_id": 77 } } }] }"#,
            r#"{ "data": { "object": { "customer": "77" } } }"#,
            r#"{ "events": [{ "orderPlaced": { "customer": { "id": "\u0037\u0037" } } }] }"#,
            r#"{ "current": { "person_id": 77 } }"#,
            r#"{ "customerId": "77" }"#,
            r#"{ "person": { "id": 77 } }"#,
        ] {
            assert!(naming(body, "77").is_some_and(|json| json.is_some()), "{body}");
        }
        for body in [
            r#"{ "customer": { "id": 770, "default_address": { "zip": "77", "id": 77 }, "orders_count": 77 } }"#,
            r#"{ "customers_redacted": 77, "id": 77, "person": 77, "note": "customer 77" }"#,
            r#"{ "customer": null, "personal": { "id": 77 }, "line_items": [{ "id": 77 }] }"#,
            r#"{ "customer": { "id": 770 } "#,
            "77a, a77 and 770",
        ] {
            assert!(naming(body, "77").is_none(), "{body}");
        }
        // What is no JSON may be anybody's.
        for body in [r#"{ "customer": { "id": 77 }"#, r#"{ "id": "77"#, "of 77."] {
            assert!(naming(body, "77").is_some_and(|json| json.is_none()), "{body}");
        }
    }
}
