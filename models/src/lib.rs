//! Models of SalesPulse: forecasts, anomalies, customer value, and the formulas of KPIs. Pure functions: the same input
//! gives the same result on any machine.
//!
//! A separate crate, so that it can be compiled with optimization where the rest need not be.

pub mod anomalies;
pub mod forecasts;
pub mod kpis;
pub mod value;
