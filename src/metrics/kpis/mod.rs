//! KPIs: formulas over metrics, available wherever metrics are.
//!
//! A formula evaluates metrics under its own filters and shifted in time. [`definitions`] reads formulas and compiles
//! them to plans, [`shift`] resolves the shifted time, and [`part`] holds the cells of each filter and shift, read in
//! the same snapshot as the surrounding cells and carried forward with them.

pub mod definitions;
pub mod graphql;
pub mod part;
mod shift;
mod value;

pub use shift::Calendar;
pub use value::KpiValue;
