//! Storage of KPIs.

use sea_orm::{QueryResult, Value};

use super::Kpi;
use crate::audit::{AuditedTable, Shown};
use crate::db::{TenantTx, get, get_word, word};
use crate::error::{Error, Result};

/// Audited columns of KPIs.
pub const LOGGED: AuditedTable = AuditedTable {
    table: "kpis",
    key: "name",
    columns: &[
        ("formula", "formula", Shown::Text),
        ("description", "description", Shown::Text),
        ("format", "format", Shown::Text),
        ("decimals", "CAST(decimals AS BIGINT)", Shown::Number),
    ],
    members: None,
};

const COLUMNS: &str = "name, formula, description, format, decimals, created_at, updated_at";

/// All KPIs of the tenant by name.
pub async fn list(tx: &TenantTx) -> Result<Vec<Kpi>> {
    let sql = format!("SELECT {COLUMNS} FROM kpis WHERE tenant_id = $1 ORDER BY name");
    tx.query(&sql, []).await?.iter().map(kpi_from).collect()
}

/// Error: NOT_FOUND.
pub async fn get_kpi(tx: &TenantTx, name: &str) -> Result<Kpi> {
    if name.contains('\0') {
        return Err(Error::not_found("KPI"));
    }
    let sql = format!("SELECT {COLUMNS} FROM kpis WHERE tenant_id = $1 AND name = $2");
    let row = tx.query_one(&sql, [name.into()]).await?;
    kpi_from(&row.ok_or_else(|| Error::not_found("KPI"))?)
}

/// Upserts a KPI by name.
pub async fn save(tx: &TenantTx, kpi: &Kpi) -> Result<()> {
    let sql = "INSERT INTO kpis (tenant_id, name, formula, description, format, decimals, created_at, updated_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, name) DO UPDATE SET formula = excluded.formula, \
               description = excluded.description, format = excluded.format, decimals = excluded.decimals, \
               updated_at = excluded.updated_at";
    let values: [Value; 7] = [
        kpi.name.clone().into(),
        kpi.formula.clone().into(),
        kpi.description.clone().into(),
        word(kpi.format)?,
        kpi.decimals.into(),
        kpi.created_at.into(),
        kpi.updated_at.into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn delete(tx: &TenantTx, name: &str) -> Result<()> {
    tx.execute("DELETE FROM kpis WHERE tenant_id = $1 AND name = $2", [name.into()]).await?;
    Ok(())
}

fn kpi_from(row: &QueryResult) -> Result<Kpi> {
    Ok(Kpi {
        name: get(row, 0)?,
        formula: get(row, 1)?,
        description: get(row, 2)?,
        format: get_word(row, 3)?,
        decimals: get(row, 4)?,
        created_at: get(row, 5)?,
        updated_at: get(row, 6)?,
    })
}
