//! The integration suite: one binary, a file per topic. It runs on SQLite and in-process streams, or, where
//! `TEST_DATABASE_URL` (and `TEST_REDIS_URL`) say so, on PostgreSQL and Redis.

mod audit;
mod brute_force;
mod contract;
mod customers;
mod dashboards;
mod http;
mod ledger;
mod lists;
mod live;
mod orders;
mod people;
mod performance;
mod products;
mod sales;
mod socket;
mod streams;
mod support;
