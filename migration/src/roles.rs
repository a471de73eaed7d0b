//! The PostgreSQL roles. `scripts/roles.sql` creates them, and the logins that are their members.

/// Reads and writes the rows of one tenant at a time.
pub const APP: &str = "salespulse_app";
/// Finds pending work across tenants; sees only where there is some.
pub const RELAY: &str = "salespulse_relay";
