//! SalesPulse: exact, live sales metrics for many tenants. `docs/architecture.md` is the map.

pub mod clock;
pub mod db;
pub mod error;
pub mod ledger;
pub mod money;
pub mod stream;
