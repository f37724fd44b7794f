//! The gateway as its clients see it: the real binary before scripted upstreams.
//!
//! Every test starts its own gateway and its own upstreams on free ports. Nothing waits for a fixed time: tests wait
//! for what they need to see, and give up after half a minute.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_arithmetic,
    reason = "a test fails by panicking, and compares what is measured as floats"
)]

mod accounts;
mod acts;
mod answers;
mod blame;
mod books;
mod budget;
mod budgets;
mod conversations;
mod credentials;
mod cuts;
mod deadlines;
mod discover;
mod drain;
mod errors;
mod failover;
mod failures;
mod harness;
mod hints;
mod keys;
mod keys_commands;
mod killed;
mod limits;
mod malformed;
mod models;
mod money;
mod names;
mod notices;
mod pools;
mod priorities;
mod raises;
mod recorded_usage;
mod records;
#[allow(dead_code, reason = "tests of the ledger use the rest")]
#[path = "../ledger/server.rs"]
mod redis_server;
mod reload;
mod rent;
mod rollouts;
mod scored;
mod scripts;
mod sdk;
mod servers;
mod shadows;
mod switches;
mod texts;
mod tiers;
mod timeouts;
mod told;
#[path = "../upstream/mod.rs"]
mod upstream;
