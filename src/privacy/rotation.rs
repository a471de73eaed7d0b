//! Online rotation of a tenant's data key: a new version is created and seals from then on; rows sealed by older
//! versions are resealed in batches; versions that no row uses any more are destroyed.
//!
//! The progress is kept in the database alone, so that any process can continue after another one has died.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::erasure::erased;
use crate::app::App;
use crate::audit::{self, Entry};
use crate::clock::Timestamp;
use crate::customers::Identity;
use crate::db::{Column, Table, TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::store::lock_head;
use crate::personal::store::{self, KeyRow};
use crate::personal::{Access, CustomerDetails, Field, SEALED_COLUMNS, SealedColumn, SealedDetails, open};
use crate::sealing::kek::Purpose;
use crate::sealing::{KEYS_TTL_MS, TenantKeys, is_worn_out};
use crate::telemetry::metrics::METRICS;

const INTERVAL: Duration = Duration::from_secs(15);
/// Rows resealed per transaction, which bounds how long writers wait.
const ROWS_MAX: i64 = 500;
/// Texts of other tables, which may be long.
const TEXTS_MAX: i64 = 50;
/// Upper bound of seals per event: each field, and all of it once more for retried batches and resealed rows.
const SEALS_PER_EVENT: u64 = 2 * Field::ALL.len() as u64;

/// A data key and the number of rows whose oldest key it is.
#[derive(Debug, PartialEq)]
pub struct Version {
    pub version: u32,
    pub created_at: Timestamp,
    pub retired_at: Option<Timestamp>,
    pub rows: u64,
}

/// The tenant's data keys, newest first.
pub async fn list_versions(tx: &TenantTx) -> Result<Vec<Version>> {
    let tables = SEALED_COLUMNS.iter().map(|sealed| sealed.table).chain(["customers"]);
    let parts: Vec<String> = tables
        .map(|table| format!("SELECT key_version FROM {table} WHERE tenant_id = $1 AND key_version IS NOT NULL"))
        .collect();
    let sql = format!("SELECT s.key_version, COUNT(*) FROM ({}) s GROUP BY s.key_version", parts.join(" UNION ALL "));
    let rows = tx.query(&sql, []).await?;
    let counts = rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<HashMap<i64, i64>>>()?;
    let keys = store::list(tx).await?.into_iter().filter(KeyRow::is_data);
    Ok(keys
        .map(|key| Version {
            version: key.version,
            created_at: key.created_at,
            retired_at: key.retired_at,
            rows: counts.get(&i64::from(key.version)).map_or(0, |rows| rows.unsigned_abs()),
        })
        .collect())
}

/// A data key that is to become active.
pub struct NewKey {
    pub version: u32,
    wrapped: String,
}

/// Generates and wraps the next data key of a tenant. Errors: CONFLICT for an erased tenant; SERVICE_UNAVAILABLE.
pub async fn make_key(app: &App, tenant: TenantId) -> Result<NewKey> {
    app.keys.get(tenant).await?.ok_or_else(erased)?;
    let version = newest_version(&app.db.read(tenant).await?).await? + 1;
    Ok(NewKey { version, wrapped: app.keys.wrap_new(tenant, Purpose::Data, version).await? })
}

/// Activates a new key; after the commit, [`Keys::forget`](crate::personal::Keys::forget) makes it visible to this
/// process. Error: CONFLICT when another rotation has begun meanwhile.
pub async fn take_over(tx: &TenantTx, new: &NewKey, now: Timestamp) -> Result<()> {
    tx.lock_settings().await?;
    if newest_version(tx).await? + 1 != new.version {
        return Err(Error::new(Code::Conflict, "the keys are being rotated"));
    }
    store::retire(tx, now).await?;
    store::insert(tx, new.version, &new.wrapped, now).await
}

async fn newest_version(tx: &TenantTx) -> Result<u32> {
    Ok(store::list(tx).await?.first().map_or(0, |key| key.version))
}

/// Begins a rotation, automatically or for an operator. Returns the version. Errors as for [`make_key`] and
/// [`take_over`].
pub async fn begin(app: &App, tenant: TenantId) -> Result<u32> {
    let new = make_key(app, tenant).await?;
    let (tx, now) = (app.db.write(tenant).await?, app.clock.now());
    take_over(&tx, &new, now).await?;
    audit::record_by_operator(&tx, now, Entry::of("data-key.rotate", new.version)).await?;
    tx.commit().await?;
    app.keys.forget(tenant);
    Ok(new.version)
}

/// Reseals what older versions have sealed; reports the number of rows so far to `progress`. Pauses between
/// transactions for as long as they took, so that writers get at least half of the time.
pub async fn reseal(app: &App, tenant: TenantId, mut progress: impl FnMut(u64)) -> Result<()> {
    let Access::Keys(held) = app.keys.load(&app.db.read(tenant).await?).await? else { return Ok(()) };
    let (mut after, mut done) = (0, 0);
    loop {
        let begun = Instant::now();
        let Some(part) = reseal_some(app, tenant, &held.keys, after).await? else { break };
        after = part.last;
        done += part.rows;
        progress(done);
        tokio::time::sleep(begun.elapsed()).await;
    }
    for sealed in SEALED_COLUMNS {
        let mut after = Uuid::nil();
        while let Some(last) = reseal_texts(app, tenant, &held.keys, sealed, after).await? {
            after = last;
        }
    }
    Ok(())
}

/// Reseals a batch of texts of other tables; returns the last row examined.
async fn reseal_texts(
    app: &App,
    tenant: TenantId,
    keys: &TenantKeys,
    sealed: SealedColumn,
    after: Uuid,
) -> Result<Option<Uuid>> {
    let tx = app.db.write(tenant).await?;
    let version = i64::from(keys.data.active().version());
    if version < lock_head(&tx).await?.oldest_key {
        return Ok(None);
    }
    let (SealedColumn { table, column }, for_update) = (sealed, tx.for_update());
    let sql = format!(
        "SELECT id, {column} FROM {table} WHERE tenant_id = $1 AND key_version < $2 AND id > $3 \
         ORDER BY id LIMIT {TEXTS_MAX} {for_update}"
    );
    let rows = tx.query(&sql, [version.into(), after.into()]).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = get(last, 0)?;
    let update = format!("UPDATE {table} SET {column} = $3, key_version = $4 WHERE tenant_id = $1 AND id = $2");
    for row in &rows {
        let id: Uuid = get(row, 0)?;
        match sealed.open(keys, tenant, id, &get::<Vec<u8>>(row, 1)?) {
            Ok(text) => {
                let (bytes, version) = sealed.seal(keys, &tx, id, &text).await?;
                tx.execute(&update, [id.into(), bytes.into(), version.into()]).await?;
            }
            Err(error) => {
                tracing::error!(tenant = %tenant.0, table, %id, source = error.cause(), "text not resealed")
            }
        }
    }
    tx.commit().await?;
    Ok(Some(last))
}

/// The result of one resealing transaction.
struct ResealedPage {
    rows: u64,
    /// The last customer examined.
    last: i64,
}

async fn reseal_some(app: &App, tenant: TenantId, keys: &TenantKeys, after: i64) -> Result<Option<ResealedPage>> {
    let tx = app.db.write(tenant).await?;
    let version = i64::from(keys.data.active().version());
    if version < lock_head(&tx).await?.oldest_key {
        return Ok(None);
    }
    let sql = "SELECT customer_no, name, email, phone, address FROM customers \
               WHERE tenant_id = $1 AND key_version < $2 AND customer_no > $3 ORDER BY customer_no LIMIT $4";
    let rows = tx.query(sql, [version.into(), after.into(), ROWS_MAX.into()]).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = get(last, 0)?;
    let mut resealed = Vec::with_capacity(rows.len());
    for row in &rows {
        let customer_no = get(row, 0)?;
        let sealed = [get(row, 1)?, get(row, 2)?, get(row, 3)?, get(row, 4)?];
        match reseal_row(keys, tenant, &Identity { customer_no, sealed }) {
            Ok(sealed) => resealed.push((customer_no, sealed)),
            Err(error) => {
                // Its version is kept until somebody has dealt with it, or its details are given again.
                let sql = "UPDATE customers SET details_print = NULL WHERE tenant_id = $1 AND customer_no = $2";
                tx.execute(sql, [customer_no.into()]).await?;
                tracing::error!(tenant = %tenant.0, customer_no, source = error.cause(), "customer not resealed");
            }
        }
    }
    save(&tx, &resealed).await?;
    tx.commit().await?;
    Ok(Some(ResealedPage { rows: resealed.len() as u64, last }))
}

fn reseal_row(keys: &TenantKeys, tenant: TenantId, row: &Identity) -> Result<SealedDetails> {
    let open = |field: Field| match row.sealed(field) {
        Some(sealed) => Ok::<_, Error>(Some(open(keys, tenant, row.customer_no, field, sealed)?)),
        None => Ok(None),
    };
    let [name, email, phone, address] =
        [open(Field::Name)?, open(Field::Email)?, open(Field::Phone)?, open(Field::Address)?];
    CustomerDetails { name, email, phone, address }.seal(keys, tenant, row.customer_no)
}

async fn save(tx: &TenantTx, rows: &[(i64, SealedDetails)]) -> Result<()> {
    let versions = rows.iter().map(|(_, details)| details.key_version.map(i64::from));
    let versions: Option<Vec<i64>> = versions.collect();
    let versions = versions.ok_or_else(|| Error::internal("a sealed customer without a version of the key"))?;
    let table = Table::new()
        .with("customer_no", Column::Int(rows.iter().map(|(customer_no, _)| *customer_no).collect()))
        .with("key_version", Column::Int(versions));
    let table = Field::ALL.into_iter().enumerate().fold(table, |table, (n, field)| {
        table.with(field.column(), Column::Bytes(rows.iter().map(|(_, details)| details.values[n].clone()).collect()))
    });
    let set = Field::ALL.map(|field| {
        let column = field.column();
        format!("{column} = CASE WHEN length(k.{column}) = 0 THEN NULL ELSE k.{column} END")
    });
    let sql = format!(
        "UPDATE customers SET key_version = k.key_version, {} FROM {{keys}} \
         WHERE customers.tenant_id = $1 AND customers.customer_no = k.customer_no",
        set.join(", ")
    );
    tx.execute_by_keys(&sql, &table).await?;
    Ok(())
}

/// Destroys and returns the versions that no row uses and that no process can still seal with: those retired for longer
/// than keys are cached in memory. A row is counted under the oldest version in it, and may contain newer ones.
pub async fn destroy_unused(app: &App, tenant: TenantId) -> Result<Vec<u32>> {
    let tx = app.db.write(tenant).await?;
    lock_head(&tx).await?;
    let now = app.clock.now();
    let is_over = |retired_at: Timestamp| retired_at.0 + KEYS_TTL_MS * 1000 <= now.0;
    let versions = list_versions(&tx).await?;
    let oldest_used = versions.iter().filter(|version| version.rows > 0).map(|version| version.version).min();
    let (unused, kept): (Vec<Version>, Vec<Version>) = versions.into_iter().partition(|version| {
        oldest_used.is_none_or(|used| version.version < used) && version.retired_at.is_some_and(is_over)
    });
    let Some(oldest) = kept.last().filter(|_| !unused.is_empty()) else { return Ok(Vec::new()) };
    // Stops processes that were suspended meanwhile from sealing with an older key.
    let sql = "UPDATE ledger_heads SET oldest_key = $2 WHERE tenant_id = $1";
    tx.execute(sql, [i64::from(oldest.version).into()]).await?;
    for Version { version, .. } in &unused {
        store::destroy(&tx, *version).await?;
        audit::record_by_operator(&tx, now, Entry::of("data-key.destroy", *version)).await?;
    }
    tx.commit().await?;
    app.keys.forget(tenant);
    Ok(unused.into_iter().map(|version| version.version).collect())
}

/// Continues rotations, begins them for keys that have sealed enough, and evicts expired keys from memory, until
/// dropped.
pub async fn sweep(app: App) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.keys.drop_expired();
        if let Err(error) = sweep_once(&app).await {
            tracing::warn!(source = error.cause(), "looking for key rotations failed");
        }
    }
}

/// One round of [`sweep`]. Safe to run in several processes: each step locks the tenant's head.
pub async fn sweep_once(app: &App) -> Result<()> {
    let sql = "SELECT k.tenant_id, k.retired_at IS NOT NULL, h.position - k.from_position FROM tenant_keys k \
               JOIN ledger_heads h ON h.tenant_id = k.tenant_id WHERE k.version > 0 ORDER BY k.tenant_id, k.version";
    let mut retired = Vec::new();
    for row in app.db.query_all_tenants(sql, []).await? {
        let (tenant, is_retired, events) = (TenantId(get(&row, 0)?), get::<bool>(&row, 1)?, get::<i64>(&row, 2)?);
        if !is_retired && is_worn_out(events.unsigned_abs().saturating_mul(SEALS_PER_EVENT)) {
            if let Err(error) = begin(app, tenant).await {
                tracing::warn!(tenant = %tenant.0, source = error.cause(), "worn-out key not rotated yet");
            }
        } else if is_retired && retired.last() != Some(&tenant) {
            retired.push(tenant);
        }
    }
    METRICS.set_due("rotations", retired.len());
    for tenant in retired {
        if let Err(error) = carry_on(app, tenant).await {
            tracing::warn!(tenant = %tenant.0, source = error.cause(), "keys not rotated further");
        }
    }
    Ok(())
}

async fn carry_on(app: &App, tenant: TenantId) -> Result<()> {
    reseal(app, tenant, |_| {}).await?;
    for version in destroy_unused(app, tenant).await? {
        tracing::info!(tenant = %tenant.0, version, "data key destroyed");
    }
    Ok(())
}
