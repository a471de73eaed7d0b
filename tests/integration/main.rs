//! The integration suite: one binary, a file per topic. It runs on SQLite and in-process streams, or, where
//! `TEST_DATABASE_URL` (and `TEST_REDIS_URL`) say so, on PostgreSQL and Redis.

mod command_line;
mod contract;
mod import;
mod ledger;
mod real_data;
mod retention;
mod support;
