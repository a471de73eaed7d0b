//! The roles of PostgreSQL. `scripts/roles.sql` makes them, and the logins that are their members.

/// Reads and writes the rows of one tenant at a time.
pub const APP: &str = "salespulse_app";
/// Finds work of all tenants; sees nothing but where there is some.
pub const RELAY: &str = "salespulse_relay";
