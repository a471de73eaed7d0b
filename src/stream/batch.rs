//! Wire form of a committed batch: enough to carry live answers forward without a database query.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db::TenantId;
use crate::ledger::entry::{Entry, EntryKind, Segment, StoredLine, lines_from, stored_lines};
use crate::money::Money;

/// The positions `first..=last` of a tenant's ledger; `last` is `first - 1` if none was added.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedBatch {
    pub first: i64,
    pub last: i64,
    /// Time of the newest event, in microseconds.
    pub watermark: Option<i64>,
    /// Number of settings changes so far.
    pub policy_epoch: i64,
    /// Number of alerts logged so far.
    pub last_alert_no: i64,
    /// Entries with their positions; `None` if they must be read from the ledger.
    pub entries: Option<Arc<Vec<(i64, Entry)>>>,
}

/// A batch as JSON. It includes the tenant, so that misrouted messages are detected.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    tenant: TenantId,
    first: i64,
    last: i64,
    watermark: Option<i64>,
    epoch: i64,
    alerts: i64,
    entries: Option<Vec<StoredEntry>>,
}

/// Position, time, kind, sign; organization, channel, region, segment, customer, order; currency, amount paid, amount,
/// discount, units; lines.
type StoredEntry = (i64, i64, i32, i32, i32, i32, i32, i32, i64, i64, String, i64, i64, i64, i64, Vec<StoredLine>);

/// The message is malformed or belongs to another tenant.
#[derive(Debug, thiserror::Error)]
#[error("not a batch of this tenant")]
pub struct BadBatch;

impl CommittedBatch {
    /// Serializes to at most `bytes_max` bytes of JSON, dropping the entries if they are too long.
    pub fn to_json(&self, tenant: TenantId, bytes_max: usize) -> Result<String, serde_json::Error> {
        let stored = |entries: &Arc<Vec<(i64, Entry)>>| entries.iter().map(to_stored).collect();
        let mut message = Message {
            tenant,
            first: self.first,
            last: self.last,
            watermark: self.watermark,
            epoch: self.policy_epoch,
            alerts: self.last_alert_no,
            entries: self.entries.as_ref().map(stored),
        };
        let json = serde_json::to_string(&message)?;
        if json.len() <= bytes_max {
            return Ok(json);
        }
        message.entries = None;
        serde_json::to_string(&message)
    }

    /// Parses what [`CommittedBatch::to_json`] wrote for `tenant`.
    pub fn from_json(tenant: TenantId, json: &str) -> Result<CommittedBatch, BadBatch> {
        let message: Message = serde_json::from_str(json).map_err(|_| BadBatch)?;
        if message.tenant != tenant || message.last < message.first - 1 {
            return Err(BadBatch);
        }
        let entries = match message.entries {
            Some(entries) => {
                Some(Arc::new(entries.into_iter().map(from_stored).collect::<Option<_>>().ok_or(BadBatch)?))
            }
            None => None,
        };
        Ok(CommittedBatch {
            first: message.first,
            last: message.last,
            watermark: message.watermark,
            policy_epoch: message.epoch,
            last_alert_no: message.alerts,
            entries,
        })
    }
}

fn to_stored((position, entry): &(i64, Entry)) -> StoredEntry {
    (
        *position,
        entry.at.0,
        entry.kind as i32,
        entry.sign,
        entry.org_no,
        entry.channel_no,
        entry.region_no,
        entry.segment as i32,
        entry.customer_no,
        entry.order_no,
        entry.currency.clone(),
        entry.amount_paid.0,
        entry.amount.0,
        entry.discount.0,
        entry.units,
        stored_lines(&entry.lines),
    )
}

fn from_stored(stored: StoredEntry) -> Option<(i64, Entry)> {
    let entry = Entry {
        at: Timestamp(stored.1),
        kind: EntryKind::from_repr(stored.2)?,
        sign: stored.3,
        org_no: stored.4,
        channel_no: stored.5,
        region_no: stored.6,
        segment: Segment::from_repr(stored.7)?,
        customer_no: stored.8,
        order_no: stored.9,
        currency: stored.10,
        amount_paid: Money(stored.11),
        amount: Money(stored.12),
        discount: Money(stored.13),
        units: stored.14,
        lines: lines_from(stored.15),
    };
    Some((stored.0, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::EntryLine;
    use uuid::Uuid;

    fn batch() -> CommittedBatch {
        let line =
            EntryLine { category_no: 3, product_no: 4, units: 2, amount: Money(5), discount: Money(1), cost: None };
        let entry = Entry {
            kind: EntryKind::Order,
            sign: -1,
            at: Timestamp(7),
            org_no: 1,
            channel_no: 2,
            region_no: 0,
            segment: Segment::New,
            customer_no: 9,
            order_no: 10,
            currency: "EUR".to_owned(),
            amount_paid: Money(5),
            amount: Money(5),
            discount: Money(1),
            units: 2,
            lines: vec![line, EntryLine { cost: Some(Money(3)), ..line }],
        };
        let entries = Some(Arc::new(vec![(11, entry)]));
        CommittedBatch { first: 11, last: 12, watermark: Some(7), policy_epoch: 1, last_alert_no: 2, entries }
    }

    #[test]
    fn a_batch_is_read_as_it_was_written_by_its_own_tenant() {
        let (one, other) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
        let json = batch().to_json(one, 10_000).expect("written");
        assert_eq!(CommittedBatch::from_json(one, &json).expect("read"), batch());
        assert!(
            CommittedBatch::from_json(other, &json).is_err() && CommittedBatch::from_json(one, &json[1..]).is_err()
        );
        let short = batch().to_json(one, 100).expect("written");
        assert_eq!(CommittedBatch::from_json(one, &short).expect("read"), CommittedBatch { entries: None, ..batch() });
    }
}
