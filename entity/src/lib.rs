//! Rows of the tables that are read and written one by one, as sea-orm has them. Amounts are ten thousandths, times
//! microseconds since 1970. What the ledger reads and writes in bulk is plain SQL.

pub mod audit_logs;
pub mod dashboards;
pub mod data_sources;
pub mod organizations;
pub mod quotas;
pub mod team_members;
pub mod teams;
pub mod users;
