//! The integration suite: one binary, a file per topic. It runs on SQLite and in-process streams, or, where
//! `TEST_DATABASE_URL` (and `TEST_REDIS_URL`) say so, on PostgreSQL and Redis.

#![expect(clippy::panic, reason = "a test ends by it")]
#![expect(clippy::disallowed_methods, reason = "the suite's own settings are in the environment")]

mod alerts;
mod audit;
mod backup;
mod brute_force;
mod command_line;
mod contract;
mod currencies;
mod customers;
mod dashboards;
mod http;
mod import;
mod isolation;
mod ledger;
mod limits;
mod lists;
mod live;
mod metrics;
mod monitor;
mod operations;
mod orders;
mod outbox;
mod people;
mod performance;
mod products;
mod real_data;
mod record_events;
mod redis_servers;
mod retention;
mod sales;
mod sign_in;
mod socket;
mod socket_protocol;
mod streams;
mod support;
mod telemetry;
mod wall;
