//! Events in: validation, group commit, positions, orders and refunds, rollups in the same transaction.

pub mod event;
