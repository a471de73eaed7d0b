//! Storage of models and predictions.
//!
//! A fit gets its own number when it begins; its predictions are written page by page under that number, and become
//! visible when the fit is published. The fitting process renews its claim (a lease) meanwhile; one that lapses is
//! taken over by another process.

use std::collections::HashMap;
use std::sync::Arc;

use models::value::{Fit, Purchases, Rfm, Segment};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};

use super::retention::Table as RetentionTable;
use crate::clock::{DAY, MINUTE, Timestamp};
use crate::db::{Column, Db, OnConflict, Table, TenantId, TenantTx, get, get_word, word_text};
use crate::error::{Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::money::Money;

/// Tenants per query.
pub(super) const DUE_MAX: usize = 100;
/// A claim that is not renewed for this long lapses.
pub(super) const CLAIM: i64 = 2 * MINUTE;
/// Customers whose predictions are deleted per statement.
const REMOVED_AT_ONCE: i64 = 20_000;

/// The condition for a model to be due: its numbers are a day old, or there are 5 % more events, at least 50. `m` is
/// the model and `h` the head; two parameters are the current time and the time a day before.
fn is_due(now: usize, day_ago: usize) -> String {
    format!(
        "h.position > 0 AND COALESCE(m.claimed_until, 0) <= ${now} AND (m.fitted_at IS NULL OR m.fitted_at <= ${day_ago} \
         OR h.position - m.position >= CASE WHEN m.position > 1000 THEN m.position / 20 ELSE 50 END)"
    )
}

/// Tenants whose models are due, longest waiting first.
pub(super) async fn list_due(db: &Db, now: Timestamp) -> Result<Vec<TenantId>> {
    let sql = format!(
        "SELECT h.tenant_id FROM ledger_heads h LEFT JOIN customer_models m ON m.tenant_id = h.tenant_id WHERE {} \
         ORDER BY COALESCE(m.fitted_at, 0), h.tenant_id LIMIT $3",
        is_due(1, 2)
    );
    let rows = db.query_all_tenants(&sql, [now.into(), (now.0 - DAY).into(), (DUE_MAX as i64).into()]).await?;
    rows.iter().map(|row| Ok(TenantId(get(row, 0)?))).collect()
}

/// A claimed fit.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub fit_no: i64,
}

/// Claims a fit, unless another process has, or it is no longer due.
pub(super) async fn claim(tx: &TenantTx, now: Timestamp) -> Result<Option<Claim>> {
    let sql = "INSERT INTO customer_models (tenant_id, fit_no, claimed_no, claimed_until) VALUES ($1, 0, 0, 0) \
               ON CONFLICT DO NOTHING";
    tx.execute(sql, []).await?;
    let sql = format!(
        "UPDATE customer_models AS m SET claimed_no = m.claimed_no + 1, claimed_until = $4 FROM ledger_heads h \
         WHERE h.tenant_id = $1 AND m.tenant_id = $1 AND {} RETURNING claimed_no",
        is_due(2, 3)
    );
    let row = tx.query_one(&sql, [now.into(), (now.0 - DAY).into(), (now.0 + CLAIM).into()]).await?;
    row.map(|row| Ok(Claim { fit_no: get(&row, 0)? })).transpose()
}

/// Extends a claim. `false` if it was taken over.
pub(super) async fn renew(tx: &TenantTx, claim: Claim, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE customer_models SET claimed_until = $3 WHERE tenant_id = $1 AND claimed_no = $2";
    Ok(tx.execute(sql, [claim.fit_no.into(), (now.0 + CLAIM).into()]).await? == 1)
}

/// Writes predictions of a fit. `false` if it was taken over.
pub(super) async fn add(tx: &TenantTx, claim: Claim, predictions: &[Prediction], now: Timestamp) -> Result<bool> {
    if !renew(tx, claim, now).await? {
        return Ok(false);
    }
    let int = |of: fn(&Prediction) -> i64| Column::Int(predictions.iter().map(of).collect());
    let segments = predictions.iter().map(|p| word_text(p.rfm.segment)).collect::<Result<_>>()?;
    let rows = Table::new()
        .with("fit_no", Column::Int(vec![claim.fit_no; predictions.len()]))
        .with("customer_no", int(|p| p.customer_no))
        .with("repeats", int(|p| p.purchases.repeats().into()))
        .with("recency_days", int(|p| p.purchases.recency_days().into()))
        .with("age_days", int(|p| p.purchases.age_days().into()))
        .with("repeat_amount", int(|p| p.purchases.repeat_minor()))
        .with("total_amount", int(|p| p.purchases.total_minor()))
        .with("recency", int(|p| p.rfm.recency.into()))
        .with("frequency", int(|p| p.rfm.frequency.into()))
        .with("monetary", int(|p| p.rfm.monetary.into()))
        .with("segment", Column::Text(segments))
        .with("churn", int(|p| p.churn_millionths))
        .with("lifetime_value", int(|p| p.lifetime_value.0));
    tx.insert("customer_predictions", &rows, OnConflict::Fail).await?;
    Ok(true)
}

/// Publishes a fit; `content` is `None` where there were no customers to fit to. A no-op if it was taken over.
pub(super) async fn publish(
    tx: &TenantTx,
    claim: Claim,
    position: i64,
    fitted_at: Timestamp,
    content: Option<(&Content, &RetentionTable)>,
) -> Result<()> {
    let model = content.map(|(model, _)| serde_json::to_value(model)).transpose()?;
    let retention = content.map(|(_, retention)| serde_json::to_value(retention)).transpose()?;
    let sql = "UPDATE customer_models SET fit_no = $2, position = $3, fitted_at = $4, model = $5, retention = $6, \
               claimed_until = 0 WHERE tenant_id = $1 AND claimed_no = $2";
    let values = [claim.fit_no.into(), position.into(), fitted_at.into(), model.into(), retention.into()];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Whether this fit is the published one.
pub(super) async fn is_published(tx: &TenantTx, claim: Claim) -> Result<bool> {
    let sql = "SELECT 1 FROM customer_models WHERE tenant_id = $1 AND fit_no = $2";
    Ok(tx.query_one(sql, [claim.fit_no.into()]).await?.is_some())
}

/// Removes the predictions of all fits before the published one, `claim`: of the previous one, of abandoned ones, and
/// what a process that ended meanwhile left of earlier ones.
pub(super) async fn remove_older(db: &Db, tenant: TenantId, claim: Claim, last_customer_no: i64) -> Result<()> {
    let mut removed_no = -1;
    loop {
        let tx = db.read(tenant).await?;
        let sql = "SELECT MIN(fit_no) FROM customer_predictions WHERE tenant_id = $1 AND fit_no > $2 AND fit_no < $3";
        let row = tx.query_one(sql, [removed_no.into(), claim.fit_no.into()]).await?;
        drop(tx);
        let Some(fit_no) = row.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten() else { return Ok(()) };
        remove(db, tenant, fit_no, last_customer_no).await?;
        removed_no = fit_no;
    }
}

/// Removes the predictions of a fit, in small batches so that no one waits for long.
pub(super) async fn remove(db: &Db, tenant: TenantId, fit_no: i64, last_customer_no: i64) -> Result<()> {
    let mut after = 0;
    while after < last_customer_no {
        let tx = db.write(tenant).await?;
        let sql = "DELETE FROM customer_predictions WHERE tenant_id = $1 AND fit_no = $2 AND customer_no > $3 AND customer_no <= $4";
        tx.execute(sql, [fit_no.into(), after.into(), (after + REMOVED_AT_ONCE).into()]).await?;
        tx.commit().await?;
        after += REMOVED_AT_ONCE;
    }
    Ok(())
}

/// A customer's predictions, and their inputs.
#[derive(Clone, Debug)]
pub struct Prediction {
    pub(super) customer_no: i64,
    pub(super) purchases: Purchases,
    pub(super) rfm: Rfm,
    /// By the stored terms.
    pub(super) churn_millionths: i64,
    /// By the stored terms; zero while there are no paying customers.
    pub(super) lifetime_value: Money,
}

/// A customer's predictions, for a data subject's export: as in the API, with amounts in the currency of the model.
/// Null while there are none.
pub async fn export(tx: &TenantTx, customer_no: i64) -> Result<serde_json::Value> {
    let found = PredictionsByNumber::load(tx, &[customer_no]).await?.remove(&customer_no);
    found.map_or(Ok(serde_json::Value::Null), |prediction| {
        let Prediction { rfm, purchases, .. } = &*prediction;
        Ok(serde_json::json!({
            "segment": rfm.segment,
            "recencyScore": rfm.recency,
            "frequencyScore": rfm.frequency,
            "monetaryScore": rfm.monetary,
            "repeatPurchases": purchases.repeats(),
            "churn": prediction.churn_millionths as f64 / 1e6,
            "lifetimeValue": prediction.lifetime_value.to_string(),
        }))
    })
}

/// Loads predictions by customer number.
pub struct PredictionsByNumber;

impl BatchLoad for PredictionsByNumber {
    type Key = i64;
    type Value = Arc<Prediction>;

    async fn load(tx: &TenantTx, keys: &[i64]) -> Result<HashMap<i64, Arc<Prediction>>> {
        let sql = "SELECT p.customer_no, p.repeats, p.recency_days, p.age_days, p.repeat_amount, p.total_amount, \
                   p.recency, p.frequency, p.monetary, p.segment, p.churn, p.lifetime_value FROM {keys} {each customer_predictions p: \
                   p.fit_no = (SELECT m.fit_no FROM customer_models m WHERE m.tenant_id = $1) AND p.customer_no = k.customer_no}";
        let keys = Table::new().with("customer_no", Column::Int(keys.to_vec()));
        let rows = tx.query_by_keys(sql, &keys).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, Arc::new(prediction_from(row)?)))).collect()
    }
}

fn prediction_from(row: &QueryResult) -> Result<Prediction> {
    let days = |index| get::<i64>(row, index).and_then(|days| u32::try_from(days).map_err(Error::internal));
    let score = |index| get::<i32>(row, index).and_then(|score| u8::try_from(score).map_err(Error::internal));
    let purchases = Purchases::new(days(1)?, days(2)?, days(3)?, get(row, 4)?, get(row, 5)?);
    Ok(Prediction {
        customer_no: get(row, 0)?,
        purchases: purchases.map_err(Error::internal)?,
        rfm: Rfm { recency: score(6)?, frequency: score(7)?, monetary: score(8)?, segment: get_word(row, 9)? },
        churn_millionths: get(row, 10)?,
        lifetime_value: get(row, 11)?,
    })
}

/// A published model.
#[derive(Debug)]
pub struct Model {
    pub(super) position: i64,
    pub(super) fitted_at: Timestamp,
    pub(super) content: Content,
}

/// The stored content of a model.
#[derive(Debug, Serialize, Deserialize)]
pub struct Content {
    pub(super) fit: Fit,
    pub(super) currency: String,
    /// Number of customers with stored predictions.
    pub(super) customers: i64,
    pub(super) segments: Vec<SegmentTotals>,
}

/// Totals of the customers in one RFM segment.
#[derive(Debug, Serialize, Deserialize)]
pub struct SegmentTotals {
    pub(super) segment: Segment,
    pub(super) customers: i64,
    pub(super) revenue: Money,
    pub(super) lifetime_value: Money,
}

/// Loads the tenant's model.
pub struct TheModel;

impl BatchLoad for TheModel {
    type Key = ();
    type Value = Arc<Model>;

    async fn load(tx: &TenantTx, _: &[()]) -> Result<HashMap<(), Arc<Model>>> {
        let sql = "SELECT position, fitted_at, model FROM customer_models WHERE tenant_id = $1 AND model IS NOT NULL";
        let row = tx.query_one(sql, []).await?;
        let model = |row: &QueryResult| -> Result<((), Arc<Model>)> {
            let content = serde_json::from_value(get(row, 2)?)?;
            Ok(((), Arc::new(Model { position: get(row, 0)?, fitted_at: get(row, 1)?, content })))
        };
        row.iter().map(model).collect()
    }
}

/// The tenant's retention, from the same fit as [`TheModel`].
pub(super) async fn find_retention(tx: &TenantTx) -> Result<Option<RetentionTable>> {
    let sql = "SELECT retention FROM customer_models WHERE tenant_id = $1 AND retention IS NOT NULL";
    let row = tx.query_one(sql, []).await?;
    row.map(|row| Ok(serde_json::from_value(get(&row, 0)?)?)).transpose()
}
