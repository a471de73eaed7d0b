//! The running schema is the contract.

use salespulse::contract::{CONTRACT, running};

#[test]
fn the_running_schema_is_the_contract() {
    let (contract, running) = (CONTRACT.trim_end(), running());
    let different = contract.lines().zip(running.trim_end().lines()).enumerate().find(|(_, (a, b))| a != b);
    assert_eq!(different, None, "the first line that differs; `make schema-check` shows all");
    assert_eq!(contract.lines().count(), running.trim_end().lines().count());
}
