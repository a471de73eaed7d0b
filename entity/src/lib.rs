//! sea-orm entities of the tables that are read and written row by row. Amounts are in ten-thousandths, times in
//! microseconds since 1970. Bulk access of the ledger is plain SQL.

pub mod audit_logs;
pub mod dashboards;
pub mod data_sources;
pub mod organizations;
pub mod quotas;
pub mod teams;
pub mod users;
