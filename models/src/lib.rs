//! What SalesPulse computes beyond sums: forecasts, anomalies, what customers are worth, and the formulas of KPIs. Pure
//! functions: the same input gives the same answer, on any machine.
//!
//! A crate of its own, so that it is compiled with optimization where the rest need not be.

pub mod anomalies;
pub mod forecasts;
pub mod kpis;
pub mod value;
