//! Storage of deliveries.

use sea_orm::{QueryResult, Value};
use serde::Serialize;
use uuid::Uuid;

use super::{Attempt, Message, NotificationChannel, Recipient};
use crate::audit::{AuditedTable, Shown};
use crate::clock::{MINUTE, Timestamp};
use crate::db::{Db, TenantId, TenantTx, get, get_word, word};
use crate::error::{Error, Result};
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};

/// An attempt that has not finished after this time is presumed to have died with its process.
const LEASE: i64 = 2 * MINUTE;

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum, Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeliveryState {
    /// Still being attempted.
    Pending,
    /// Delivered.
    Delivered,
    /// Given up.
    Dead,
}

impl DeliveryState {
    /// The outcome of an attempt, as one word.
    pub fn as_result(self) -> &'static str {
        match self {
            DeliveryState::Pending => "failed",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "dead",
        }
    }
}

/// A delivery as shown.
pub struct Delivery {
    pub id: Uuid,
    pub alert_no: i64,
    pub channel: NotificationChannel,
    pub target: String,
    pub subject: String,
    pub state: DeliveryState,
    pub attempts: i32,
    pub next_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub delivered_at: Option<Timestamp>,
}

/// A delivery that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub tenant: TenantId,
    pub id: Uuid,
    next_at: i64,
}

/// Writes a delivery for each recipient, sent once the transaction has committed.
pub async fn add(tx: &TenantTx, recipients: &[Recipient], message: &Message, now: Timestamp) -> Result<()> {
    for recipient in recipients {
        let values: [Value; 9] = [
            Uuid::now_v7().into(),
            message.alert_no.into(),
            word(recipient.channel)?,
            recipient.target.clone().into(),
            recipient.secret.clone().into(),
            message.subject.clone().into(),
            message.text.clone().into(),
            message.body.clone().into(),
            now.into(),
        ];
        let sql = "INSERT INTO deliveries (tenant_id, id, alert_no, channel, target, secret, subject, text, body, state, \
                   attempts, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'PENDING', 0, $10, $10)";
        tx.execute(sql, values).await?;
    }
    Ok(())
}

/// Deliveries due at `now`, longest due first: at most `rows_max` per tenant.
pub async fn list_due(db: &Db, now: Timestamp, rows_max: i64) -> Result<Vec<Due>> {
    let sql = "SELECT d.tenant_id, d.id, d.next_at FROM (SELECT tenant_id, id, next_at, \
               ROW_NUMBER() OVER (PARTITION BY tenant_id ORDER BY next_at) AS place FROM deliveries WHERE next_at <= $1) d \
               WHERE d.place <= $2 ORDER BY d.next_at";
    let rows = db.query_all_tenants(sql, [now.into(), rows_max.into()]).await?;
    rows.iter().map(|row| Ok(Due { tenant: TenantId(get(row, 0)?), id: get(row, 1)?, next_at: get(row, 2)? })).collect()
}

/// Claims a delivery for one attempt; `None` when another process was faster.
pub async fn claim(tx: &TenantTx, due: &Due, now: Timestamp) -> Result<Option<Attempt>> {
    let sql = "UPDATE deliveries SET next_at = $4, attempts = attempts + 1 WHERE tenant_id = $1 AND id = $2 AND next_at = $3 \
               RETURNING channel, target, secret, subject, text, body, attempts";
    let row = tx.query_one(sql, [due.id.into(), due.next_at.into(), (now.0 + LEASE).into()]).await?;
    row.map(|row| {
        Ok(Attempt {
            id: due.id,
            recipient: Recipient { channel: get_word(&row, 0)?, target: get(&row, 1)?, secret: get(&row, 2)? },
            subject: get(&row, 3)?,
            text: get(&row, 4)?,
            body: get(&row, 5)?,
            number: get(&row, 6)?,
        })
    })
    .transpose()
}

/// Has what a rule's recipient has not received yet signed with their present secret.
pub async fn renew_secret(tx: &TenantTx, rule: Uuid, recipient: &Recipient) -> Result<()> {
    let sql = "UPDATE deliveries SET secret = $5 WHERE tenant_id = $1 AND channel = $3 AND target = $4 AND state <> 'DELIVERED' \
               AND alert_no IN (SELECT e.alert_no FROM alert_events e WHERE e.tenant_id = $1 AND e.alert_id = $2)";
    let values: [Value; 4] =
        [rule.into(), word(recipient.channel)?, recipient.target.clone().into(), recipient.secret.clone().into()];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Records the outcome of an attempt: `next_at` when it is to be retried. The outcome of a later attempt takes
/// precedence, unless this one arrived.
pub async fn finish(
    tx: &TenantTx,
    attempt: &Attempt,
    state: DeliveryState,
    error: Option<String>,
    next_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    let delivered_at = (state == DeliveryState::Delivered).then_some(now.0);
    // Contents that do not concern an alert may give access to an account, and are not kept longer than needed.
    let sql = "UPDATE deliveries SET state = $3, last_error = $4, next_at = $5, delivered_at = $6, \
               text = CASE WHEN alert_no IS NULL AND $5 IS NULL THEN '' ELSE text END \
               WHERE tenant_id = $1 AND id = $2 AND state <> 'DELIVERED' AND (attempts = $7 OR $8)";
    let values: [Value; 7] = [
        attempt.id.into(),
        word(state)?,
        error.into(),
        next_at.map(|at| at.0).into(),
        delivered_at.into(),
        attempt.number.into(),
        (state == DeliveryState::Delivered).into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Audited columns of deliveries.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "deliveries",
    key: "id",
    columns: &[
        ("channel", "channel", Shown::Text),
        ("state", "state", Shown::Text),
        ("attempts", "CAST(attempts AS BIGINT)", Shown::Number),
    ],
    members: None,
};

/// Retries a delivery that was given up. Error: NOT_FOUND.
pub async fn retry(tx: &TenantTx, id: Uuid, now: Timestamp) -> Result<Delivery> {
    let sql = format!(
        "UPDATE deliveries SET state = 'PENDING', attempts = 0, next_at = $3 WHERE tenant_id = $1 AND id = $2 \
         AND state = 'DEAD' AND alert_no IS NOT NULL RETURNING {COLUMNS}"
    );
    let row = tx.query_one(&sql, [id.into(), now.into()]).await?;
    delivery_from(&row.ok_or_else(|| Error::not_found("delivery that was given up"))?)
}

const COLUMNS: &str =
    "id, alert_no, channel, target, state, attempts, next_at, last_error, created_at, delivered_at, subject";

/// A page of deliveries, newest first, in one state or in all.
pub async fn list(tx: &TenantTx, page: &Page, state: Option<DeliveryState>) -> Result<Listed<Delivery>> {
    const ORDER: SortOrder<'_> = SortOrder { name: "deliveries", keys: &[SortKey::descending("id", KeyKind::Uuid)] };
    let mut matching = Matching::of("deliveries WHERE tenant_id = $1 AND alert_no IS NOT NULL");
    if let Some(state) = state {
        matching.and("state =", word(state)?);
    }
    let item = |row: &QueryResult| {
        let delivery = delivery_from(row)?;
        Ok((vec![delivery.id.to_string()], delivery))
    };
    matching.page(tx, page, &ORDER, COLUMNS, item).await
}

fn delivery_from(row: &QueryResult) -> Result<Delivery> {
    Ok(Delivery {
        id: get(row, 0)?,
        alert_no: get(row, 1)?,
        channel: get_word(row, 2)?,
        target: get(row, 3)?,
        state: get_word(row, 4)?,
        attempts: get(row, 5)?,
        next_at: get(row, 6)?,
        last_error: get(row, 7)?,
        created_at: get(row, 8)?,
        delivered_at: get(row, 9)?,
        subject: get(row, 10)?,
    })
}
