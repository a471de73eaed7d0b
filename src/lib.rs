//! SalesPulse: exact, live sales metrics for many tenants. `docs/architecture.md` is the map.

pub mod alerts;
pub mod app;
pub mod audit;
pub mod auth;
pub mod calendar;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod contract;
pub mod db;
pub mod demo;
pub mod error;
pub mod graphql;
pub mod import;
pub mod ledger;
pub mod live;
pub mod metrics;
pub mod money;
pub mod people;
pub mod schema;
pub mod server;
pub mod stream;
pub mod tenancy;
