//! The transport kernel: requests in, responses out. It knows no domain, only the parts of a process ([`crate::app`]) and
//! the schema that it executes ([`crate::schema`]).
//!
//! To read in this order: [`params`] (what a request has), [`documents`] (persisted and trusted ones), [`scan`] (the text
//! before it is parsed), [`prepared`] with `variables`, `shape` (size) and `roots`, [`limits`], [`executor`],
//! `completion` (the response's form), and the transports: [`http`] with `reply` and `streams`, [`socket`]. Beside it:
//! [`operation`] and [`reads`], what lives as long as an operation; [`loader`] and [`eager`], lists without a statement or
//! a future per item; [`response_cache`]; [`cohorts`], equal subscriptions that share their answers.

pub mod accept;
pub mod cohorts;
mod completion;
pub mod context;
pub mod documents;
pub mod eager;
pub mod endpoint;
pub mod errors;
pub mod executor;
pub mod given;
pub mod http;
pub mod limits;
pub mod loader;
pub mod misfit;
pub mod operation;
pub mod origin;
pub mod page;
pub mod params;
pub mod payload;
pub mod prepared;
pub mod reads;
mod reply;
pub mod response_cache;
mod roots;
pub mod scalars;
pub mod scan;
mod shape;
pub mod size;
pub mod socket;
mod streams;
pub mod text;
mod variables;
