//! KPIs: metrics that tenants define by formulas.
//!
//! `lexer` and `parser` turn a text into a syntax tree ([`ast`]), which `print` writes in canonical form. `compile`
//! resolves its names in a [`Catalog`] and among other [`Kpis`], checks units, and returns a [`Plan`]: the
//! [`Question`]s to ask of the metrics, and the computation on their answers in each bucket. The language is described
//! in `docs/kpis-language.md`.
//!
//! Texts are untrusted input. They are limited ([`TEXT_BYTES_MAX`], [`DEPTH_MAX`], [`OPERATIONS_MAX`]) before they
//! could be expensive, and every mistake is a [`FormulaError`] with its position.

pub mod ast;
mod catalog;
mod compile;
mod decimal;
mod defined;
mod error;
mod filter;
mod formula;
mod fraction;
mod lexer;
mod number;
mod order;
mod parser;
mod plan;
mod print;
mod sales;
mod shift;
mod suggest;
mod unit;

pub use catalog::{Aggregate, Catalog, MetricDef};
pub use compile::OPERATIONS_MAX;
pub use decimal::{DIGITS_MAX, Decimal};
pub use defined::{Kpis, NAME_CHARS_MAX, SaveError};
pub use error::{ErrorCode, FormulaError, Span};
pub use filter::{Dimension, Filter, SEGMENTS, Values};
pub use formula::Formula;
pub use number::{Absent, Number};
pub use parser::{DEPTH_MAX, TEXT_BYTES_MAX};
pub use plan::{Plan, Question};
pub use sales::SALES;
pub use shift::{CalendarUnit, Length, Shift, StepBack};
pub use unit::Unit;
