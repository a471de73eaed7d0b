//! The integration suite: one binary, a file per topic. It runs on SQLite and in-process streams, or, where
//! `TEST_DATABASE_URL` (and `TEST_REDIS_URL`) say so, on PostgreSQL and Redis.

#![expect(clippy::panic, reason = "a test ends by it")]
#![expect(clippy::disallowed_methods, reason = "the suite's own settings are in the environment")]

mod alert_anomalies;
mod alert_explanations;
mod alert_units;
mod alerts;
mod audit;
mod audit_writes;
mod backup;
mod brute_force;
mod cached_answers;
mod canaries;
mod command_line;
mod contract;
mod currencies;
mod customer_value;
mod customers;
mod dashboards;
mod demo;
mod feed;
mod first_bucket;
mod first_start;
mod fuzz;
mod hostile;
mod housekeeping;
mod http;
mod import;
mod integrations;
mod isolation;
#[cfg(debug_assertions)]
mod isolation_guards;
mod kpis;
mod layers;
mod ledger;
mod limits;
mod list_totals;
mod lists;
mod live;
mod metrics;
mod migrations;
mod monitor;
mod named_metrics;
mod operations;
mod orders;
mod outbox;
mod people;
mod performance;
mod permissions;
mod predictions;
mod privacy;
mod products;
mod real_data;
mod record_events;
mod redis_servers;
mod refusals;
mod retention;
mod rotation;
mod sales;
mod sealed;
mod sealing_commands;
mod selections;
mod sent_off;
mod sign_in;
mod socket;
mod socket_protocol;
mod stream_faults;
mod streams;
mod support;
mod telemetry;
mod threats;
mod tls;
mod tokens;
mod updates;
mod wall;
