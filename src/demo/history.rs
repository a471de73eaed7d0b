//! The extract's sales, imported as history that ends now.

use tokio_util::sync::CancellationToken;

use super::Tenants;
use crate::app::App;
use crate::clock::{DAY, Timestamp};
use crate::db::{TenantId, get};
use crate::error::Result;
use crate::import::{End, Import, Mapping};

/// The extract's first invoice and its time: 2009-12-01T07:45:00Z.
const FIRST_EVENT: (&str, Timestamp) = ("online-retail-ii/sales:489434", Timestamp(1_259_653_500_000_000));
/// The extract's last timestamp: 2010-02-28T16:16:00Z.
const LAST: Timestamp = Timestamp(1_267_373_760_000_000);

/// Imports the history of both tenants; what is already there is deduplicated. `false` if stopped early. Error: a
/// message for people.
pub async fn import(app: &App, tenants: Tenants, stop: &CancellationToken) -> Result<bool, String> {
    let shift_micros = match find_shift(app, tenants.gifts).await.map_err(|error| error.message)? {
        Some(shift) => shift,
        None => (app.clock.now().0 - LAST.0).div_euclid(DAY) * DAY,
    };
    let mappings = [(tenants.gifts, super::gifts_mapping()), (tenants.abroad, super::abroad_mapping())];
    for (tenant, mapping) in mappings {
        let mapping = mapping.map_err(|error| error.to_string())?;
        match import_one(app, tenant, mapping, shift_micros, stop).await {
            End::Done => {}
            End::Stopped => return Ok(false),
            End::Failed(message) | End::DatabaseAway(message) => return Err(message),
        }
    }
    Ok(true)
}

async fn import_one(app: &App, tenant: TenantId, mapping: Mapping, shift_micros: i64, stop: &CancellationToken) -> End {
    let mut import = Import::new(mapping, super::files());
    import.shift_micros = shift_micros;
    let report = import.run(app, tenant, stop).await;
    let events = report.totals().events;
    tracing::info!(tenant = %tenant.0, accepted = events.accepted, repeated = events.repeated, refused = events.refused, "history imported");
    report.end
}

/// By how much an earlier run shifted the dates.
async fn find_shift(app: &App, tenant: TenantId) -> Result<Option<i64>> {
    let tx = app.db.read(tenant).await?;
    let (event_id, at) = FIRST_EVENT;
    let sql = "SELECT occurred_at FROM ledger_events WHERE tenant_id = $1 AND event_id = $2";
    let row = tx.query_one(sql, [event_id.into()]).await?;
    row.map(|row| Ok(get::<i64>(&row, 0)? - at.0)).transpose()
}
