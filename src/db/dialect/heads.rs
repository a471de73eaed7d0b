//! The connection by which PostgreSQL is asked for heads.

use std::collections::BTreeSet;
use std::time::Duration;

use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{PgConnection, Postgres};
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};
use uuid::Uuid;

use super::super::{Head, Standing, TenantId};
use super::{count_connections, is_cut_off};

/// Timeout of one read.
const HEADS_WAIT: Duration = Duration::from_secs(1);

/// A connection dedicated to head reads: one returned to the pool is pinged, which costs a round trip per request.
/// PostgreSQL only.
#[derive(Default)]
pub struct HeadsConnection(tokio::sync::Mutex<Option<PoolConnection<Postgres>>>);

impl HeadsConnection {
    /// A connection that fails or times out is closed. Connections that died while idle are skipped, and an attempt
    /// without an answer is retried once.
    pub async fn list(
        &self,
        pool: &DatabaseConnection,
        tenants: &BTreeSet<TenantId>,
    ) -> Result<Vec<(TenantId, Standing)>, DbErr> {
        let mut kept = self.0.lock().await;
        let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
        let (mut dead_max, mut has_waited) = (count_connections(pool).0, false);
        loop {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => pool.get_postgres_connection_pool().acquire().await.map_err(conn_error)?,
            };
            let failed = match tokio::time::timeout(HEADS_WAIT, list_heads(&mut connection, &ids)).await {
                Ok(Ok(heads)) => {
                    *kept = Some(connection);
                    return Ok(heads);
                }
                Ok(Err(error)) => Some(query_error(error)),
                Err(_) => None,
            };
            // Detached: its pool would wait for it.
            drop(connection.detach());
            match failed {
                Some(error) if dead_max == 0 || !is_cut_off(&error) => return Err(error),
                Some(_) => dead_max -= 1,
                None if has_waited => return Err(conn_error(sea_orm::sqlx::Error::PoolTimedOut)),
                None => has_waited = true,
            }
        }
    }

    /// Allows its pool to be closed.
    pub async fn close(&self) {
        self.0.lock().await.take();
    }
}

async fn list_heads(
    connection: &mut PgConnection,
    tenants: &[Uuid],
) -> Result<Vec<(TenantId, Standing)>, sea_orm::sqlx::Error> {
    type Row = (Uuid, i64, i64, i64, i64, Option<i64>, Option<i64>, i64, i64);
    let sql = "SELECT tenant_id, position, policy_epoch, last_alert_no, folded, watermark, retained_from, last_product_no, \
               last_dimension_no FROM ledger_heads WHERE tenant_id = ANY($1)";
    let rows: Vec<Row> = sea_orm::sqlx::query_as(sql).bind(tenants).fetch_all(connection).await?;
    let heads = rows.into_iter().map(|row| {
        let (tenant, position, policy_epoch, last_alert_no, folded, watermark, retained_from, product, dimension) = row;
        let standing = Standing {
            head: Head { position, policy_epoch, last_alert_no },
            folded,
            watermark,
            retained_from,
            last_product_no: product,
            last_dimension_no: dimension,
        };
        (TenantId(tenant), standing)
    });
    Ok(heads.collect())
}

fn conn_error(error: sea_orm::sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

fn query_error(error: sea_orm::sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}
