//! The integration suite: one binary, a file per topic. It runs on SQLite and in-process streams, or, where
//! `TEST_DATABASE_URL` (and `TEST_REDIS_URL`) say so, on PostgreSQL and Redis.

mod brute_force;
mod http;
mod ledger;
mod live;
mod socket;
mod streams;
mod support;
