//! Per-process caches of ledger state, limited to what is valid in every snapshot it is used in.

use super::dimensions::DimensionNames;
use super::organization::Organizations;
use super::rollup::days::DaySums;
use super::tail::Tails;

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Memory {
    pub tails: Tails,
    pub days: DaySums,
    pub organizations: Organizations,
    pub names: DimensionNames,
}
