//! KPIs beside the metrics: wherever metrics are, formulas over them can be.
//!
//! A formula asks for metrics under filters of its own and of earlier times. [`definitions`] reads formulas and makes plans
//! of them, [`shift`] says which time is meant, and [`part`] holds the cells of each filter and time, read in the same
//! snapshot as the cells that they stand beside and carried on with them.

pub mod definitions;
pub mod graphql;
pub mod part;
mod shift;
mod value;

pub use shift::Calendar;
pub use value::KpiValue;
