//! The schema of SalesPulse, for PostgreSQL and SQLite from the same DDL.
//!
//! Every tenant table leads its keys with `tenant_id`. Money is an integer in ten-thousandths, time an integer in
//! microseconds since 1970 (UTC), `slot` a number of 15-minute steps or of days. The types of the two databases differ
//! in [`sql`] only.
//!
//! All migrations of a run are one transaction, on SQLite too (`salespulse::db::migrations`).

use sea_orm_migration::prelude::{MigrationTrait, async_trait};

pub use sea_orm_migration::MigratorTrait;

mod m0001_tables;
mod m0002_sign_in;
mod m0003_sealing;
mod m0005_predictions;
mod m0006_kpis;
mod m0007_value;
mod m0008_alert_judgements;
mod m0009_audit_append;
mod m0010_integrations;
mod m0011_cancellations;
mod m0012_levels;
mod m0013_partial_indexes;
mod m0014_watermarks;
mod m0015_customer_totals;
mod m0016_alert_units;
mod m0017_memberships;
mod m0018_interrupted_drops;
mod m0019_recordings;
mod m0020_heads;
mod m0021_alert_windows;
pub mod roles;
pub mod row_security;
pub mod sql;

pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_tables::Migration),
            Box::new(m0002_sign_in::Migration),
            Box::new(m0003_sealing::Migration),
            Box::new(m0005_predictions::Migration),
            Box::new(m0006_kpis::Migration),
            Box::new(m0007_value::Migration),
            Box::new(m0008_alert_judgements::Migration),
            Box::new(m0009_audit_append::Migration),
            Box::new(m0010_integrations::Migration),
            Box::new(m0011_cancellations::Migration),
            Box::new(m0012_levels::Migration),
            Box::new(m0013_partial_indexes::Migration),
            Box::new(m0014_watermarks::Migration),
            Box::new(m0015_customer_totals::Migration),
            Box::new(m0016_alert_units::Migration),
            Box::new(m0017_memberships::Migration),
            Box::new(m0018_interrupted_drops::Migration),
            Box::new(m0019_recordings::Migration),
            Box::new(m0020_heads::Migration),
            Box::new(m0021_alert_windows::Migration),
        ]
    }
}
