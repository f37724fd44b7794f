//! The stores of budgets, against a real `redis-server` that the tests start, stop, empty and promote.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod audit;
mod copies;
mod edits;
mod embedded;
mod faults;
mod histories;
mod leases;
mod mirror;
mod node;
mod protocol;
mod refusals;
mod rents;
mod server;
mod topology;
